// Nodes at the edge of what a rule takes: it declines, or gets them right.
#include <gtest/gtest.h>

#include "core/exec/plan.h"
#include "core/ops/evaluate.h"
#include "tests/testing/random_tensor.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

struct Limit {
  std::string name, op;
  int opset = 20;
  Attributes attributes;
  std::vector<Tensor> inputs;
  std::vector<bool> constant;  // parallel to inputs
};

Tensor As(DataType type, const Tensor& t) { return *Convert(t, type); }

const Limit kLimits[] = {
    {"ConvOfF16",
     "Conv",
     20,
     {},
     {As(DataType::kF16, RandomF32({1, 2, 5, 5}, 1)),
      As(DataType::kF16, RandomF32({3, 2, 3, 3}, 2))},
     {false, true}},
    {"ConvTransposeOfF64",
     "ConvTranspose",
     20,
     {},
     {As(DataType::kF64, RandomF32({1, 2, 5}, 1)), As(DataType::kF64, RandomF32({2, 2, 3}, 2))},
     {false, true}},
    {"ConvOfOneColumnOfAStride",
     "Conv",
     20,
     {{"strides", std::vector<int64_t>{1, 2}}},
     {RandomF32({1, 1, 5, 4}, 1), RandomF32({3, 1, 2, 3}, 2)},
     {false, true}},
    {"ConvTransposeSplitsItsOutputPadding",
     "ConvTranspose",
     20,
     {{"strides", std::vector<int64_t>{3, 1}},
      {"output_padding", std::vector<int64_t>{2, 0}},
      {"auto_pad", std::string("SAME_UPPER")}},
     {RandomF32({1, 4, 5, 3}, 1), RandomF32({4, 2, 3, 1}, 2)},
     {false, true}},
    {"ConvTransposeToANamedShape",
     "ConvTranspose",
     20,
     {{"strides", std::vector<int64_t>{2, 2}}, {"output_shape", std::vector<int64_t>{9, 6}}},
     {RandomF32({1, 4, 5, 3}, 1), RandomF32({4, 2, 3, 3}, 2)},
     {false, true}},
    {"GemmOfF64",
     "Gemm",
     20,
     {},
     {As(DataType::kF64, RandomF32({2, 3}, 1)), As(DataType::kF64, RandomF32({3, 4}, 2))},
     {false, true}},
    {"MatMulOfIntegers",
     "MatMul",
     20,
     {},
     {Tensor::Of<int32_t>({2, 2}, {1, 2, 3, 4}), Tensor::Of<int32_t>({2, 1}, {5, 6})},
     {false, false}},
    {"ReduceMaxIgnoresAnAttributeThatIsAnInputNow",
     "ReduceMax",
     18,
     {{"axes", std::vector<int64_t>{0}}},
     {RandomF32({2, 3, 4}, 1)},
     {false}},
    {"SliceIgnoresAnAttributeThatIsAnInputNow",
     "Slice",
     13,
     {{"axes", std::vector<int64_t>{1}}},
     {RandomF32({3, 4}, 1), Tensor::Of<int64_t>({1}, {1}), Tensor::Of<int64_t>({1}, {3})},
     {false, true, true}},
    {"MulOfAConstantAndAScalar",
     "Mul",
     20,
     {},
     {Tensor::Scalar(3.0f), Tensor::Scalar(5.0f)},
     {true, false}},
    {"DequantizeByAnI8ZeroPointOfTheRequest",
     "DequantizeLinear",
     20,
     {},
     {Tensor::Of<int8_t>({2}, {-3, 100}), Tensor::Scalar(0.5f), Tensor::Scalar<int8_t>(-5)},
     {false, false, false}},
    {"OldResizeIsAsymmetric",
     "Resize",
     10,
     {{"mode", std::string("linear")}},
     {RandomF32({1, 2, 3, 4}, 1), Tensor::Of<float>({4}, {1, 1, 2, 2})},
     {false, true}},
    {"OldResizeByAScaleThatDoesNotFit",
     "Resize",
     10,
     {{"mode", std::string("nearest")}},
     {RandomF32({1, 2, 3, 3}, 1), Tensor::Of<float>({4}, {1, 1, 1, 1.25f})},
     {false, true}},
};

class LoweringLimits : public testing::TestWithParam<Limit> {};

TEST_P(LoweringLimits, AgreesWithTheReference) {
  const Limit& limit = GetParam();
  Graph g("test");
  g.opsets()[""] = limit.opset;
  NodeSpec spec = {.op = limit.op, .outputs = {"y"}, .attributes = limit.attributes};
  std::vector<Tensor> fed;
  for (size_t i = 0; i < limit.inputs.size(); ++i) {
    const Tensor& t = limit.inputs[i];
    spec.inputs.push_back(limit.constant[i] ? g.AddConstant("c", t)
                                            : g.AddInput("x", {t.type(), Symbolic(t.shape())}));
    if (!limit.constant[i]) fed.push_back(t);
  }
  g.AddOutput(g.AddNode(std::move(spec))->output(0));
  HT_ASSERT_OK(InferShapes(g));
  HT_ASSERT_OK_AND_ASSIGN(const std::vector<Tensor> want, EvaluateGraph(g, fed));
  HT_ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const Plan> plan, Plan::Create(std::move(g), {}));
  Context context(plan);
  HT_ASSERT_OK_AND_ASSIGN(const std::vector<Tensor> got, context.Run(fed));
  EXPECT_LE(Disagreement(got[0], want[0], kAccumulate), 1)
      << "got " << got[0].ToString(8) << ", want " << want[0].ToString(8);
}

INSTANTIATE_TEST_SUITE_P(All, LoweringLimits, testing::ValuesIn(kLimits),
                         [](const auto& info) { return info.param.name; });

// A file of 200 bytes may name sizes that no kernel counts.
TEST(Sizes, MoreElementsThan32BitsCountAreRefused) {
  Graph g("test");
  g.opsets()[""] = 20;
  Value* x = g.AddInput("x", {DataType::kF32, Dims{8, int64_t{1} << 31, 4, 4, 4}});
  Node* pool = g.AddNode({.op = "MaxPool",
                          .inputs = {x},
                          .outputs = {"y"},
                          .attributes = {{"kernel_shape", std::vector<int64_t>{2, 2, 2}}}});
  g.AddOutput(pool->output(0));
  ASSERT_THAT(InferShapes(g), IsOk());
  EXPECT_THAT(Plan::Create(std::move(g), {}),
              StatusIs(absl::StatusCode::kResourceExhausted, ::testing::HasSubstr("'x' has")));
}

// A loop that appends to its state, and declares that the state keeps its size.
TEST(DeclaredSizes, AModelThatIsWrongAboutThemIsToldSo) {
  const ValueType state = {DataType::kF32, Dims{1}};
  auto body = std::make_shared<Graph>("body");
  body->opsets()[""] = 20;
  body->AddInput("iteration", {DataType::kI64, Dims{}});
  Value* going = body->AddInput("going", {DataType::kBool, Dims{}});
  Value* before = body->AddInput("before", state);
  body->AddOutput(
      body->AddNode({.op = "Identity", .inputs = {going}, .outputs = {"on"}})->output(0));
  Node* append = body->AddNode({.op = "Concat",
                                .inputs = {before, before},
                                .outputs = {"after"},
                                .attributes = {{"axis", int64_t{0}}}});
  append->output(0)->set_type(state);
  body->AddOutput(append->output(0));

  Graph g("test");
  g.opsets()[""] = 20;
  Value* trips = g.AddInput("trips", {DataType::kI64, Dims{}});
  Value* x = g.AddInput("x", state);
  Node* loop = g.AddNode({.op = "Loop",
                          .inputs = {trips, nullptr, x},
                          .outputs = {"y"},
                          .attributes = {{"body", SubgraphPtr(std::move(body))}}});
  loop->output(0)->set_type(state);
  g.AddOutput(loop->output(0));
  HT_ASSERT_OK_AND_ASSIGN(const auto plan, Plan::Create(std::move(g), {}));
  Context context(plan);
  const Tensor one = RandomF32({1}, 1);
  HT_EXPECT_OK(context.Run({Tensor::Scalar<int64_t>(0), one}));
  EXPECT_THAT(context.Run({Tensor::Scalar<int64_t>(1), one}),
              StatusIs(absl::StatusCode::kInvalidArgument, ::testing::HasSubstr("the model says")));
}

}  // namespace
}  // namespace halftone
