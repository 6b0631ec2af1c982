#include "tests/unit/store/store_fixture.h"

namespace halftone {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using UploadTest = StoreTest;

TEST_F(UploadTest, KeepsThePortableFormAndNotTheUploadedBytes) {
  HT_ASSERT_OK_AND_ASSIGN(const ModelInfo info, Upload("m", "100"));
  EXPECT_EQ(info.name, "m");
  EXPECT_EQ(info.version, 1);
  EXPECT_EQ(info.bytes, 3);
  EXPECT_TRUE(IsSha256Hex(info.digest));
  EXPECT_EQ(info.created, clock_.Now());
  ASSERT_EQ(info.signature.inputs.size(), 1u);
  EXPECT_EQ(ToString(SymbolicShape(info.signature.inputs[0].shape)), "[batch,2]");
  EXPECT_THAT(files_.Files(),
              ElementsAre("/store/models/m/1/manifest.json", "/store/models/m/1/model.onnx",
                          "/store/models/m/1/weights.bin"));
}

TEST_F(UploadTest, AcceptsChunksAndSeveralFiles) {
  const std::vector<FileInfo> files = {
      {.name = "data.bin", .bytes = 4, .sha256 = Sha256Hex("abcd")},
      {.name = "m.onnx", .bytes = 3, .sha256 = Sha256Hex("100")}};
  HT_ASSERT_OK_AND_ASSIGN(const auto upload, store_->BeginUpload("m", files));
  EXPECT_THAT(upload.received_bytes, ElementsAre(0, 0));
  HT_ASSERT_OK(store_->AppendUpload(upload.upload_id, 0, 0, Bytes("ab")));
  HT_ASSERT_OK(store_->AppendUpload(upload.upload_id, 1, 0, Bytes("100")));
  HT_ASSERT_OK(store_->AppendUpload(upload.upload_id, 0, 2, Bytes("cd")));
  EXPECT_TRUE(store_->GetUpload(upload.upload_id)->complete);
  EXPECT_EQ(store_->FinishUpload(upload.upload_id)->bytes, 7);
}

TEST_F(UploadTest, ResumesAfterARestart) {
  const std::string text = "100 and more";
  HT_ASSERT_OK_AND_ASSIGN(const auto first, store_->BeginUpload("m", OneFile(text)));
  HT_ASSERT_OK(store_->AppendUpload(first.upload_id, 0, 0, Bytes(text.substr(0, 5))));
  HT_ASSERT_OK(Open());
  HT_ASSERT_OK_AND_ASSIGN(const auto again, store_->BeginUpload("m", OneFile(text)));
  EXPECT_EQ(again.upload_id, first.upload_id);
  EXPECT_THAT(again.received_bytes, ElementsAre(5));
  EXPECT_FALSE(again.complete);
  HT_ASSERT_OK(store_->AppendUpload(again.upload_id, 0, 5, Bytes(text.substr(5))));
  HT_EXPECT_OK(store_->FinishUpload(again.upload_id));
}

TEST_F(UploadTest, SaysWhatItHasWhenAChunkComesAtTheWrongPlace) {
  HT_ASSERT_OK_AND_ASSIGN(const auto upload, store_->BeginUpload("m", OneFile("100")));
  HT_ASSERT_OK(store_->AppendUpload(upload.upload_id, 0, 0, Bytes("1")));
  EXPECT_THAT(store_->AppendUpload(upload.upload_id, 0, 2, Bytes("0")),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("offset 2"), HasSubstr("want 1"), HasSubstr("m.onnx"))));
  EXPECT_THAT(store_->AppendUpload(upload.upload_id, 0, 1, Bytes("000")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 2")));
  EXPECT_THAT(store_->AppendUpload(upload.upload_id, 1, 0, Bytes("0")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("file index 1")));
  EXPECT_THAT(store_->AppendUpload("nonsense", 0, 0, Bytes("0")),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(UploadTest, WaitsForMissingBytes) {
  HT_ASSERT_OK_AND_ASSIGN(const auto upload, store_->BeginUpload("m", OneFile("100")));
  HT_ASSERT_OK(store_->AppendUpload(upload.upload_id, 0, 0, Bytes("10")));
  EXPECT_THAT(store_->FinishUpload(upload.upload_id),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("received 2 of 3")));
  HT_ASSERT_OK(store_->AppendUpload(upload.upload_id, 0, 2, Bytes("0")));
  HT_EXPECT_OK(store_->FinishUpload(upload.upload_id));
}

TEST_F(UploadTest, RefusesBytesWithAnotherDigestAndForgetsThem) {
  HT_ASSERT_OK_AND_ASSIGN(const auto upload, store_->BeginUpload("m", OneFile("100")));
  HT_ASSERT_OK(store_->AppendUpload(upload.upload_id, 0, 0, Bytes("101")));
  EXPECT_THAT(store_->FinishUpload(upload.upload_id),
              StatusIs(absl::StatusCode::kDataLoss,
                       AllOf(HasSubstr("m.onnx"), HasSubstr(Sha256Hex("100")))));
  EXPECT_THAT(files_.Files(), IsEmpty());
  EXPECT_THAT(store_->GetUpload(upload.upload_id), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(store_->ListModels(), IsEmpty());
}

TEST_F(UploadTest, PassesImportErrorsOnAndLeavesNothing) {
  EXPECT_THAT(Upload("m", "bad"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("Conv 'c'")));
  EXPECT_THAT(Upload("m", "unknown"), StatusIs(absl::StatusCode::kUnimplemented));
  EXPECT_THAT(files_.Files(), IsEmpty());
}

TEST_F(UploadTest, ReturnsTheExistingVersionForEqualContent) {
  const ModelInfo first = *Upload("m", "100");
  HT_ASSERT_OK_AND_ASSIGN(const auto again, store_->BeginUpload("m", OneFile("100")));
  EXPECT_TRUE(again.complete);
  EXPECT_EQ(store_->FinishUpload(again.upload_id)->version, first.version);
  EXPECT_EQ(Upload("m", "200")->version, 2);
  EXPECT_EQ(Upload("m", "100")->version, 1);
  EXPECT_EQ(engine_.imports, 2);
  EXPECT_EQ(store_->GetModel("m")->version, 2);
  EXPECT_EQ(store_->GetModel("m", 1)->digest, first.digest);
  EXPECT_THAT(store_->GetModel("m", 3),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("newest is 2")));
}

TEST_F(UploadTest, TheDigestDoesNotDependOnTheOrderOfFiles) {
  std::vector<FileInfo> files = {{.name = "a.onnx", .bytes = 3, .sha256 = Sha256Hex("100")},
                                 {.name = "b", .bytes = 1, .sha256 = Sha256Hex("x")}};
  const auto upload = [&](int onnx) {
    const auto status = *store_->BeginUpload("m", files);
    HT_EXPECT_OK(store_->AppendUpload(status.upload_id, onnx, 0, Bytes("100")));
    HT_EXPECT_OK(store_->AppendUpload(status.upload_id, 1 - onnx, 0, Bytes("x")));
    return store_->FinishUpload(status.upload_id)->version;
  };
  EXPECT_EQ(upload(0), 1);
  std::swap(files[0], files[1]);
  EXPECT_EQ(upload(1), 1);
}

struct BadHeader {
  std::string name;
  std::string model;
  std::vector<FileInfo> files;
  std::string message;
};
FileInfo File(const std::string& name, int64_t bytes = 1) {
  return {.name = name, .bytes = bytes, .sha256 = Sha256Hex("x")};
}

class UploadRejects : public UploadTest, public ::testing::WithParamInterface<BadHeader> {};

TEST_P(UploadRejects, BadHeaders) {
  EXPECT_THAT(store_->BeginUpload(GetParam().model, GetParam().files),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(GetParam().message)));
  EXPECT_THAT(files_.Files(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    Cases, UploadRejects,
    ::testing::Values(
        BadHeader{"EmptyName", "", {File("m.onnx")}, "model name"},
        BadHeader{"PathInName", "../m", {File("m.onnx")}, "'../m'"},
        BadHeader{"HiddenName", ".m", {File("m.onnx")}, "not starting with '.'"},
        BadHeader{"LongName", std::string(129, 'm'), {File("m.onnx")}, "1 to 128"},
        BadHeader{"NulInName", std::string("m\0m", 3), {File("m.onnx")}, "model name"},
        BadHeader{"NoFiles", "m", {}, "got 0 files"},
        BadHeader{"PathInFile", "m", {File("a/m.onnx")}, "file name"},
        BadHeader{"NoOnnx", "m", {File("weights.bin")}, "got 0 files that end in .onnx"},
        BadHeader{"TwoOnnx", "m", {File("a.onnx"), File("b.onnx")}, "got 2 files"},
        BadHeader{"SameFileTwice", "m", {File("m.onnx"), File("w"), File("w")}, "listed twice"},
        BadHeader{"NegativeSize", "m", {File("m.onnx", -5)}, "got size -5"},
        BadHeader{"EmptyFile", "m", {File("m.onnx", 0)}, "got size 0"},
        BadHeader{"SizesOverflow",
                  "m",
                  {File("m.onnx", std::numeric_limits<int64_t>::max()), File("w", 1)},
                  "overflow"},
        BadHeader{"NoDigest", "m", {{.name = "m.onnx", .bytes = 1}}, "64 hexadecimal"}),
    [](const auto& info) { return info.param.name; });

TEST_F(UploadTest, RefusesMoreThanTheUploadLimit) {
  options_.max_upload_bytes = int64_t{1} << 30;
  HT_ASSERT_OK(Open());
  EXPECT_THAT(store_->BeginUpload("m", {File("m.onnx", 10'000'000'000)}),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("10000000000"), HasSubstr("1073741824"))));
}

TEST_F(UploadTest, RefusesMoreThanTheDiskHolds) {
  files_.set_capacity(1'000'000);
  EXPECT_THAT(store_->BeginUpload("m", {File("m.onnx", 600'000)}),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("needs 1200000"), HasSubstr("1000000 of the file system"))));
  HT_EXPECT_OK(store_->BeginUpload("m", {File("m.onnx", 400'000)}));
}

TEST_F(UploadTest, CountsWhatOtherUploadsWillNeed) {
  options_.disk_budget_bytes = 1000;
  HT_ASSERT_OK(Open());
  HT_ASSERT_OK(store_->BeginUpload("a", {File("m.onnx", 700)}));
  EXPECT_THAT(store_->BeginUpload("b", {File("m.onnx", 400)}),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("needs 400"), HasSubstr("300 of the budget of 1000"))));
}

TEST_F(UploadTest, ContinuesAfterTheDiskWasFull) {
  HT_ASSERT_OK_AND_ASSIGN(const auto upload, store_->BeginUpload("m", OneFile("100 123456789")));
  HT_ASSERT_OK(store_->AppendUpload(upload.upload_id, 0, 0, Bytes("100 ")));
  files_.set_capacity(0);
  EXPECT_THAT(store_->AppendUpload(upload.upload_id, 0, 4, Bytes("123456789")),
              StatusIs(absl::StatusCode::kResourceExhausted));
  files_.set_capacity(1'000'000);
  HT_ASSERT_OK_AND_ASSIGN(const auto now, store_->GetUpload(upload.upload_id));
  EXPECT_THAT(now.received_bytes, ElementsAre(4));
  HT_ASSERT_OK(store_->AppendUpload(upload.upload_id, 0, 4, Bytes("123456789")));
  HT_EXPECT_OK(store_->FinishUpload(upload.upload_id));
}

TEST_F(UploadTest, KeepsNothingWhenTheDiskFillsUpDuringImport) {
  HT_ASSERT_OK_AND_ASSIGN(const auto upload, store_->BeginUpload("m", OneFile("100000")));
  HT_ASSERT_OK(store_->AppendUpload(upload.upload_id, 0, 0, Bytes("100000")));
  files_.set_capacity(5000);
  EXPECT_THAT(store_->FinishUpload(upload.upload_id),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(files_.Files(), IsEmpty());
  EXPECT_THAT(store_->ListModels(), IsEmpty());
}

TEST_F(UploadTest, ForgetsAbandonedUploadsAtOpen) {
  HT_ASSERT_OK(store_->BeginUpload("old", OneFile("100")));
  clock_.Advance(absl::Hours(24 * 6));
  const auto young = *store_->BeginUpload("young", OneFile("100"));
  clock_.Advance(absl::Hours(24 * 2));
  HT_ASSERT_OK(Open());
  HT_EXPECT_OK(store_->GetUpload(young.upload_id));
  EXPECT_EQ(files_.List("/store/uploads")->size(), 1u);
}

}  // namespace
}  // namespace halftone
