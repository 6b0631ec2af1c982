#include "core/store/bundle.h"

#include <gmock/gmock.h>

#include "core/base/status_macros.h"
#include "tests/testing/memory_file_system.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

absl::Status WriteBundle(FileSystem& files, const std::string& target) {
  HT_RETURN_IF_ERROR(files.MakeFolders("/tmp"));
  HT_ASSIGN_OR_RETURN(auto bundle, BundleWriter::Create(files, "/tmp/1"));
  HT_RETURN_IF_ERROR(bundle->Append("weights", "abc"));
  HT_RETURN_IF_ERROR(bundle->Append("weights", "def"));
  HT_RETURN_IF_ERROR(bundle->Append("model", "xyz"));
  HT_RETURN_IF_ERROR(bundle->Seal({{"spec", "int8"}}));
  return bundle->Commit(target);
}

TEST(Bundle, ReadsBackWhatWasWritten) {
  MemoryFileSystem files;
  HT_ASSERT_OK(WriteBundle(files, "/store/a"));
  HT_ASSERT_OK_AND_ASSIGN(const Manifest manifest, ReadManifest(files, "/store/a"));
  ASSERT_EQ(manifest.files.size(), 2u);
  EXPECT_EQ(manifest.files[0].name, "weights");
  EXPECT_EQ(manifest.files[0].bytes, 6);
  EXPECT_EQ(manifest.files[0].sha256, Sha256Hex("abcdef"));
  EXPECT_EQ(manifest.bytes(), 9);
  EXPECT_EQ(manifest.fields["spec"], "int8");
  HT_EXPECT_OK(VerifyDigests(files, "/store/a", manifest));
  EXPECT_THAT(*files.List("/tmp"), IsEmpty());
}

TEST(Bundle, LeavesNothingWhenItIsNotCommitted) {
  MemoryFileSystem files;
  {
    HT_ASSERT_OK_AND_ASSIGN(auto bundle, BundleWriter::Create(files, "/tmp/1"));
    HT_ASSERT_OK(bundle->Append("weights", "abc"));
  }
  EXPECT_THAT(files.Files(), IsEmpty());
}

TEST(Bundle, KeepsWhatIsAlreadyThere) {
  MemoryFileSystem files;
  HT_ASSERT_OK(WriteBundle(files, "/store/a"));
  EXPECT_FALSE(WriteBundle(files, "/store/a").ok());
  HT_EXPECT_OK(ReadManifest(files, "/store/a"));
  EXPECT_THAT(*files.List("/tmp"), IsEmpty());
}

TEST(Bundle, IsAbsentOrWholeWhicheverOperationTheCrashHits) {
  int operations = 0;
  {
    MemoryFileSystem files;
    HT_ASSERT_OK(WriteBundle(files, "/store/a"));
    operations = files.operations();
  }
  for (int n = 0; n < operations; ++n) {
    MemoryFileSystem files;
    files.FailAfter(n, absl::UnavailableError("power failure"));
    EXPECT_FALSE(WriteBundle(files, "/store/a").ok()) << n;
    files.Heal();
    if (!files.Exists("/store/a")) continue;
    HT_ASSERT_OK_AND_ASSIGN(const Manifest manifest, ReadManifest(files, "/store/a"));
    HT_EXPECT_OK(VerifyDigests(files, "/store/a", manifest));
  }
}

TEST(Bundle, NoticesEveryFlippedBit) {
  for (const char* name : {"weights", "model", kManifestName}) {
    MemoryFileSystem clean;
    HT_ASSERT_OK(WriteBundle(clean, "/store/a"));
    const int64_t size = *clean.FileSize(JoinPath("/store/a", name));
    for (int64_t offset = 0; offset < size; ++offset) {
      MemoryFileSystem files;
      HT_ASSERT_OK(WriteBundle(files, "/store/a"));
      files.Damage(JoinPath("/store/a", name), offset);
      absl::StatusOr<Manifest> manifest = ReadManifest(files, "/store/a");
      const absl::Status status =
          manifest.ok() ? VerifyDigests(files, "/store/a", *manifest) : manifest.status();
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss)) << name << " at " << offset;
    }
  }
}

TEST(Bundle, NoticesMissingAndShortenedFiles) {
  MemoryFileSystem files;
  HT_ASSERT_OK(WriteBundle(files, "/store/a"));
  HT_ASSERT_OK(files.RemoveAll("/store/a/weights"));
  EXPECT_THAT(ReadManifest(files, "/store/a"),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("weights")));
  HT_ASSERT_OK(WriteNewFile(files, "/store/a/weights", "abc"));
  EXPECT_THAT(ReadManifest(files, "/store/a"),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("has 3 bytes, want 6")));
  EXPECT_THAT(ReadManifest(files, "/store/none"), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace halftone
