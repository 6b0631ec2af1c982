// Functions between 8-bit tensors, as a table of all cases: the same bytes as the reference
// evaluation gives, whatever the function is made of.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/unit/exec/lowering_util.h"

namespace halftone {
namespace {

Value* Scalar(Graph& g, float x) { return g.AddConstant("c", Tensor::Scalar(x)); }

using Build = std::function<Value*(Graph&, Value*)>;
struct FunctionCase {
  std::string name;
  Build build;  // of the dequantized x
  Quant from, to;
};
class ByteFunctionLowering : public testing::TestWithParam<FunctionCase> {};

Value* Silu(Graph& g, Value* x) { return Apply(g, "Mul", {x, Apply(g, "Sigmoid", {x})}); }

// Both layouts; 3·5·67·2 is no multiple of any vector.
TEST_P(ByteFunctionLowering, IsOneStepAndEqualToTheReference) {
  const FunctionCase& c = GetParam();
  for (const bool channels_last : {false, true}) {
    Graph g = NewGraph(21);
    Value* x = g.AddInput("x", F32({2, 5, 67, 3}));
    if (channels_last) {
      Tensor eye = RandomF32({5, 5, 1, 1}, 1, 0, 0);
      for (int i = 0; i < 5; ++i) eye.mutable_data<float>()[i * 6] = 1;
      x = Apply(g, "Conv", {x, g.AddConstant("eye", eye)});
    }
    Value* y = c.build(g, QuantizePair(g, x, c.from));
    const QuantConstants p = AddConstants(g, c.to);
    g.AddOutput(Apply(g, "QuantizeLinear", {y, p.scale, p.zero_point}));
    const Outcome o = Compare(std::move(g), {RandomF32({2, 5, 67, 3}, 2, -6, 6)}, kExact);
    EXPECT_LE(o.disagreement, 1) << Steps(o);
    EXPECT_TRUE(Uses(o, "byte_table")) << Steps(o);
    EXPECT_FALSE(Uses(o, "eltwise") || Uses(o, "map") || Uses(o, "dequantize")) << Steps(o);
  }
}

const Quant kSigned = {DataType::kI8, 0.0625f, -3};
INSTANTIATE_TEST_SUITE_P(
    All, ByteFunctionLowering,
    testing::Values(
        FunctionCase{"Silu", Silu, {}, {}}, FunctionCase{"SiluSigned", Silu, kSigned, kSigned},
        FunctionCase{"Tanh", [](Graph& g, Value* x) { return Apply(g, "Tanh", {x}); }, {}, kSigned},
        FunctionCase{"Gelu", [](Graph& g, Value* x) { return Apply(g, "Gelu", {x}); }, kSigned, {}},
        FunctionCase{"GeluInParts",
                     [](Graph& g, Value* x) {
                       Value* e = Apply(g, "Erf", {Apply(g, "Div", {x, Scalar(g, 1.4142135f)})});
                       Value* h = Apply(g, "Mul", {x, Apply(g, "Add", {e, Scalar(g, 1)})});
                       return Apply(g, "Mul", {h, Scalar(g, 0.5f)});
                     },
                     {},
                     {}},
        FunctionCase{"SiluWithAQuantizedGate",
                     [](Graph& g, Value* x) {
                       Value* gate =
                           QuantizePair(g, Apply(g, "Sigmoid", {x}), {DataType::kU8, 0.004f, 0});
                       return Apply(g, "Mul", {gate, x});
                     },
                     {},
                     {}},
        FunctionCase{"ReadsWhatItQuantizedItself",
                     [](Graph& g, Value* x) {
                       Value* y = Apply(g, "Relu", {x});
                       return Apply(g, "Mul", {y, QuantizePair(g, y, {DataType::kU8, 0.05f, 9})});
                     },
                     {},
                     {}},
        FunctionCase{"AnotherScale", [](Graph&, Value* x) { return x; }, {}, kSigned}),
    [](const auto& info) { return info.param.name; });

// What needs its parts stays in parts, and stays right.
TEST(ByteFunctionLowering, LeavesWhatOthersReadInBetween) {
  const std::vector<std::pair<std::string, Build>> cases = {
      {"an output of the graph",
       [](Graph& g, Value* x) {
         Value* y = Apply(g, "Tanh", {x});
         g.AddOutput(y);
         return y;
       }},
      {"another reader",
       [](Graph& g, Value* x) {
         Value* y = Apply(g, "Tanh", {x});
         g.AddOutput(Apply(g, "ReduceSum", {y}));
         return y;
       }},
      {"a constant per channel",
       [](Graph& g, Value* x) {
         return Apply(g, "Div", {x, g.AddConstant("c", RandomF32({5, 1, 1}, 4, 1, 2))});
       }},
      {"two tensors",
       [](Graph& g, Value* x) {
         Value* other = g.AddInput("other", F32({2, 5, 6, 3}));
         return Apply(g, "Sub", {x, QuantizePair(g, other, {})});
       }},
      {"another shape",
       [](Graph& g, Value* x) {
         return Apply(g, "Mul", {x, g.AddConstant("c", Tensor::Of<float>({1, 1, 1, 1, 1}, {2}))});
       }},
  };
  for (const auto& [what, build] : cases) {
    Graph g = NewGraph(21);
    Value* x = QuantizePair(g, g.AddInput("x", F32({2, 5, 6, 3})), {});
    g.AddOutput(QuantizePair(g, build(g, x), {DataType::kU8, 0.0625f, 128}));
    std::vector<Tensor> inputs = {RandomF32({2, 5, 6, 3}, 2, -4, 4)};
    if (g.inputs().size() == 2) inputs.push_back(RandomF32({2, 5, 6, 3}, 3, -4, 4));
    const Outcome o = Compare(std::move(g), inputs, {0, 0.0625f});
    EXPECT_LE(o.disagreement, 1) << what << "\n" << Steps(o);
    EXPECT_FALSE(Uses(o, "byte_table")) << what << "\n" << Steps(o);
  }
}

// Sigmoid and Mul behind an integer convolution that writes bytes: two steps.
TEST(ByteFunctionLowering, FollowsAConvolutionThatWritesBytes) {
  Graph g = NewGraph(21);
  Value* x = QuantizePair(g, g.AddInput("x", F32({1, 8, 6, 5})), {});
  Tensor weights = Tensor::Of<int8_t>({4, 8, 1, 1}, std::vector<int8_t>(32, 3));
  Value* w = Apply(g, "DequantizeLinear", {g.AddConstant("w", weights), Scalar(g, 0.03125f)});
  Value* y = QuantizePair(g, Apply(g, "Conv", {x, w}), {});
  g.AddOutput(QuantizePair(g, Silu(g, y), {}));
  const Outcome o = Compare(std::move(g), {RandomF32({1, 8, 6, 5}, 2, -4, 4)}, {0, 0.03125f});
  EXPECT_LE(o.disagreement, 1) << Steps(o);
  EXPECT_TRUE(Uses(o, "byte_table")) << Steps(o);
  EXPECT_NE(Steps(o).find("Conv+QuantizeLinear"), std::string::npos) << Steps(o);
}

}  // namespace
}  // namespace halftone
