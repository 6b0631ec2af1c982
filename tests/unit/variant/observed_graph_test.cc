#include "core/variant/observed_graph.h"

#include <gmock/gmock.h>

#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

TEST(ObservedGraph, LeavesOutWhatHasNoRank) {
  Graph g("ranks");
  g.opsets()[""] = 17;
  Value* x = g.AddInput("x", {DataType::kF32, Dims{Dim(2)}});
  Value* shape = g.AddInput("shape", {DataType::kI64, Dims{Dim()}});
  Node* any = g.AddNode({.op = "Reshape", .name = "r", .inputs = {x, shape}, .outputs = {"any"}});
  any->output(0)->set_type({DataType::kF32, std::nullopt});
  Value* column = g.AddConstant("column", Tensor::Of<int64_t>({2}, {2, 1}));
  Node* last = g.AddNode(
      {.op = "Reshape", .name = "c", .inputs = {any->output(0), column}, .outputs = {"y"}});
  last->output(0)->set_type({DataType::kF32, Dims{Dim(2), Dim(1)}});
  g.AddOutput(last->output(0));
  HT_ASSERT_OK_AND_ASSIGN(const ObservedGraph observed,
                          ObservedGraph::Create(g, {"x", "any", "y"}, PlanRunner(1)));
  HT_ASSERT_OK_AND_ASSIGN(
      const auto seen,
      observed.Run({{Tensor::Of<float>({2}, {3, 4}), Tensor::Of<int64_t>({3}, {1, 2, 1})}}));
  EXPECT_THAT(seen, testing::ElementsAre(testing::Key("x"), testing::Key("y")));
}

}  // namespace
}  // namespace halftone
