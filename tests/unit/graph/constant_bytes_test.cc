#include "core/graph/constant_bytes.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>

namespace halftone {
namespace {

TEST(ConstantBytes, CountsNestedGraphsAndTellsWidthsApart) {
  const auto fill = [](Graph& g) {
    g.AddConstant("wide", Tensor::Of<float>({3}, {1, 2, 3}));
    g.AddConstant("narrow", *Convert(Tensor::Of<float>({5}, {1, 2, 3, 4, 5}), DataType::kF16));
    g.AddConstant("narrow too", *Convert(Tensor::Of<float>({1}, {1}), DataType::kBF16));
    g.AddConstant("codes", Tensor::Of<int16_t>({1}, {7}));
  };
  Graph branch("branch");
  fill(branch);
  Graph g("outer");
  fill(g);
  g.AddInput("x", {DataType::kF16, Dims{8}});
  g.AddNode({.op = "If",
             .inputs = {g.AddConstant("c", Tensor::Scalar(true))},
             .outputs = {"y"},
             .attributes = {
                 {"then_branch", SubgraphPtr(std::make_shared<const Graph>(std::move(branch)))}}});
  EXPECT_EQ(ConstantBytes(g), 2 * (12 + 10 + 2 + 2) + 1);
  EXPECT_EQ(ConstantBytes(g, 16), 2 * (10 + 2));
  EXPECT_EQ(ConstantBytes(g, 32), 2 * 12);
}

}  // namespace
}  // namespace halftone
