// Which convolutions run on our depthwise kernels, against the reference evaluation of the
// same graph.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/exec/cpu_features.h"
#include "core/exec/kernels/depthwise/depthwise.h"
#include "core/exec/kernels/depthwise/float_depthwise.h"
#include "tests/unit/exec/lowering_util.h"

namespace halftone {
namespace {

Value* Scale(Graph& g, float s) { return g.AddConstant("s", Tensor::Scalar<float>(s)); }
// Ints without the attribute: a convolution's default.
struct Layer {
  std::string name;
  Shape x = {2, 40, 9, 11}, w = {40, 1, 3, 3};
  std::string tail;  // operators behind it, joined by +; "Silu" is x · Sigmoid(x), "Residual" Add
  Attributes attributes = {{"pads", std::vector<int64_t>{1, 1, 1, 1}}};
  bool quantized = true;  // the result
};

Value* ApplyTail(Graph& g, Value* y, absl::string_view op) {
  if (op == "Silu") return Apply(g, "Mul", {y, Apply(g, "Sigmoid", {y})});
  if (op == "Clip") return Apply(g, "Clip", {y, Scale(g, 0.0f), Scale(g, 6.0f)});
  if (op == "Residual") {
    return Apply(
        g, "Add",
        {y, QuantizePair(g, Apply(g, "Relu", {g.inputs()[0]}), {DataType::kU8, 0.0625f, 0})});
  }
  return Apply(g, std::string(op), {y});
}

// Scales are powers of two, so that the reference's sums are exact, too.
Graph MakeGraph(const Layer& l) {
  Graph g = NewGraph();
  Value* x = QuantizePair(g, g.AddInput("x", F32(StaticDims(l.x))), {DataType::kU8, 0.0625f, 37});
  Value* w = Apply(
      g, "DequantizeLinear",
      {g.AddConstant("w", RandomInts(DataType::kI8, l.w, 2, -63, 63)),
       g.AddConstant("ws", Tensor::Of<float>({l.w[0]}, std::vector<float>(l.w[0], 0.0078125f)))},
      {{"axis", int64_t{0}}});
  Attributes attributes = l.attributes;
  attributes.Set("group", l.x[1]);
  Value* y = Apply(g, "Conv", {x, w, g.AddConstant("b", RandomF32({l.w[0]}, 3))}, attributes);
  for (absl::string_view rest = l.tail; !rest.empty();) {
    const size_t end = rest.find('+');
    y = ApplyTail(g, y, rest.substr(0, end));
    rest = end == absl::string_view::npos ? "" : rest.substr(end + 1);
  }
  g.AddOutput(l.quantized ? QuantizePair(g, y, {DataType::kU8, 0.125f, 60}) : y);
  return g;
}

const StepInfo* ConvStep(const Outcome& o) {
  for (const StepInfo& s : o.steps) {
    if (s.rule == "conv" || s.rule == "depthwise") return &s;
  }
  return nullptr;
}

Outcome RunLayer(const Layer& l) {
  // A quantized result may differ by one step where the sum is a tie.
  const Tolerance tolerance = l.quantized ? Tolerance{0, 0.125f} : kAccumulate;
  return Compare(MakeGraph(l), {RandomF32(l.x, 1, -4, 8)}, tolerance);
}

std::string NameOf(const testing::TestParamInfo<Layer>& info) { return info.param.name; }

class DepthwiseLowering : public testing::TestWithParam<Layer> {};

TEST_P(DepthwiseLowering, RunsOnOurKernelWithItsWholeTail) {
  const Outcome o = RunLayer(GetParam());
  EXPECT_LE(o.disagreement, 1) << Steps(o);
  const StepInfo* step = ConvStep(o);
  ASSERT_NE(step, nullptr) << Steps(o);
  const DepthwiseIsa* isa = ChooseDepthwise(DetectCpuFeatures());
  if (isa == nullptr) GTEST_SKIP() << "no kernel of ours for this CPU";
  EXPECT_EQ(step->rule, "depthwise") << Steps(o);
  EXPECT_EQ(step->implementation, absl::StrCat("depthwise_i8:", Name(*isa)));
  EXPECT_EQ(step->precision, "u8s8");
  // x to u8, the layer, its result back to f32; layouts change around it.
  for (const StepInfo& s : o.steps) {
    EXPECT_TRUE(s.rule == "quantize" || s.rule == "depthwise" || s.rule == "dequantize" ||
                s.rule == "copy")
        << Steps(o);
  }
}

const Attributes kPads1 = {{"pads", std::vector<int64_t>{1, 1, 1, 1}}};

INSTANTIATE_TEST_SUITE_P(
    Layers, DepthwiseLowering,
    testing::Values(Layer{"Plain"}, Layer{.name = "Relu", .tail = "Relu"},
                    Layer{.name = "Clip", .tail = "Clip"},
                    Layer{.name = "HardSwish", .tail = "HardSwish"},
                    Layer{.name = "Sigmoid", .tail = "Sigmoid"},
                    Layer{.name = "Silu", .tail = "Silu"},
                    Layer{.name = "FloatResult", .quantized = false},
                    Layer{.name = "FloatSilu", .tail = "Silu", .quantized = false},
                    Layer{.name = "Strided5x5",
                          .w = {40, 1, 5, 5},
                          .tail = "Relu",
                          .attributes = {{"pads", std::vector<int64_t>{1, 2, 2, 1}},
                                         {"strides", std::vector<int64_t>{2, 2}}}},
                    Layer{.name = "SameUpper",
                          .w = {40, 1, 4, 7},
                          .attributes = {{"auto_pad", std::string("SAME_UPPER")},
                                         {"strides", std::vector<int64_t>{3, 2}}}},
                    Layer{.name = "OneDimensional",
                          .x = {2, 70, 33},
                          .w = {70, 1, 5},
                          .tail = "Relu",
                          .attributes = {{"pads", std::vector<int64_t>{4, 0}}}}),
    NameOf);

// Floats: the same layers without quantization.
struct FloatLayer {
  std::string name;
  DataType stored = DataType::kF32;  // of the weights; narrow ones are behind a Cast
  Layer layer;
};

Graph MakeFloatGraph(const FloatLayer& f) {
  const Layer& l = f.layer;
  Graph g = NewGraph();
  Value* x = g.AddInput("x", F32(StaticDims(l.x)));
  Tensor weights = RandomF32(l.w, 2, -0.5f, 0.5f);
  Value* w = f.stored == DataType::kF32
                 ? g.AddConstant("w", std::move(weights))
                 : Apply(g, "Cast", {g.AddConstant("w", *Convert(weights, f.stored))},
                         {{"to", int64_t{1}}});
  Attributes attributes = l.attributes;
  attributes.Set("group", l.x[1]);
  Value* y = Apply(g, "Conv", {x, w, g.AddConstant("b", RandomF32({l.w[0]}, 3))}, attributes);
  g.AddOutput(l.tail.empty() ? y : ApplyTail(g, y, l.tail));
  return g;
}

class FloatDepthwiseLowering : public testing::TestWithParam<FloatLayer> {};

TEST_P(FloatDepthwiseLowering, RunsOnOurKernelWithItsWholeTail) {
  const FloatLayer& f = GetParam();
  const CpuFeatures features = DetectCpuFeatures();
  const bool bf16 = f.stored == DataType::kBF16 && features.bf16;
  const DataType type = bf16 ? DataType::kBF16 : DataType::kF32;
  const Outcome o = Compare(MakeFloatGraph(f), {RandomF32(f.layer.x, 1, -2, 2)},
                            bf16 ? Tolerance{2e-2f, 2e-2f} : kAccumulate);
  EXPECT_LE(o.disagreement, 1) << Steps(o);
  const StepInfo* step = ConvStep(o);
  ASSERT_NE(step, nullptr) << Steps(o);
  if (!HasFloatDepthwise(features, type, f.layer.x[1])) GTEST_SKIP() << "not for this CPU";
  EXPECT_EQ(step->rule, "depthwise") << Steps(o);
  EXPECT_EQ(step->implementation, absl::StrCat("depthwise_", Name(type), ":avx512"));
  for (const StepInfo& s : o.steps) {
    EXPECT_TRUE(s.rule == "depthwise" || s.rule == "copy" || s.op == "convert") << Steps(o);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layers, FloatDepthwiseLowering,
    testing::Values(FloatLayer{"F32"}, FloatLayer{"F32Silu", DataType::kF32, {.tail = "Silu"}},
                    FloatLayer{"F32Clip", DataType::kF32, {.tail = "Clip"}},
                    FloatLayer{"F16", DataType::kF16, {.tail = "HardSwish"}},
                    FloatLayer{"BF16", DataType::kBF16, {.tail = "Relu"}},
                    FloatLayer{"BF16Silu", DataType::kBF16, {.tail = "Silu"}},
                    FloatLayer{"Strided5x5",
                               DataType::kBF16,
                               {.w = {40, 1, 5, 5},
                                .tail = "Sigmoid",
                                .attributes = {{"pads", std::vector<int64_t>{1, 2, 2, 1}},
                                               {"strides", std::vector<int64_t>{2, 2}}}}},
                    FloatLayer{"OneDimensional",
                               DataType::kF32,
                               {.x = {2, 70, 33},
                                .w = {70, 1, 5},
                                .attributes = {{"pads", std::vector<int64_t>{4, 0}}}}}),
    [](const auto& info) { return info.param.name; });

TEST(NoFloatDepthwiseLowering, IsLeftToTheOtherRule) {
  for (const FloatLayer& f :
       {FloatLayer{"FewChannels", DataType::kF32, {.x = {1, 12, 9, 9}, .w = {12, 1, 3, 3}}},
        FloatLayer{"Tanh", DataType::kF32, {.tail = "Tanh"}},
        FloatLayer{"Dilated",
                   DataType::kF32,
                   {.attributes = {{"dilations", std::vector<int64_t>{2, 2}}}}}}) {
    const Outcome o = Compare(MakeFloatGraph(f), {RandomF32(f.layer.x, 1, -2, 2)}, kAccumulate);
    EXPECT_LE(o.disagreement, 1) << Steps(o);
    ASSERT_NE(ConvStep(o), nullptr) << Steps(o);
    EXPECT_EQ(ConvStep(o)->rule, "conv") << f.name << Steps(o);
  }
}

class NotDepthwiseLowering : public testing::TestWithParam<Layer> {};

TEST_P(NotDepthwiseLowering, IsLeftToTheOtherRule) {
  const Outcome o = RunLayer(GetParam());
  EXPECT_LE(o.disagreement, 1) << Steps(o);
  const StepInfo* step = ConvStep(o);
  ASSERT_NE(step, nullptr) << Steps(o);
  EXPECT_EQ(step->rule, "conv") << Steps(o);
}

INSTANTIATE_TEST_SUITE_P(
    Layers, NotDepthwiseLowering,
    testing::Values(
        Layer{.name = "Residual", .tail = "Residual"},
        Layer{.name = "TwoActivations", .tail = "Relu+Sigmoid"},
        Layer{.name = "Tanh", .tail = "Tanh"},
        Layer{.name = "TwoOutputsPerChannel", .w = {80, 1, 3, 3}},
        Layer{.name = "Large", .w = {40, 1, 8, 3}},
        Layer{.name = "Dilated", .attributes = {{"dilations", std::vector<int64_t>{2, 2}}}},
        Layer{.name = "StrideOfThree", .attributes = {{"strides", std::vector<int64_t>{1, 3}}}}),
    NameOf);

// Two shapes of one plan.
TEST(DepthwiseWeightsOfAPlan, ArePackedOnce) {
  const DepthwiseIsa* isa = ChooseDepthwise(DetectCpuFeatures());
  if (isa == nullptr) GTEST_SKIP() << "no kernel of ours for this CPU";
  Layer l{"Dynamic"};
  Graph g = MakeGraph(l);
  ValueType type = g.inputs()[0]->type();
  (*type.shape)[2] = Dim("height");
  g.inputs()[0]->set_type(type);
  HT_ASSERT_OK(InferShapes(g));
  HT_ASSERT_OK_AND_ASSIGN(const auto plan, Plan::Create(std::move(g), {}));
  Context context(plan);
  HT_ASSERT_OK(context.Run({RandomF32({2, 40, 9, 11}, 1)}).status());
  const int64_t packed = plan->memory().packed_bytes;
  EXPECT_EQ(packed,
            DepthwiseWeights::Pack(*isa, std::vector<int8_t>(360).data(), 40, 3, 3)->bytes());
  HT_ASSERT_OK(context.Run({RandomF32({2, 40, 17, 11}, 1)}).status());
  EXPECT_EQ(plan->memory().packed_bytes, packed);
}

}  // namespace
}  // namespace halftone
