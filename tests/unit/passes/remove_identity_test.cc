#include <gmock/gmock.h>

#include "core/passes/portable.h"
#include "tests/unit/passes/pass_testing.h"

namespace halftone {
namespace {

struct Case {
  std::string name;
  std::string net;
  std::string ops;  // what is left
  int opset = 17;
};

class RemoveIdentityCase : public testing::TestWithParam<Case> {};

TEST_P(RemoveIdentityCase, LeavesOnlyWhatDoesSomething) {
  const Graph before = LoadText(GetParam().net, GetParam().opset);
  EXPECT_EQ(OpsOf(RunPass(before, RemoveIdentity)), GetParam().ops);
}

TEST(RemoveIdentity, KeepsWhatTheFileSaysAboutTheResult) {
  const Graph before =
      LoadText("net (float[N, M] x) => (float[K] y) { a = Squeeze(x) y = Identity(a) }", 17);
  const Graph after = RunPass(before, RemoveIdentity);
  EXPECT_EQ(OpsOf(after), "Squeeze");
  EXPECT_EQ(ToString(after.outputs()[0]->type()), "f32[K]");
}

INSTANTIATE_TEST_SUITE_P(
    Portable, RemoveIdentityCase,
    testing::Values(
        Case{"Identity", "net (float[2] x) => (float[2] y) { a = Identity(x) y = Relu(a) }",
             "Relu"},
        Case{"IdentityMakesTheOutput",
             "net (float[2] x) => (float[2] y) { a = Relu(x) y = Identity(a) }", "Relu"},
        Case{"InputToOutputStays", "net (float[2] x) => (float[2] y) { y = Identity(x) }",
             "Identity"},
        Case{"SecondOutputStays",
             "net (float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Identity(y) }",
             "Relu Identity"},
        Case{"Dropout", "net (float[2] x) => (float[2] y) { a = Dropout(x) y = Relu(a) }", "Relu"},
        Case{"OldDropout",
             "net (float[2] x) => (float[2] y) { a = Dropout<ratio = 0.3>(x) y = Relu(a) }", "Relu",
             9},
        Case{"CastToTheSameType",
             "net (float[2] x) => (float[2] y) { a = Cast<to = 1>(x) y = Relu(a) }", "Relu"},
        Case{"RealCast", "net (float[2] x) => (int32[2] y) { a = Cast<to = 6>(x) y = Neg(a) }",
             "Cast Neg"},
        Case{
            "ReshapeToTheSameShape",
            "net (float[N, 6] x) => (float[N, 6] y) <int64[2] s = {-1, 6}> { a = Reshape(x, s) y = "
            "Relu(a) }",
            "Relu"},
        Case{"RealReshape",
             "net (float[N, 6] x) => (float[M, 3] y) <int64[2] s = {-1, 3}> { a = Reshape(x, s) y "
             "= Relu(a) }",
             "Reshape Relu"},
        Case{"TransposeInOrder",
             "net (float[2, 3] x) => (float[2, 3] y) { a = Transpose<perm = [0, 1]>(x) y = Relu(a) "
             "}",
             "Relu"},
        Case{"TransposeOfASquareMoves",
             "net (float[3, 3] x) => (float[3, 3] y) { a = Transpose<perm = [1, 0]>(x) y = Relu(a) "
             "}",
             "Transpose Relu"},
        Case{"PadByZero",
             "net (float[2] x) => (float[2] y) <int64[2] p = {0, 0}> { a = Pad(x, p) y = Relu(a) }",
             "Relu"},
        Case{"SliceOfEverything",
             "net (float[4] x) => (float[4] y) <int64[1] s = {0}, int64[1] e = {4}> { a = Slice(x, "
             "s, e) y = Relu(a) }",
             "Relu"},
        Case{"SliceBackwardsStays",
             "net (float[4] x) => (float[4] y) <int64[1] s = {-1}, int64[1] e = {-5}, int64[1] d = "
             "{0}, int64[1] t = {-1}> { a = Slice(x, s, e, d, t) y = Relu(a) }",
             "Slice Relu"},
        Case{"ConcatOfOne",
             "net (float[4] x) => (float[4] y) { a = Concat<axis = 0>(x) y = Relu(a) }", "Relu"},
        Case{"TimesOnePlusZero",
             "net (float[4] x) => (float[4] y) <float one = {1}, float zero = {0}> { a = Mul(one, "
             "x) "
             "b = Add(a, zero) c = Div(b, one) y = Relu(c) }",
             "Relu"},
        Case{"OneDividedByStays",
             "net (float[4] x) => (float[4] y) <float one = {1}> { a = Div(one, x) y = Relu(a) }",
             "Div Relu"},
        Case{"OneThatBroadcastsStays",
             "net (float[4] x) => (float[1, 4] y) <float[1, 1] one = {1}> { a = Mul(one, x) y = "
             "Relu(a) }",
             "Mul Relu"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace halftone
