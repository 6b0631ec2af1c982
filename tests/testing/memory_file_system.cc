#include "tests/testing/memory_file_system.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/log/check.h"
#include "absl/strings/match.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

bool Inside(const std::string& path, const std::string& folder) {
  return absl::StartsWith(path, folder + "/");
}

absl::Status NotFound(const std::string& path) {
  return absl::NotFoundError(absl::StrCat(path, ": no such file or folder"));
}

}  // namespace

// Keeps the bytes, not the path: like a descriptor, it survives renames and removals.
class MemoryFileSystem::File final : public WritableFile {
 public:
  File(MemoryFileSystem* files, std::shared_ptr<std::string> bytes)
      : files_(files), bytes_(std::move(bytes)) {}

  absl::Status Append(absl::string_view bytes) override {
    absl::MutexLock lock(&files_->mu_);
    HT_RETURN_IF_ERROR(files_->CountWrite());
    const int64_t room = std::max<int64_t>(0, files_->capacity_ - files_->UsedBytes());
    const size_t fits = std::min(bytes.size(), static_cast<size_t>(room));
    bytes_->append(bytes.data(), fits);
    return fits == bytes.size() ? absl::OkStatus()
                                : absl::ResourceExhaustedError("write: no space left on device");
  }
  absl::Status Sync() override {
    absl::MutexLock lock(&files_->mu_);
    return files_->CountWrite();
  }

 private:
  MemoryFileSystem* const files_;
  const std::shared_ptr<std::string> bytes_;
};

class MemoryFileSystem::HeldLock final : public FileLock {
 public:
  HeldLock(MemoryFileSystem* files, std::string path) : files_(files), path_(std::move(path)) {}
  ~HeldLock() override {
    absl::MutexLock lock(&files_->mu_);
    files_->locked_.erase(path_);
  }

 private:
  MemoryFileSystem* const files_;
  const std::string path_;
};

void MemoryFileSystem::FailAfter(int operations, absl::Status error) {
  absl::MutexLock lock(&mu_);
  fail_at_ = operations < 0 ? -1 : operations_ + operations;
  fail_once_ = false;
  failure_ = std::move(error);
}

void MemoryFileSystem::FailNextWrite(absl::Status error) {
  FailAfter(0, std::move(error));
  absl::MutexLock lock(&mu_);
  fail_once_ = true;
}

void MemoryFileSystem::Heal() {
  absl::MutexLock lock(&mu_);
  fail_at_ = -1;
}

int MemoryFileSystem::operations() const {
  absl::MutexLock lock(&mu_);
  return operations_;
}

void MemoryFileSystem::set_capacity(int64_t bytes) {
  absl::MutexLock lock(&mu_);
  capacity_ = bytes;
}

void MemoryFileSystem::Damage(const std::string& path, int64_t offset) {
  absl::MutexLock lock(&mu_);
  const auto it = files_.find(path);
  CHECK(it != files_.end()) << path;
  (*it->second)[static_cast<size_t>(offset)] ^= 0x10;
}

std::vector<std::string> MemoryFileSystem::Files() const {
  absl::MutexLock lock(&mu_);
  std::vector<std::string> out;
  for (const auto& [path, bytes] : files_) out.push_back(path);
  return out;
}

absl::Status MemoryFileSystem::CountWrite() {
  if (fail_at_ < 0 || operations_ < fail_at_) {
    ++operations_;
    return absl::OkStatus();
  }
  if (fail_once_) fail_at_ = -1;
  return failure_;
}

int64_t MemoryFileSystem::UsedBytes() const {
  int64_t used = 0;
  for (const auto& [path, bytes] : files_) used += static_cast<int64_t>(bytes->size());
  return used;
}

bool MemoryFileSystem::ExistsLocked(const std::string& path) const {
  return path.empty() || files_.contains(path) || folders_.contains(path);
}

absl::StatusOr<std::unique_ptr<WritableFile>> MemoryFileSystem::OpenForAppend(
    const std::string& path) {
  absl::MutexLock lock(&mu_);
  HT_RETURN_IF_ERROR(CountWrite());
  if (!ExistsLocked(path.substr(0, path.rfind('/')))) return NotFound(path);
  std::shared_ptr<std::string>& bytes = files_[path];
  if (bytes == nullptr) bytes = std::make_shared<std::string>();
  return std::make_unique<File>(this, bytes);
}

absl::Status MemoryFileSystem::ReadChunks(
    const std::string& path, const std::function<absl::Status(absl::string_view)>& chunk) const {
  std::string copy;
  {
    absl::MutexLock lock(&mu_);
    const auto it = files_.find(path);
    if (it == files_.end()) return NotFound(path);
    copy = *it->second;
  }
  constexpr size_t kChunk = size_t{1} << 20;
  for (size_t i = 0; i < copy.size(); i += kChunk) {
    HT_RETURN_IF_ERROR(chunk(absl::string_view(copy).substr(i, kChunk)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Buffer>> MemoryFileSystem::Map(const std::string& path) const {
  absl::MutexLock lock(&mu_);
  const auto it = files_.find(path);
  if (it == files_.end()) return NotFound(path);
  std::shared_ptr<Buffer> buffer = Buffer::Allocate(it->second->size());
  CHECK(buffer != nullptr);
  std::memcpy(buffer->mutable_data(), it->second->data(), it->second->size());
  return buffer;
}

absl::StatusOr<int64_t> MemoryFileSystem::FileSize(const std::string& path) const {
  absl::MutexLock lock(&mu_);
  const auto it = files_.find(path);
  if (it == files_.end()) return NotFound(path);
  return static_cast<int64_t>(it->second->size());
}

bool MemoryFileSystem::Exists(const std::string& path) const {
  absl::MutexLock lock(&mu_);
  return ExistsLocked(path);
}

absl::StatusOr<std::vector<std::string>> MemoryFileSystem::List(const std::string& folder) const {
  absl::MutexLock lock(&mu_);
  if (!ExistsLocked(folder)) return NotFound(folder);
  std::set<std::string> names;
  const auto add = [&](const std::string& path) {
    if (!Inside(path, folder)) return;
    const std::string rest = path.substr(folder.size() + 1);
    names.insert(rest.substr(0, rest.find('/')));
  };
  for (const auto& [path, bytes] : files_) add(path);
  for (const std::string& path : folders_) add(path);
  return std::vector<std::string>(names.begin(), names.end());
}

absl::Status MemoryFileSystem::MakeFolders(const std::string& folder) {
  absl::MutexLock lock(&mu_);
  if (ExistsLocked(folder)) return absl::OkStatus();
  HT_RETURN_IF_ERROR(CountWrite());
  for (size_t end = folder.find('/', 1); end != std::string::npos; end = folder.find('/', end + 1))
    folders_.insert(folder.substr(0, end));
  folders_.insert(folder);
  return absl::OkStatus();
}

absl::Status MemoryFileSystem::Rename(const std::string& from, const std::string& to) {
  absl::MutexLock lock(&mu_);
  HT_RETURN_IF_ERROR(CountWrite());
  if (!ExistsLocked(from)) return NotFound(from);
  if (!ExistsLocked(to.substr(0, to.rfind('/')))) return NotFound(to);
  if (folders_.contains(from) && ExistsLocked(to)) {
    return absl::AlreadyExistsError(absl::StrCat("rename ", from, " to ", to));
  }
  const auto moved = [&](const std::string& path) { return to + path.substr(from.size()); };
  std::map<std::string, std::shared_ptr<std::string>> files;
  for (auto& [path, bytes] : files_) {
    if (path != from && !Inside(path, from)) files.emplace(path, bytes);
  }
  for (auto& [path, bytes] : files_) {
    if (path == from || Inside(path, from)) files[moved(path)] = bytes;
  }
  std::set<std::string> folders;
  for (const std::string& path : folders_) {
    folders.insert(path == from || Inside(path, from) ? moved(path) : path);
  }
  files_ = std::move(files);
  folders_ = std::move(folders);
  return absl::OkStatus();
}

absl::Status MemoryFileSystem::RemoveAll(const std::string& path) {
  absl::MutexLock lock(&mu_);
  if (!ExistsLocked(path)) return absl::OkStatus();
  HT_RETURN_IF_ERROR(CountWrite());
  const auto gone = [&](const std::string& p) { return p == path || Inside(p, path); };
  std::erase_if(files_, [&](const auto& item) { return gone(item.first); });
  std::erase_if(folders_, gone);
  return absl::OkStatus();
}

absl::Status MemoryFileSystem::SyncFolder(const std::string& folder) {
  absl::MutexLock lock(&mu_);
  HT_RETURN_IF_ERROR(CountWrite());
  return ExistsLocked(folder) ? absl::OkStatus() : NotFound(folder);
}

absl::StatusOr<std::unique_ptr<FileLock>> MemoryFileSystem::Lock(const std::string& path) {
  absl::MutexLock lock(&mu_);
  if (!locked_.insert(path).second) {
    return absl::FailedPreconditionError(absl::StrCat("lock ", path, ": somebody uses it"));
  }
  return std::make_unique<HeldLock>(this, path);
}

absl::StatusOr<int64_t> MemoryFileSystem::FreeBytes(const std::string&) const {
  absl::MutexLock lock(&mu_);
  return std::max<int64_t>(0, capacity_ - UsedBytes());
}

}  // namespace halftone
