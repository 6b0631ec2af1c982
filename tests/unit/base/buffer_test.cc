#include "core/base/buffer.h"

#include <gmock/gmock.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>

#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

std::string WriteTempFile(const std::string& name, const std::string& bytes) {
  const std::string path = ::testing::TempDir() + "/" + name;
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

TEST(Buffer, AllocatesAlignedWritableMemoryOfAnySize) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{63}, Buffer::kMapThreshold - 1,
                            Buffer::kMapThreshold, Buffer::kMapThreshold + 1}) {
    const std::shared_ptr<Buffer> buffer = Buffer::Allocate(size);
    ASSERT_NE(buffer, nullptr) << size;
    EXPECT_EQ(buffer->size(), size);
    EXPECT_FALSE(buffer->read_only());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % Buffer::kAlignment, 0u);
    if (size > 0) std::memset(buffer->mutable_data(), 0xab, size);
  }
}

TEST(Buffer, ReturnsNullWhenThereIsNoSuchMemory) {
  EXPECT_EQ(Buffer::Allocate(size_t{1} << 62), nullptr);
}

TEST(Buffer, MapsAFileReadOnly) {
  const std::string path = WriteTempFile("buffer_map", "halftone");
  HT_ASSERT_OK_AND_ASSIGN(const std::shared_ptr<Buffer> buffer, Buffer::MapFile(path));
  EXPECT_TRUE(buffer->read_only());
  EXPECT_TRUE(buffer->is_file_mapping());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(buffer->data()), buffer->size()), "halftone");
}

TEST(Buffer, MapsAnEmptyFile) {
  HT_ASSERT_OK_AND_ASSIGN(const std::shared_ptr<Buffer> buffer,
                          Buffer::MapFile(WriteTempFile("buffer_empty", "")));
  EXPECT_EQ(buffer->size(), 0u);
}

TEST(Buffer, ReportsAMissingFile) {
  EXPECT_THAT(Buffer::MapFile("/nonexistent/file"),
              StatusIs(absl::StatusCode::kNotFound, ::testing::HasSubstr("/nonexistent/file")));
}

TEST(Buffer, DroppedPagesComeBackFromTheFile) {
  const std::string bytes(64 << 10, 'x');
  HT_ASSERT_OK_AND_ASSIGN(const std::shared_ptr<Buffer> buffer,
                          Buffer::MapFile(WriteTempFile("buffer_drop", bytes)));
  EXPECT_EQ(std::memcmp(buffer->data(), bytes.data(), bytes.size()), 0);
  buffer->DropPages(100, 40 << 10);
  buffer->DropPages(1 << 20, 1);  // beyond the end
  EXPECT_EQ(std::memcmp(buffer->data(), bytes.data(), bytes.size()), 0);
}

TEST(Buffer, DroppingPagesOfHeapMemoryKeepsItsBytes) {
  const std::shared_ptr<Buffer> buffer = Buffer::Allocate(Buffer::kMapThreshold);
  std::memset(buffer->mutable_data(), 7, buffer->size());
  buffer->DropPages(0, buffer->size());
  EXPECT_EQ(buffer->data()[12345], std::byte{7});
}

TEST(Buffer, BorrowsWithoutCopying) {
  const char bytes[] = "abc";
  const std::shared_ptr<Buffer> buffer = Buffer::Borrow(bytes, 3);
  EXPECT_EQ(static_cast<const void*>(buffer->data()), bytes);
  EXPECT_TRUE(buffer->read_only());
}

}  // namespace
}  // namespace halftone
