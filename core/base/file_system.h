// The few things that Halftone asks of a file system, so that tests can fill the disk, lose power
// or damage a file without touching one (tests/testing/memory_file_system.h).
#ifndef HALFTONE_CORE_BASE_FILE_SYSTEM_H_
#define HALFTONE_CORE_BASE_FILE_SYSTEM_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/buffer.h"

namespace halftone {

// A file open for writing at its end. Thread-compatible. The destructor closes without a sync.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  // On failure a prefix of `bytes` may have been written.
  virtual absl::Status Append(absl::string_view bytes) = 0;
  // Returns when the bytes would survive a power failure.
  virtual absl::Status Sync() = 0;
};

// Held as long as it lives; the operating system lets go of it when the process dies.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

// Errors carry the path; NOT_FOUND where a path does not exist, RESOURCE_EXHAUSTED when the disk or
// a quota is full. Thread-safe.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  // Creates the file when it does not exist; its folder must.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> OpenForAppend(const std::string& path) = 0;
  // Calls `chunk` with the file's bytes in order, 1 MiB at a time; stops at its first error.
  virtual absl::Status ReadChunks(
      const std::string& path,
      const std::function<absl::Status(absl::string_view)>& chunk) const = 0;
  // The whole file, read-only; mapped where that is possible.
  virtual absl::StatusOr<std::shared_ptr<Buffer>> Map(const std::string& path) const = 0;
  virtual absl::StatusOr<int64_t> FileSize(const std::string& path) const = 0;
  virtual bool Exists(const std::string& path) const = 0;  // file or folder
  // Names (not paths) of what is in a folder, sorted.
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& folder) const = 0;
  virtual absl::Status MakeFolders(const std::string& folder) = 0;  // parents too; OK if it exists
  // Atomic. Replaces a file; a folder is moved only to where nothing is.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  virtual absl::Status RemoveAll(const std::string& path) = 0;  // OK if it does not exist
  // Makes renames, creations and removals inside the folder survive a power failure.
  virtual absl::Status SyncFolder(const std::string& folder) = 0;
  // Creates `path` if needed and locks it against other processes and other callers.
  // FAILED_PRECONDITION when somebody else holds it.
  virtual absl::StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) = 0;
  // What an ordinary user may still write below `folder`.
  virtual absl::StatusOr<int64_t> FreeBytes(const std::string& folder) const = 0;
};

// The operating system's files. Lives as long as the process.
FileSystem& RealFileSystem();

// RESOURCE_EXHAUSTED when the file has more than `max_bytes`.
absl::StatusOr<std::string> ReadFile(const FileSystem& files, const std::string& path,
                                     int64_t max_bytes);
// Writes and syncs a new file; its folder must exist and `path` must not.
absl::Status WriteNewFile(FileSystem& files, const std::string& path, absl::string_view bytes);
// Lower-case hex SHA-256 of the file's bytes.
absl::StatusOr<std::string> FileSha256(const FileSystem& files, const std::string& path);

// "a/b"; `folder` without a trailing slash.
inline std::string JoinPath(absl::string_view folder, absl::string_view name) {
  return absl::StrCat(folder, "/", name);
}

}  // namespace halftone

#endif  // HALFTONE_CORE_BASE_FILE_SYSTEM_H_
