// Products of two activations in 8 bits, against the reference evaluation of the same graph.
#include <gtest/gtest.h>

#include <vector>

#include "core/exec/cpu_features.h"
#include "tests/unit/exec/lowering_util.h"

namespace halftone {
namespace {

constexpr Quant kRight = {DataType::kI8, 0.03125f, 0};

std::string PrecisionOf(const Outcome& o, absl::string_view rule) {
  for (const StepInfo& s : o.steps) {
    if (s.rule == rule) return s.precision;
  }
  return "";
}

struct ProductCase {
  std::string name;
  Shape left, right;
};
class QuantizedProduct : public testing::TestWithParam<ProductCase> {};

TEST_P(QuantizedProduct, AgreesWithTheReference) {
  const ProductCase& c = GetParam();
  for (const Quant left : {Quant{}, Quant{DataType::kU8, 0.0625f, 3},
                           Quant{DataType::kI8, 0.03125f, 0}, Quant{DataType::kI8, 0.03125f, -9}}) {
    for (const bool quantize : {false, true}) {
      Graph g = NewGraph();
      Value* a = QuantizePair(g, g.AddInput("a", F32(StaticDims(c.left))), left);
      Value* b = QuantizePair(g, g.AddInput("b", F32(StaticDims(c.right))), kRight);
      Value* y = Apply(g, "MatMul", {a, b});
      y = Apply(g, "Div", {y, g.AddConstant("c", Tensor::Scalar(4.0f))});
      if (quantize) y = QuantizePair(g, y, {DataType::kU8, 0.25f, 120});
      g.AddOutput(y);
      // A quantized result may differ by one step where the sum is a tie.
      const Tolerance tolerance = quantize ? Tolerance{0, 0.25f} : kAccumulate;
      const Outcome o = Compare(
          std::move(g), {RandomF32(c.left, 1, -4, 4), RandomF32(c.right, 2, -4, 4)}, tolerance);
      EXPECT_LE(o.disagreement, 1) << Steps(o);
      if (DetectCpuFeatures().vnni && c.left.size() > 1 && c.right.size() > 1) {
        EXPECT_EQ(PrecisionOf(o, "batch_matmul"), "u8s8") << Steps(o);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, QuantizedProduct,
                         testing::Values(ProductCase{"Matrices", {5, 70}, {70, 33}},
                                         ProductCase{"OneRow", {1, 64}, {64, 40}},
                                         ProductCase{"Batches", {2, 3, 17, 20}, {2, 3, 20, 9}},
                                         ProductCase{"OneForAll", {2, 3, 17, 20}, {20, 9}},
                                         ProductCase{"Broadcast", {2, 1, 4, 16}, {1, 3, 16, 5}},
                                         ProductCase{"VectorLeft", {16}, {16, 5}},
                                         ProductCase{"VectorRight", {4, 16}, {16}}),
                         [](const auto& info) { return info.param.name; });

Value* TransposeOf(Graph& g, Value* v, std::vector<int64_t> permutation) {
  return Apply(g, "Transpose", {v}, {{"perm", std::move(permutation)}});
}

// Heads are read and written through strides, softmax writes bytes: seven steps, three of which
// quantize the inputs of the graph.
TEST(QuantizedAttention, IsThreeStepsBehindItsInputs) {
  if (!DetectCpuFeatures().vnni) GTEST_SKIP() << "integer products saturate without VNNI";
  for (const int64_t batch : {1, 2}) {
    Graph g = NewGraph();
    const Shape shape = {batch, 9, 4, 16};
    const auto heads = [&](const std::string& name, std::vector<int64_t> permutation, Quant q) {
      Value* v = QuantizePair(g, g.AddInput(name, F32(StaticDims(shape))), q);
      return QuantizePair(g, TransposeOf(g, v, std::move(permutation)), q);
    };
    Value* q = heads("q", {0, 2, 1, 3}, {});
    Value* k = heads("k", {0, 2, 3, 1}, kRight);
    Value* v = heads("v", {0, 2, 1, 3}, kRight);
    Value* s =
        Apply(g, "Div", {Apply(g, "MatMul", {q, k}), g.AddConstant("c", Tensor::Scalar(4.0f))});
    Value* p = QuantizePair(g, Apply(g, "Softmax", {s}), {DataType::kU8, 1.0f / 255, 0});
    const Quant out = {DataType::kU8, 0.015625f, 128};
    Value* a = QuantizePair(g, Apply(g, "MatMul", {p, v}), out);
    Value* merged = TransposeOf(g, a, {0, 2, 1, 3});
    Value* sizes = Apply(g, "Shape", {merged});  // as exporters compute a Reshape
    g.AddOutput(QuantizePair(g, merged, out));
    g.AddOutput(sizes);
    const Outcome o = Compare(
        std::move(g), {RandomF32(shape, 1), RandomF32(shape, 2), RandomF32(shape, 3)}, kAccumulate);
    ASSERT_EQ(o.got.size(), 2u);
    // A step of the weights here and there, then one of the result.
    EXPECT_LE(Disagreement(o.got[0], o.want[0], {0, 2 * out.scale}), 1) << Steps(o);
    int products = 0, copies = 0, softmax = 0;
    for (const StepInfo& step : o.steps) {
      products += step.rule == "batch_matmul" && step.precision == "u8s8";
      copies += step.rule == "copy";
      softmax += step.op == "Softmax+QuantizeLinear";
    }
    EXPECT_EQ(products, 2) << Steps(o);
    EXPECT_EQ(copies, 0) << Steps(o);
    EXPECT_EQ(softmax, 1) << Steps(o);
  }
}

// Nothing packs these weights: they are floats before the product reads them.
TEST(BatchMatMulLowering, ConstantBytesOfEveryBatch) {
  Graph g = NewGraph();
  Value* x = QuantizePair(g, g.AddInput("x", F32({2, 3, 8})), {});
  Value* bytes = g.AddConstant("w", RandomInts(DataType::kI8, {2, 8, 5}, 2, -127, 127));
  Value* scale = g.AddConstant("s", Tensor::Scalar(0.03125f));
  g.AddOutput(Apply(g, "MatMul", {x, Apply(g, "DequantizeLinear", {bytes, scale})}));
  const Outcome o = Compare(std::move(g), {RandomF32({2, 3, 8}, 1, -4, 4)}, kAccumulate);
  EXPECT_LE(o.disagreement, 1) << Steps(o);
  EXPECT_TRUE(Uses(o, "batch_matmul")) << Steps(o);
}

// What reads the shape alone does not keep them signed.
TEST(SignedActivations, BecomeUnsignedBesideAShape) {
  Graph g = NewGraph();
  Value* x = QuantizePair(g, g.AddInput("x", F32({6, 8})), {DataType::kI8, 0.03125f, 0});
  Value* bytes = g.AddConstant("w", RandomInts(DataType::kI8, {8, 5}, 2, -127, 127));
  Value* scale = g.AddConstant("s", Tensor::Scalar(0.03125f));
  g.AddOutput(Apply(g, "MatMul", {x, Apply(g, "DequantizeLinear", {bytes, scale})}));
  g.AddOutput(Apply(g, "Shape", {x->producer()->input(0)}));
  const Outcome o = Compare(std::move(g), {RandomF32({6, 8}, 1, -4, 4)}, kAccumulate);
  EXPECT_LE(o.disagreement, 1) << Steps(o);
  if (DetectCpuFeatures().vnni) {
    EXPECT_EQ(PrecisionOf(o, "matmul"), "u8s8") << Steps(o);
  }
}

// Its zero point would cost a correction for each column: float arithmetic.
TEST(QuantizedAttention, ARightOperandWithAZeroPointIsWidened) {
  Graph g = NewGraph();
  Value* a = QuantizePair(g, g.AddInput("a", F32({4, 16})), {});
  Value* b = QuantizePair(g, g.AddInput("b", F32({16, 8})), {DataType::kI8, 0.03125f, 100});
  g.AddOutput(Apply(g, "MatMul", {a, b}));
  const Outcome o = Compare(
      std::move(g), {RandomF32({4, 16}, 1, -4, 4), RandomF32({16, 8}, 2, -4, 4)}, kAccumulate);
  EXPECT_LE(o.disagreement, 1) << Steps(o);
  EXPECT_EQ(PrecisionOf(o, "batch_matmul"), "f32") << Steps(o);
}

}  // namespace
}  // namespace halftone
