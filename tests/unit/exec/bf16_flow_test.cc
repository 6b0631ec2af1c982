// What lies between two layers in bf16 stays bf16: no step converts it.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/exec/cpu_features.h"
#include "core/exec/kernels/swish.h"
#include "tests/unit/exec/lowering_util.h"

namespace halftone {
namespace {

const Attributes kPads1 = {{"pads", std::vector<int64_t>{1, 1, 1, 1}}};

Value* ConvBF16(Graph& g, Value* x, Shape weights, uint32_t seed,
                const Attributes& attributes = {}) {
  Tensor w = *Convert(RandomF32(weights, seed, -0.3f, 0.3f), DataType::kBF16);
  Value* wide = Apply(g, "Cast", {g.AddConstant("w", std::move(w))}, {{"to", int64_t{1}}});
  return Apply(g, "Conv", {x, wide, g.AddConstant("b", RandomF32({weights[0]}, seed + 1))},
               attributes);
}

struct Flow {
  std::string name, rule;  // of the step between the layers
  Value* (*between)(Graph& g, Value* x) = nullptr;
};

class BF16Flow : public testing::TestWithParam<Flow> {};

TEST_P(BF16Flow, StaysBF16BetweenTwoLayers) {
  Graph g = NewGraph();
  Value* x = g.AddInput("x", F32({2, 16, 12, 12}));
  Value* y = GetParam().between(g, Apply(g, "Relu", {ConvBF16(g, x, {40, 16, 3, 3}, 1, kPads1)}));
  g.AddOutput(ConvBF16(g, y, {24, 40, 1, 1}, 5));
  const bool native = DetectCpuFeatures().bf16;
  const Outcome o = Compare(std::move(g), {RandomF32({2, 16, 12, 12}, 3, -1, 1)},
                            native ? Tolerance{2e-2f, 3e-2f} : kAccumulate);
  EXPECT_LE(o.disagreement, 1) << Steps(o);
  EXPECT_TRUE(Uses(o, GetParam().rule)) << Steps(o);
  if (!native) GTEST_SKIP() << "no bf16 arithmetic";
  const auto conversions = std::count_if(o.steps.begin(), o.steps.end(),
                                         [](const StepInfo& s) { return s.op == "convert"; });
  EXPECT_EQ(conversions, 2) << "the input and the output\n" << Steps(o);
}

Value* Gate(Graph& g, Value* x) {
  return Apply(g, "Sigmoid", {ConvBF16(g, Apply(g, "GlobalAveragePool", {x}), {40, 40, 1, 1}, 9)});
}

INSTANTIATE_TEST_SUITE_P(
    Layers, BF16Flow,
    testing::Values(Flow{"MaxPool", "pool",
                         [](Graph& g, Value* x) {
                           return Apply(g, "MaxPool", {x},
                                        {{"kernel_shape", std::vector<int64_t>{2, 2}}});
                         }},
                    Flow{"AveragePool", "pool",
                         [](Graph& g, Value* x) {
                           return Apply(g, "AveragePool", {x},
                                        {{"kernel_shape", std::vector<int64_t>{3, 3}}});
                         }},
                    Flow{"Residual", "conv",
                         [](Graph& g, Value* x) {
                           return Apply(
                               g, "Relu",
                               {Apply(g, "Add", {ConvBF16(g, x, {40, 40, 3, 3}, 7, kPads1), x})});
                         }}),
    [](const auto& info) { return info.param.name; });

// oneDNN's own SiLU takes several times as long, see kernels/swish.h.
TEST(SwishPass, FollowsTheLayerInPlace) {
  for (const bool conv : {true, false}) {
    for (const bool bf16 : {true, false}) {
      Graph g = NewGraph();
      const Shape x_shape = conv ? Shape{1, 16, 12, 12} : Shape{12, 48};
      Value* x = g.AddInput("x", F32(StaticDims(x_shape)));
      Tensor weights = RandomF32(conv ? Shape{40, 16, 3, 3} : Shape{48, 40}, 1, -0.3f, 0.3f);
      Value* w = bf16 ? Apply(g, "Cast", {g.AddConstant("w", *Convert(weights, DataType::kBF16))},
                              {{"to", int64_t{1}}})
                      : g.AddConstant("w", std::move(weights));
      Value* y = Apply(g, conv ? "Conv" : "MatMul", {x, w});
      g.AddOutput(Apply(g, "Mul", {y, Apply(g, "Sigmoid", {y})}));
      const CpuFeatures features = DetectCpuFeatures();
      const bool native = bf16 && features.bf16;
      const Outcome o = Compare(std::move(g), {RandomF32(x_shape, 3, -1, 1)},
                                native ? Tolerance{2e-2f, 1e-2f} : kAccumulate);
      EXPECT_LE(o.disagreement, 1) << Steps(o);
      const bool has = HasSwish(features, native ? DataType::kBF16 : DataType::kF32);
      EXPECT_EQ(std::count_if(o.steps.begin(), o.steps.end(),
                              [](const StepInfo& s) { return s.op == "SiLU"; }),
                has ? 1 : 0)
          << Steps(o);
      EXPECT_FALSE(Uses(o, "eltwise")) << Steps(o);
      EXPECT_FALSE(Uses(o, "map")) << Steps(o);
    }
  }
}

// The gate itself is f32, for exact products.
TEST(BF16Gate, SqueezeAndExciteWidensNothingButItsGate) {
  Graph g = NewGraph();
  Value* x = g.AddInput("x", F32({2, 16, 12, 12}));
  Value* y = Apply(g, "Relu", {ConvBF16(g, x, {40, 16, 3, 3}, 1, kPads1)});
  g.AddOutput(ConvBF16(g, Apply(g, "Mul", {y, Gate(g, y)}), {24, 40, 1, 1}, 5));
  const bool native = DetectCpuFeatures().bf16;
  const Outcome o = Compare(std::move(g), {RandomF32({2, 16, 12, 12}, 3, -1, 1)},
                            native ? Tolerance{2e-2f, 3e-2f} : kAccumulate);
  EXPECT_LE(o.disagreement, 1) << Steps(o);
  EXPECT_TRUE(Uses(o, "channel_scale")) << Steps(o);
  if (!native) GTEST_SKIP() << "no bf16 arithmetic";
  int64_t converted = 0;
  for (const StepInfo& s : o.steps) converted += s.op == "convert" ? s.bytes : 0;
  // Elements of the input, of the gate, of the output: two and four bytes each.
  EXPECT_EQ(converted, 2 * (16 * 144 + 40 + 24 * 144) * 6) << Steps(o);
}

}  // namespace
}  // namespace halftone
