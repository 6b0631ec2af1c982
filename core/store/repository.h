// What is on disk, and the only code that knows where:
//
//   models/<name>/<version>/                   model.onnx  weights.bin  manifest.json
//   models/<name>/<version>/variants/<id>/     model.onnx  weights.bin  report.json  manifest.json
//   models/<name>/calibration/<sequence>/      samples.bin  manifest.json
//   models/<name>/calibration/<sequence>/ranges/<key>/   ranges.bin  manifest.json   (a cache)
//   uploads/<upload id>/                       header.json  files/<file name>   (partial,
//   resumable) tmp/<n>/                                   being written or being removed
//   damaged/<n>-<what>/                        set aside: never read again, never deleted
//   lock                                       one process at a time
//
// A model is kept in its portable form (imported, simplified, exported again), which is also what
// its "fp32" variant exports; the uploaded bytes themselves are not kept. Folders with a manifest
// are bundles (bundle.h): complete or absent, whatever the moment of a crash.
#ifndef HALFTONE_CORE_STORE_REPOSITORY_H_
#define HALFTONE_CORE_STORE_REPOSITORY_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/file_system.h"
#include "core/onnx/export.h"
#include "core/store/bundle.h"
#include "core/store/calibration_io.h"
#include "core/store/model_store.h"
#include "core/store/variant_id.h"

namespace halftone {

struct StoredModel {
  ModelInfo info;         // calibration_sets stay empty here
  std::string upload_id;  // of the upload that it came from
  int64_t disk_bytes = 0;
};

struct StoredVariant {
  std::string id;
  std::string spec;  // canonical text
  absl::Time created;
  std::string calibration_digest;  // empty: built without
  int64_t disk_bytes = 0;
  int64_t resident_bytes = 0;  // measured when it was built
};

struct StoredCalibration {
  CalibrationRef ref;
  int64_t disk_bytes = 0;
};

struct StoredVersion {
  StoredModel model;
  std::vector<StoredVariant> variants;
};

struct StoredFamily {  // everything under one model name
  std::map<int, StoredVersion> versions;
  std::vector<StoredCalibration> calibration;  // by sequence
};

// Writes a graph: model.onnx as its result, external data through the callback.
using Exporter = std::function<absl::StatusOr<ExportedModel>(
    const std::function<absl::Status(absl::string_view)>& write)>;

inline constexpr size_t kMaxCachedRanges = 256;

// Thread-safe. The caller keeps two calls from changing the same path at once.
class Repository {
 public:
  // Creates the folders, locks them, and removes what an interrupted process left in tmp/.
  // FAILED_PRECONDITION when another process uses the directory.
  static absl::StatusOr<std::unique_ptr<Repository>> Open(FileSystem& files, std::string directory);

  // Reads every manifest. What is damaged is set aside, logged and named in `damaged`.
  std::map<std::string, StoredFamily> Scan(std::vector<std::string>& damaged);

  std::string ModelFolder(const std::string& name, int version) const;
  std::string VariantFolder(const std::string& name, int version, const std::string& id) const;
  std::string CalibrationFolder(const std::string& name, int sequence) const;
  std::string UploadsFolder() const { return JoinPath(directory_, "uploads"); }
  // A path under tmp/ that nobody used before.
  std::string TemporaryPath();

  // Each writes and syncs a bundle under a temporary name; Commit of the result makes it visible.
  absl::StatusOr<std::unique_ptr<BundleWriter>> WriteModel(const StoredModel& model,
                                                           const Exporter& exporter);
  absl::StatusOr<std::unique_ptr<BundleWriter>> WriteVariant(const StoredVariant& variant,
                                                             const std::string& report_json,
                                                             const Exporter& exporter);
  absl::StatusOr<std::unique_ptr<BundleWriter>> WriteCalibration(const CalibrationRef& ref,
                                                                 const Samples& samples);

  // A graph that is never committed: its files are there until the result is destroyed.
  absl::StatusOr<std::unique_ptr<BundleWriter>> WriteTemporary(const Exporter& exporter);

  // What calibration found out about a set, by key (SHA-256 hex); goes with the set. An unreadable
  // entry is none: what is cached can be computed again.
  std::optional<std::string> ReadRanges(const std::string& calibration_folder,
                                        const std::string& key) const;
  // Replaces an entry; no bytes: removes it. Requires: the set is there. At most
  // kMaxCachedRanges entries are kept per set; beyond them nothing new is.
  absl::Status WriteRanges(const std::string& calibration_folder, const std::string& key,
                           absl::string_view bytes);

  // DATA_LOSS unless every byte of the bundle is as it was written.
  absl::Status Verify(const std::string& folder) const;
  // Verified, mapped.
  absl::StatusOr<Samples> ReadCalibration(const std::string& folder) const;
  absl::StatusOr<std::string> ReadReport(const std::string& folder) const;
  // model.onnx first.
  absl::StatusOr<std::vector<std::string>> ModelFiles(const std::string& folder) const;

  // Gone at once, even if the process dies on the way.
  absl::Status Remove(const std::string& path);
  // Moves a damaged bundle out of the way; returns where it is now.
  std::string SetAside(const std::string& path);

  FileSystem& files() const { return files_; }
  const std::string& directory() const { return directory_; }

 private:
  Repository(FileSystem& files, std::string directory, std::unique_ptr<FileLock> lock);
  absl::StatusOr<std::unique_ptr<BundleWriter>> WriteGraph(const Exporter& exporter);
  void ScanFamily(const std::string& name, StoredFamily& family, std::vector<std::string>& damaged);
  // A crash between storing a set and removing the one that it replaces leaves both.
  void DropReplaced(const std::string& name, StoredFamily& family);
  // Names inside a folder; none when it does not exist.
  std::vector<std::string> Children(const std::string& folder) const;
  bool HasVersions(const std::string& name) const;  // on disk, readable or not
  // Reads one bundle; sets it aside when it is damaged. False: there is nothing to use.
  bool ReadBundle(const std::string& folder, std::vector<std::string>& damaged,
                  const std::function<void(const Manifest&)>& parse);

  FileSystem& files_;
  const std::string directory_;
  const std::unique_ptr<FileLock> lock_;
  std::atomic<int64_t> next_temporary_{0};
};

// Letters, digits, '.', '_' and '-', at most 128, not starting with '.': safe in every path and
// label. INVALID_ARGUMENT says what `what` got.
absl::Status CheckName(absl::string_view what, absl::string_view name);

}  // namespace halftone

#endif  // HALFTONE_CORE_STORE_REPOSITORY_H_
