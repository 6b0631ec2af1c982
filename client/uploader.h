// Sends the files of a model; goes on where an earlier attempt stopped.
#ifndef HALFTONE_CLIENT_UPLOADER_H_
#define HALFTONE_CLIENT_UPLOADER_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/connection.h"

namespace halftone {

struct UploadProgress {
  std::string stage;       // "hash", "send", "import"
  int64_t bytes_done = 0;  // within the stage
  int64_t bytes_total = 0;
};

struct UploadResult {
  v1::Model model;
  int64_t total_bytes = 0;
  int64_t resumed_bytes = 0;  // that the server had already
};

// Paths: the .onnx file first. When the connection breaks and comes back, the upload goes on by
// itself, as long as each attempt brings bytes across. Thread-compatible.
absl::StatusOr<UploadResult> UploadModel(
    Connection& server, const std::string& name, absl::Span<const std::string> paths,
    const std::function<void(const UploadProgress&)>& progress);

}  // namespace halftone

#endif  // HALFTONE_CLIENT_UPLOADER_H_
