// Bytes that are no model, or nearly one: every answer is a status, and it comes at once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/onnx/import.h"
#include "tests/testing/onnx_text.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

// A model with a bit of everything: weights, attributes, a nested graph, shape arithmetic.
std::string SmallModel() {
  return ParseModel(R"(
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 1, 6, 6] x, bool c) => (float[N, K] y, float[N, 2] z)
    <float[2, 1, 3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9},
     float[2] b = {0.5, -0.5}, int64[1] minus_one = {-1}, int64[1] zero = {0}> {
      conv = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(x, w, b)
      act = Relu(conv)
      shape = Shape(act)
      batch = Gather(shape, zero)
      target = Concat<axis = 0>(batch, minus_one)
      y = Reshape(act, target)
      pooled = ReduceMean<axes = [2, 3], keepdims = 0>(act)
      z = If (c) <
        then_branch = t () => (float[N, 2] to) { to = Softmax<axis = 1>(pooled) },
        else_branch = e () => (float[N, 2] eo) { eo = Add(pooled, b) }
      >
    })")
      .SerializeAsString();
}

TEST(Malformed, TheModelItselfIsFine) { HT_EXPECT_OK(ImportOnnx(AsBytes(SmallModel()))); }

TEST(Malformed, NothingAndNoiseAreNoModels) {
  EXPECT_THAT(ImportOnnx({}), StatusIs(kInvalid));
  EXPECT_THAT(ImportOnnx(AsBytes("this is no ONNX file")), StatusIs(kInvalid));
  EXPECT_THAT(ImportOnnx(AsBytes(std::string(4096, '\xff'))), StatusIs(kInvalid));
}

TEST(Malformed, EveryTruncationIsRefused) {
  const std::string whole = SmallModel();
  // The opset import is the last field: whatever is cut off, something essential is missing.
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(ImportOnnx(AsBytes(whole.substr(0, size))).ok()) << size;
  }
}

TEST(Malformed, BitFlipsGiveAStatusQuickly) {
  const std::string whole = SmallModel();
  std::mt19937 random(20240131);
  absl::Duration slowest;
  for (int i = 0; i < 2000; ++i) {
    std::string broken = whole;
    const size_t bit = random() % (broken.size() * 8);
    broken[bit / 8] = static_cast<char>(broken[bit / 8] ^ (1 << (bit % 8)));
    SCOPED_TRACE(testing::Message() << "bit " << bit);
    const absl::Time start = absl::Now();
    const absl::Status status = ImportOnnx(AsBytes(broken)).status();
    slowest = std::max(slowest, absl::Now() - start);
    EXPECT_FALSE(absl::IsInternal(status)) << status;
  }
  EXPECT_LT(slowest, absl::Seconds(2));
}

TEST(Malformed, ManyFlipsAtOnceToo) {
  const std::string whole = SmallModel();
  std::mt19937 random(7);
  for (int i = 0; i < 500; ++i) {
    std::string broken = whole;
    for (int flips = 0; flips < 8; ++flips) {
      broken[random() % broken.size()] = static_cast<char>(random());
    }
    const absl::Status status = ImportOnnx(AsBytes(broken)).status();
    EXPECT_FALSE(absl::IsInternal(status)) << status;
  }
}

// Twenty megabytes of empty nodes would be gigabytes once parsed; they are counted before.
TEST(Malformed, ManyEmptyPartsAreCountedBeforeTheyAreParsed) {
  std::string nodes;
  for (int i = 0; i < 10'000'000; ++i) nodes += std::string("\x0a\x00", 2);
  std::string model = "\x3a";  // ModelProto.graph
  for (size_t n = nodes.size(); n > 0; n >>= 7) {
    model += static_cast<char>((n & 127) | (n >> 7 > 0 ? 128 : 0));
  }
  EXPECT_THAT(ImportOnnx(AsBytes(model + nodes)),
              StatusIs(absl::StatusCode::kResourceExhausted, testing::HasSubstr("names in all")));
}

TEST(Malformed, ManyEmptyNodesHitTheNodeLimit) {
  onnx::ModelProto model;
  ASSERT_TRUE(model.ParseFromString(SmallModel()));
  for (int i = 0; i < 300'000; ++i) model.mutable_graph()->add_node();
  EXPECT_THAT(Import(model), StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace halftone
