#include "client/files.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "core/base/file_system.h"

namespace halftone {

absl::StatusOr<std::shared_ptr<Buffer>> OpenFile(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    return absl::InvalidArgumentError(absl::StrCat("'", path, "' is a folder, want a file"));
  }
  return RealFileSystem().Map(path);
}

absl::Status WriteFile(const std::string& path, absl::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (file) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot write '", path, "'"));
}

}  // namespace halftone
