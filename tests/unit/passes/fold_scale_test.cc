#include <gmock/gmock.h>

#include "core/passes/portable.h"
#include "tests/unit/passes/pass_testing.h"

namespace halftone {
namespace {

struct Case {
  std::string name;
  std::string net;
  std::string ops;  // what is left
};

class FoldScaleCase : public testing::TestWithParam<Case> {};

TEST_P(FoldScaleCase, KeepsTheMeaning) {
  EXPECT_EQ(OpsOf(RunPass(LoadText(GetParam().net), FoldScale, 5e-6f)), GetParam().ops);
}

// x [N,1,3,3], two filters of 2x2.
std::string ConvThen(absl::string_view constants, absl::string_view nodes,
                     absl::string_view conv = "Conv(x, w, b)") {
  return absl::StrCat(
      "net (float[N, 1, 3, 3] x) => (float[N, 2, 2, 2] y) <float[2, 1, 2, 2] w = "
      "{1, 2, 3, 4, -1, 0.5, 2, 7}, float[2] b = {0.5, -1}, ",
      constants, "> { c = ", conv, " ", nodes, " }");
}

INSTANTIATE_TEST_SUITE_P(
    Portable, FoldScaleCase,
    testing::Values(
        Case{"ConvMulAdd",
             ConvThen("float[2, 1, 1] s = {2, -3}, float[1, 2, 1, 1] t = {0.25, 4}",
                      "m = Mul(c, s) y = Add(t, m)"),
             "Conv"},
        Case{
            "ConvDivSub",
            ConvThen("float[2, 1, 1] s = {2, -4}, float t = {0.25}", "m = Div(c, s) y = Sub(m, t)"),
            "Conv"},
        Case{"ConvWithoutBias",
             ConvThen("float[2, 1, 1] s = {2, -3}, float[2, 1, 1] t = {1, 2}",
                      "m = Mul(c, s) y = Add(m, t)", "Conv(x, w)"),
             "Conv"},
        Case{"ConstantMinusConvStays", ConvThen("float[2, 1, 1] s = {2, -3}", "y = Sub(s, c)"),
             "Conv Sub"},
        Case{"DivisionByTheConvStays",
             ConvThen("float[2, 1, 1] s = {2, -3}", "a = Abs(c) d = Add(a, s) y = Div(s, c)"),
             "Conv Div"},
        Case{"AlongAnotherAxisStays", ConvThen("float[2] s = {2, -3}", "y = Mul(c, s)"),
             "Conv Mul"},
        Case{"AConvUsedTwiceStays",
             ConvThen("float[2, 1, 1] s = {2, -3}", "m = Mul(c, s) y = Add(m, c)"), "Conv Mul Add"},
        Case{"ConvTransposeWithGroups",
             "net (float[1, 4, 2, 2] x) => (float[1, 6, 2, 2] y) <float[4, 3, 1, 1] w = {1, 2, 3, "
             "4, "
             "5, 6, 7, 8, 9, 10, 11, 12}, float[6, 1, 1] s = {1, -2, 3, -4, 5, -6}> { c = "
             "ConvTranspose<group = 2>(x, w) y = Mul(c, s) }",
             "ConvTranspose"},
        Case{
            "Gemm",
            "net (float[N, 2] x) => (float[N, 3] y) <float[2, 3] w = {1, 2, 3, 4, 5, 6}, float[1, "
            "3] b = {1, 2, 3}, float[3] s = {2, -1, 3}, float[3] t = {7, 8, 9}> { c = Gemm<alpha = "
            "0.5, beta = 2.0>(x, w, b) m = Mul(c, s) y = Add(m, t) }",
            "Gemm"},
        Case{"GemmTransposed",
             "net (float[N, 2] x) => (float[N, 3] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}, float[3] "
             "s "
             "= {2, -1, 3}> { c = Gemm<transB = 1>(x, w) y = Mul(c, s) }",
             "Gemm"},
        Case{"GemmWithABiasPerRowStays",
             "net (float[2, 2] x) => (float[2, 3] y) <float[2, 3] w = {1, 2, 3, 4, 5, 6}, float[2, "
             "1] b = {1, 2}, float[3] t = {7, 8, 9}> { c = Gemm(x, w, b) y = Add(c, t) }",
             "Gemm Add"},
        Case{
            "MatMulTakesScaleButNoShift",
            "net (float[2, N, 2] x) => (float[2, N, 3] y) <float[2, 3] w = {1, 2, 3, 4, 5, 6}, "
            "float[3] s = {2, -1, 3}, float[3] t = {7, 8, 9}> { c = MatMul(x, w) m = Mul(c, s) y = "
            "Add(m, t) }",
            "MatMul Add"},
        Case{"AConstantThatBroadcastsTheResultStays",
             "net (float[N, 2] x) => (float[1, N, 3] y) <float[2, 3] w = {1, 2, 3, 4, 5, 6}, "
             "float[1, 1, 3] s = {2, -1, 3}> { c = Gemm(x, w) y = Mul(c, s) }",
             "Gemm Mul"}),
    [](const auto& info) { return info.param.name; });

TEST(FoldScale, SharedWeightsKeepTheirOtherUser) {
  const Graph g = LoadText(R"(net (float[N, 2] x) => (float[N, 2] y, float[N, 2] z)
      <float[2, 2] w = {1, 2, 3, 4}, float[2] s = {2, -1}> {
        a = MatMul(x, w) y = Mul(a, s) z = MatMul(x, w) })");
  EXPECT_EQ(CountOp(RunPass(g, FoldScale), "Mul"), 0);
}

TEST(FoldScale, InfinityIsNoScale) {
  const Graph g = LoadText(ConvThen("float[2, 1, 1] s = {0, 1}", "y = Div(c, s)"));
  Graph after = g.Clone();
  HT_ASSERT_OK_AND_ASSIGN(const bool changed, FoldScale(after));
  EXPECT_FALSE(changed);
}

}  // namespace
}  // namespace halftone
