#include "absl/strings/str_format.h"
#include "core/passes/portable.h"
#include "tests/unit/passes/pass_testing.h"

namespace halftone {
namespace {

TEST(CanonicalizeIntegerProducts, MatMulOfDynamicallyQuantizedData) {
  const Graph before = LoadText(R"(
      net (float[2, 3] x) => (float[2, 2] y)
      <int8[3, 2] w = {1, -2, 3, 4, -5, 6}, float[2] ws = {0.5, 0.25}, int8[2] wz = {0, 1}> {
        q, s, z = DynamicQuantizeLinear(x)
        p = MatMulInteger(q, w, z, wz)
        f = Cast<to = 1>(p)
        both = Mul(s, ws)
        y = Mul(f, both)
      })",
                                11);
  const Graph after = RunPass(before, CanonicalizeIntegerProducts);
  EXPECT_EQ(OpsOf(after), "DynamicQuantizeLinear DequantizeLinear DequantizeLinear MatMul");
  EXPECT_EQ(after.opset(), 13);
}

TEST(CanonicalizeIntegerProducts, ConvKeepsItsAttributes) {
  const Graph before = LoadText(R"(
      net (float[1, 1, 4, 4] x) => (float[1, 2, 4, 4] y)
      <int8[2, 1, 3, 3] w = {1, -2, 3, 4, -5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, -9},
       float ws = {0.5}> {
        q, s, z = DynamicQuantizeLinear(x)
        p = ConvInteger<pads = [1, 1, 1, 1]>(q, w, z)
        f = Cast<to = 1>(p)
        both = Mul(ws, s)
        y = Mul(both, f)
      })");
  const Graph after = RunPass(before, CanonicalizeIntegerProducts, 1e-5f);
  EXPECT_EQ(CountOp(after, "Conv"), 1);
  EXPECT_EQ(CountOp(after, "ConvInteger"), 0);
}

constexpr absl::string_view kProduct = R"(
    net (float[2, 2] x) => (float[2, 2] y)
    <int8[2, 2] w = {1, -2, 3, 4}, float[%s] ws = {%s}, int8 wz = {1}, float other = {2}> {
      q, s, z = DynamicQuantizeLinear(x)
      p = MatMulInteger(q, w, z, wz)
      f = Cast<to = 1>(p)
      both = Mul(%s, ws)
      y = Mul(f, both)
    })";

TEST(CanonicalizeIntegerProducts, ScaleOfSomethingElseStays) {
  const Graph before = LoadText(absl::StrFormat(kProduct, "1", "0.5", "other"));
  EXPECT_EQ(CountOp(RunPass(before, CanonicalizeIntegerProducts), "MatMulInteger"), 1);
}

TEST(CanonicalizeIntegerProducts, OneZeroPointForSeveralScalesStays) {
  const Graph before = LoadText(absl::StrFormat(kProduct, "2", "0.5, 0.25", "s"));
  EXPECT_EQ(CountOp(RunPass(before, CanonicalizeIntegerProducts), "MatMulInteger"), 1);
}

}  // namespace
}  // namespace halftone
