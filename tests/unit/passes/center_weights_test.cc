#include "core/passes/portable.h"
#include "tests/unit/passes/pass_testing.h"

namespace halftone {
namespace {

const Tensor& WeightsOf(const Graph& graph) { return graph.nodes()[0]->input(0)->constant(); }

TEST(CenterWeights, SubtractsZeroPointsPerChannel) {
  const Graph before = LoadText(R"(
      net (float[1, 2] x) => (float[1, 2] y)
      <uint8[2, 2] w = {0, 7, 127, 130}, float[2] s = {0.5, 2}, uint8[2] z = {64, 5}> {
        f = DequantizeLinear<axis = 1>(w, s, z)
        y = MatMul(x, f)
      })");
  const Graph after = RunPass(before, CenterWeights);
  ASSERT_EQ(WeightsOf(after).type(), DataType::kI8);
  EXPECT_THAT(WeightsOf(after).data<int8_t>(), testing::ElementsAre(-64, 2, 63, 125));
  EXPECT_EQ(after.nodes()[0]->input(2), nullptr);
}

TEST(CenterWeights, NineBitsStay) {
  const Graph before = LoadText(R"(
      net (float[1, 2] x) => (float[1, 2] y)
      <uint8[2, 2] w = {0, 255, 1, 2}, float s = {0.5}, uint8 z = {100}> {
        f = DequantizeLinear(w, s, z)
        y = MatMul(x, f)
      })");
  EXPECT_EQ(WeightsOf(RunPass(before, CenterWeights)).type(), DataType::kU8);
}

TEST(MergeTransposes, TwoBecomeOneAndInversesVanish) {
  const Graph before = LoadText(R"(
      net (float[2, 3, 4] x) => (float[3, 2, 4] y, float[2, 3, 4] z) {
        a = Transpose<perm = [2, 0, 1]>(x)
        b = Transpose<perm = [2, 1, 0]>(a)
        c = Transpose<perm = [1, 2, 0]>(a)
        y = Relu(b)
        z = Relu(c)
      })");
  const Graph after = RunPass(before, MergeTransposes);
  EXPECT_EQ(CountOp(after, "Transpose"), 2);
  EXPECT_EQ(CountOp(RunPass(after, RemoveIdentity), "Transpose"), 1);
}

}  // namespace
}  // namespace halftone
