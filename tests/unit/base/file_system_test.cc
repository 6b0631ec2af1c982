// The contract of FileSystem, held by the real one and by the fake alike, then the fake's failures.
#include "core/base/file_system.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "core/base/sha256.h"
#include "tests/testing/memory_file_system.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class FileSystemContract : public ::testing::TestWithParam<bool> {
 protected:
  FileSystemContract()
      : files_(GetParam() ? RealFileSystem() : memory_),
        root_(absl::StrCat(::testing::TempDir(), "/ht_files_", getpid(), "_",
                           ::testing::UnitTest::GetInstance()->random_seed())) {
    EXPECT_THAT(files_.RemoveAll(root_), IsOk());
    EXPECT_THAT(files_.MakeFolders(root_), IsOk());
  }
  ~FileSystemContract() override { EXPECT_THAT(files_.RemoveAll(root_), IsOk()); }
  std::string Path(absl::string_view name) const { return JoinPath(root_, name); }

  MemoryFileSystem memory_;
  FileSystem& files_;
  const std::string root_;
};

TEST_P(FileSystemContract, ReadsBackWhatWasWritten) {
  const std::string bytes(3 << 20, 'z');
  HT_ASSERT_OK(WriteNewFile(files_, Path("f"), bytes));
  EXPECT_EQ(*ReadFile(files_, Path("f"), 3 << 20), bytes);
  EXPECT_EQ(*files_.FileSize(Path("f")), 3 << 20);
  EXPECT_EQ(*FileSha256(files_, Path("f")), Sha256Hex(bytes));
  HT_ASSERT_OK_AND_ASSIGN(const std::shared_ptr<Buffer> mapped, files_.Map(Path("f")));
  EXPECT_EQ(mapped->size(), bytes.size());
}

TEST_P(FileSystemContract, AppendsAcrossReopening) {
  for (const char* part : {"one", "", "two"}) {
    HT_ASSERT_OK_AND_ASSIGN(const auto file, files_.OpenForAppend(Path("f")));
    HT_ASSERT_OK(file->Append(part));
  }
  EXPECT_EQ(*ReadFile(files_, Path("f"), 100), "onetwo");
}

TEST_P(FileSystemContract, DoesNotOverwriteWithANewFile) {
  HT_ASSERT_OK(WriteNewFile(files_, Path("f"), "old"));
  EXPECT_THAT(WriteNewFile(files_, Path("f"), "new"), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_EQ(*ReadFile(files_, Path("f"), 100), "old");
}

TEST_P(FileSystemContract, RefusesToReadMoreThanAllowed) {
  HT_ASSERT_OK(WriteNewFile(files_, Path("f"), "12345"));
  EXPECT_THAT(ReadFile(files_, Path("f"), 4),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("4 bytes")));
}

TEST_P(FileSystemContract, ReportsWhatIsMissing) {
  EXPECT_FALSE(files_.Exists(Path("no")));
  EXPECT_THAT(files_.FileSize(Path("no")), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(files_.List(Path("no")), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(files_.Map(Path("no")), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(ReadFile(files_, Path("no"), 1), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(files_.OpenForAppend(Path("no/f")), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(files_.Rename(Path("no"), Path("yes")), StatusIs(absl::StatusCode::kNotFound));
  HT_EXPECT_OK(files_.RemoveAll(Path("no")));
}

TEST_P(FileSystemContract, ListsNamesInOrder) {
  HT_ASSERT_OK(files_.MakeFolders(Path("b/deep")));
  HT_ASSERT_OK(WriteNewFile(files_, Path("c"), ""));
  HT_ASSERT_OK(WriteNewFile(files_, Path("a"), ""));
  EXPECT_THAT(*files_.List(root_), ElementsAre("a", "b", "c"));
  EXPECT_THAT(*files_.List(Path("b")), ElementsAre("deep"));
  EXPECT_THAT(*files_.List(Path("b/deep")), IsEmpty());
}

TEST_P(FileSystemContract, MovesAFolderWithItsFilesOnlyToWhereNothingIs) {
  HT_ASSERT_OK(files_.MakeFolders(Path("from/sub")));
  HT_ASSERT_OK(WriteNewFile(files_, Path("from/sub/f"), "x"));
  HT_ASSERT_OK(files_.Rename(Path("from"), Path("to")));
  HT_ASSERT_OK(files_.SyncFolder(root_));
  EXPECT_FALSE(files_.Exists(Path("from")));
  EXPECT_EQ(*ReadFile(files_, Path("to/sub/f"), 10), "x");
  HT_ASSERT_OK(files_.MakeFolders(Path("other/sub")));
  EXPECT_FALSE(files_.Rename(Path("other"), Path("to")).ok());
  EXPECT_EQ(*ReadFile(files_, Path("to/sub/f"), 10), "x");
}

TEST_P(FileSystemContract, ReplacesAFileByRename) {
  HT_ASSERT_OK(WriteNewFile(files_, Path("old"), "old"));
  HT_ASSERT_OK(WriteNewFile(files_, Path("new"), "new"));
  HT_ASSERT_OK(files_.Rename(Path("new"), Path("old")));
  EXPECT_THAT(*files_.List(root_), ElementsAre("old"));
  EXPECT_EQ(*ReadFile(files_, Path("old"), 10), "new");
}

TEST_P(FileSystemContract, KeepsAMappingAliveAfterRemoval) {
  HT_ASSERT_OK(WriteNewFile(files_, Path("f"), "abc"));
  HT_ASSERT_OK_AND_ASSIGN(const std::shared_ptr<Buffer> mapped, files_.Map(Path("f")));
  HT_ASSERT_OK(files_.RemoveAll(Path("f")));
  EXPECT_EQ(mapped->data()[2], std::byte{'c'});
}

TEST_P(FileSystemContract, LocksAPathForOneHolderAtATime) {
  HT_ASSERT_OK_AND_ASSIGN(std::unique_ptr<FileLock> first, files_.Lock(Path("lock")));
  EXPECT_THAT(files_.Lock(Path("lock")), StatusIs(absl::StatusCode::kFailedPrecondition));
  first.reset();
  HT_EXPECT_OK(files_.Lock(Path("lock")));
}

TEST_P(FileSystemContract, KnowsTheFreeSpace) { EXPECT_GT(*files_.FreeBytes(root_), 0); }

INSTANTIATE_TEST_SUITE_P(Both, FileSystemContract, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Real" : "Memory"; });

TEST(MemoryFileSystem, KeepsAPrefixWhenTheDiskFillsUp) {
  MemoryFileSystem files;
  files.set_capacity(4);
  EXPECT_THAT(WriteNewFile(files, "/f", "abcdef"), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(*ReadFile(files, "/f", 10), "abcd");
  EXPECT_EQ(*files.FreeBytes("/"), 0);
}

TEST(MemoryFileSystem, FailsOnceOrFromAPointOn) {
  MemoryFileSystem files;
  files.FailNextWrite(absl::InternalError("flaky"));
  EXPECT_THAT(files.MakeFolders("/a"), StatusIs(absl::StatusCode::kInternal));
  HT_EXPECT_OK(files.MakeFolders("/a"));
  files.FailAfter(1, absl::AbortedError("power"));
  HT_EXPECT_OK(files.MakeFolders("/b"));
  EXPECT_THAT(files.MakeFolders("/c"), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(files.RemoveAll("/b"), StatusIs(absl::StatusCode::kAborted));
  files.Heal();
  HT_EXPECT_OK(files.RemoveAll("/b"));
}

TEST(MemoryFileSystem, DamagesOneBit) {
  MemoryFileSystem files;
  HT_ASSERT_OK(WriteNewFile(files, "/f", "abc"));
  files.Damage("/f", 1);
  const std::string got = *ReadFile(files, "/f", 10);
  EXPECT_EQ(got[0], 'a');
  EXPECT_NE(got[1], 'b');
}

}  // namespace
}  // namespace halftone
