#include <gmock/gmock.h>

#include "core/passes/portable.h"
#include "tests/unit/passes/pass_testing.h"

namespace halftone {
namespace {

constexpr char kStatistics[] = R"(
    float[2] g = {1.5, -0.5}, float[2] be = {0.25, 1}, float[2] m = {0.1, -0.3},
    float[2] v = {0.9, 2})";

TEST(FoldBatchNorm, DisappearsIntoTheConvBeforeIt) {
  const Graph g = LoadText(absl::StrCat(
      "net (float[N, 1, 4, 4] x) => (float[N, 2, 4, 4] y) <", kStatistics,
      ", float[2, 1, 1, 1] w = {2, -3}, float[2] b = {0.5, 0.75}> {"
      " c = Conv(x, w, b) n = BatchNormalization<epsilon = 0.001>(c, g, be, m, v) y = Relu(n) }"));
  const Pass passes[] = {{"fold_batch_norm", FoldBatchNorm}, {"fold_scale", FoldScale}};
  Graph folded = g.Clone();
  HT_ASSERT_OK(RunPasses(folded, passes));
  EXPECT_EQ(OpsOf(folded), "Conv Relu");
  ExpectSame(folded, g);
}

TEST(FoldBatchNorm, BecomesMulAndAddWhereNothingLinearPrecedes) {
  const Graph g =
      LoadText(absl::StrCat("net (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y) <", kStatistics,
                            "> { n = BatchNormalization(x, g, be, m, v) y = Relu(n) }"));
  EXPECT_EQ(OpsOf(RunPass(g, FoldBatchNorm)), "Mul Add Relu");
}

TEST(FoldBatchNorm, WorksOnMatrices) {
  const Graph g = LoadText(absl::StrCat("net (float[N, 2] x) => (float[N, 2] y) <", kStatistics,
                                        "> { y = BatchNormalization(x, g, be, m, v) }"));
  EXPECT_EQ(OpsOf(RunPass(g, FoldBatchNorm)), "Mul Add");
}

TEST(FoldBatchNorm, LeavesStatisticsThatAreNoConstants) {
  const Graph g = LoadText(
      "net (float[N, 2] x, float[2] v) => (float[N, 2] y) <float[2] g = {1, 1}> {"
      " p = Abs(v) y = BatchNormalization(x, g, g, g, p) }");
  EXPECT_EQ(CountOp(RunPass(g, FoldBatchNorm), "BatchNormalization"), 1);
}

}  // namespace
}  // namespace halftone
