#include "core/base/file_system.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "core/base/sha256.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

namespace stdfs = std::filesystem;

absl::Status Error(int error, absl::string_view what, const std::string& path) {
  const std::string where = absl::StrCat(what, " ", path);
  // A full disk or quota is a limit, not a broken system call.
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    return absl::ResourceExhaustedError(
        absl::StrCat(where, ": ", std::generic_category().message(error)));
  }
  return absl::ErrnoToStatus(error, where);
}

absl::Status Error(const std::error_code& code, absl::string_view what, const std::string& path) {
  return code ? Error(code.value(), what, path) : absl::OkStatus();
}

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  const int fd_;
};

class PosixWritableFile final : public WritableFile {
 public:
  PosixWritableFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  absl::Status Append(absl::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t n = write(fd_.get(), bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Error(errno, "write", path_);
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return absl::OkStatus();
  }
  absl::Status Sync() override {
    return fsync(fd_.get()) == 0 ? absl::OkStatus() : Error(errno, "fsync", path_);
  }

 private:
  const std::string path_;
  const FileDescriptor fd_;
};

class PosixFileLock final : public FileLock {
 public:
  explicit PosixFileLock(int fd) : fd_(fd) {}

 private:
  const FileDescriptor fd_;  // closing it unlocks
};

class PosixFileSystem final : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenForAppend(const std::string& path) override {
    const int fd = open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) return Error(errno, "open", path);
    return std::make_unique<PosixWritableFile>(path, fd);
  }

  absl::Status ReadChunks(
      const std::string& path,
      const std::function<absl::Status(absl::string_view)>& chunk) const override {
    const FileDescriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.get() < 0) return Error(errno, "open", path);
    std::string buffer(size_t{1} << 20, '\0');
    while (true) {
      const ssize_t n = read(fd.get(), buffer.data(), buffer.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Error(errno, "read", path);
      if (n == 0) return absl::OkStatus();
      HT_RETURN_IF_ERROR(chunk(absl::string_view(buffer.data(), static_cast<size_t>(n))));
    }
  }

  absl::StatusOr<std::shared_ptr<Buffer>> Map(const std::string& path) const override {
    return Buffer::MapFile(path);
  }

  absl::StatusOr<int64_t> FileSize(const std::string& path) const override {
    struct stat info{};
    if (stat(path.c_str(), &info) != 0) return Error(errno, "stat", path);
    return static_cast<int64_t>(info.st_size);
  }

  bool Exists(const std::string& path) const override {
    std::error_code code;
    return stdfs::exists(stdfs::symlink_status(path, code));
  }

  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) const override {
    std::error_code code;
    std::vector<std::string> names;
    for (stdfs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code)) {
      names.push_back(it->path().filename().string());
    }
    HT_RETURN_IF_ERROR(Error(code, "list", folder));
    std::sort(names.begin(), names.end());
    return names;
  }

  absl::Status MakeFolders(const std::string& folder) override {
    std::error_code code;
    stdfs::create_directories(folder, code);
    return Error(code, "create", folder);
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    return std::rename(from.c_str(), to.c_str()) == 0
               ? absl::OkStatus()
               : Error(errno, absl::StrCat("rename ", from, " to"), to);
  }

  absl::Status RemoveAll(const std::string& path) override {
    std::error_code code;
    stdfs::remove_all(path, code);
    return Error(code, "remove", path);
  }

  absl::Status SyncFolder(const std::string& folder) override {
    const FileDescriptor fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd.get() < 0) return Error(errno, "open", folder);
    return fsync(fd.get()) == 0 ? absl::OkStatus() : Error(errno, "fsync", folder);
  }

  absl::StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) override {
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) return Error(errno, "open", path);
    auto lock = std::make_unique<PosixFileLock>(fd);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return lock;
    if (errno != EWOULDBLOCK) return Error(errno, "lock", path);
    return absl::FailedPreconditionError(
        absl::StrCat("lock ", path, ": another process or store uses it"));
  }

  absl::StatusOr<int64_t> FreeBytes(const std::string& folder) const override {
    struct statvfs info{};
    if (statvfs(folder.c_str(), &info) != 0) return Error(errno, "statvfs", folder);
    return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
  }
};

}  // namespace

FileSystem& RealFileSystem() {
  static PosixFileSystem files;
  return files;
}

absl::StatusOr<std::string> ReadFile(const FileSystem& files, const std::string& path,
                                     int64_t max_bytes) {
  std::string out;
  HT_RETURN_IF_ERROR(files.ReadChunks(path, [&](absl::string_view chunk) -> absl::Status {
    if (static_cast<int64_t>(out.size() + chunk.size()) > max_bytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("read ", path, ": more than ", max_bytes, " bytes"));
    }
    out.append(chunk.data(), chunk.size());
    return absl::OkStatus();
  }));
  return out;
}

absl::Status WriteNewFile(FileSystem& files, const std::string& path, absl::string_view bytes) {
  if (files.Exists(path)) return absl::AlreadyExistsError(absl::StrCat("write ", path));
  HT_ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file, files.OpenForAppend(path));
  HT_RETURN_IF_ERROR(file->Append(bytes));
  return file->Sync();
}

absl::StatusOr<std::string> FileSha256(const FileSystem& files, const std::string& path) {
  Sha256 hash;
  HT_RETURN_IF_ERROR(files.ReadChunks(path, [&](absl::string_view chunk) {
    hash.Update(chunk);
    return absl::OkStatus();
  }));
  return hash.HexDigest();
}

}  // namespace halftone
