#include <gmock/gmock.h>

#include "core/passes/portable.h"
#include "tests/unit/passes/pass_testing.h"

namespace halftone {
namespace {

// A constant of n f32 ones; more elements than shape inference folds by itself.
Value* Ones(Graph& g, const std::string& name, int64_t n) {
  const std::vector<float> values(n, 1.0f);
  return g.AddConstant(name, Tensor::Of<float>({n}, absl::MakeConstSpan(values)));
}

Graph WithOpset(int opset) {
  Graph g;
  g.opsets()[""] = opset;
  return g;
}

TEST(FoldConstants, FoldsChainsInOneSweep) {
  Graph g = WithOpset(17);
  Value* x = g.AddInput("x", {DataType::kF32, Dims{10000}});
  Node* a = g.AddNode(
      {.op = "Add", .inputs = {Ones(g, "p", 10000), Ones(g, "q", 10000)}, .outputs = {"a"}});
  Node* b = g.AddNode({.op = "Neg", .inputs = {a->output(0)}, .outputs = {"b"}});
  g.AddOutput(g.AddNode({.op = "Mul", .inputs = {x, b->output(0)}, .outputs = {"y"}})->output(0));
  HT_ASSERT_OK(InferShapes(g));
  const Graph folded = RunPass(g, FoldConstants);
  EXPECT_EQ(OpsOf(folded), "Mul");
  EXPECT_EQ(folded.nodes()[0]->input(1)->constant().data<float>()[9999], -2);
}

// As training with quantization leaves weights: float, quantized by the file.
TEST(FoldConstants, WeightsThatAFileQuantizesAreStoredAsIntegers) {
  Graph g = WithOpset(17);
  Value* x = g.AddInput("x", {DataType::kF32, Dims{10000}});
  Value* scale = g.AddConstant("s", Tensor::Scalar<float>(0.5f));
  Value* zero = g.AddConstant("z", Tensor::Scalar<int8_t>(0));
  const auto add = [&](const std::string& op, std::vector<Value*> in, const std::string& out) {
    return g.AddNode({.op = op, .inputs = std::move(in), .outputs = {out}})->output(0);
  };
  Value* q = add("QuantizeLinear", {Ones(g, "w", 10000), scale, zero}, "q");
  g.AddOutput(add("Mul", {x, add("DequantizeLinear", {q, scale, zero}, "d")}, "y"));
  HT_ASSERT_OK(InferShapes(g));
  const Graph folded = RunPass(g, FoldConstants);
  EXPECT_EQ(OpsOf(folded), "DequantizeLinear Mul");
  EXPECT_EQ(folded.FindValue("q")->constant().type(), DataType::kI8);
  EXPECT_EQ(folded.FindValue("w"), nullptr) << "the floats are gone";
}

TEST(FoldConstants, KeepsDequantizedWeights) {
  Graph g = WithOpset(17);
  const std::vector<int8_t> q(8, 3);
  Node* dq =
      g.AddNode({.op = "DequantizeLinear",
                 .inputs = {g.AddConstant("q", Tensor::Of<int8_t>({8}, absl::MakeConstSpan(q))),
                            g.AddConstant("s", Tensor::Scalar<float>(0.5f))},
                 .outputs = {"y"}});
  g.AddOutput(dq->output(0));
  HT_ASSERT_OK_AND_ASSIGN(const bool changed, FoldConstants(g));
  EXPECT_FALSE(changed);
}

TEST(FoldConstants, KeepsWeightsThatAreStoredInHalfWidth) {
  Graph g = WithOpset(17);
  HT_ASSERT_OK_AND_ASSIGN(Tensor half, Convert(Ones(g, "f", 10000)->constant(), DataType::kF16));
  Node* cast = g.AddNode({.op = "Cast",
                          .inputs = {g.AddConstant("h", half)},
                          .outputs = {"y"},
                          .attributes = {{"to", int64_t{1}}}});
  g.AddOutput(cast->output(0));
  HT_ASSERT_OK(InferShapes(g));
  HT_ASSERT_OK_AND_ASSIGN(const bool changed, FoldConstants(g));
  EXPECT_FALSE(changed);
}

TEST(FoldConstants, KeepsWhatWouldGrowBeyondTheLimit) {
  Graph g = WithOpset(17);
  Node* big =
      g.AddNode({.op = "Expand",
                 .inputs = {g.AddConstant("one", Tensor::Scalar<float>(1)),
                            g.AddConstant("s", Tensor::Of<int64_t>({2}, {1 << 15, 1 << 15}))},
                 .outputs = {"y"}});
  g.AddOutput(big->output(0));
  HT_ASSERT_OK(InferShapes(g));
  HT_ASSERT_OK_AND_ASSIGN(const bool changed, FoldConstants(g));
  EXPECT_FALSE(changed);
}

TEST(FoldConstants, AnOutputMayBecomeAConstantAndKeepsItsName) {
  Graph g = WithOpset(17);
  g.AddOutput(
      g.AddNode({.op = "Neg", .inputs = {Ones(g, "p", 10000)}, .outputs = {"y"}})->output(0));
  HT_ASSERT_OK(InferShapes(g));
  const Graph folded = RunPass(g, FoldConstants);
  EXPECT_TRUE(folded.outputs()[0]->is_constant());
  EXPECT_EQ(folded.outputs()[0]->name(), "y");
}

}  // namespace
}  // namespace halftone
