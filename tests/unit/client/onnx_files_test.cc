#include "client/onnx_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "client/wire_reader.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string Message(int field, const std::string& bytes) {
  std::string out;
  AppendBytesField(out, field, bytes);
  return out;
}

// TensorProto with external data in `location`.
std::string ExternalTensor(const std::string& location) {
  const std::string entry = Message(1, "location") + Message(2, location);
  const std::string length = Message(1, "length") + Message(2, "4");
  return Message(13, length) + Message(13, entry);
}

// ModelProto with an initializer and, in the graph of an attribute of a node, another one.
std::string ModelWith(const std::string& initializer, const std::string& nested) {
  const std::string inner = Message(5, ExternalTensor(nested));  // GraphProto.initializer
  const std::string node = Message(5, Message(6, inner));        // attribute { g }
  return Message(7, Message(1, node) + Message(5, ExternalTensor(initializer)));
}

class Folder {
 public:
  Folder() : path_(std::filesystem::path(testing::TempDir()) / "onnx_files_test") {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string Add(const std::string& name, const std::string& bytes) {
    std::ofstream(path_ / name, std::ios::binary) << bytes;
    return Path(name);
  }
  std::string Path(const std::string& name) const { return (path_ / name).string(); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

TEST(ExternalDataFiles, AreFoundInNestedGraphsToo) {
  EXPECT_THAT(ExternalDataFiles(ModelWith("weights.bin", "branch.bin")),
              ElementsAre("branch.bin", "weights.bin"));
  EXPECT_THAT(ExternalDataFiles(""), IsEmpty());
}

TEST(ExternalDataFiles, SurviveDamageAndDepth) {
  const std::string good = ModelWith("weights.bin", "branch.bin");
  std::mt19937 random(3);
  for (int i = 0; i < 5000; ++i) {
    std::string bad = good;
    for (int flips = 0; flips < 3; ++flips) bad[random() % bad.size()] ^= 1 << (random() % 8);
    (void)ExternalDataFiles(bad);
  }
  std::string deep;
  for (int i = 0; i < 2000; ++i) deep = Message(1, Message(5, Message(6, deep)));
  EXPECT_THAT(ExternalDataFiles(Message(7, deep)), IsEmpty());
}

TEST(FindModelFiles, AddsTheExternalDataBesideTheModel) {
  Folder folder;
  const std::string model = folder.Add("m.onnx", ModelWith("b.bin", "a.bin"));
  EXPECT_THAT(FindModelFiles({model}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("a.bin' is missing")));
  folder.Add("a.bin", "1");
  folder.Add("b.bin", "2");
  folder.Add("README.md", "not of the model");
  HT_ASSERT_OK_AND_ASSIGN(const auto files, FindModelFiles({model}));
  EXPECT_THAT(files, ElementsAre(model, folder.Path("a.bin"), folder.Path("b.bin")));
  HT_ASSERT_OK_AND_ASSIGN(const auto of_folder, FindModelFiles({folder.path()}));
  EXPECT_EQ(of_folder, files);
}

TEST(FindModelFiles, NeverLeavesTheFolderOfTheModel) {
  Folder folder;
  for (const std::string location : {"/etc/hostname", "../x", "sub/x", "..", "."}) {
    const std::string model = folder.Add("m.onnx", ModelWith(location, location));
    EXPECT_THAT(FindModelFiles({model}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a plain file name")))
        << location;
  }
}

TEST(FindModelFiles, TakesGivenDataFilesAsTheyAre) {
  HT_ASSERT_OK_AND_ASSIGN(const auto files, FindModelFiles({"w.bin", "m.onnx"}));
  EXPECT_THAT(files, ElementsAre("m.onnx", "w.bin"));
}

TEST(FindModelFiles, WantsExactlyOneModelAndDifferentNames) {
  Folder folder;
  EXPECT_THAT(FindModelFiles({folder.path()}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(FindModelFiles({"a.onnx", "b.onnx"}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(FindModelFiles({"w.bin"}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(FindModelFiles({"m.onnx", "a/w", "b/w"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("b/w")));
}

}  // namespace
}  // namespace halftone
