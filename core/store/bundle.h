// A folder that exists completely or not at all: files, plus a manifest with their digests.
//
//   HT_ASSIGN_OR_RETURN(auto bundle, BundleWriter::Create(files, "/store/tmp/7"));
//   HT_RETURN_IF_ERROR(bundle->Append("weights.bin", chunk));  …
//   HT_RETURN_IF_ERROR(bundle->Commit({{"spec", "int8"}}, "/store/models/m/1/variants/ab12"));
//
// Everything is written and synced under a temporary name, then renamed; after a crash at any
// moment the target is either absent or whole. What disks do to it later, the digests tell.
#ifndef HALFTONE_CORE_STORE_BUNDLE_H_
#define HALFTONE_CORE_STORE_BUNDLE_H_

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/file_system.h"
#include "core/base/sha256.h"

namespace halftone {

inline constexpr char kManifestName[] = "manifest.json";

struct BundleFile {
  std::string name;
  int64_t bytes = 0;
  std::string sha256;
};

struct Manifest {
  std::vector<BundleFile> files;
  nlohmann::json fields;  // an object: what the bundle's owner wrote

  int64_t bytes() const;  // of all files; without the manifest
};

// Thread-compatible. Removes what it wrote unless it was committed.
class BundleWriter {
 public:
  // `temporary` must not exist; its parent must.
  static absl::StatusOr<std::unique_ptr<BundleWriter>> Create(FileSystem& files,
                                                              std::string temporary);
  ~BundleWriter();

  // Appends to the file of this name. A file ends when another one begins.
  absl::Status Append(const std::string& name, absl::string_view bytes);
  int64_t bytes() const;                                    // written so far
  const std::string& folder() const { return temporary_; }  // until it is committed
  // Writes the manifest and syncs everything: what may still fail afterwards is the rename.
  absl::Status Seal(const nlohmann::json& fields);
  // Moves the sealed bundle to `target`, where nothing may be. Creates its parents.
  absl::Status Commit(const std::string& target);

 private:
  BundleWriter(FileSystem& files, std::string temporary);
  absl::Status FinishFile();

  FileSystem& files_;
  const std::string temporary_;
  std::vector<BundleFile> done_;
  std::unique_ptr<WritableFile> open_;
  BundleFile current_;
  std::optional<Sha256> hash_;
  bool committed_ = false;
};

// Reads and checks the manifest, and that every file is there with its size. DATA_LOSS otherwise.
absl::StatusOr<Manifest> ReadManifest(const FileSystem& files, const std::string& folder);
// Reads every byte. DATA_LOSS names the file whose digest differs.
absl::Status VerifyDigests(const FileSystem& files, const std::string& folder,
                           const Manifest& manifest);

}  // namespace halftone

#endif  // HALFTONE_CORE_STORE_BUNDLE_H_
