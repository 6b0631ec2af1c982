// External data: found beside the model, mapped, checked, and never outside the model's folder.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/onnx/import.h"
#include "tests/testing/onnx_text.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
namespace fs = std::filesystem;

class ExternalData : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::path(testing::TempDir()) / absl::StrCat("halftone_external_", info->name());
    fs::remove_all(root_);
    fs::create_directories(root_ / "model" / "parts");
    const float values[] = {1, 2, 3, 4};
    Write(root_ / "model" / "w.bin", std::string(reinterpret_cast<const char*>(values), 16));
    Write(root_ / "model" / "parts" / "w.bin", "xxxx" + std::string(12, '\0'));
    Write(root_ / "secret.bin", std::string(64, 's'));
  }
  void TearDown() override { fs::remove_all(root_); }

  static void Write(const fs::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  }

  // An initializer w at `location`.
  static void AddExternal(onnx::ModelProto& model, const std::string& name,
                          const std::vector<int64_t>& dims, const std::string& location,
                          const std::string& offset = "", const std::string& length = "") {
    onnx::TensorProto* w = model.mutable_graph()->add_initializer();
    w->set_name(name);
    w->set_data_type(onnx::TensorProto::FLOAT);
    for (const int64_t d : dims) w->add_dims(d);
    w->set_data_location(onnx::TensorProto::EXTERNAL);
    const auto entry = [&](const std::string& key, const std::string& value) {
      if (value.empty()) return;
      w->add_external_data()->set_key(key);
      w->mutable_external_data()->rbegin()->set_value(value);
    };
    entry("location", location);
    entry("offset", offset);
    entry("length", length);
  }

  absl::StatusOr<Graph> ImportHere(const onnx::ModelProto& model,
                                   const ImportOptions& options = {}) {
    const fs::path path = root_ / "model" / "m.onnx";
    Write(path, model.SerializeAsString());
    return ImportOnnxFile(path.string(), options);
  }

  // y = x + w with w [2] at `location`.
  absl::StatusOr<Graph> ImportWith(const std::string& location, const std::string& offset = "",
                                   const std::string& length = "",
                                   const ImportOptions& options = {}) {
    onnx::ModelProto model = ParseModel(
        "<ir_version: 8, opset_import: [\"\" : 17]> net (float[2] x) => (float[2] y) { y = Add(x, "
        "w) }");
    AddExternal(model, "w", {2}, location, offset, length);
    return ImportHere(model, options);
  }

  fs::path root_;
};

TEST_F(ExternalData, IsMappedNotCopied) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportWith("w.bin", "8", "8"));
  const Tensor& w = g.FindValue("w")->constant();
  EXPECT_THAT(w.data<float>(), ElementsAre(3, 4));
  EXPECT_TRUE(w.buffer()->is_file_mapping());
}

TEST_F(ExternalData, IsCopiedWhenMisaligned) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportWith("w.bin", "1", "8"));
  EXPECT_FALSE(g.FindValue("w")->constant().buffer()->is_file_mapping());
}

TEST_F(ExternalData, OffsetAndLengthAreOptional) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportWith("w.bin"));
  EXPECT_THAT(g.FindValue("w")->constant().data<float>(), ElementsAre(1, 2));
}

TEST_F(ExternalData, MayLieInAFolderBelow) { HT_EXPECT_OK(ImportWith("parts/w.bin", "4")); }

TEST_F(ExternalData, ManyTensorsShareFilesOfSeveralFolders) {
  onnx::ModelProto model = ParseModel(
      "<ir_version: 8, opset_import: [\"\" : 17]> net (float[2] x) => (float[2] y) { y = Sum(x, a, "
      "b, c) }");
  AddExternal(model, "a", {2}, "w.bin", "0", "8");
  AddExternal(model, "b", {2}, "./w.bin", "8", "8");
  AddExternal(model, "c", {2}, "parts/w.bin", "4");
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportHere(model));
  EXPECT_EQ(g.FindValue("a")->constant().buffer(), g.FindValue("b")->constant().buffer());
  EXPECT_THAT(g.FindValue("b")->constant().data<float>(), ElementsAre(3, 4));
  EXPECT_THAT(g.FindValue("c")->constant().data<float>(), ElementsAre(0, 0));
}

TEST_F(ExternalData, MayBeEmpty) {
  Write(root_ / "model" / "empty.bin", "");
  onnx::ModelProto model = ParseModel(
      "<ir_version: 8, opset_import: [\"\" : 17]> net (float[2, 3] x) => (float[2, 3] y) { y = "
      "Concat<axis = 1>(x, w) }");
  AddExternal(model, "w", {2, 0}, "empty.bin", "0", "0");
  HT_EXPECT_OK(ImportHere(model));
}

// The .onnx stays small, the weights need not.
TEST_F(ExternalData, MayHaveMoreThanTwoGigabytes) {
  constexpr int64_t kBytes = int64_t{5} << 30;
  Write(root_ / "model" / "huge.bin", "");
  fs::resize_file(root_ / "model" / "huge.bin", kBytes);  // without blocks on the disk
  onnx::ModelProto model = ParseModel(
      "<ir_version: 8, opset_import: [\"\" : 17]> net (int64[1] i) => (float[1] y) { y = Gather(w, "
      "i) }");
  AddExternal(model, "w", {kBytes / 4 - 1}, "huge.bin", "4");
  HT_ASSERT_OK_AND_ASSIGN(const Graph g, ImportHere(model));
  EXPECT_EQ(g.FindValue("w")->constant().num_bytes(), kBytes - 4);
  EXPECT_TRUE(g.FindValue("w")->constant().buffer()->is_file_mapping());
}

TEST_F(ExternalData, MustLieInsideTheFile) {
  EXPECT_THAT(ImportWith("w.bin", "12"), StatusIs(kInvalid, HasSubstr("wants bytes 12")));
  EXPECT_THAT(ImportWith("w.bin", "9223372036854775800"), StatusIs(kInvalid));
  EXPECT_THAT(ImportWith("w.bin", "-8"), StatusIs(kInvalid, HasSubstr("offset")));
  EXPECT_THAT(ImportWith("w.bin", "0", "16"), StatusIs(kInvalid, HasSubstr("wants 8")));
  EXPECT_THAT(ImportWith("w.bin", "99999999999999999999"), StatusIs(kInvalid));
}

TEST_F(ExternalData, MustExistAndBeAFile) {
  EXPECT_THAT(ImportWith("ghost.bin"), StatusIs(kInvalid, HasSubstr("ghost.bin")));
  EXPECT_THAT(ImportWith("parts"), StatusIs(kInvalid, HasSubstr("regular")));
  EXPECT_THAT(ImportWith(""), StatusIs(kInvalid, HasSubstr("location")));
}

TEST_F(ExternalData, NeverLeavesTheFolder) {
  fs::create_symlink(root_ / "secret.bin", root_ / "model" / "link.bin");
  fs::create_directory_symlink(root_, root_ / "model" / "up");
  fs::create_symlink("loop.bin", root_ / "model" / "loop.bin");
  for (const std::string location :
       {"../secret.bin", "parts/../../secret.bin", "/etc/passwd", "link.bin", "up/secret.bin",
        "up/model/../secret.bin", "loop.bin", "/proc/self/mem", "."}) {
    EXPECT_THAT(ImportWith(location), StatusIs(kInvalid)) << location;
  }
  EXPECT_THAT(ImportWith((root_ / "model" / "w.bin").string()), StatusIs(kInvalid));
}

TEST_F(ExternalData, CountsTowardsTheModelLimit) {
  Write(root_ / "model" / "big.bin", std::string(100'000, '\0'));
  EXPECT_THAT(ImportWith("big.bin", "", "", {.max_model_bytes = 50'000}),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_F(ExternalData, IsAnErrorForBytesInMemory) {
  onnx::ModelProto model = ParseModel(
      "<ir_version: 8, opset_import: [\"\" : 17]> net (float[2] x) => (float[2] y) { y = Add(x, w) "
      "}");
  onnx::TensorProto* w = model.mutable_graph()->add_initializer();
  w->set_name("w");
  w->set_data_type(onnx::TensorProto::FLOAT);
  w->add_dims(2);
  w->set_data_location(onnx::TensorProto::EXTERNAL);
  w->add_external_data()->set_key("location");
  w->mutable_external_data(0)->set_value("w.bin");
  EXPECT_THAT(Import(model), StatusIs(kInvalid, HasSubstr("without files")));
}

}  // namespace
}  // namespace halftone
