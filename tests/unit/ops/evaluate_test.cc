// Whole graphs: inference, folding of shape arithmetic, nested graphs, and errors that files can
// cause.
#include "core/ops/evaluate.h"

#include <gmock/gmock.h>

#include <memory>

#include "tests/testing/status_matchers.h"
#include "tests/unit/ops/ops_testing.h"

namespace halftone {
namespace {

using testing::HasSubstr;
using Ints = std::vector<int64_t>;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

Graph NewGraph(int opset = 17) {
  Graph g("test");
  g.opsets()[""] = opset;
  return g;
}

Value* Add(Graph& g, std::string op, std::vector<Value*> inputs, Attributes attributes = {}) {
  NodeSpec spec = {.op = std::move(op), .inputs = std::move(inputs)};
  spec.attributes = std::move(attributes);
  spec.outputs = {absl::StrCat("v", g.values().size())};
  return g.AddNode(std::move(spec))->output(0);
}

// x → Reshape(x, [dim 0 of x, -1]), the shape computed as exporters write it.
Graph FlattenByShapeArithmetic(ValueType input) {
  Graph g = NewGraph();
  Value* x = g.AddInput("x", std::move(input));
  Value* batch = Add(g, "Gather", {Add(g, "Shape", {x}), g.AddConstant("zero", I({}, {0}))});
  Value* axes = g.AddConstant("axes", I({1}, {0}));
  Value* shape =
      Add(g, "Concat", {Add(g, "Unsqueeze", {batch, axes}), g.AddConstant("rest", I({1}, {-1}))},
          {{"axis", int64_t{0}}});
  g.AddOutput(Add(g, "Reshape", {x, shape}));
  return g;
}

TEST(InferShapes, ShapeArithmeticOfStaticShapesBecomesConstant) {
  Graph g = FlattenByShapeArithmetic({DataType::kF32, Dims{4, 3, 5}});
  HT_ASSERT_OK(InferShapes(g));
  HT_ASSERT_OK(g.Verify());
  EXPECT_EQ(ToString(g.outputs()[0]->type()), "f32[4,15]");
  ASSERT_EQ(g.nodes().size(), 1u);
  ASSERT_TRUE(g.nodes()[0]->input(1)->is_constant());
  EXPECT_THAT(g.nodes()[0]->input(1)->constant().data<int64_t>(), testing::ElementsAre(4, -1));
}

TEST(InferShapes, ASymbolicBatchSurvivesShapeArithmetic) {
  Graph g = FlattenByShapeArithmetic({DataType::kF32, Dims{Dim("batch"), 3, 5}});
  HT_ASSERT_OK(InferShapes(g));
  EXPECT_EQ(ToString(g.outputs()[0]->type()), "f32[batch,15]");
}

TEST(InferShapes, KnownElementsOfASymbolicShapeFold) {
  Graph g = NewGraph();
  Value* x = g.AddInput("x", {DataType::kF32, Dims{Dim("batch"), 3}});
  Value* channels = Add(g, "Gather", {Add(g, "Shape", {x}), g.AddConstant("one", I({}, {1}))});
  Value* twice = Add(g, "Mul", {channels, g.AddConstant("two", I({}, {2}))});
  Value* user =
      Add(g, "ConstantOfShape", {Add(g, "Unsqueeze", {twice, g.AddConstant("a", I({1}, {0}))})});
  g.AddOutput(Add(g, "Identity", {user}));
  HT_ASSERT_OK(InferShapes(g));
  EXPECT_EQ(ToString(g.outputs()[0]->type()), "f32[6]");
}

TEST(InferShapes, AReshapeOfKnownRankKeepsTheRank) {
  Graph g = NewGraph();
  Value* x = g.AddInput("x", {DataType::kF32, std::nullopt});
  Value* shape = g.AddInput("shape", {DataType::kI64, Dims{3}});
  g.AddOutput(Add(g, "Reshape", {x, shape}));
  HT_ASSERT_OK(InferShapes(g));
  EXPECT_EQ(ToString(g.outputs()[0]->type()), "f32[?,?,?]");
}

TEST(InferShapes, KeepsWhatTheFileSaidWhereItKnowsLess) {
  Graph g = NewGraph();
  Value* x = g.AddInput("x", {DataType::kF32, std::nullopt});
  Value* shape = g.AddInput("shape", {DataType::kI64, Dims{2}});
  Value* y = Add(g, "Reshape", {x, shape});
  y->set_type({DataType::kF32, Dims{7, Dim("n")}});
  g.AddOutput(y);
  HT_ASSERT_OK(InferShapes(g));
  EXPECT_EQ(ToString(y->type()), "f32[7,n]");
}

TEST(InferShapes, InfersAgainForConcreteInputs) {
  Graph g = FlattenByShapeArithmetic({DataType::kF32, Dims{Dim("batch"), 3, 5}});
  HT_ASSERT_OK(InferShapes(g));
  Graph concrete = g.Clone();
  concrete.inputs()[0]->set_type({DataType::kF32, Dims{8, 3, 5}});
  HT_ASSERT_OK(InferShapes(concrete));
  EXPECT_EQ(ToString(concrete.outputs()[0]->type()), "f32[8,15]");
}

TEST(InferShapes, DoesNotFoldStoredWeights) {
  Graph g = NewGraph();
  Value* q = g.AddConstant("q", I8({2}, {1, 2}));
  Value* scale = g.AddConstant("scale", F({}, {0.5f}));
  g.AddOutput(Add(g, "Identity", {Add(g, "DequantizeLinear", {q, scale})}));
  HT_ASSERT_OK(InferShapes(g));
  EXPECT_EQ(g.nodes().size(), 2u);
}

TEST(InferShapes, FoldsNothingLargerThanTheLimit) {
  Graph g = NewGraph();
  Value* shape = g.AddConstant("shape", I({1}, {5000}));
  g.AddOutput(Add(g, "Identity", {Add(g, "ConstantOfShape", {shape})}));
  HT_ASSERT_OK(InferShapes(g));
  EXPECT_EQ(g.nodes().size(), 2u);
}

TEST(InferShapes, NamesTheNodeOfAMistake) {
  Graph g = NewGraph();
  Value* a = g.AddInput("a", {DataType::kF32, Dims{2, 3}});
  Value* b = g.AddInput("b", {DataType::kF32, Dims{2, 3}});
  g.AddNode({.op = "MatMul", .name = "fc", .inputs = {a, b}, .outputs = {"y"}});
  EXPECT_THAT(InferShapes(g), StatusIs(kInvalid, HasSubstr("MatMul 'fc': ")));
}

TEST(InferShapes, UnknownOperatorsAreUnimplemented) {
  Graph g = NewGraph();
  Value* x = g.AddInput("x", {DataType::kF32, Dims{1}});
  g.AddOutput(Add(g, "Frobnicate", {x}));
  EXPECT_THAT(InferShapes(g), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("Frobnicate")));
}

TEST(InferShapes, ANamedOutputShapeOfConvTransposeNeedsNoInputSize) {
  Graph g = NewGraph();
  Value* x = g.AddInput("x", {DataType::kF32, Dims{Dim("batch"), 1, Dim("h"), Dim("w")}});
  Value* w = g.AddInput("w", {DataType::kF32, Dims{1, 2, 3, 3}});
  g.AddOutput(
      Add(g, "ConvTranspose", {x, w}, {{"output_shape", Ints{10, 8}}, {"strides", Ints{3, 2}}}));
  HT_ASSERT_OK(InferShapes(g));
  EXPECT_EQ(ToString(g.outputs()[0]->type()), "f32[batch,2,10,8]");
}

TEST(InferShapes, ResizeKeepsTheAxesThatItDoesNotNameAndTheSizesThatItKnows) {
  Graph g = NewGraph(18);
  Value* x = g.AddInput("x", {DataType::kF32, Dims{Dim("batch"), 3, Dim("h"), Dim("w")}});
  Value* sizes = g.AddInput("sizes", {DataType::kI64, Dims{2}});
  const Attributes last = {{"axes", Ints{3, -2}}};
  g.AddOutput(Add(g, "Resize", {x, nullptr, nullptr, sizes}, last));
  g.AddOutput(
      Add(g, "Resize", {x, nullptr, nullptr, g.AddConstant("known", I({2}, {7, 5}))}, last));
  g.AddOutput(Add(g, "Resize", {x, nullptr, g.AddConstant("scales", F({2}, {1, 2}))}, last));
  HT_ASSERT_OK(InferShapes(g));
  EXPECT_EQ(ToString(g.outputs()[0]->type()), "f32[batch,3,?,?]");
  EXPECT_EQ(ToString(g.outputs()[1]->type()), "f32[batch,3,5,7]");
  EXPECT_EQ(ToString(g.outputs()[2]->type()), "f32[batch,3,?,w]");
}

TEST(InferShapes, ConvolutionsKeepSymbolicSizesThatTheyDoNotChange) {
  Graph g = NewGraph();
  Value* x = g.AddInput("x", {DataType::kF32, Dims{Dim("n"), 1, Dim("h"), Dim("w")}});
  HT_ASSERT_OK_AND_ASSIGN(const Tensor weights, Tensor::Create(DataType::kF32, {4, 1, 3, 3}));
  g.AddOutput(Add(g, "Conv", {x, g.AddConstant("w", weights)}, {{"pads", Ints{1, 0, 1, 0}}}));
  HT_ASSERT_OK(InferShapes(g));
  EXPECT_EQ(ToString(g.outputs()[0]->type()), "f32[n,4,h,?]");
}

// --- nested graphs -------------------------------------------------------------------------------

// A branch that captures one value and applies `op` to it.
SubgraphPtr Branch(std::string op) {
  Graph g = NewGraph();
  Value* x = g.AddInput("x", {});
  g.AddOutput(Add(g, std::move(op), {x}));
  return std::make_shared<const Graph>(std::move(g));
}

Graph IfGraph() {
  Graph g = NewGraph();
  Value* condition = g.AddInput("condition", {DataType::kBool, Dims{}});
  Value* x = g.AddInput("x", {DataType::kF32, Dims{2}});
  NodeSpec spec = {.op = "If", .inputs = {condition, x}, .outputs = {"y"}, .num_captures = 1};
  spec.attributes = {{"then_branch", Branch("Neg")}, {"else_branch", Branch("Identity")}};
  g.AddOutput(g.AddNode(std::move(spec))->output(0));
  return g;
}

TEST(NestedGraphs, IfRunsTheBranchThatTheConditionNames) {
  Graph g = IfGraph();
  HT_ASSERT_OK(InferShapes(g));
  EXPECT_EQ(ToString(g.outputs()[0]->type()), "f32[2]");
  HT_ASSERT_OK_AND_ASSIGN(const auto yes, EvaluateGraph(g, {B({}, {true}), F({2}, {1, 2})}));
  EXPECT_THAT(yes[0].data<float>(), testing::ElementsAre(-1, -2));
  HT_ASSERT_OK_AND_ASSIGN(const auto no, EvaluateGraph(g, {B({}, {false}), F({2}, {1, 2})}));
  EXPECT_THAT(no[0].data<float>(), testing::ElementsAre(1, 2));
}

// Adds a captured step to a state, and gives each state as a slice.
TEST(NestedGraphs, LoopCarriesStatesAndStacksSlices) {
  Graph body = NewGraph();
  body.AddInput("trip", {DataType::kI64, Dims{}});
  Value* going = body.AddInput("going", {DataType::kBool, Dims{}});
  Value* state = body.AddInput("state", {});
  Value* step = body.AddInput("step", {});
  Value* next = Add(body, "Add", {state, step});
  body.AddOutput(Add(body, "Identity", {going}));
  body.AddOutput(next);
  body.AddOutput(next);
  Graph g = NewGraph();
  Value* trips = g.AddInput("trips", {DataType::kI64, Dims{}});
  Value* start = g.AddInput("start", {DataType::kF32, Dims{1}});
  Value* by = g.AddInput("by", {DataType::kF32, Dims{1}});
  NodeSpec spec = {.op = "Loop",
                   .inputs = {trips, nullptr, start, by},
                   .outputs = {"last", "all"},
                   .num_captures = 1};
  spec.attributes = {{"body", SubgraphPtr(std::make_shared<const Graph>(std::move(body)))}};
  const Node* node = g.AddNode(std::move(spec));
  for (Value* v : node->outputs()) g.AddOutput(v);
  HT_ASSERT_OK(InferShapes(g));
  HT_ASSERT_OK_AND_ASSIGN(const auto got, EvaluateGraph(g, {I({}, {3}), F({1}, {1}), F({1}, {2})}));
  EXPECT_THAT(got[0].data<float>(), testing::ElementsAre(7));
  EXPECT_EQ(got[1].shape(), Shape({3, 1}));
  EXPECT_THAT(got[1].data<float>(), testing::ElementsAre(3, 5, 7));
}

TEST(NestedGraphs, AMissingBranchIsAnError) {
  Graph g = IfGraph();
  g.nodes()[0]->attributes().Erase("else_branch");
  EXPECT_THAT(InferShapes(g), StatusIs(kInvalid, HasSubstr("else_branch")));
}

// --- evaluation ----------------------------------------------------------------------------------

TEST(EvaluateGraph, ChecksTheNumberAndTypesOfInputs) {
  const Graph g = IfGraph();
  EXPECT_THAT(EvaluateGraph(g, {}), StatusIs(kInvalid, HasSubstr("want 2")));
  EXPECT_THAT(EvaluateGraph(g, {F({}, {1}), F({2}, {1, 2})}),
              StatusIs(kInvalid, HasSubstr("bool")));
}

struct BadCase {
  std::string name;
  NodeCase node;
  std::string message;
  absl::StatusCode code = kInvalid;
};
class BadNode : public testing::TestWithParam<BadCase> {};

TEST_P(BadNode, IsAnErrorThatSaysWhatIsWrong) {
  EXPECT_THAT(Evaluate(GetParam().node), StatusIs(GetParam().code, HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Files, BadNode,
    testing::Values(
        BadCase{
            "GatherOutOfRange", {"", "Gather", 13, {}, {F({2}, {1, 2}), I({1}, {2})}}, "index 2"},
        BadCase{"GatherNdOutOfRange",
                {"", "GatherND", 13, {}, {F({2}, {1, 2}), I({1, 1}, {-3})}},
                "index -3"},
        BadCase{"ScatterShapeMismatch",
                {"", "ScatterND", 13, {}, {F({2}, {1, 2}), I({1, 1}, {0}), F({2}, {1, 2})}},
                "updates"},
        BadCase{"ReshapeToOtherCount",
                {"", "Reshape", 13, {}, {F({2}, {1, 2}), I({1}, {3})}},
                "reshape"},
        BadCase{"ReshapeWithTwoUnknowns",
                {"", "Reshape", 13, {}, {F({2}, {1, 2}), I({2}, {-1, -1})}},
                "-1"},
        BadCase{"HugeConstantOfShape",
                {"", "ConstantOfShape", 9, {}, {I({2}, {int64_t{1} << 20, int64_t{1} << 20})}},
                "limit",
                absl::StatusCode::kResourceExhausted},
        BadCase{"OverflowingConstantOfShape",
                {"", "ConstantOfShape", 9, {}, {I({2}, {int64_t{1} << 62, 8})}},
                ""},
        BadCase{"NegativeSize", {"", "Expand", 13, {}, {F({1}, {1}), I({1}, {-2})}}, "-2"},
        BadCase{"ZeroStride",
                {"", "Conv", 13, {{"strides", Ints{0}}}, {F({1, 1, 1}, {1}), F({1, 1, 1}, {1})}},
                "strides"},
        BadCase{"KernelLargerThanData",
                {"", "Conv", 13, {}, {F({1, 1, 1}, {1}), F({1, 1, 2}, {1, 1})}},
                "does not fit"},
        BadCase{"ZeroGroups",
                {"", "Conv", 13, {{"group", int64_t{0}}}, {F({1, 1, 1}, {1}), F({1, 1, 1}, {1})}},
                "group"},
        BadCase{"WrongChannels",
                {"", "Conv", 13, {}, {F({1, 2, 1}, {1, 1}), F({1, 1, 1}, {1})}},
                "channels"},
        BadCase{
            "EndlessRange", {"", "Range", 13, {}, {I({}, {0}), I({}, {1}), I({}, {0})}}, "range"},
        BadCase{"ZeroSliceStep",
                {"",
                 "Slice",
                 13,
                 {},
                 {F({1}, {1}), I({1}, {0}), I({1}, {1}), I({1}, {0}), I({1}, {0})}},
                "step"},
        BadCase{
            "SplitOfWrongTotal", {"", "Split", 13, {}, {F({3}, {1, 2, 3}), I({1}, {2})}}, "split"},
        BadCase{"BadPermutation",
                {"", "Transpose", 13, {{"perm", Ints{0, 0}}}, {F({1, 1}, {1})}},
                "perm"},
        BadCase{"AxisOutOfRange",
                {"", "Softmax", 13, {{"axis", int64_t{2}}}, {F({1, 1}, {1})}},
                "axis 2"},
        BadCase{"TopKBeyondTheAxis", {"", "TopK", 11, {}, {F({1}, {1}), I({1}, {2})}}, "k is 2"},
        BadCase{"ScalesOfWrongLength",
                {"", "QuantizeLinear", 13, {}, {F({1, 2}, {1, 2}), F({3}, {1, 1, 1})}},
                "3"},
        BadCase{"UnknownCastType", {"", "Cast", 13, {{"to", int64_t{99}}}, {F({1}, {1})}}, "99"},
        BadCase{"EinsumOfWrongRank",
                {"", "Einsum", 13, {{"equation", std::string("ij->i")}}, {F({1}, {1})}},
                "rank"},
        BadCase{
            "ResizeByZero", {"", "Resize", 13, {}, {F({1}, {1}), Tensor(), F({1}, {0})}}, "scale"},
        BadCase{"MissingInput", {"", "MatMul", 13, {}, {F({1}, {1}), Tensor()}}, "absent"},
        BadCase{"TooManyInputs", {"", "Relu", 13, {}, {F({1}, {1}), F({1}, {1})}}, "inputs"},
        BadCase{"StringlyWrongType", {"", "Relu", 13, {}, {B({1}, {true})}}, "bool"}),
    [](const testing::TestParamInfo<BadCase>& info) { return info.param.name; });

}  // namespace
}  // namespace halftone
