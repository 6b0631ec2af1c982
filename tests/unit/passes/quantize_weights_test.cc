#include "core/passes/quantize_weights.h"

#include <limits>
#include <vector>

#include "core/passes/weight_narrower.h"
#include "core/quant/error_stats.h"
#include "tests/testing/status_matchers.h"
#include "tests/unit/passes/quantize_test_util.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(NarrowTheWeights, PerTensorHasOneScale) {
  const Tensor w = Tensor::Of<float>({2, 2}, {-1.27f, 0.5f, 0, 1});
  HT_ASSERT_OK_AND_ASSIGN(const NarrowWeights n, NarrowTheWeights(w, {}));
  EXPECT_THAT(n.stored.data<int8_t>(), ElementsAre(-127, 50, 0, 100));
  EXPECT_THAT(n.scale.data<float>(), ElementsAre(1.27f / 127));
  EXPECT_EQ(n.scale.rank(), 0);
  EXPECT_THAT(n.zero_point.data<int8_t>(), ElementsAre(0));
  EXPECT_EQ(n.bytes(), 4 + 4 + 1);
}

TEST(NarrowTheWeights, PerChannelScalesFollowTheAxis) {
  const Tensor w = Tensor::Of<float>({2, 3}, {127, 2, 0, -1, 254, 0});
  HT_ASSERT_OK_AND_ASSIGN(const NarrowWeights rows, NarrowTheWeights(w, {.channel_axis = 0}));
  EXPECT_THAT(rows.scale.data<float>(), ElementsAre(1, 2));
  EXPECT_THAT(rows.stored.data<int8_t>(), ElementsAre(127, 2, 0, 0, 127, 0));
  HT_ASSERT_OK_AND_ASSIGN(const NarrowWeights columns, NarrowTheWeights(w, {.channel_axis = 1}));
  // An all-zero channel has scale 1.
  EXPECT_THAT(columns.scale.data<float>(), ElementsAre(1, 2, 1));
  EXPECT_THAT(columns.stored.data<int8_t>(), ElementsAre(127, 1, 0, -1, 127, 0));
}

TEST(NarrowTheWeights, AReducedLimitKeepsPairSumsWithin16Bits) {
  const Tensor w = RandomTensor({8, 50}, 1);
  HT_ASSERT_OK_AND_ASSIGN(const NarrowWeights n,
                          NarrowTheWeights(w, {.channel_axis = 0, .limit = 63}));
  int largest = 0;
  for (const int8_t q : n.stored.data<int8_t>()) largest = std::max(largest, std::abs(int{q}));
  EXPECT_EQ(largest, 63);
  EXPECT_LE(2 * 255 * largest, std::numeric_limits<int16_t>::max());
}

TEST(NarrowTheWeights, AffineUsesTheWholeRange) {
  const Tensor w = Tensor::Of<float>({1, 3}, {0, 1, 2.55f});
  HT_ASSERT_OK_AND_ASSIGN(const NarrowWeights n,
                          NarrowTheWeights(w, {.channel_axis = 0, .scheme = QuantScheme::kAffine}));
  EXPECT_THAT(n.stored.data<int8_t>(), ElementsAre(-128, -28, 127));
  EXPECT_THAT(n.zero_point.data<int8_t>(), ElementsAre(-128));
}

TEST(NarrowTheWeights, WidenedWeightsAreWithinHalfAStep) {
  const Tensor w = RandomTensor({6, 40}, 2);
  for (const QuantScheme scheme : {QuantScheme::kSymmetric, QuantScheme::kAffine}) {
    const WeightFormat format{.channel_axis = 0, .scheme = scheme};
    HT_ASSERT_OK_AND_ASSIGN(const NarrowWeights n, NarrowTheWeights(w, format));
    HT_ASSERT_OK_AND_ASSIGN(const Tensor wide, WidenWeights(n, format));
    for (int i = 0; i < 240; ++i) {
      const float step = n.scale.data<float>()[i / 40];
      // An affine zero point is rounded too, which can cost another half step at the ends.
      const float bound = scheme == QuantScheme::kSymmetric ? 0.5f : 1.0f;
      EXPECT_LE(std::abs(wide.data<float>()[i] - w.data<float>()[i]), bound * step * 1.001f);
    }
  }
}

TEST(WeightObstacle, NamesOverflowOfF16) {
  const Tensor w = Tensor::Of<float>({1, 2}, {65504.0f, -70000.0f});
  EXPECT_THAT(WeightObstacle(w, {.type = WeightType::kF16}), HasSubstr("70000"));
  EXPECT_THAT(WeightObstacle(w, {.type = WeightType::kBF16}), IsEmpty());
  EXPECT_THAT(WeightObstacle(Tensor::Of<float>({1, 1}, {65504.0f}), {.type = WeightType::kF16}),
              IsEmpty());
}
TEST(WeightObstacle, NamesValuesThatAreNotFinite) {
  const Tensor w = Tensor::Of<float>({1, 1}, {std::numeric_limits<float>::infinity()});
  EXPECT_THAT(WeightObstacle(w, {}), HasSubstr("1 NaN or infinite"));
}

TEST(WeightSqnr, IsHigherPerChannelThanPerTensor) {
  Tensor w = RandomTensor({2, 64}, 3);
  for (float& v : w.mutable_data<float>().subspan(64)) v *= 100;
  const auto sqnr = [&](const WeightFormat& format) {
    return WeightSqnr(w, NarrowTheWeights(w, format).value(), format).value();
  };
  const double per_tensor = sqnr({}), per_channel = sqnr({.channel_axis = 0});
  EXPECT_GT(per_channel, per_tensor);
  EXPECT_GT(per_channel, 35);  // 8 bits of a bell-shaped distribution
}

TEST(FindWeightOperand, ChannelAxisIsThatOfTheOutputs) {
  GraphMaker m;
  Value* x = m.Input("x", {1, 4, 4, 4});
  Value* w = m.Constant("w", RandomTensor({4, 4, 1, 1}, 1));
  const auto axis = [&](const std::string& op, Value* weights, Attributes a) {
    const Value* out = m.Node(op, op, {x, weights}, {1}, std::move(a));
    return FindWeightOperand(*out->producer())->channel_axis;
  };
  EXPECT_EQ(axis("Conv", w, {}), 0);
  EXPECT_EQ(axis("ConvTranspose", w, {}), 1);
  EXPECT_EQ(axis("ConvTranspose", w, {{"group", int64_t{2}}}), std::nullopt);
  Value* matrix = m.Constant("matrix", RandomTensor({4, 4}, 1));
  EXPECT_EQ(axis("Gemm", matrix, {}), 1);
  EXPECT_EQ(axis("Gemm", matrix, {{"transB", int64_t{1}}}), 0);
  EXPECT_EQ(axis("MatMul", matrix, {}), 1);
  EXPECT_EQ(FindWeightOperand(*m.Node("Relu", "r", {x}, {1})->producer()), std::nullopt);
}

TEST(WeightNarrower, SharesTheStoredFormAmongConsumers) {
  GraphMaker m;
  Value* x = m.Input("x", {2, 4});
  Value* w = m.Constant("w", RandomTensor({4, 4}, 1));
  Value* a = m.Node("MatMul", "a", {x, w}, {2, 4});
  Value* b = m.Node("MatMul", "b", {a, w}, {2, 4});
  m.Output(b);
  WeightNarrower narrower(m.graph());
  const WeightFormat format{.channel_axis = 1};
  HT_ASSERT_OK(narrower.Narrow(a->producer(), 1, format));
  HT_ASSERT_OK(narrower.Narrow(b->producer(), 1, format));
  EXPECT_EQ(a->producer()->input(1), b->producer()->input(1));
  EXPECT_EQ(a->producer()->input(1)->name(), "w_dequantized");
  HT_ASSERT_OK(m.graph().SortTopologically());
  m.graph().RemoveUnused();
  HT_EXPECT_OK(m.graph().Verify());
  EXPECT_EQ(m.graph().FindValue("w"), nullptr);
}

}  // namespace
}  // namespace halftone
