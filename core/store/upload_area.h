// Uploads on disk, between their first chunk and their last: resumable after a restart, because
// what was received is what the files hold.
#ifndef HALFTONE_CORE_STORE_UPLOAD_AREA_H_
#define HALFTONE_CORE_STORE_UPLOAD_AREA_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/store/repository.h"

namespace halftone {

struct UploadHeader {
  std::string id;
  std::string model;
  std::vector<FileInfo> files;
  absl::Time created;

  int64_t total_bytes() const;
};

// The header of an upload: checks names, sizes and digests (INVALID_ARGUMENT), sets the id. Equal
// names and files give an equal id. Exactly one file must end in ".onnx".
absl::StatusOr<UploadHeader> MakeUploadHeader(const std::string& model, std::vector<FileInfo> files,
                                              absl::Time now);
// SHA-256 over the files' names, sizes and digests, whatever their order.
std::string ModelDigest(std::vector<FileInfo> files);

// Thread-safe; two calls must not change the same upload at once.
class UploadArea {
 public:
  explicit UploadArea(Repository& repository) : repository_(repository) {}

  // Uploads of earlier processes. Removes what has no readable header or is older than `oldest`.
  std::vector<UploadHeader> Scan(absl::Time oldest);
  absl::Status Create(const UploadHeader& header);
  // Bytes on disk, parallel to the header's files.
  absl::StatusOr<std::vector<int64_t>> Received(const UploadHeader& header) const;
  absl::Status Append(const UploadHeader& header, int file_index, absl::string_view chunk);
  // DATA_LOSS names the file whose bytes do not have the digest that the header claims.
  absl::Status Verify(const UploadHeader& header) const;
  // Path of the .onnx file; external data lies beside it.
  std::string OnnxPath(const UploadHeader& header) const;
  absl::Status Remove(const UploadHeader& header);

 private:
  std::string Folder(const std::string& id) const;
  std::string FilePath(const UploadHeader& header, size_t index) const;

  Repository& repository_;
};

}  // namespace halftone

#endif  // HALFTONE_CORE_STORE_UPLOAD_AREA_H_
