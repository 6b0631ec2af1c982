#include "core/variant/layer_statistics.h"

#include <gmock/gmock.h>

#include "core/ops/evaluate.h"
#include "tests/testing/random_tensor.h"
#include "tests/testing/status_matchers.h"
#include "tests/unit/passes/pass_testing.h"

namespace halftone {
namespace {

// Rows times weights are what the layer computes: every padding, stride, dilation and group.
class InputRows : public testing::TestWithParam<std::string> {};

TEST_P(InputRows, TimesWeightsAreTheLayersOutput) {
  Graph g = LoadText(GetParam());
  ASSERT_THAT(InferShapes(g), IsOk());
  Node* node = g.outputs()[0]->producer();
  const Tensor x = InputsFor(g)[0];
  HT_ASSERT_OK_AND_ASSIGN(const auto want, EvaluateGraph(g, {x}));
  Tensor random = RandomF32(node->input(1)->constant().shape(), 9);
  g.SetConstant(node->input(1), random);
  HT_ASSERT_OK_AND_ASSIGN(const auto outputs, EvaluateGraph(g, {x}));
  const std::optional<Linear> linear = AsLinear(node);
  ASSERT_TRUE(linear.has_value());
  const int64_t rows_per_group = linear->outputs / linear->groups;
  int64_t position = 0;
  HT_ASSERT_OK(
      ForEachInputRow(g, *linear, x, 1 << 20, [&](int64_t group, absl::Span<const float> row) {
        ASSERT_EQ(static_cast<int64_t>(row.size()), linear->columns());
        for (int64_t r = group * rows_per_group; r < (group + 1) * rows_per_group; ++r) {
          double sum = 0;
          for (int64_t c = 0; c < linear->columns(); ++c) {
            sum += double{row[c]} * random.data<float>()[linear->IndexOf(r, c)];
          }
          // Channel r at this position, wherever the channel axis is.
          const Shape& out = outputs[0].shape();
          const int64_t inner =
              ElementCount(absl::MakeConstSpan(out).subspan(linear->channel_axis + 1));
          const int64_t at = (position / inner * linear->outputs + r) * inner + position % inner;
          EXPECT_NEAR(outputs[0].data<float>()[at], sum, 1e-4) << position << " " << r;
        }
        if (group == linear->groups - 1) ++position;
      }));
  EXPECT_EQ(position * linear->outputs, outputs[0].num_elements());
}

INSTANTIATE_TEST_SUITE_P(
    Layers, InputRows,
    testing::Values(
        "net (float[2, 3, 5, 4] x) => (float[2, 2, a, b] y) <float[2, 3, 3, 2] w = "
        "{0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}> { y = "
        "Conv<strides = [2, 1], pads = [1, 0, 0, 1], dilations = [1, 2]>(x, w) }",
        "net (float[1, 4, 6] x) => (float[1, 4, a] y) <float[4, 2, 3] w = "
        "{0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}> { y = Conv<group = 2, auto_pad = "
        "\"SAME_LOWER\", strides = [2]>(x, w) }",
        "net (float[2, 3, 4] x) => (float[2, 3, 2] y) <float[4, 2] w = {0,0,0,0,0,0,0,0}> { y = "
        "MatMul(x, w) }",
        "net (float[3, 4] x) => (float[3, 2] y) <float[2, 4] w = {0,0,0,0,0,0,0,0}> { y = "
        "Gemm<transB = 1>(x, w) }"));

TEST(InputRows, AreSpreadOverAtMostTheLimit) {
  Graph g = LoadText(
      "net (float[1, 1, 10, 10] x) => (float[1, 1, 10, 10] y) <float[1, 1, 1, 1] w = {1}> { y = "
      "Conv(x, w) }");
  Tensor x = RandomF32({1, 1, 10, 10}, 1);
  for (int i = 0; i < 100; ++i) x.mutable_data<float>()[i] = static_cast<float>(i);
  std::vector<float> seen;
  HT_ASSERT_OK(
      ForEachInputRow(g, *AsLinear(g.nodes()[0]), x, 4,
                      [&](int64_t, absl::Span<const float> row) { seen.push_back(row[0]); }));
  EXPECT_THAT(seen, testing::ElementsAre(0, 25, 50, 75));
}

TEST(ChannelMeans, MeanAndLargestPerChannel) {
  ChannelMeans means;
  means.Observe(Tensor::Of<float>({1, 2, 2}, {1, 3, -8, 2}), 1);
  means.Observe(Tensor::Of<float>({1, 2, 2}, {0, 0, 2, 4}), 1);
  EXPECT_THAT(means.Stats().mean, testing::ElementsAre(1, 0));
  EXPECT_THAT(means.Stats().max_abs, testing::ElementsAre(3, 8));
}

TEST(MomentObserver, SumsPerGroupOverSamples) {
  Graph g = LoadText(
      "net (float[1, 2, 1, 2] x) => (float[1, 2, 1, 2] y) <float[2, 1, 1, 1] w = {1, 1}> { y = "
      "Conv<group = 2>(x, w) }");
  const Linear linear = *AsLinear(g.nodes()[0]);
  MomentObserver observer(linear);
  for (int i = 0; i < 20; ++i) {
    HT_ASSERT_OK(observer.Observe(g, linear, Tensor::Of<float>({1, 2, 1, 2}, {1, 2, 3, 0})));
  }
  const auto& moments = observer.Finish();
  ASSERT_EQ(moments.size(), 2);
  EXPECT_FLOAT_EQ(moments[0].row(0)[0], 20 * (1 + 4));
  EXPECT_FLOAT_EQ(moments[1].row(0)[0], 20 * 9);
}

}  // namespace
}  // namespace halftone
