// Convolutions and matrix products in every precision, with all that fuses, against the reference
// evaluation of the same graph.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/exec/cpu_features.h"
#include "core/ops/row_quant.h"
#include "core/ops/unpack.h"
#include "tests/unit/exec/lowering_util.h"

namespace halftone {
namespace {

// ---------------------------------------------------------------------------------------------
// Convolutions.

struct ConvCase {
  std::string name;
  Shape x, w;
  Attributes attributes = {};
};

class ConvLowering : public testing::TestWithParam<ConvCase> {};

const ConvCase kConvCases[] = {
    {"Pointwise", {2, 16, 7, 9}, {24, 16, 1, 1}},
    {"Same3x3", {1, 16, 9, 9}, {32, 16, 3, 3}, {{"pads", std::vector<int64_t>{1, 1, 1, 1}}}},
    {"FirstLayer",
     {2, 3, 15, 17},
     {8, 3, 7, 7},
     {{"pads", std::vector<int64_t>{3, 3, 3, 3}}, {"strides", std::vector<int64_t>{2, 2}}}},
    {"Depthwise",
     {1, 24, 10, 10},
     {24, 1, 3, 3},
     {{"group", int64_t{24}}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}}},
    {"DepthwiseStrided",
     {2, 24, 11, 9},
     {24, 1, 5, 5},
     {{"group", int64_t{24}},
      {"pads", std::vector<int64_t>{2, 2, 2, 2}},
      {"strides", std::vector<int64_t>{2, 2}}}},
    {"Grouped",
     {1, 32, 8, 8},
     {32, 8, 3, 3},
     {{"group", int64_t{4}}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}}},
    {"Dilated",
     {1, 16, 12, 12},
     {16, 16, 3, 3},
     {{"dilations", std::vector<int64_t>{2, 2}}, {"pads", std::vector<int64_t>{2, 2, 2, 2}}}},
    {"AsymmetricPads",
     {1, 8, 9, 9},
     {16, 8, 3, 3},
     {{"pads", std::vector<int64_t>{0, 1, 2, 1}}, {"strides", std::vector<int64_t>{2, 2}}}},
    {"SameLower", {1, 8, 8, 8}, {16, 8, 2, 2}, {{"auto_pad", std::string("SAME_LOWER")}}},
    {"OneDimensional", {2, 12, 31}, {16, 12, 5}, {{"strides", std::vector<int64_t>{3}}}},
    {"OneColumnOfAStride", {2, 1, 5, 3}, {3, 1, 2, 3}, {{"strides", std::vector<int64_t>{1, 2}}}},
    {"UnusedRows", {1, 4, 8, 8}, {4, 4, 3, 3}, {{"strides", std::vector<int64_t>{4, 4}}}},
};

Graph ConvGraph(const ConvCase& c, bool bias, const std::string& activation) {
  Graph g = NewGraph();
  Value* x = g.AddInput("x", F32(StaticDims(c.x)));
  std::vector<Value*> in = {x, g.AddConstant("w", RandomF32(c.w, 2, -0.3f, 0.3f))};
  if (bias) in.push_back(g.AddConstant("b", RandomF32({c.w[0]}, 3)));
  Value* y = Apply(g, "Conv", in, c.attributes);
  if (!activation.empty()) y = Apply(g, activation, {y});
  g.AddOutput(y);
  return g;
}

TEST_P(ConvLowering, F32AgreesWithTheReference) {
  for (const bool bias : {false, true}) {
    for (const std::string activation : {"", "Relu", "HardSwish", "Sigmoid"}) {
      const Outcome o = Compare(ConvGraph(GetParam(), bias, activation),
                                {RandomF32(GetParam().x, 1)}, kAccumulate);
      EXPECT_LE(o.disagreement, 1) << Steps(o);
      EXPECT_TRUE(Uses(o, "conv") || Uses(o, "depthwise")) << Steps(o);
    }
  }
}

TEST_P(ConvLowering, ResidualAdditionAndActivationAgree) {
  Graph g = ConvGraph(GetParam(), true, "");
  Value* y = g.outputs()[0];
  HT_ASSERT_OK(InferShapes(g));
  const Shape out = *Concrete(y->type().shape);
  Graph h = NewGraph();
  Value* x = h.AddInput("x", F32(StaticDims(GetParam().x)));
  Value* r = h.AddInput("r", F32(StaticDims(out)));
  Value* conv = Apply(h, "Conv", {x, h.AddConstant("w", RandomF32(GetParam().w, 2, -0.3f, 0.3f))},
                      GetParam().attributes);
  h.AddOutput(Apply(h, "Relu", {Apply(h, "Add", {conv, Apply(h, "Relu", {r})})}));
  const Outcome o =
      Compare(std::move(h), {RandomF32(GetParam().x, 1), RandomF32(out, 5)}, kAccumulate);
  EXPECT_LE(o.disagreement, 1) << Steps(o);
}

// fp16 and bf16 weights; int8 weights alone. The reference computes with the same widened weights.
TEST_P(ConvLowering, NarrowWeightsAgreeWithTheReference) {
  for (const std::string form : {"f16", "bf16", "i8", "i8 per tensor"}) {
    Graph g = NewGraph();
    Value* x = g.AddInput("x", F32(StaticDims(GetParam().x)));
    const Tensor w = RandomF32(GetParam().w, 2, -0.3f, 0.3f);
    Value* wide = nullptr;
    if (form[0] == 'i') {
      Value* q = g.AddConstant("q", RandomInts(DataType::kI8, GetParam().w, 4, -127, 127));
      const int64_t n = form == "i8" ? GetParam().w[0] : 1;
      const Shape scale_shape = form == "i8" ? Shape{n} : Shape{};
      wide = Apply(g, "DequantizeLinear",
                   {q, g.AddConstant("s", RandomF32(scale_shape, 5, 0.001f, 0.003f))},
                   {{"axis", int64_t{0}}});
    } else {
      const DataType type = form == "f16" ? DataType::kF16 : DataType::kBF16;
      wide = Apply(g, "Cast", {g.AddConstant("q", *Convert(w, type))}, {{"to", int64_t{1}}});
    }
    Value* bias = g.AddConstant("b", RandomF32({GetParam().w[0]}, 3));
    g.AddOutput(Apply(g, "Relu", {Apply(g, "Conv", {x, wide, bias}, GetParam().attributes)}));
    // Native bf16 arithmetic also rounds the activations and the result.
    const Tolerance tolerance =
        form == "bf16" && DetectCpuFeatures().bf16 ? Tolerance{2e-2f, 1e-3f} : kAccumulate;
    const Outcome o = Compare(std::move(g), {RandomF32(GetParam().x, 1)}, tolerance);
    EXPECT_LE(o.disagreement, 1) << form << "\n" << Steps(o);
    EXPECT_TRUE(Uses(o, "conv") || Uses(o, "pointwise") || Uses(o, "depthwise")) << form << "\n"
                                                                                 << Steps(o);
  }
}

// A matrix product reads them as they are, up to the 512 channels that oneDNN's layout holds for.
// Few of them are widened at once where there are many positions.
TEST(PointwiseLowering, HalfWeightsNeedNoWidening) {
  struct Case {
    int64_t channels, width;
    bool as_they_are;
  };
  for (const auto& [channels, width, as_they_are] :
       {Case{64, 7, false}, Case{64, 6, true}, Case{512, 7, true}, Case{600, 7, false}}) {
    const Shape in = {2, channels, 5, width}, out = {2, 80, 5, width};
    Graph g = NewGraph();
    Value* x = g.AddInput("x", F32(StaticDims(in)));
    Value* r = g.AddInput("r", F32(StaticDims(out)));
    const Tensor w = RandomF32({80, channels, 1, 1}, 2, -0.3f, 0.3f);
    Value* stored = g.AddConstant("w", *Convert(w, DataType::kF16));
    Value* y = Apply(g, "Conv",
                     {x, Apply(g, "Cast", {stored}, {{"to", int64_t{1}}}),
                      g.AddConstant("b", RandomF32({80}, 3))});
    g.AddOutput(Apply(g, "Relu", {Apply(g, "Add", {y, r})}));
    const Outcome o = Compare(std::move(g), {RandomF32(in, 1), RandomF32(out, 4)}, kAccumulate);
    EXPECT_LE(o.disagreement, 1) << Steps(o);
    if (!DetectCpuFeatures().avx512) continue;  // oneDNN has no such product
    EXPECT_EQ(Uses(o, "pointwise"), as_they_are) << channels << " " << width << Steps(o);
    EXPECT_EQ(Uses(o, "conv"), !as_they_are) << channels << " " << width << Steps(o);
  }
}

struct QuantizedConv {
  DataType activation = DataType::kU8;
  int src_zero = 0, dst_zero = 0;
  bool per_channel = true;
  bool quantize_output = true;
  std::string activation_op;
  bool residual = false;
  int weight_limit = 63;
};

// DQ(x) → Conv ← DQ(w) [→ Add DQ(r)] [→ activation] [→ Q]. Scales are powers of two, so that the
// reference's float arithmetic is exact and so is the integer result.
Graph QuantizedConvGraph(const ConvCase& c, const QuantizedConv& q, const Shape& out_shape) {
  Graph g = NewGraph();
  const bool is_unsigned = q.activation == DataType::kU8;
  const auto zero = [&](const std::string& name, int v) {
    return is_unsigned ? g.AddConstant(name, Tensor::Scalar<uint8_t>(v))
                       : g.AddConstant(name, Tensor::Scalar<int8_t>(v - 128));
  };
  const auto scale = [&](const std::string& name, float v) {
    return g.AddConstant(name, Tensor::Scalar<float>(v));
  };
  const auto qdq = [&](Value* v, const std::string& name, float s, int z) {
    Value* sv = scale(name + "_s", s);
    Value* zv = zero(name + "_z", z);
    return Apply(g, "DequantizeLinear", {Apply(g, "QuantizeLinear", {v, sv, zv}), sv, zv});
  };
  Value* x = qdq(g.AddInput("x", F32(StaticDims(c.x))), "x", 0.0625f, q.src_zero);
  const int64_t channels = c.w[0];
  std::vector<float> scales(q.per_channel ? channels : 1);
  for (size_t i = 0; i < scales.size(); ++i) scales[i] = i % 2 == 0 ? 0.015625f : 0.0078125f;
  const Shape scale_shape = q.per_channel ? Shape{channels} : Shape{};
  Value* w =
      Apply(g, "DequantizeLinear",
            {g.AddConstant("w", RandomInts(DataType::kI8, c.w, 2, -q.weight_limit, q.weight_limit)),
             g.AddConstant("ws", Tensor::Of<float>(scale_shape, scales))},
            {{"axis", int64_t{0}}});
  Tensor bias = RandomF32({channels}, 3, -2, 2);
  for (float& b : bias.mutable_data<float>()) b = std::nearbyint(b * 64) / 64;
  Value* y = Apply(g, "Conv", {x, w, g.AddConstant("b", bias)}, c.attributes);
  if (q.residual) {
    Value* r = g.AddInput("r", F32(StaticDims(out_shape)));
    y = Apply(g, "Add", {y, qdq(r, "r", 0.125f, 10)});
  }
  if (!q.activation_op.empty()) y = Apply(g, q.activation_op, {y});
  if (q.quantize_output) y = qdq(y, "y", 0.25f, q.dst_zero);
  g.AddOutput(y);
  return g;
}

bool RunsOnIntegers(const Outcome& o) {
  for (const StepInfo& s : o.steps) {
    if (s.rule == "conv" || s.rule == "depthwise" || s.rule == "matmul" || s.rule == "row_matmul") {
      return s.precision == "u8s8" && !absl::StrContains(s.implementation, "ref");
    }
  }
  return false;
}

TEST_P(ConvLowering, QuantizedAgreesWithTheReference) {
  const ConvCase& c = GetParam();
  Graph shape_graph = ConvGraph(c, false, "");
  HT_ASSERT_OK(InferShapes(shape_graph));
  const Shape out = *Concrete(shape_graph.outputs()[0]->type().shape);
  for (const DataType type : {DataType::kU8, DataType::kI8}) {
    for (const int zero : {0, 37}) {
      for (const bool per_channel : {true, false}) {
        for (const std::string act : {"", "Relu"}) {
          for (const bool residual : {false, true}) {
            for (const bool quantize_output : {true, false}) {
              const QuantizedConv q{type, zero, 120, per_channel, quantize_output, act, residual};
              std::vector<Tensor> inputs = {RandomF32(c.x, 1, -8, 8)};
              if (residual) inputs.push_back(RandomF32(out, 9, -8, 8));
              // A quantized result may differ by one step where the sum is a tie.
              const Tolerance t = quantize_output ? Tolerance{0, 0.25f} : kAccumulate;
              const Outcome o = Compare(QuantizedConvGraph(c, q, out), inputs, t);
              ASSERT_LE(o.disagreement, 1)
                  << Name(type) << " zero " << zero << " per_channel " << per_channel << " act "
                  << act << " residual " << residual << " q " << quantize_output << "\n"
                  << Steps(o);
              ASSERT_TRUE(RunsOnIntegers(o)) << Steps(o);
            }
          }
        }
      }
    }
  }
}

// 8-bit weights on a CPU whose integer kernels would saturate must not go through them.
TEST_P(ConvLowering, FullRangeWeightsNeverSaturate) {
  const ConvCase& c = GetParam();
  const QuantizedConv q{.src_zero = 0, .quantize_output = false, .weight_limit = 127};
  const Outcome o = Compare(QuantizedConvGraph(c, q, {}), {RandomF32(c.x, 1, 8, 16)}, kAccumulate);
  EXPECT_LE(o.disagreement, 1) << Steps(o);
  // Our depthwise kernels are exact on every CPU.
  EXPECT_EQ(RunsOnIntegers(o), DetectCpuFeatures().vnni || Uses(o, "depthwise")) << Steps(o);
}

TEST_P(ConvLowering, DynamicQuantizationAgreesWithTheReference) {
  const ConvCase& c = GetParam();
  Graph g = NewGraph();
  Value* x = g.AddInput("x", F32(StaticDims(c.x)));
  Node* dql = g.AddNode({.op = "DynamicQuantizeLinear", .inputs = {x}, .outputs = {"q", "s", "z"}});
  Value* dq = Apply(g, "DequantizeLinear", {dql->output(0), dql->output(1), dql->output(2)});
  Value* w = Apply(g, "DequantizeLinear",
                   {g.AddConstant("w", RandomInts(DataType::kI8, c.w, 2, -63, 63)),
                    g.AddConstant("ws", RandomF32({c.w[0]}, 4, 0.002f, 0.004f))},
                   {{"axis", int64_t{0}}});
  g.AddOutput(Apply(g, "Conv", {dq, w, g.AddConstant("b", RandomF32({c.w[0]}, 3))}, c.attributes));
  const Outcome o = Compare(std::move(g), {RandomF32(c.x, 1, -3, 5)}, kAccumulate);
  EXPECT_LE(o.disagreement, 1) << Steps(o);
  EXPECT_TRUE(RunsOnIntegers(o)) << Steps(o);
}

INSTANTIATE_TEST_SUITE_P(Shapes, ConvLowering, testing::ValuesIn(kConvCases),
                         [](const auto& info) { return info.param.name; });

TEST(ConvTransposeLowering, AgreesWithTheReference) {
  for (const int64_t group : {1, 2}) {
    Graph g = NewGraph();
    Value* x = g.AddInput("x", F32({2, 8, 5, 6}));
    Value* w = g.AddConstant("w", RandomF32({8, 6, 3, 3}, 2));
    Value* b = g.AddConstant("b", RandomF32({6 * group}, 3));
    g.AddOutput(Apply(g, "Relu",
                      {Apply(g, "ConvTranspose", {x, w, b},
                             {{"strides", std::vector<int64_t>{2, 2}},
                              {"pads", std::vector<int64_t>{1, 1, 1, 1}},
                              {"group", group},
                              {"output_padding", std::vector<int64_t>{1, 1}}})}));
    const Outcome o = Compare(std::move(g), {RandomF32({2, 8, 5, 6}, 1)}, kAccumulate);
    EXPECT_LE(o.disagreement, 1) << Steps(o);
    EXPECT_TRUE(Uses(o, "conv_transpose")) << Steps(o);
  }
}

// ---------------------------------------------------------------------------------------------
// Matrix products.

Value* QuantizedRows(Graph& g, Value* x) {
  const std::string domain(kHalftoneDomain);
  g.opsets()[domain] = kHalftoneOpset;
  Node* q = g.AddNode({.op = std::string(kDynamicQuantizeRows),
                       .domain = domain,
                       .inputs = {x},
                       .outputs = {"q", "s", "z"}});
  return g
      .AddNode({.op = std::string(kDequantizeRows),
                .domain = domain,
                .inputs = {q->output(0), q->output(1), q->output(2)},
                .outputs = {"d"}})
      ->output(0);
}

enum class MatForm { kF32, kF16, kBF16, kI8WeightOnly, kI8Static, kI8Dynamic, kI8PerRow };

TEST(MatMulLowering, EveryPrecisionAgreesWithTheReference) {
  // 513 and 784 need more than one block of k inside of oneDNN.
  for (const Shape& x_shape : {Shape{1, 64}, Shape{7, 64}, Shape{2, 5, 64}, Shape{64},
                               Shape{1, 513}, Shape{25, 784}, Shape{2, 3, 1100}}) {
    const int64_t k = x_shape.back();
    for (const MatForm form : {MatForm::kF32, MatForm::kF16, MatForm::kBF16, MatForm::kI8WeightOnly,
                               MatForm::kI8Static, MatForm::kI8Dynamic, MatForm::kI8PerRow}) {
      for (const bool gelu : {false, true}) {
        Graph g = NewGraph();
        Value* x = g.AddInput("x", F32(StaticDims(x_shape)));
        Value* w = nullptr;
        if (form == MatForm::kF32) {
          w = g.AddConstant("w", RandomF32({k, 48}, 2));
        } else if (form == MatForm::kF16 || form == MatForm::kBF16) {
          const DataType t = form == MatForm::kF16 ? DataType::kF16 : DataType::kBF16;
          w = Apply(g, "Cast", {g.AddConstant("w", *Convert(RandomF32({k, 48}, 2), t))},
                    {{"to", int64_t{1}}});
        } else {
          w = Apply(g, "DequantizeLinear",
                    {g.AddConstant("w", RandomInts(DataType::kI8, {k, 48}, 2, -63, 63)),
                     g.AddConstant("ws", RandomF32({48}, 4, 0.002f, 0.004f))},
                    {{"axis", int64_t{1}}});
        }
        Value* a = x;
        if (form == MatForm::kI8Static) {
          Value* s = g.AddConstant("s", Tensor::Scalar<float>(0.02f));
          Value* z = g.AddConstant("z", Tensor::Scalar<uint8_t>(131));
          a = Apply(g, "DequantizeLinear", {Apply(g, "QuantizeLinear", {x, s, z}), s, z});
        } else if (form == MatForm::kI8Dynamic) {
          Node* n =
              g.AddNode({.op = "DynamicQuantizeLinear", .inputs = {x}, .outputs = {"q", "s", "z"}});
          a = Apply(g, "DequantizeLinear", {n->output(0), n->output(1), n->output(2)});
        } else if (form == MatForm::kI8PerRow) {
          a = QuantizedRows(g, x);
        }
        Value* y =
            Apply(g, "Add", {Apply(g, "MatMul", {a, w}), g.AddConstant("b", RandomF32({48}, 3))});
        if (gelu) y = Apply(g, "Gelu", {y});
        g.AddOutput(y);
        const Tolerance t = form == MatForm::kBF16 && DetectCpuFeatures().bf16
                                ? Tolerance{2e-2f, 1e-3f}
                                : Tolerance{3e-5f, 1e-6f};
        const Outcome o = Compare(std::move(g), {RandomF32(x_shape, 1, -2, 2)}, t);
        EXPECT_LE(o.disagreement, 1) << static_cast<int>(form) << "\n" << Steps(o);
        EXPECT_TRUE(Uses(o, form == MatForm::kI8PerRow ? "row_matmul" : "matmul")) << Steps(o);
        if (form >= MatForm::kI8Static) {
          EXPECT_TRUE(RunsOnIntegers(o)) << Steps(o);
        }
      }
    }
  }
}

// Half-width weights beyond 512 rows: oneDNN's fast layout holds for no more, so it is several
// products, the last of which adds up, with all that is fused.
TEST(GemmLowering, HalfWeightsOfManyRowsAreASumOfParts) {
  for (const int64_t trans : {0, 1}) {
    for (const int64_t k : {512, 600, 1100}) {
      Graph g = NewGraph();
      Value* x = g.AddInput("x", F32({5, k}));
      Value* other = g.AddInput("r", F32({5, 40}));
      const Shape ws = trans != 0 ? Shape{40, k} : Shape{k, 40};
      Value* stored = g.AddConstant("w", *Convert(RandomF32(ws, 2), DataType::kF16));
      Value* y = Apply(g, "Gemm",
                       {x, Apply(g, "Cast", {stored}, {{"to", int64_t{1}}}),
                        g.AddConstant("b", RandomF32({40}, 3))},
                       {{"transB", trans}});
      g.AddOutput(Apply(g, "Relu", {Apply(g, "Add", {y, other})}));
      const Outcome o =
          Compare(std::move(g), {RandomF32({5, k}, 1), RandomF32({5, 40}, 4)}, kAccumulate);
      EXPECT_LE(o.disagreement, 1) << Steps(o);
      if (!DetectCpuFeatures().avx512) continue;  // oneDNN has no such product
      ASSERT_EQ(o.steps.size(), 1u) << Steps(o);
      EXPECT_EQ(o.steps[0].op, "Gemm+Add+Relu");
      const std::string parts = k == 512 ? "512_core" : absl::StrCat("512_core x", (k + 511) / 512);
      EXPECT_TRUE(absl::EndsWith(o.steps[0].implementation, parts)) << Steps(o);
    }
  }
}

// Few rows read weights once and widen them in registers, whatever their number; where padding to
// whole panels would be much of the work, oneDNN's product runs.
TEST(GemmLowering, FewRowsRunOnPanels) {
  for (const DataType type : {DataType::kF32, DataType::kF16, DataType::kBF16}) {
    for (const int64_t trans : {0, 1}) {
      for (const int64_t m : {1, 5, 8, 9}) {
        for (const int64_t n : {40, 60, 128}) {
          const int64_t k = 600;
          Graph g = NewGraph();
          Value* x = g.AddInput("x", F32({m, k}));
          Value* stored = g.AddConstant(
              "w", *Convert(RandomF32(trans != 0 ? Shape{n, k} : Shape{k, n}, 2), type));
          Value* w =
              type == DataType::kF32 ? stored : Apply(g, "Cast", {stored}, {{"to", int64_t{1}}});
          Value* y =
              Apply(g, "Gemm", {x, w, g.AddConstant("b", RandomF32({n}, 3))}, {{"transB", trans}});
          g.AddOutput(Apply(g, trans != 0 ? "Relu" : "Sigmoid", {y}));
          // bf16 weights compute in f32 where that is asked for.
          const Outcome o = Compare(std::move(g), {RandomF32({m, k}, 1)}, kAccumulate,
                                    {.compute = ComputeType::kF32, .max_widened_bytes = 0});
          EXPECT_LE(o.disagreement, 1) << Steps(o);
          const bool wide = type == DataType::kF32;
          const bool panels = m <= 8 && n != 40 && (!wide || DetectCpuFeatures().avx512);
          EXPECT_EQ(o.steps[0].implementation == "panels", panels) << m << " " << n << Steps(o);
          if (!panels) continue;
          EXPECT_EQ(o.steps[0].op, trans != 0 ? "Gemm+Relu" : "Gemm");
          EXPECT_EQ(o.packed_bytes, BitWidth(type) / 8 * k * ((n + 63) / 64 * 64));
          EXPECT_EQ(o.steps[0].precision,
                    wide ? "f32" : absl::StrCat(Name(type), " weights, f32 compute"));
        }
      }
    }
  }
}

// So does a convolution of one position per image, in front of which oneDNN has nothing.
TEST(PointwiseLowering, OnePositionPerImageRunsOnPanels) {
  for (const int64_t side : {1, 2}) {
    Graph g = NewGraph();
    const Shape in = {2, 600, side, side};
    Value* x = g.AddInput("x", F32(StaticDims(in)));
    Value* stored = g.AddConstant("w", *Convert(RandomF32({64, 600, 1, 1}, 2), DataType::kF16));
    Value* y = Apply(g, "Conv",
                     {x, Apply(g, "Cast", {stored}, {{"to", int64_t{1}}}),
                      g.AddConstant("b", RandomF32({64}, 3))});
    g.AddOutput(Apply(g, "Relu", {y}));
    const Outcome o = Compare(std::move(g), {RandomF32(in, 1)}, kAccumulate);
    EXPECT_LE(o.disagreement, 1) << Steps(o);
    EXPECT_EQ(o.steps[0].implementation == "panels", side == 1) << Steps(o);
  }
}

// A last layer's few weights are not worth two products in each run.
TEST(GemmLowering, FewHalfWeightsOfManyRowsAreWidenedOnce) {
  for (const int64_t n : {10, 20}) {
    Graph g = NewGraph();
    Value* x = g.AddInput("x", F32({8, 1024}));
    Value* stored = g.AddConstant("w", *Convert(RandomF32({1024, n}, 2), DataType::kF16));
    g.AddOutput(Apply(g, "Gemm", {x, Apply(g, "Cast", {stored}, {{"to", int64_t{1}}})}));
    const Outcome o = Compare(std::move(g), {RandomF32({8, 1024}, 1)}, kAccumulate);
    EXPECT_LE(o.disagreement, 1) << Steps(o);
    ASSERT_EQ(o.steps.size(), 1u) << Steps(o);
    EXPECT_EQ(o.steps[0].detail == "weights widened once", n == 10) << Steps(o);
    EXPECT_EQ(o.steps[0].precision, "f16 weights, f32 compute");
  }
}

// The product absorbs no activation; both of its readers see what it computed.
TEST(MatMulLowering, SiluBehindPackedIntegers) {
  Graph g = NewGraph();
  Value* x = g.AddInput("x", F32({2, 64}));
  Value* w = Apply(g, "DequantizeLinear",
                   {g.AddConstant("w", RandomInts(DataType::kI8, {64, 48}, 2, -63, 63)),
                    g.AddConstant("ws", RandomF32({48}, 4, 0.02f, 0.04f)),
                    g.AddConstant("wz", RandomInts(DataType::kI8, {48}, 5, -9, 9))},
                   {{"axis", int64_t{1}}});
  Value* y = Apply(g, "MatMul", {x, w});
  g.AddOutput(Apply(g, "Mul", {y, Apply(g, "Sigmoid", {y})}));
  const Outcome o = Compare(std::move(g), {RandomF32({2, 64}, 1, -2, 2)}, kAccumulate);
  EXPECT_LE(o.disagreement, 1) << Steps(o);
}

// The largest error, relative to the largest number.
double RelativeError(const Tensor& got, const Tensor& want) {
  double error = 0, largest = 0;
  for (int64_t i = 0; i < want.num_elements(); ++i) {
    const double w = want.data<float>()[i];
    error = std::max(error, std::abs(got.data<float>()[i] - w));
    largest = std::max(largest, std::abs(w));
  }
  return error / largest;
}

TEST(ComputeHint, DecidesAboutBf16WhereTheCpuHasIt) {
  for (const bool conv : {false, true}) {
    for (const bool stored_bf16 : {false, true}) {
      Graph g = NewGraph();
      const Shape x_shape = conv ? Shape{1, 32, 9, 9} : Shape{24, 96};
      const Shape w_shape = conv ? Shape{40, 32, 3, 3} : Shape{96, 40};
      Value* x = g.AddInput("x", F32(StaticDims(x_shape)));
      Tensor weights = RandomF32(w_shape, 2);
      Value* w = nullptr;
      if (stored_bf16) {
        w = Apply(g, "Cast", {g.AddConstant("w", *Convert(weights, DataType::kBF16))},
                  {{"to", int64_t{1}}});
      } else {
        w = g.AddConstant("w", weights);
      }
      Value* y = Apply(g, conv ? "Conv" : "MatMul", {x, w});
      if (!conv) y = Apply(g, "Add", {y, g.AddConstant("b", RandomF32({40}, 3))});
      g.AddOutput(Apply(g, "Relu", {y}));
      HT_ASSERT_OK(InferShapes(g, {.fold_elements = 0}));
      const std::vector<Tensor> inputs = {RandomF32(x_shape, 1, -2, 2)};
      HT_ASSERT_OK_AND_ASSIGN(const auto want, EvaluateGraph(g, inputs));
      for (const ComputeType compute :
           {ComputeType::kAuto, ComputeType::kF32, ComputeType::kTf32, ComputeType::kBF16}) {
        const bool bf16 =
            DetectCpuFeatures().bf16 &&
            (compute == ComputeType::kBF16 || (stored_bf16 && compute != ComputeType::kF32));
        HT_ASSERT_OK_AND_ASSIGN(const auto plan, Plan::Create(g.Clone(), {.compute = compute}));
        HT_ASSERT_OK_AND_ASSIGN(const auto got, Context(plan).Run(inputs));
        const double error = RelativeError(got[0], want[0]);
        HT_ASSERT_OK_AND_ASSIGN(const auto steps, plan->Describe({x_shape}));
        const bool says = std::any_of(steps.begin(), steps.end(),
                                      [](const StepInfo& s) { return s.precision == "bf16"; });
        EXPECT_EQ(says, bf16) << conv << stored_bf16 << static_cast<int>(compute);
        // 8 bits of mantissa, or 24.
        EXPECT_LT(error, bf16 ? 1e-2 : 1e-5) << conv << stored_bf16 << static_cast<int>(compute);
        EXPECT_GE(error, bf16 ? 1e-4 : 0) << "the hint had no effect";
      }
    }
  }
}

// Rows of very different sizes, one of them zero: each has a scale of its own, and all 8 bits of
// it.
TEST(MatMulLowering, RowsKeepTheirOwnScales) {
  for (const bool full_range : {false, true}) {
    Graph g = NewGraph();
    Value* x = g.AddInput("x", F32({4, 6, 64}));
    const int limit = full_range ? 127 : 63;
    Value* w = Apply(g, "DequantizeLinear",
                     {g.AddConstant("w", RandomInts(DataType::kI8, {40, 64}, 2, -limit, limit)),
                      g.AddConstant("ws", Tensor::Scalar<float>(0.003f))});
    Value* shape = g.AddConstant("shape", Tensor::Of<int64_t>({2}, {24, 64}));
    Value* rows = Apply(g, "Reshape", {x, shape});
    g.AddOutput(
        Apply(g, "Relu",
              {Apply(g, "Gemm", {QuantizedRows(g, rows), w, g.AddConstant("b", RandomF32({40}, 3))},
                     {{"transB", int64_t{1}}})}));
    Tensor input = RandomF32({4, 6, 64}, 1, -1, 3);
    auto values = input.mutable_data<float>();
    for (int r = 0; r < 24; ++r) {
      for (int i = 0; i < 64; ++i) values[r * 64 + i] *= r == 7 ? 0 : std::ldexp(1.0f, r - 12);
    }
    const Outcome o = Compare(std::move(g), {input}, kAccumulate);
    EXPECT_LE(o.disagreement, 1) << Steps(o);
    EXPECT_EQ(Uses(o, "row_matmul"), !full_range || DetectCpuFeatures().vnni) << Steps(o);
  }
}

// Operands that the integer product declines: transposed rows, no rows, rows of no numbers.
TEST(MatMulLowering, RowsThatNoKernelTakesStillCompute) {
  for (const auto& [x_shape, transposed] :
       {std::pair{Shape{8, 5}, true}, {Shape{0, 8}, false}, {Shape{3, 0}, false}}) {
    Graph g = NewGraph();
    Value* x = g.AddInput("x", F32(StaticDims(x_shape)));
    const Shape w_shape = {transposed ? 8 : x_shape[1], 6};
    Value* w = Apply(g, "DequantizeLinear",
                     {g.AddConstant("w", RandomInts(DataType::kI8, w_shape, 2, -63, 63)),
                      g.AddConstant("ws", Tensor::Scalar<float>(0.5f))});
    Value* y = Apply(g, "Gemm", {QuantizedRows(g, x), w}, {{"transA", int64_t{transposed}}});
    g.AddOutput(Apply(g, "Relu", {y}));
    const Outcome o = Compare(std::move(g), {RandomF32(x_shape, 1)}, kAccumulate);
    EXPECT_LE(o.disagreement, 1) << Steps(o);
    EXPECT_FALSE(Uses(o, "row_matmul")) << Steps(o);
  }
}

TEST(GemmLowering, TransposedWeightsAndBias) {
  for (const int64_t trans : {0, 1}) {
    Graph g = NewGraph();
    Value* x = g.AddInput("x", F32({5, 32}));
    const Shape ws = trans != 0 ? Shape{20, 32} : Shape{32, 20};
    g.AddOutput(Apply(
        g, "Relu",
        {Apply(g, "Gemm",
               {x, g.AddConstant("w", RandomF32(ws, 2)), g.AddConstant("b", RandomF32({20}, 3))},
               {{"transB", trans}})}));
    const Outcome o = Compare(std::move(g), {RandomF32({5, 32}, 1)}, kAccumulate);
    EXPECT_LE(o.disagreement, 1) << Steps(o);
    EXPECT_EQ(o.steps.size(), 1u) << Steps(o);
  }
}

TEST(BatchMatMulLowering, AttentionFoldsItsTransposes) {
  Graph g = NewGraph();
  const auto heads = [&](const std::string& name, std::vector<int64_t> perm) {
    Value* v = g.AddInput(name, F32({2, 9, 4, 16}));  // [batch, sequence, heads, depth]
    return Apply(g, "Transpose", {v}, {{"perm", std::move(perm)}});
  };
  Value* q = heads("q", {0, 2, 1, 3});
  Value* k = heads("k", {0, 2, 3, 1});
  Value* v = heads("v", {0, 2, 1, 3});
  Value* s =
      Apply(g, "Div", {Apply(g, "MatMul", {q, k}), g.AddConstant("c", Tensor::Scalar(4.0f))});
  Value* a = Apply(g, "MatMul", {Apply(g, "Softmax", {s}), v});
  g.AddOutput(Apply(g, "Transpose", {a}, {{"perm", std::vector<int64_t>{0, 2, 1, 3}}}));
  const Shape shape = {2, 9, 4, 16};
  const Outcome o = Compare(
      std::move(g), {RandomF32(shape, 1), RandomF32(shape, 2), RandomF32(shape, 3)}, kAccumulate);
  EXPECT_LE(o.disagreement, 1) << Steps(o);
  EXPECT_FALSE(Uses(o, "copy")) << Steps(o);
  EXPECT_EQ(o.steps.size(), 3u) << Steps(o);
}

// One product makes queries, keys and values; nothing is copied between it and the attention.
TEST(BatchMatMulLowering, AttentionReadsPackedProjectionsInPlace) {
  for (const int64_t batch : {1, 2}) {
    const Shape shape = {batch, 9, 32};
    Graph g = NewGraph();
    Value* x = g.AddInput("x", F32(StaticDims(shape)));
    Value* qkv = Apply(g, "MatMul", {x, g.AddConstant("w", RandomF32({32, 96}, 2))});
    Value* five = g.AddConstant("r", Tensor::Of<int64_t>({5}, {batch, 9, 3, 4, 8}));
    Value* heads = Apply(g, "Transpose", {Apply(g, "Reshape", {qkv, five})},
                         {{"perm", std::vector<int64_t>{2, 0, 3, 1, 4}}});
    const auto part = [&](int64_t i) {
      return Apply(g, "Gather", {heads, g.AddConstant("i", Tensor::Scalar<int64_t>(i))});
    };
    Value* k = Apply(g, "Transpose", {part(1)}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
    Value* s = Apply(g, "Softmax", {Apply(g, "MatMul", {part(0), k})});
    Value* a = Apply(g, "Transpose", {Apply(g, "MatMul", {s, part(2)})},
                     {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
    Value* three = g.AddConstant("r", Tensor::Of<int64_t>({3}, {batch, 9, 32}));
    g.AddOutput(
        Apply(g, "MatMul",
              {Apply(g, "Reshape", {a, three}), g.AddConstant("w", RandomF32({32, 32}, 3))}));
    const Outcome o = Compare(std::move(g), {RandomF32(shape, 1)}, kAccumulate);
    EXPECT_LE(o.disagreement, 1) << Steps(o);
    EXPECT_EQ(o.steps.size(), 5u) << Steps(o);
  }
}

// Whatever the batch: dimensions of size 1 have strides, too.
TEST(BatchMatMulLowering, TransposedOperandsOfEveryBatch) {
  for (const int64_t batch : {1, 2}) {
    for (const int64_t rows : {1, 4}) {
      Graph g = NewGraph();
      Value* a = g.AddInput("a", F32({batch, 2, rows, 3}));
      Value* b = g.AddInput("b", F32({batch, 5, 2, 3}));
      Value* swapped = Apply(g, "Transpose", {b}, {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
      Value* last = Apply(g, "Transpose", {swapped}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
      Value* product = Apply(g, "MatMul", {a, last});
      g.AddOutput(Apply(g, "MatMul", {product, swapped}));
      const Outcome o =
          Compare(std::move(g), {RandomF32({batch, 2, rows, 3}, 1), RandomF32({batch, 5, 2, 3}, 2)},
                  kAccumulate);
      EXPECT_LE(o.disagreement, 1) << batch << " " << rows << "\n" << Steps(o);
    }
  }
}

// A view whose batches lie apart times one matrix for all of them.
TEST(BatchMatMulLowering, HalvesOfRowsTimesOneMatrix) {
  for (const int64_t rows : {1, 3}) {
    Graph g = NewGraph();
    Value* x = g.AddInput("x", F32({4, 2, rows, 5}));
    Node* split =
        g.AddNode({.op = "Split",
                   .inputs = {x, g.AddConstant("sizes", Tensor::Of<int64_t>({2}, {1, 1}))},
                   .outputs = {"left", "right"},
                   .attributes = {{"axis", int64_t{1}}}});
    g.AddOutput(split->output(0));
    Value* w = g.AddConstant("w", RandomF32({1, 5, 6}, 2));
    g.AddOutput(Apply(g, "MatMul", {split->output(1), w}));
    const Outcome o = Compare(std::move(g), {RandomF32({4, 2, rows, 5}, 1)}, kAccumulate);
    EXPECT_LE(o.disagreement, 1) << rows << "\n" << Steps(o);
  }
}

// The dense copy of a view that a reshape asks for is also what later readers of the view get.
TEST(Aliasing, WorkInPlaceSparesCopiesThatOthersRead) {
  Graph g = NewGraph();
  Value* x = g.AddInput("x", F32({2, 4, 3}));
  Value* t = Apply(g, "Transpose", {x}, {{"perm", std::vector<int64_t>{1, 0, 2}}});
  Value* flat = Apply(g, "Reshape", {t, g.AddConstant("s", Tensor::Of<int64_t>({2}, {8, 3}))});
  g.AddOutput(t);
  g.AddOutput(Apply(g, "Softplus", {flat}));
  g.AddOutput(Apply(g, "Relu", {flat}));
  const Outcome o = Compare(std::move(g), {RandomF32({2, 4, 3}, 1)}, kAccumulate);
  EXPECT_LE(o.disagreement, 1) << Steps(o);
}

TEST(BatchMatMulLowering, VectorsOnEitherSide) {
  const std::vector<std::pair<Shape, Shape>> cases = {
      {{6, 5}, {5}}, {{5}, {5, 4}}, {{5}, {5}}, {{2, 6, 5}, {5}}, {{5}, {3, 5, 4}}};
  for (const auto& [left, right] : cases) {
    Graph g = NewGraph();
    Value* a = g.AddInput("a", F32(StaticDims(left)));
    Value* b = g.AddInput("b", F32(StaticDims(right)));
    g.AddOutput(Apply(g, "Relu", {Apply(g, "MatMul", {a, b})}));
    const Outcome o = Compare(std::move(g), {RandomF32(left, 1), RandomF32(right, 2)}, kAccumulate);
    EXPECT_LE(o.disagreement, 1) << Steps(o);
    EXPECT_TRUE(Uses(o, "batch_matmul")) << Steps(o);
  }
}

TEST(BatchMatMulLowering, BroadcastsBatchDimensions) {
  Graph g = NewGraph();
  Value* a = g.AddInput("a", F32({3, 1, 4, 5}));
  Value* b = g.AddInput("b", F32({2, 5, 6}));
  g.AddOutput(Apply(g, "MatMul", {a, b}));
  const Outcome o =
      Compare(std::move(g), {RandomF32({3, 1, 4, 5}, 1), RandomF32({2, 5, 6}, 2)}, kAccumulate);
  EXPECT_LE(o.disagreement, 1) << Steps(o);
}

}  // namespace
}  // namespace halftone
