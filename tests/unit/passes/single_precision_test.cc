#include "core/passes/single_precision.h"

#include <cmath>
#include <string>
#include <vector>

#include "core/ops/evaluate.h"
#include "tests/unit/passes/pass_testing.h"

namespace halftone {
namespace {

Tensor Doubles(const Shape& shape, std::vector<double> values) {
  return Tensor::Of<double>(shape, absl::MakeConstSpan(values));
}

TEST(ComputeInSingles, KeepsSignatureAndAnswers) {
  const Graph doubles = LoadText(R"(
      net (double[N, 2] x, float[2] f) => (double[N, 3] y, double[N, 2] h, float[2] g)
      <double[2, 3] w = {0.1, -2, 3, 4, 0.25, 6}, double[1] huge = {-1e300}> {
        b = Cast<to = 11>(f)
        raised = Max(x, huge)
        none = Sub(x, x)
        nothing = Mul(huge, none)
        shifted = Add(raised, b)
        h = Add(shifted, nothing)
        y = MatMul(h, w)
        g = Neg(f)
      })");
  ASSERT_TRUE(ComputesInDoubles(doubles));
  Graph singles = doubles.Clone();
  HT_ASSERT_OK(ComputeInSingles(singles));
  EXPECT_FALSE(ComputesInDoubles(singles));
  HT_ASSERT_OK_AND_ASSIGN(const Signature before, SignatureOf(doubles));
  HT_ASSERT_OK_AND_ASSIGN(const Signature after, SignatureOf(singles));
  for (size_t i = 0; i < before.outputs.size(); ++i) {
    EXPECT_EQ(after.outputs[i].name, before.outputs[i].name);
    EXPECT_EQ(after.outputs[i].type, before.outputs[i].type);
  }
  EXPECT_EQ(after.inputs[0].type, DataType::kF64);
  EXPECT_EQ(singles.FindValue("y_f32")->type().type, DataType::kF32);
  const std::vector<Tensor> inputs = {Doubles({2, 2}, {1.1, 2, -3, 0.125}),
                                      Tensor::Of<float>({2}, {0.5f, 0.3f})};
  HT_ASSERT_OK_AND_ASSIGN(const auto want, EvaluateGraph(doubles, inputs));
  HT_ASSERT_OK_AND_ASSIGN(const auto got, EvaluateGraph(singles, inputs));
  ASSERT_EQ(got[0].type(), DataType::kF64);
  double difference = 0;
  for (int i = 0; i < 6; ++i) {
    EXPECT_NEAR(got[0].data<double>()[i], want[0].data<double>()[i], 1e-5);
    difference += std::abs(got[0].data<double>()[i] - want[0].data<double>()[i]);
  }
  EXPECT_GT(difference, 0) << "nothing was rounded";
  EXPECT_EQ(got[2].bytes(), want[2].bytes());
}

TEST(ComputeInSingles, GoesIntoNestedGraphs) {
  Graph g = LoadText(R"(
      net (double[2] x, bool c) => (double[2] y) {
        y = If<then_branch = yes () => (double[2] a) { k = Constant<value = double[1] {2.5}>()
                                                       a = Mul(x, k) },
               else_branch = no () => (double[2] b) { b = Neg(x) }>(c)
      })");
  ASSERT_TRUE(ComputesInDoubles(g));
  HT_ASSERT_OK(ComputeInSingles(g));
  EXPECT_FALSE(ComputesInDoubles(g));
  for (const bool c : {true, false}) {
    HT_ASSERT_OK_AND_ASSIGN(const auto y,
                            EvaluateGraph(g, {Doubles({2}, {1, -2}), Tensor::Scalar<bool>(c)}));
    EXPECT_EQ(y[0].data<double>()[1], c ? -5 : 2);
  }
}

// A model that only takes and gives doubles is no fp64 model.
TEST(ComputesInDoubles, NotWhereTheyAreCastOnly) {
  EXPECT_FALSE(ComputesInDoubles(LoadText(R"(
      net (double[2] x) => (double[2] y) { f = Cast<to = 1>(x)
                                           r = Relu(f)
                                           y = Cast<to = 11>(r) })")));
}

}  // namespace
}  // namespace halftone
