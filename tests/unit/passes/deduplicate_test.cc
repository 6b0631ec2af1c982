#include <gmock/gmock.h>

#include "core/passes/portable.h"
#include "tests/unit/passes/pass_testing.h"

namespace halftone {
namespace {

TEST(Deduplicate, MergesEqualChains) {
  const Graph g = LoadText(R"(net (float[2] x) => (float[2] y)
      <float[2] a = {1, 2}, float[2] b = {1, 2}, float[2] c = {1, 3}> {
        p = Add(x, a) p2 = Neg(p)
        q = Add(x, b) q2 = Neg(q)
        r = Add(x, c)
        y = Sum(p2, q2, r)
      })");
  const Graph merged = RunPass(g, Deduplicate);
  EXPECT_EQ(OpsOf(merged), "Add Neg Add Sum");
}

TEST(Deduplicate, AttributesMakeADifference) {
  const Graph g = LoadText(R"(net (float[2, 2] x) => (float[2, 2] y) {
      p = Softmax<axis = 0>(x) q = Softmax<axis = 1>(x) r = Softmax<axis = 1>(x)
      y = Sum(p, q, r) })");
  EXPECT_EQ(CountOp(RunPass(g, Deduplicate), "Softmax"), 2);
}

TEST(Deduplicate, TwoOutputsKeepTheirNames) {
  const Graph g =
      LoadText("net (float[2] x) => (float[2] y, float[2] z) { y = Neg(x) z = Neg(x) }");
  const Graph merged = RunPass(g, Deduplicate);
  EXPECT_EQ(CountOp(merged, "Neg"), 2);
}

TEST(Deduplicate, AnOutputAndAnInnerValueMayMerge) {
  const Graph g = LoadText(
      "net (float[2] x) => (float[2] y, float[2] z) { a = Neg(x) y = Neg(x) z = Relu(a) }");
  EXPECT_EQ(CountOp(RunPass(g, Deduplicate), "Neg"), 1);
}

TEST(Deduplicate, KeepsTheRankThatTheFileSaysOfAnOutput) {
  Graph g;
  g.opsets()[""] = 8;
  Value* x = g.AddInput("x", {DataType::kF32, Dims{Dim("a"), Dim("b")}});
  Value* inner = g.AddNode({.op = "Squeeze", .inputs = {x}, .outputs = {"inner"}})->output(0);
  Value* y = g.AddNode({.op = "Squeeze", .inputs = {x}, .outputs = {"y"}})->output(0);
  y->set_type({DataType::kF32, Dims{Dim()}});
  g.AddOutput(g.AddNode({.op = "Relu", .inputs = {inner}, .outputs = {"z"}})->output(0));
  g.AddOutput(y);
  HT_ASSERT_OK_AND_ASSIGN(const bool changed, Deduplicate(g));
  EXPECT_TRUE(changed);
  ASSERT_TRUE(g.outputs()[1]->type().shape.has_value());
  EXPECT_EQ(g.outputs()[1]->type().shape->size(), 1u);
}

TEST(Deduplicate, TypesAndShapesOfConstantsMakeADifference) {
  const Graph g = LoadText(R"(net (float[2] x) => (float[1, 2] y)
      <float[2] a = {1, 2}, float[1, 2] b = {1, 2}> { p = Add(x, a) y = Add(p, b) })");
  HT_ASSERT_OK_AND_ASSIGN(const bool changed, [&] {
    Graph copy = g.Clone();
    return Deduplicate(copy);
  }());
  EXPECT_FALSE(changed);
}

TEST(Deduplicate, RandomNumbersAndQuantizationStayApart) {
  Graph g;
  g.opsets()[""] = 17;
  Value* x = g.AddInput("x", {DataType::kF32, Dims{4}});
  Value* scale = g.AddConstant("s", Tensor::Scalar<float>(0.5f));
  for (const char* name : {"a", "b"}) {
    g.AddOutput(
        g.AddNode({.op = "QuantizeLinear", .inputs = {x, scale}, .outputs = {name}})->output(0));
  }
  HT_ASSERT_OK_AND_ASSIGN(const bool changed, Deduplicate(g));
  EXPECT_FALSE(changed);
}

}  // namespace
}  // namespace halftone
