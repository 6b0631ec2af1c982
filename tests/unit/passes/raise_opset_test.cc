#include "core/passes/raise_opset.h"

#include <gmock/gmock.h>

#include "tests/unit/passes/pass_testing.h"

namespace halftone {
namespace {

using ::testing::HasSubstr;

struct Case {
  std::string name;
  int opset;
  std::string net;
};

class RaiseOpsetCase : public testing::TestWithParam<Case> {};

TEST_P(RaiseOpsetCase, ComputesTheSameAt13And17And21) {
  const Graph g = LoadText(GetParam().net, GetParam().opset);
  for (int opset : {13, 17, 21}) {
    Graph raised = g.Clone();
    HT_ASSERT_OK(RaiseOpset(raised, opset));
    HT_ASSERT_OK(raised.Verify());
    EXPECT_EQ(raised.opset(), std::max(opset, GetParam().opset));
    ExpectSame(raised, g);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Passes, RaiseOpsetCase,
    testing::Values(
        Case{"Clip", 7,
             "n (float[2, 3] x) => (float[2, 3] y) { y = Clip<min = -1.0, max = 0.5>(x) }"},
        Case{"ClipOneSided", 9, "n (float[2, 3] x) => (float[2, 3] y) { y = Clip<min = 0.0>(x) }"},
        Case{"Pad", 9,
             "n (float[2, 3] x) => (float[3, 5] y) { y = Pad<pads = [1, 0, 0, 2], value = 1.5>(x) "
             "}"},
        Case{"Slice", 9,
             "n (float[4, 5] x) => (float[2, 5] y) { y = Slice<starts = [1], ends = [3], axes = "
             "[0]>(x) }"},
        Case{"SqueezeUnsqueeze", 11,
             "n (float[2, 1, 3] x) => (float[2, 3, 1] y) { a = Squeeze<axes = [1]>(x) y = "
             "Unsqueeze<axes = [2]>(a) }"},
        Case{"SqueezeEverything", 9, "n (float[2, 1, 3] x) => (float[2, 3] y) { y = Squeeze(x) }"},
        Case{"Split", 11,
             "n (float[2, 5] x) => (float[2, 2] y, float[2, 3] z) { y, z = Split<axis = 1, split = "
             "[2, 3]>(x) }"},
        Case{"SplitEvenly", 11,
             "n (float[2, 6] x) => (float[2, 3] y, float[2, 3] z) { y, z = Split<axis = 1>(x) }"},
        Case{"SplitEvenlyAt13", 13,
             "n (float[2, 6] x) => (float[2, 3] y, float[2, 3] z) { y, z = Split<axis = 1>(x) }"},
        Case{"ReduceSum", 11,
             "n (float[2, 3, 4] x) => (float[2, 4] y) { y = ReduceSum<axes = [1], keepdims = 0>(x) "
             "}"},
        Case{"ReduceMean", 13,
             "n (float[2, 3, 4] x) => (float[2, 1, 1] y) { y = ReduceMean<axes = [1, 2]>(x) }"},
        Case{"ReduceMax", 9,
             "n (float[2, 3] x) => (float[2, 1] y) { y = ReduceMax<axes = [-1]>(x) }"},
        Case{"ReduceMinOfAll", 11, "n (float[2, 3] x) => (float[1, 1] y) { y = ReduceMin(x) }"},
        Case{"SoftmaxLastAxis", 9, "n (float[2, 3] x) => (float[2, 3] y) { y = Softmax(x) }"},
        Case{"SoftmaxOverSeveralAxes", 9,
             "n (float[N, 3, 4] x) => (float[N, 3, 4] y) { y = Softmax<axis = 1>(x) }"},
        Case{"SoftmaxNegativeAxis", 11,
             "n (float[2, 3, 4] x) => (float[2, 3, 4] y) { y = Softmax<axis = -2>(x) }"},
        Case{"Dropout", 7, "n (float[2, 3] x) => (float[2, 3] y) { y = Dropout<ratio = 0.4>(x) }"},
        Case{"BatchNorm", 7,
             "n (float[2, 3] x) => (float[2, 3] y) <float[3] s = {1, 2, 3}> { y = "
             "BatchNormalization<spatial = 1>(x, s, s, s, s) }"},
        Case{"Resize10", 10,
             "n (float[1, 1, 2, 3] x) => (float[1, 1, 3, 6] y) <float[4] s = {1, 1, 1.5, 2}> { y = "
             "Resize(x, s) }"},
        Case{"OperatorsThatStayed", 7,
             "n (float[1, 2, 4, 4] x) => (float[1, 32] y) <float[2, 2, 1, 1] w = {1, 2, 3, 4}> { c "
             "= "
             "Conv(x, w) r = LeakyRelu(c) p = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, "
             "1]>(r) t = Transpose<perm = [0, 2, 3, 1]>(p) y = Flatten(t) }"}),
    [](const auto& info) { return info.param.name; });

TEST(RaiseOpset, NestedGraphsRiseToo) {
  const Graph g = LoadText(R"(net (float[2, 3] x) => (float[2, 3, 1] y) {
      s = ReduceSum<keepdims = 0>(x) c = Cast<to = 9>(s)
      y = If (c) < then_branch = t () => (float[2, 3, 1] a) { a = Unsqueeze<axes = [2]>(x) },
                   else_branch = e () => (float[2, 3, 1] b) { n = Neg(x) b = Unsqueeze<axes = [2]>(n) } >
    })",
                           11);
  Graph raised = g.Clone();
  HT_ASSERT_OK(RaiseOpset(raised, 21));
  ExpectSame(raised, g);
  const Node* branch = raised.FindValue("y")->producer();
  EXPECT_EQ((*branch->attributes().Find<SubgraphPtr>("then_branch"))->opset(), 21);
}

// Upsample has no table row of its own: as Resize it has one.
TEST(RaiseOpset, UpsampleBecomesResize) {
  for (int from : {8, 9}) {
    Graph g;
    g.opsets()[""] = from;
    Value* x = g.AddInput("x", {DataType::kF32, Dims{1, 1, 1, 2}});
    NodeSpec spec{.op = "Upsample", .inputs = {x}, .outputs = {"y"}};
    if (from < 9) {
      spec.attributes.Set("scales", std::vector<float>{1, 1, 2, 2});
    } else {
      spec.inputs.push_back(g.AddConstant("s", Tensor::Of<float>({4}, {1, 1, 2, 2})));
    }
    g.AddOutput(g.AddNode(std::move(spec))->output(0));
    HT_ASSERT_OK(RaiseOpset(g, 13));
    HT_ASSERT_OK_AND_ASSIGN(const auto y,
                            EvaluateGraph(g, {Tensor::Of<float>({1, 1, 1, 2}, {3, 5})}));
    EXPECT_THAT(y[0].data<float>(), testing::ElementsAre(3, 3, 5, 5, 3, 3, 5, 5));
  }
}

TEST(RaiseOpset, ANewEnoughGraphStaysAsItIs) {
  Graph g = LoadText("net (float[2] x) => (float[2] y) { y = Relu(x) }", 17);
  HT_ASSERT_OK(RaiseOpset(g, 13));
  EXPECT_EQ(g.opset(), 17);
}

TEST(RaiseOpset, ARefusalNamesTheNodeAndLeavesTheGraphWhole) {
  Graph g;
  g.opsets()[""] = 8;
  Value* x = g.AddInput("x", {DataType::kF32, Dims{2, 3}});
  Value* c = g.AddConstant("c", Tensor::Of<float>({3}, {1, 2, 3}));
  Node* clip =
      g.AddNode({.op = "Clip", .inputs = {x}, .outputs = {"z"}, .attributes = {{"min", 0.0f}}});
  Node* bn = g.AddNode({.op = "BatchNormalization",
                        .name = "bn7",
                        .inputs = {clip->output(0), c, c, c, c},
                        .outputs = {"y"},
                        .attributes = {{"spatial", int64_t{0}}}});
  g.AddOutput(bn->output(0));
  const std::string before = g.Dump();
  EXPECT_THAT(RaiseOpset(g, 17), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("bn7")));
  EXPECT_EQ(g.Dump(), before);
  EXPECT_EQ(g.opset(), 8);
}

TEST(RaiseOpset, KeepsNodePointersValid) {
  Graph g = LoadText("net (float[2] x) => (float[2] y) { a = Clip<min = 0.0>(x) y = Neg(a) }", 9);
  const Node* neg = g.FindValue("y")->producer();
  HT_ASSERT_OK(RaiseOpset(g, 17));
  EXPECT_EQ(g.FindValue("y")->producer(), neg);
}

}  // namespace
}  // namespace halftone
