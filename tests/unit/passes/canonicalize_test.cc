#include <gmock/gmock.h>

#include "core/passes/portable.h"
#include "tests/unit/passes/pass_testing.h"

namespace halftone {
namespace {

// --- activations --------------------------------------------------------------------------------

struct Case {
  std::string name;
  std::string nodes;
  std::string ops;  // what is left
};

class ActivationCase : public testing::TestWithParam<Case> {};

TEST_P(ActivationCase, BecomesOneNode) {
  const Graph g = LoadText(absl::StrCat(
      "net (float[N, 4] x0, float[N, 4] x1) => (float[N, 4] y) <float half = {0.5}, float one = "
      "{1}, "
      "float[1] sqrt2 = {1.4142135}, float rsqrt2 = {0.70710677}, float three = {3}, float six = "
      "{6}, float zero = {0}, float cubic = {0.044715}, float s2pi = {0.7978846}, float two = {2}> "
      "{ x = Add(x0, x1) ",
      GetParam().nodes, " }"));
  EXPECT_EQ(OpsOf(RunPass(g, CanonicalizeActivations, 1e-5f)), GetParam().ops);
}

INSTANTIATE_TEST_SUITE_P(
    Portable, ActivationCase,
    testing::Values(
        Case{"PyTorchGelu",
             "a = Div(x, sqrt2) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)",
             "Add Gelu"},
        Case{"GeluHalvedFirst",
             "h = Mul(x, half) a = Mul(x, rsqrt2) b = Erf(a) c = Add(one, b) y = Mul(h, c)",
             "Add Gelu"},
        Case{"GeluHalvedInside",
             "a = Mul(rsqrt2, x) b = Erf(a) c = Add(one, b) d = Mul(half, c) y = Mul(d, x)",
             "Add Gelu"},
        Case{"TanhGelu",
             "p = Pow(x, three) q = Mul(cubic, p) r = Add(x, q) s = Mul(s2pi, r) t = Tanh(s) u = "
             "Add(one, t) v = Mul(half, x) y = Mul(v, u)",
             "Add Gelu"},
        Case{"TanhGeluByProducts",
             "x2 = Mul(x, x) q = Mul(cubic, x2) r = Add(one, q) k = Mul(x, s2pi) s = Mul(k, r) t = "
             "Tanh(s) u = Add(one, t) v = Mul(x, u) y = Mul(v, half)",
             "Add Gelu"},
        Case{"HardSwish", "a = Add(x, three) b = Clip(a, zero, six) c = Mul(x, b) y = Div(c, six)",
             "Add HardSwish"},
        Case{"HardSwishDividedFirst",
             "a = Add(x, three) b = Clip(a, zero, six) c = Div(b, six) y = Mul(x, c)",
             "Add HardSwish"},
        Case{"HardSwishByHardSigmoid",
             "a = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) y = Mul(x, a)", "Add HardSwish"},
        Case{"HardSigmoid", "a = Add(x, three) b = Clip(a, zero, six) y = Div(b, six)",
             "Add HardSigmoid"},
        Case{"AlmostGeluStays",
             "a = Div(x, sqrt2) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, two)",
             "Add Div Erf Add Mul Mul"},
        Case{"GeluOfSomethingElseStays",
             "a = Div(x0, sqrt2) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)",
             "Add Div Erf Add Mul Mul"},
        Case{"NearlyGeluStays",
             "s = Add(sqrt2, cubic) a = Div(x, s) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = "
             "Mul(d, half)",
             "Add Div Erf Add Mul Mul"},
        Case{"DefaultHardSigmoidIsNoHardSwish", "a = HardSigmoid(x) y = Mul(x, a)",
             "Add HardSigmoid Mul"},
        Case{"SiluStays", "a = Sigmoid(x) y = Mul(x, a)", "Add Sigmoid Mul"}),
    [](const auto& info) { return info.param.name; });

TEST(CanonicalizeActivations, TanhGeluSaysSo) {
  const Graph g = LoadText(R"(net (float[N, 4] x) => (float[N, 4] y)
      <float half = {0.5}, float one = {1}, float three = {3}, float cubic = {0.044715},
       float s2pi = {0.7978846}> {
        p = Pow(x, three) q = Mul(cubic, p) r = Add(x, q) s = Mul(s2pi, r) t = Tanh(s)
        u = Add(one, t) v = Mul(half, x) y = Mul(v, u) })");
  const Graph after = RunPass(g, CanonicalizeActivations, 1e-5f);
  EXPECT_EQ(after.nodes()[0]->attributes().String("approximate", ""), "tanh");
  EXPECT_EQ(after.opset(), 20);
}

// --- LayerNormalization -----------------------------------------------------------------------

std::string LayerNorm(absl::string_view nodes) {
  return absl::StrCat(
      "net (float[N, 4] x) => (float[N, 4] y) <float two = {2}, float one = {1}, float eps = "
      "{0.001}, "
      "float[4] g = {1, 2, -1, 0.5}, float[4] b = {0.5, 1, 2, 3}> { ",
      nodes, " }");
}

constexpr char kMoments[] =
    "m = ReduceMean<axes = [-1]>(x) d = Sub(x, m) p = Pow(d, two) v = ReduceMean<axes = [1]>(p) "
    "e = Add(v, eps) s = Sqrt(e) ";

TEST(CanonicalizeLayerNorm, FindsTheUsualSpelling) {
  const Graph g =
      LoadText(LayerNorm(absl::StrCat(kMoments, "n = Div(d, s) w = Mul(n, g) y = Add(w, b)")));
  const Graph after = RunPass(g, CanonicalizeLayerNorm, 1e-5f);
  EXPECT_EQ(OpsOf(after), "LayerNormalization");
  EXPECT_FLOAT_EQ(after.nodes()[0]->attributes().Float("epsilon", 0), 0.001f);
}

TEST(CanonicalizeLayerNorm, FindsTheReciprocalSpellingWithoutBias) {
  const Graph g =
      LoadText(LayerNorm("m = ReduceMean<axes = [-1]>(x) d = Sub(x, m) p = Mul(d, d) v = "
                         "ReduceMean<axes = [-1]>(p) e = "
                         "Add(eps, v) s = Sqrt(e) r = Reciprocal(s) n = Mul(r, d) y = Mul(g, n)"));
  EXPECT_EQ(OpsOf(RunPass(g, CanonicalizeLayerNorm, 1e-5f)), "LayerNormalization");
}

TEST(CanonicalizeLayerNorm, RaisesAnOldGraph) {
  const Graph g =
      LoadText(LayerNorm(absl::StrCat(kMoments, "n = Div(d, s) w = Mul(n, g) y = Add(w, b)")), 13);
  EXPECT_EQ(RunPass(g, CanonicalizeLayerNorm, 1e-5f).opset(), 17);
}

TEST(CanonicalizeLayerNorm, AnotherAxisStays) {
  const Graph g = LoadText(R"(net (float[4, 4] x) => (float[4, 4] y)
      <float two = {2}, float eps = {0.001}, float[4] g = {1, 2, -1, 0.5}> {
        m = ReduceMean<axes = [0]>(x) d = Sub(x, m) p = Pow(d, two) v = ReduceMean<axes = [0]>(p)
        e = Add(v, eps) s = Sqrt(e) n = Div(d, s) y = Mul(n, g) })");
  EXPECT_EQ(CountOp(RunPass(g, CanonicalizeLayerNorm), "LayerNormalization"), 0);
}

// --- pooling ------------------------------------------------------------------------------------

TEST(CanonicalizePooling, MeanOverBothSpatialAxesIsAGlobalPool) {
  const Graph kept = LoadText(
      "net (float[N, 2, 3, 4] x) => (float[N, 2, 1, 1] y) { y = ReduceMean<axes = [3, 2]>(x) }");
  EXPECT_EQ(OpsOf(RunPass(kept, CanonicalizePooling)), "GlobalAveragePool");
  const Graph dropped = LoadText(
      "net (float[N, 2, 3, 4] x) => (float[N, 2] y) { y = ReduceMean<axes = [-2, -1], keepdims = "
      "0>(x) }");
  EXPECT_EQ(OpsOf(RunPass(dropped, CanonicalizePooling)), "GlobalAveragePool Flatten");
}

TEST(CanonicalizePooling, OtherAxesStay) {
  const Graph g = LoadText(
      "net (float[N, 2, 3, 4] x) => (float[N, 1, 1, 4] y) { y = ReduceMean<axes = [1, 2]>(x) }");
  EXPECT_EQ(OpsOf(RunPass(g, CanonicalizePooling)), "ReduceMean");
}

}  // namespace
}  // namespace halftone
