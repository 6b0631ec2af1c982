#include "client/samples.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "client/tensor_files.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

InputSignature Input(const std::string& name, Shape shape) {
  return {.name = name, .type = DataType::kF32, .shape = std::move(shape)};
}

TEST(SplitSamples, FreeBatchGivesRowsOfBatchOne) {
  const Tensor t = Tensor::Of<float>({3, 2}, {0, 1, 2, 3, 4, 5});
  HT_ASSERT_OK_AND_ASSIGN(const auto samples, SplitSamples({Input("x", {-1, 2})}, {t}));
  ASSERT_THAT(samples, SizeIs(3));
  EXPECT_THAT(samples[1][0].shape(), ElementsAre(1, 2));
  EXPECT_THAT(samples[1][0].data<float>(), ElementsAre(2, 3));
}

TEST(SplitSamples, FixedBatchTakesThatManyRows) {
  const Tensor t = Tensor::Of<float>({4, 1}, {0, 1, 2, 3});
  HT_ASSERT_OK_AND_ASSIGN(const auto samples, SplitSamples({Input("x", {2, 1})}, {t}));
  ASSERT_THAT(samples, SizeIs(2));
  EXPECT_THAT(samples[1][0].shape(), ElementsAre(2, 1));
  EXPECT_THAT(samples[1][0].data<float>(), ElementsAre(2, 3));
  EXPECT_THAT(SplitSamples({Input("x", {3, 1})}, {t}),
              StatusIs(kInvalid, HasSubstr("got 4 rows, want a multiple of 3")));
}

TEST(SplitSamples, OneMoreDimensionIsTheSampleAxis) {
  const Tensor t = Tensor::Of<float>({2, 3}, {0, 1, 2, 3, 4, 5});
  HT_ASSERT_OK_AND_ASSIGN(const auto samples, SplitSamples({Input("x", {3})}, {t}));
  ASSERT_THAT(samples, SizeIs(2));
  EXPECT_THAT(samples[1][0].shape(), ElementsAre(3));
  EXPECT_THAT(samples[1][0].data<float>(), ElementsAre(3, 4, 5));
}

TEST(SplitSamples, ScalarInputsTakeOneElementEach) {
  const Tensor t = Tensor::Of<float>({2}, {7, 8});
  HT_ASSERT_OK_AND_ASSIGN(const auto samples, SplitSamples({Input("x", {})}, {t}));
  ASSERT_THAT(samples, SizeIs(2));
  EXPECT_TRUE(samples[1][0].shape().empty());
  EXPECT_THAT(samples[1][0].data<float>(), ElementsAre(8));
  EXPECT_THAT(SplitSamples({Input("x", {})}, {Tensor::Scalar(1.0f)}), StatusIs(kInvalid));
}

TEST(SplitSamples, InputsMustGiveEquallyMany) {
  const Tensor two = Tensor::Of<float>({2}, {0, 1});
  const Tensor three = Tensor::Of<float>({3}, {0, 1, 2});
  EXPECT_THAT(SplitSamples({Input("a", {-1}), Input("b", {-1})}, {two, three}),
              StatusIs(kInvalid, HasSubstr("input 'b': got 3 samples, input 'a' has 2")));
}

TEST(SplitSamples, WrongRankSaysGotAndWant) {
  const Tensor t = Tensor::Of<float>({2}, {0, 1});
  EXPECT_THAT(SplitSamples({Input("x", {-1, 1, 2})}, {t}),
              StatusIs(kInvalid, HasSubstr("got shape [2], want rank 3 or 4")));
}

TEST(JoinRows, IsTheReverseOfSplitting) {
  const Tensor t = Tensor::Of<float>({3, 2}, {0, 1, 2, 3, 4, 5});
  HT_ASSERT_OK_AND_ASSIGN(const auto samples, SplitSamples({Input("x", {-1, 2})}, {t}));
  HT_ASSERT_OK_AND_ASSIGN(const Tensor joined,
                          JoinRows({samples[0][0], samples[1][0], samples[2][0]}));
  EXPECT_EQ(joined.shape(), t.shape());
  EXPECT_EQ(joined.bytes(), t.bytes());
}

TEST(JoinRows, RefusesDifferentRows) {
  EXPECT_THAT(JoinRows({Tensor::Of<float>({1, 2}, {0, 1}), Tensor::Of<float>({1, 1}, {0})}),
              StatusIs(kInvalid, HasSubstr("[1,1]")));
  EXPECT_THAT(JoinRows({Tensor::Of<float>({1}, {0}), Tensor::Of<int8_t>({1}, {0})}),
              StatusIs(kInvalid));
  EXPECT_THAT(JoinRows({Tensor::Scalar(1.0f)}), StatusIs(kInvalid, HasSubstr("scalars")));
}

TEST(InputArguments, NameAndFileOrFileAlone) {
  const std::vector<std::string> texts = {"image=a=b.npy", "c.npy"};
  HT_ASSERT_OK_AND_ASSIGN(const auto arguments, ParseInputArguments(texts));
  EXPECT_EQ(arguments[0].name, "image");
  EXPECT_EQ(arguments[0].path, "a=b.npy");
  EXPECT_EQ(arguments[1].name, "");
  EXPECT_EQ(arguments[1].path, "c.npy");
  const std::vector<std::string> empty = {"image="};
  EXPECT_THAT(ParseInputArguments(empty), StatusIs(kInvalid, HasSubstr("image=")));
}

TEST(ShapeArguments, NamedAndBare) {
  const std::vector<std::string> texts = {"x=1,-1,3", "4"};
  HT_ASSERT_OK_AND_ASSIGN(const auto shapes, ParseShapeArguments(texts));
  EXPECT_THAT(shapes.at("x"), ElementsAre(1, -1, 3));
  EXPECT_THAT(shapes.at(""), ElementsAre(4));
  for (const std::string bad : {"x=1,two", "x=-2", "x=1.5"}) {
    const std::vector<std::string> one = {bad};
    EXPECT_THAT(ParseShapeArguments(one), StatusIs(kInvalid, HasSubstr(bad))) << bad;
  }
}

TEST(LoadInputs, NamesWhatIsMissingUnknownOrDouble) {
  const std::vector<InputSignature> inputs = {Input("a", {-1}), Input("b", {-1})};
  EXPECT_THAT(LoadInputs(inputs, {{.name = "", .path = "x.npy"}}, {}),
              StatusIs(kInvalid, HasSubstr("want NAME=FILE")));
  EXPECT_THAT(LoadInputs(inputs, {{.name = "c", .path = "x.npy"}}, {}),
              StatusIs(kInvalid, HasSubstr("no input 'c', it has 'a', 'b'")));
  EXPECT_THAT(LoadInputs(inputs, {{"a", "x.npy"}, {"a", "y.npy"}}, {}),
              StatusIs(kInvalid, HasSubstr("'a' is given twice")));
  EXPECT_THAT(LoadInputs(inputs, {}, {}), StatusIs(kInvalid, HasSubstr("no file for input 'a'")));
}

TEST(LoadInputs, RawFilesTakeTypeAndShapeFromTheModel) {
  const std::string path = (std::filesystem::path(testing::TempDir()) / "in.raw").string();
  HT_ASSERT_OK(WriteTensorFile(path, "", Tensor::Of<float>({4}, {0, 1, 2, 3})));
  HT_ASSERT_OK_AND_ASSIGN(const auto own, LoadInputs({Input("x", {-1, 2})}, {{"x", path}}, {}));
  EXPECT_THAT(own[0].shape(), ElementsAre(2, 2));
  HT_ASSERT_OK_AND_ASSIGN(const auto told,
                          LoadInputs({Input("x", {-1, 2})}, {{"", path}}, {{"", {1, 4}}}));
  EXPECT_THAT(told[0].shape(), ElementsAre(1, 4));
}

TEST(RandomInputs, AreTheSameEveryTimeAndFit) {
  const std::vector<InputSignature> inputs = {
      Input("x", {-1, 8}), {.name = "ids", .type = DataType::kI64, .shape = {4}}};
  HT_ASSERT_OK_AND_ASSIGN(const auto first, RandomInputs(inputs));
  HT_ASSERT_OK_AND_ASSIGN(const auto second, RandomInputs(inputs));
  EXPECT_THAT(first[0].shape(), ElementsAre(1, 8));
  EXPECT_EQ(first[0].bytes(), second[0].bytes());
  for (const float x : first[0].data<float>()) EXPECT_TRUE(x >= -1 && x < 1) << x;
  for (const int64_t x : first[1].data<int64_t>()) EXPECT_TRUE(x == 0 || x == 1) << x;
}

}  // namespace
}  // namespace halftone
