// Immutable-size byte storage that tensors share: heap memory or a mapped file.
//
//   std::shared_ptr<Buffer> b = Buffer::Allocate(1 << 20);          // 64-byte aligned,
//   uninitialised HT_ASSIGN_OR_RETURN(auto m, Buffer::MapFile("weights.bin"));    // read-only,
//   pages come on demand
//
// Allocations of kMapThreshold bytes and more are their own mappings, so freeing them returns the
// pages to the operating system at once. Thread-safe: the object is immutable; the bytes follow the
// usual rules for memory.
#ifndef HALFTONE_CORE_BASE_BUFFER_H_
#define HALFTONE_CORE_BASE_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace halftone {

class Buffer {
 public:
  static constexpr size_t kAlignment = 64;
  static constexpr size_t kMapThreshold = size_t{1} << 18;

  // Returns null when the system has no such memory (the caller reports RESOURCE_EXHAUSTED).
  static std::shared_ptr<Buffer> Allocate(size_t size);
  static absl::StatusOr<std::shared_ptr<Buffer>> MapFile(const std::string& path);
  // Borrows bytes that the caller keeps alive and unchanged.
  static std::shared_ptr<Buffer> Borrow(const void* data, size_t size);

  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  const std::byte* data() const { return data_; }
  std::byte* mutable_data() { return data_; }  // Requires: !read_only()
  size_t size() const { return size_; }
  bool read_only() const { return kind_ != Kind::kHeap && kind_ != Kind::kAnonymousMap; }
  bool is_file_mapping() const { return kind_ == Kind::kFileMap; }

  // Tells the system that [offset, offset+length) is not needed for now. Only a file mapping gives
  // pages back (they return from the file on the next access); a no-op for the other kinds.
  void DropPages(size_t offset, size_t length) const;

 private:
  enum class Kind : uint8_t { kHeap, kAnonymousMap, kFileMap, kBorrowed };
  Buffer(Kind kind, std::byte* data, size_t size) : kind_(kind), data_(data), size_(size) {}

  const Kind kind_;
  std::byte* const data_;
  const size_t size_;
};

}  // namespace halftone

#endif  // HALFTONE_CORE_BASE_BUFFER_H_
