// A file system in memory that can fill up, fail, lose power and rot.
#ifndef HALFTONE_TESTS_TESTING_MEMORY_FILE_SYSTEM_H_
#define HALFTONE_TESTS_TESTING_MEMORY_FILE_SYSTEM_H_

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "core/base/file_system.h"

namespace halftone {

// Thread-safe. Paths are absolute and plain ("/a/b"); "/" exists.
class MemoryFileSystem final : public FileSystem {
 public:
  // --- what tests turn ---
  // Every write operation (append, sync, rename, remove, new folder) counts one; when `operations`
  // of them have succeeded, the next fails with `error` and so does every later one, as after a
  // crash, until Heal. Negative: never.
  void FailAfter(int operations, absl::Status error);
  // As FailAfter(0) for one operation only.
  void FailNextWrite(absl::Status error);
  void Heal();
  int operations() const;  // write operations so far
  void set_capacity(int64_t bytes);
  // Flips one bit of a file.
  void Damage(const std::string& path, int64_t offset);
  std::vector<std::string> Files() const;  // paths of all files, sorted

  // --- FileSystem ---
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenForAppend(const std::string& path) override;
  absl::Status ReadChunks(
      const std::string& path,
      const std::function<absl::Status(absl::string_view)>& chunk) const override;
  absl::StatusOr<std::shared_ptr<Buffer>> Map(const std::string& path) const override;
  absl::StatusOr<int64_t> FileSize(const std::string& path) const override;
  bool Exists(const std::string& path) const override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) const override;
  absl::Status MakeFolders(const std::string& folder) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status RemoveAll(const std::string& path) override;
  absl::Status SyncFolder(const std::string& folder) override;
  absl::StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) override;
  absl::StatusOr<int64_t> FreeBytes(const std::string& folder) const override;

 private:
  class File;
  class HeldLock;
  absl::Status CountWrite() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  int64_t UsedBytes() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool ExistsLocked(const std::string& path) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable absl::Mutex mu_;
  std::map<std::string, std::shared_ptr<std::string>> files_ ABSL_GUARDED_BY(mu_);
  std::set<std::string> locked_ ABSL_GUARDED_BY(mu_);
  std::set<std::string> folders_ ABSL_GUARDED_BY(mu_);
  int64_t capacity_ ABSL_GUARDED_BY(mu_) = int64_t{1} << 40;
  int operations_ ABSL_GUARDED_BY(mu_) = 0;
  int fail_at_ ABSL_GUARDED_BY(mu_) = -1;  // operation number; negative: none
  bool fail_once_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(mu_);
};

}  // namespace halftone

#endif  // HALFTONE_TESTS_TESTING_MEMORY_FILE_SYSTEM_H_
