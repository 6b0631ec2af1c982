#include "core/passes/accuracy.h"

#include <gmock/gmock.h>

#include <cmath>

#include "core/passes/linear.h"
#include "tests/unit/passes/pass_testing.h"
#include "tests/unit/passes/quantize_test_util.h"

namespace halftone {
namespace {

Node* Find(const Graph& g, absl::string_view op, int nth = 0) {
  for (Node* n : g.nodes()) {
    if (n->op() == op && nth-- == 0) return n;
  }
  return nullptr;
}

// Replaces every f32 constant of rank 2 and more by seeded numbers whose rows differ wildly.
void Scramble(Graph& g) {
  int seed = 7;
  for (Value* v : g.values()) {
    if (!v->is_constant() || v->constant().rank() < 2) continue;
    Tensor t = RandomTensor(v->constant().shape(), seed++);
    const auto w = t.mutable_data<float>();
    const int64_t row = t.num_elements() / t.dim(0);
    for (size_t i = 0; i < w.size(); ++i)
      w[i] *= std::exp2(static_cast<float>(i / row % 5) * 2 - 4);
    g.SetConstant(v, std::move(t));
  }
}

double LargestOfRow(const Linear& l, int64_t row) {
  double largest = 0;
  for (int64_t c = 0; c < l.columns(); ++c) {
    largest = std::max<double>(largest, std::abs(l.weights->data<float>()[l.IndexOf(row, c)]));
  }
  return largest;
}
double LargestOfInput(const Linear& l, int64_t input) {
  double largest = 0;
  for (int64_t row = 0; row < l.outputs; ++row) {
    for (int64_t c = 0; c < l.columns(); ++c) {
      if (l.InputOf(row, c) != input) continue;
      largest = std::max<double>(largest, std::abs(l.weights->data<float>()[l.IndexOf(row, c)]));
    }
  }
  return largest;
}

struct EqualizeCase {
  std::string name, net;
  int pairs;
};
class Equalize : public testing::TestWithParam<EqualizeCase> {};

TEST_P(Equalize, KeepsTheFunctionAndEqualizesRanges) {
  Graph before = LoadText(GetParam().net);
  Scramble(before);
  ASSERT_THAT(InferShapes(before), IsOk());
  Graph after = before.Clone();
  HT_ASSERT_OK_AND_ASSIGN(const int pairs, EqualizeLayers(after));
  EXPECT_EQ(pairs, GetParam().pairs);
  ExpectSame(after, before, 1e-4f);
  if (pairs == 0) return;
  std::vector<Linear> layers;
  for (Node* n : after.nodes()) {
    if (const auto l = AsLinear(n)) layers.push_back(*l);
  }
  for (size_t i = 0; i + 1 < layers.size(); ++i) {
    for (int64_t c = 0; c < layers[i].outputs; ++c) {
      const double ratio = LargestOfRow(layers[i], c) / LargestOfInput(layers[i + 1], c);
      EXPECT_NEAR(ratio, 1, 0.01) << "layer " << i << " channel " << c;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Nets, Equalize,
    testing::Values(
        EqualizeCase{"ConvDepthwiseConv",
                     "net (float[1, 3, 6, 6] x) => (float[1, 2, 6, 6] y) <float[5, 3, 1, 1] a = "
                     "{0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}, float[5] ab = {1, 2, 3, 4, 5}, "
                     "float[5, 1, 1, 1] d = {0, 0, 0, 0, 0}, float[2, 5, 1, 1] e = "
                     "{0,0,0,0,0,0,0,0,0,0}> { p = Conv(x, a, ab) q = Relu(p) r = Conv<group = "
                     "5>(q, d) s = LeakyRelu<alpha = 0.1>(r) y = Conv(s, e) }",
                     2},
        EqualizeCase{"GemmBothWays",
                     "net (float[2, 3] x) => (float[2, 2] y) <float[3, 4] a = "
                     "{0,0,0,0,0,0,0,0,0,0,0,0}, float[4] ab = {1, 2, 3, 4}, float[2, 4] b = "
                     "{0,0,0,0,0,0,0,0}> { p = Gemm<beta = 0.5>(x, a, ab) q = Relu(p) y = "
                     "Gemm<transB = 1>(q, b) }",
                     1},
        EqualizeCase{
            "ClipIsNotHomogeneous",
            "net (float[2, 3] x) => (float[2, 2] y) <float[3, 2] a = {0,0,0,0,0,0}, "
            "float[2, 2] b = {0,0,0,0}, float lo = {0}, float hi = {6}> { p = MatMul(x, a) "
            "q = Clip(p, lo, hi) y = MatMul(q, b) }",
            0},
        EqualizeCase{"ABranchHidesNothing",
                     "net (float[2, 3] x) => (float[2, 2] y) <float[3, 2] a = {0,0,0,0,0,0}, "
                     "float[2, 2] b = {0,0,0,0}> { p = MatMul(x, a) q = Relu(p) r = MatMul(q, b) y "
                     "= Add(r, p) }",
                     0},
        EqualizeCase{"ConvTransposeWithGroups",
                     "net (float[1, 2, 3, 3] x) => (float[1, 4, 3, 3] y) <float[4, 2, 1, 1] a = "
                     "{0,0,0,0,0,0,0,0}, float[4, 2, 1, 1] b = {0,0,0,0,0,0,0,0}> { p = Conv(x, a) "
                     "q = Relu(p) y = ConvTranspose<group = 2>(q, b) }",
                     1}),
    [](const auto& info) { return info.param.name; });

constexpr char kAttention[] =
    "net (float[2, 3] x) => (float[2, 4] y) <float[3] g = {1, 2, 3}, float[3] b = {0.5, -1, 2}, "
    "float[3, 4] q = {0,0,0,0,0,0,0,0,0,0,0,0}, float[4, 3] k = {0,0,0,0,0,0,0,0,0,0,0,0}> "
    "{ n = LayerNormalization(x, g, b) r = MatMul(n, q) s = Gemm<transB = 1>(n, k) y = Add(r, s) }";

TEST(Smooth, MovesOutliersIntoTheWeights) {
  Graph before = LoadText(kAttention);
  Scramble(before);
  ASSERT_THAT(InferShapes(before), IsOk());
  Graph after = before.Clone();
  EXPECT_THAT(ValuesToSmooth(after), testing::ElementsAre("n"));
  const ChannelStatsMap stats = {{"n", {.mean = {0, 0, 0}, .max_abs = {1, 100, 0}}}};
  HT_ASSERT_OK_AND_ASSIGN(const int smoothed, SmoothInputs(after, stats));
  EXPECT_EQ(smoothed, 1);
  ExpectSame(after, before, 1e-4f);
  // After smoothing the largest activation and the largest weight of a channel are equal.
  const double s = 2.0f / Find(after, "LayerNormalization")->input(1)->constant().data<float>()[1];
  const double weights = std::max(LargestOfInput(*AsLinear(Find(after, "MatMul")), 1),
                                  LargestOfInput(*AsLinear(Find(after, "Gemm")), 1));
  EXPECT_NEAR(100 / s / weights, 1, 1e-3);
  EXPECT_EQ(Find(after, "LayerNormalization")->input(1)->constant().data<float>()[2], 3.0f)
      << "a silent channel stays";
}

TEST(Smooth, LeavesANormalisationThatOthersRead) {
  Graph g = LoadText(
      "net (float[2, 3] x) => (float[2, 3] y) <float[3] g = {1, 2, 3}, float[3, 3] q = "
      "{1,2,3,4,5,6,7,8,9}> { n = LayerNormalization(x, g) r = MatMul(n, q) y = Add(r, n) }");
  ASSERT_THAT(InferShapes(g), IsOk());
  HT_ASSERT_OK_AND_ASSIGN(const int smoothed, SmoothInputs(g, {{"n", {{0, 0, 0}, {1, 100, 1}}}}));
  EXPECT_EQ(smoothed, 0);
}

// With the mean as input, corrected rounded weights give what the exact ones give.
void ExpectCorrected(const std::string& net, const Tensor& mean_input,
                     const std::vector<double>& mean) {
  Graph exact = LoadText(net);
  Scramble(exact);
  ASSERT_THAT(InferShapes(exact), IsOk());
  Graph rounded = exact.Clone();
  Node* layer = nullptr;
  for (Node* n : rounded.nodes()) layer = AsLinear(n) ? n : layer;
  HT_ASSERT_OK_AND_ASSIGN(Tensor widened, AsLinear(layer)->weights->Clone());
  for (float& w : widened.mutable_data<float>()) w = std::round(w * 4) / 4;
  HT_ASSERT_OK_AND_ASSIGN(const bool corrected,
                          CorrectBias(rounded, layer, widened, {.mean = mean}));
  ASSERT_TRUE(corrected);
  rounded.SetConstant(layer->input(1), widened);
  HT_ASSERT_OK_AND_ASSIGN(const auto got, EvaluateGraph(rounded, {mean_input}));
  HT_ASSERT_OK_AND_ASSIGN(const auto want, EvaluateGraph(exact, {mean_input}));
  EXPECT_LE(Disagreement(got[0], want[0], {1e-4f, 1e-4f}), 1);
}

TEST(BiasCorrection, TakesBackTheMeanOfTheError) {
  ExpectCorrected(
      "net (float[1, 4, 2, 2] x) => (float[1, 4, 2, 2] y) <float[4, 2, 1, 1] w = "
      "{0,0,0,0,0,0,0,0}, float[4] b = {1, 2, 3, 4}> { y = Conv<group = 2>(x, w, b) }",
      Tensor::Of<float>({1, 4, 2, 2}, {1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, -4, -4, -4, -4}),
      {1, 2, 3, -4});
  ExpectCorrected(
      "net (float[1, 3] x) => (float[1, 2] y) <float[2, 3] w = {0,0,0,0,0,0}, float[2] b = {1, 2}> "
      "{ y = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, w, b) }",
      Tensor::Of<float>({1, 3}, {1, -2, 3}), {1, -2, 3});
  ExpectCorrected(
      "net (float[1, 3] x) => (float[1, 2] y) <float[3, 2] w = {0,0,0,0,0,0}, float[2] b = {1, 2}> "
      "{ p = MatMul(x, w) y = Add(b, p) }",
      Tensor::Of<float>({1, 3}, {1, -2, 3}), {1, -2, 3});
}

TEST(BiasCorrection, SaysNoWithoutAPlaceForIt) {
  Graph g = LoadText(
      "net (float[1, 3] x) => (float[1, 2] y) <float[3, 2] w = {1,2,3,4,5,6}> { y = MatMul(x, w) "
      "}");
  ASSERT_THAT(InferShapes(g), IsOk());
  Node* layer = Find(g, "MatMul");
  HT_ASSERT_OK_AND_ASSIGN(const bool corrected,
                          CorrectBias(g, layer, layer->input(1)->constant(), {.mean = {1, 2, 3}}));
  EXPECT_FALSE(corrected);
}

}  // namespace
}  // namespace halftone
