// Normalisations that write the 8-bit form of their result in the same pass over memory.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/exec/kernels/normalize.h"
#include "tests/unit/exec/lowering_util.h"

namespace halftone {
namespace {

constexpr float kStep = 0.03125f;

Value* Quantize(Graph& g, Value* v, DataType type, float scale, int zero_point) {
  Value* zero = g.AddConstant("z", type == DataType::kU8
                                       ? Tensor::Scalar<uint8_t>(static_cast<uint8_t>(zero_point))
                                       : Tensor::Scalar<int8_t>(static_cast<int8_t>(zero_point)));
  return Apply(g, "QuantizeLinear", {v, g.AddConstant("s", Tensor::Scalar(scale)), zero});
}

Value* LayerNorm(Graph& g, Value* x, int64_t n, bool shift) {
  std::vector<Value*> in = {x, g.AddConstant("scale", RandomF32({n}, 2))};
  if (shift) in.push_back(g.AddConstant("shift", RandomF32({n}, 3)));
  return Apply(g, "LayerNormalization", in);
}

int Count(const Outcome& o, absl::string_view rule) {
  int count = 0;
  for (const StepInfo& s : o.steps) count += s.rule == rule;
  return count;
}

TEST(QuantizedLayerNorm, IsOneStepThatAgreesWithTheReference) {
  for (const int64_t n : {1, 7, 64, 100, 2500}) {
    for (const DataType type : {DataType::kU8, DataType::kI8}) {
      for (const bool shift : {true, false}) {
        Graph g = NewGraph();
        Value* x = g.AddInput("x", F32({3, 5, n}));
        g.AddOutput(Quantize(g, LayerNorm(g, x, n, shift), type, kStep, 3));
        // One step where the product with 1 / scale falls on the other side of a tie.
        const Outcome o = Compare(std::move(g), {RandomF32({3, 5, n}, 1, -4, 9)}, {0, 1});
        EXPECT_LE(o.disagreement, 1) << n << " " << Name(type) << "\n" << Steps(o);
        EXPECT_EQ(o.steps.size(), 1u) << Steps(o);
        EXPECT_TRUE(Uses(o, "quantized_layer_norm")) << Steps(o);
      }
    }
  }
}

// The residual of a transformer reads the floats, the product behind it the bytes.
TEST(QuantizedLayerNorm, WritesTheFloatsForWhoeverReadsThem) {
  for (const bool is_output : {true, false}) {
    Graph g = NewGraph();
    Value* x = g.AddInput("x", F32({4, 48}));
    Value* norm = LayerNorm(g, x, 48, true);
    g.AddOutput(Quantize(g, norm, DataType::kU8, kStep, 130));
    g.AddOutput(is_output ? norm : Apply(g, "Add", {norm, x}));
    const Outcome o = Compare(std::move(g), {RandomF32({4, 48}, 1, -4, 9)}, kAccumulate);
    ASSERT_EQ(o.got.size(), 2u);
    EXPECT_LE(Disagreement(o.got[0], o.want[0], {0, 1}), 1) << Steps(o);
    EXPECT_LE(Disagreement(o.got[1], o.want[1], kAccumulate), 1) << Steps(o);
    EXPECT_EQ(Count(o, "quantize"), 0) << Steps(o);
    EXPECT_EQ(Count(o, "quantized_layer_norm"), 1) << Steps(o);
  }
}

// Two of them want different bytes: the second reads the floats.
TEST(QuantizedLayerNorm, LeavesASecondQuantizationToItself) {
  Graph g = NewGraph();
  Value* norm = LayerNorm(g, g.AddInput("x", F32({4, 48})), 48, true);
  g.AddOutput(Quantize(g, norm, DataType::kU8, kStep, 130));
  g.AddOutput(Quantize(g, norm, DataType::kI8, 2 * kStep, 0));
  const Outcome o = Compare(std::move(g), {RandomF32({4, 48}, 1, -4, 9)}, {0, 1});
  EXPECT_LE(o.disagreement, 1) << Steps(o);
  EXPECT_EQ(Count(o, "quantize"), 1) << Steps(o);
  EXPECT_EQ(Count(o, "quantized_layer_norm"), 1) << Steps(o);
}

TEST(QuantizedSoftmax, IsOneStepWhereNobodyReadsTheFloats) {
  for (const DataType type : {DataType::kU8, DataType::kI8}) {
    for (const int zero_point : {0, 5}) {
      for (const bool floats : {false, true}) {
        Graph g = NewGraph();
        Value* y = Apply(g, "Softmax", {g.AddInput("x", F32({2, 3, 40}))});
        g.AddOutput(Quantize(g, y, type, 1.0f / 255, zero_point));
        if (floats) g.AddOutput(y);
        const Outcome o = Compare(std::move(g), {RandomF32({2, 3, 40}, 1, -4, 4)}, {0, 1});
        EXPECT_LE(o.disagreement, 1) << Name(type) << "\n" << Steps(o);
        EXPECT_EQ(o.steps.size(), zero_point == 0 && !floats ? 1u : 2u) << Steps(o);
      }
    }
  }
}

TEST(NormalizeRowsQuantized, SaturatesAndMakesNanTheZeroPoint) {
  constexpr int64_t kRow = 40;
  std::vector<float> x(2 * kRow), scale(kRow, 1e20f);
  for (int64_t i = 0; i < 2 * kRow; ++i) x[i] = static_cast<float>(i % kRow) - 20;
  x[kRow + 1] = std::numeric_limits<float>::quiet_NaN();
  std::vector<uint8_t> q(2 * kRow);
  const RowNormalization n{.rows = 2, .channels = kRow, .scales_per_row = kRow};
  NormalizeRowsQuantized(n, x.data(), scale.data(), nullptr, nullptr, {DataType::kU8, kStep, 77},
                         q.data());
  EXPECT_EQ(q[0], 0);
  EXPECT_EQ(q[kRow - 1], 255);
  EXPECT_EQ(q[kRow], 77);
}

}  // namespace
}  // namespace halftone
