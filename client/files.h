// Reading and writing whole files, with errors that name them.
#ifndef HALFTONE_CLIENT_FILES_H_
#define HALFTONE_CLIENT_FILES_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/buffer.h"

namespace halftone {

// NOT_FOUND, or INVALID_ARGUMENT for a folder.
absl::StatusOr<std::shared_ptr<Buffer>> OpenFile(const std::string& path);

// Replaces the file.
absl::Status WriteFile(const std::string& path, absl::string_view bytes);

inline absl::string_view AsText(const Buffer& buffer) {
  return {reinterpret_cast<const char*>(buffer.data()), buffer.size()};
}

}  // namespace halftone

#endif  // HALFTONE_CLIENT_FILES_H_
