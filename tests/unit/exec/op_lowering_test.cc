// Every rule that no multiply-accumulate node anchors, as one table, against the reference.
#include <gtest/gtest.h>

#include <functional>

#include "tests/unit/exec/lowering_util.h"

namespace halftone {
namespace {

// In both layouts: a 1×1 convolution in front makes its result channels last.

struct OpCase {
  std::string name;
  std::function<Value*(Graph&, Value*)> build;  // from an f32 [2, 8, 6, 5]
  std::string rule;                             // "" : any
};

class OpLowering : public testing::TestWithParam<OpCase> {};

Value* I64(Graph& g, std::vector<int64_t> v) {
  return g.AddConstant("i", Tensor::Of<int64_t>({static_cast<int64_t>(v.size())}, v));
}

const OpCase kOpCases[] = {
    {"LeakyRelu", [](Graph& g, Value* x) { return Apply(g, "LeakyRelu", {x}); }, "eltwise"},
    {"Tanh", [](Graph& g, Value* x) { return Apply(g, "Tanh", {x}); }, "eltwise"},
    {"Exp", [](Graph& g, Value* x) { return Apply(g, "Exp", {x}); }, "eltwise"},
    {"Abs", [](Graph& g, Value* x) { return Apply(g, "Abs", {x}); }, "eltwise"},
    {"Neg", [](Graph& g, Value* x) { return Apply(g, "Neg", {x}); }, "eltwise"},
    {"Round", [](Graph& g, Value* x) { return Apply(g, "Round", {x}); }, "eltwise"},
    {"Softplus", [](Graph& g, Value* x) { return Apply(g, "Softplus", {x}); }, "map"},
    {"HardSigmoid", [](Graph& g, Value* x) { return Apply(g, "HardSigmoid", {x}); }, "eltwise"},
    {"Elu", [](Graph& g, Value* x) { return Apply(g, "Elu", {x}); }, "eltwise"},
    {"Clip6",
     [](Graph& g, Value* x) {
       return Apply(
           g, "Clip",
           {x, g.AddConstant("l", Tensor::Scalar(0.0f)), g.AddConstant("h", Tensor::Scalar(0.5f))});
     },
     "eltwise"},
    {"ScaleByScalar",
     [](Graph& g, Value* x) {
       return Apply(g, "Mul", {g.AddConstant("c", Tensor::Scalar(3.0f)), x});
     },
     "eltwise"},
    {"AddPerChannel",
     [](Graph& g, Value* x) {
       return Apply(g, "Add", {x, g.AddConstant("c", RandomF32({8, 1, 1}, 4))});
     },
     "map"},
    {"MulByColumn",
     [](Graph& g, Value* x) {
       return Apply(g, "Mul", {g.AddConstant("c", RandomF32({6, 1}, 4)), x});
     },
     "map"},
    {"MulByChannelsAndColumns",
     [](Graph& g, Value* x) {
       return Apply(g, "Mul", {g.AddConstant("c", RandomF32({8, 1, 5}, 4)), x});
     },
     "map"},
    {"PowSquare",
     [](Graph& g, Value* x) {
       return Apply(g, "Pow", {x, g.AddConstant("c", Tensor::Scalar(2.0f))});
     },
     "map"},
    {"PRelu",
     [](Graph& g, Value* x) {
       return Apply(g, "PRelu", {x, g.AddConstant("c", RandomF32({8, 1, 1}, 4))});
     },
     "map"},
    {"SelfProduct", [](Graph& g, Value* x) { return Apply(g, "Mul", {x, x}); }, "map"},
    {"SqueezeExcite",
     [](Graph& g, Value* x) {
       return Apply(g, "Mul", {x, Apply(g, "Sigmoid", {Apply(g, "GlobalAveragePool", {x})})});
     },
     "channel_scale"},
    {"MaxPoolCeil",
     [](Graph& g, Value* x) {
       return Apply(g, "MaxPool", {x},
                    {{"kernel_shape", std::vector<int64_t>{3, 3}},
                     {"strides", std::vector<int64_t>{2, 2}},
                     {"ceil_mode", int64_t{1}}});
     },
     "pool"},
    {"AveragePoolPadded",
     [](Graph& g, Value* x) {
       return Apply(g, "AveragePool", {x},
                    {{"kernel_shape", std::vector<int64_t>{3, 3}},
                     {"pads", std::vector<int64_t>{1, 1, 1, 1}}});
     },
     "pool"},
    {"AveragePoolCountsPadding",
     [](Graph& g, Value* x) {
       return Apply(g, "AveragePool", {x},
                    {{"kernel_shape", std::vector<int64_t>{2, 3}},
                     {"pads", std::vector<int64_t>{1, 1, 0, 1}},
                     {"count_include_pad", int64_t{1}}});
     },
     "pool"},
    {"GlobalMaxPool", [](Graph& g, Value* x) { return Apply(g, "GlobalMaxPool", {x}); }, "pool"},
    {"ResizeNearest",
     [](Graph& g, Value* x) {
       return Apply(g, "Resize",
                    {x, nullptr, g.AddConstant("s", Tensor::Of<float>({4}, {1, 1, 2, 2}))},
                    {{"mode", std::string("nearest")},
                     {"coordinate_transformation_mode", std::string("asymmetric")},
                     {"nearest_mode", std::string("floor")}});
     },
     "resize"},
    {"ResizeLinear",
     [](Graph& g, Value* x) {
       return Apply(g, "Resize",
                    {x, nullptr, g.AddConstant("s", Tensor::Of<float>({4}, {1, 1, 2, 2}))},
                    {{"mode", std::string("linear")}});
     },
     "resize"},
    {"ResizeByAScaleThatDoesNotFit",  // 5 · 1.25 = 6.25: positions follow the scale, not 6 / 5
     [](Graph& g, Value* x) {
       return Apply(g, "Resize",
                    {x, nullptr, g.AddConstant("s", Tensor::Of<float>({4}, {1, 1, 1, 1.25f}))},
                    {{"mode", std::string("linear")}});
     },
     ""},
    {"SoftmaxChannels",
     [](Graph& g, Value* x) { return Apply(g, "Softmax", {x}, {{"axis", int64_t{1}}}); },
     "softmax"},
    {"LogSoftmaxLast", [](Graph& g, Value* x) { return Apply(g, "LogSoftmax", {x}); }, "softmax"},
    {"LayerNorm",
     [](Graph& g, Value* x) {
       return Apply(
           g, "LayerNormalization",
           {x, g.AddConstant("s", RandomF32({5}, 4)), g.AddConstant("b", RandomF32({5}, 5))});
     },
     "layer_norm"},
    {"Flatten", [](Graph& g, Value* x) { return Apply(g, "Flatten", {x}); }, ""},
    {"TransposeToLast",
     [](Graph& g, Value* x) {
       return Apply(g, "Transpose", {x}, {{"perm", std::vector<int64_t>{0, 2, 3, 1}}});
     },
     ""},
    {"TransposeFromLast",
     [](Graph& g, Value* x) {
       return Apply(g, "Relu",
                    {Apply(g, "Transpose", {x}, {{"perm", std::vector<int64_t>{0, 3, 1, 2}}})});
     },
     ""},
    {"TransposeAny",
     [](Graph& g, Value* x) {
       return Apply(g, "Transpose", {x}, {{"perm", std::vector<int64_t>{2, 0, 3, 1}}});
     },
     "copy"},
    {"ConcatChannels",
     [](Graph& g, Value* x) {
       return Apply(g, "Concat",
                    {x, Apply(g, "Relu", {x}), g.AddConstant("c", RandomF32({2, 3, 6, 5}, 4))},
                    {{"axis", int64_t{1}}});
     },
     "concat"},
    {"ConcatRows",
     [](Graph& g, Value* x) {
       return Apply(g, "Concat", {x, Apply(g, "Relu", {x})}, {{"axis", int64_t{-1}}});
     },
     "concat"},
    {"SliceSteps",
     [](Graph& g, Value* x) {
       return Apply(g, "Slice",
                    {x, I64(g, {-1, 1}), I64(g, {-100, 100}), I64(g, {1, 2}), I64(g, {-2, 2})});
     },
     "copy"},
    {"SplitChannels",
     [](Graph& g, Value* x) {
       Node* n = g.AddNode({.op = "Split",
                            .inputs = {x, I64(g, {3, 5})},
                            .outputs = {"a", "b"},
                            .attributes = {{"axis", int64_t{1}}}});
       g.AddOutput(n->output(0));
       return n->output(1);
     },
     "copy"},
    {"Expand",
     [](Graph& g, Value* x) {
       return Apply(g, "Expand", {Apply(g, "GlobalAveragePool", {x}), I64(g, {2, 8, 3, 4})});
     },
     "copy"},
    {"PadZeros",
     [](Graph& g, Value* x) { return Apply(g, "Pad", {x, I64(g, {0, 1, 2, 0, 0, 0, 1, 3})}); },
     "pad"},
    {"DepthToSpaceDcr",
     [](Graph& g, Value* x) { return Apply(g, "DepthToSpace", {x}, {{"blocksize", int64_t{2}}}); },
     "depth_to_space"},
    {"DepthToSpaceCrd",
     [](Graph& g, Value* x) {
       return Apply(g, "DepthToSpace", {x},
                    {{"blocksize", int64_t{2}}, {"mode", std::string("CRD")}});
     },
     "depth_to_space"},
    {"GatherChannels",
     [](Graph& g, Value* x) {
       return Apply(g, "Gather", {x, I64(g, {7, -8, 3})}, {{"axis", int64_t{1}}});
     },
     "indexed"},
    {"EqualToBool",
     [](Graph& g, Value* x) {
       return Apply(g, "Cast", {Apply(g, "Equal", {x, Apply(g, "Relu", {x})})},
                    {{"to", int64_t{1}}});
     },
     "map"},
    {"HalfThereAndBack",
     [](Graph& g, Value* x) {
       Value* y = x;
       for (const int64_t type : {10, 1, 16, 1}) y = Apply(g, "Cast", {y}, {{"to", type}});
       return y;
     },
     "map"},
    {"ThreeChannelsLast",
     [](Graph& g, Value* x) {
       Value* v = Apply(g, "Slice", {x, I64(g, {2}), I64(g, {5}), I64(g, {1})});
       return Apply(g, "Neg",
                    {Apply(g, "Transpose", {v}, {{"perm", std::vector<int64_t>{0, 2, 3, 1}}})});
     },
     "copy"},
    {"WhereNegative",
     [](Graph& g, Value* x) {
       Value* zero = g.AddConstant("z", Tensor::Scalar(0.0f));
       return Apply(g, "Where", {Apply(g, "Less", {x, zero}), zero, Apply(g, "Exp", {x})});
     },
     "map"},
    {"WhereByChannel",
     [](Graph& g, Value* x) {
       Value* c = g.AddConstant("c", RandomF32({8, 1, 1}, 4));
       return Apply(g, "Where", {Apply(g, "Greater", {x, c}), c, x});
     },
     "map"},
    {"IntegersThereAndBack",
     [](Graph& g, Value* x) {
       Value* ten = g.AddConstant("c", Tensor::Scalar(10.0f));
       Value* i = Apply(g, "Cast", {Apply(g, "Mul", {x, ten})}, {{"to", int64_t{7}}});
       Value* three = g.AddConstant("i", Tensor::Scalar<int64_t>(3));
       Value* d = Apply(g, "Add", {Apply(g, "Div", {i, three}), Apply(g, "Mod", {i, three})});
       return Apply(g, "Cast", {Apply(g, "Mul", {d, i})}, {{"to", int64_t{1}}});
     },
     "map"},
    {"LogicOfBools",
     [](Graph& g, Value* x) {
       Value* half = g.AddConstant("h", Tensor::Scalar(0.5f));
       Value* a = Apply(g, "Greater", {x, half});
       Value* n = Apply(g, "LessOrEqual", {x, Apply(g, "Neg", {half})});
       Value* both =
           Apply(g, "Xor", {Apply(g, "Or", {a, n}), Apply(g, "And", {a, Apply(g, "Not", {n})})});
       return Apply(g, "Cast", {both}, {{"to", int64_t{1}}});
     },
     "map"},
    {"MaxOfThree",
     [](Graph& g, Value* x) {
       return Apply(g, "Max",
                    {x, Apply(g, "Neg", {x}), g.AddConstant("c", RandomF32({8, 1, 1}, 4))});
     },
     "map"},
    {"ClipByValues",
     [](Graph& g, Value* x) {
       Value* high = Apply(g, "ReduceMax", {x, I64(g, {0, 1, 2, 3})}, {{"keepdims", int64_t{0}}});
       Value* half = Apply(g, "Mul", {high, g.AddConstant("h", Tensor::Scalar(0.5f))});
       return Apply(g, "Clip", {x, Apply(g, "Neg", {half}), half});
     },
     "map"},
    {"Reciprocal",
     [](Graph& g, Value* x) { return Apply(g, "Reciprocal", {Apply(g, "Exp", {x})}); }, "map"},
    {"Floor", [](Graph& g, Value* x) { return Apply(g, "Floor", {x}); }, "map"},
    {"Sign", [](Graph& g, Value* x) { return Apply(g, "Sign", {x}); }, "map"},
    {"Erf", [](Graph& g, Value* x) { return Apply(g, "Erf", {x}); }, "map"},
    {"ReduceMeanSpatial",
     [](Graph& g, Value* x) { return Apply(g, "ReduceMean", {x, I64(g, {2, 3})}); }, "reduce"},
    {"ReduceMeanSpatialDropped",
     [](Graph& g, Value* x) {
       return Apply(g, "ReduceMean", {x, I64(g, {-1, -2})}, {{"keepdims", int64_t{0}}});
     },
     "reduce"},
    {"ReduceSumChannels",
     [](Graph& g, Value* x) { return Apply(g, "ReduceSum", {x, I64(g, {1})}); }, "reduce"},
    {"ReduceMaxChannelsDropped",
     [](Graph& g, Value* x) {
       return Apply(g, "ReduceMax", {x, I64(g, {1})}, {{"keepdims", int64_t{0}}});
     },
     "reduce"},
    {"ReduceMinRowsDropped",
     [](Graph& g, Value* x) {
       return Apply(g, "ReduceMin", {x, I64(g, {2})}, {{"keepdims", int64_t{0}}});
     },
     "reduce"},
    {"ReduceL2BatchAndRow",
     [](Graph& g, Value* x) { return Apply(g, "ReduceL2", {x, I64(g, {0, 3})}); }, "reduce"},
    {"ReduceProdAll",
     [](Graph& g, Value* x) { return Apply(g, "ReduceProd", {x}, {{"keepdims", int64_t{0}}}); },
     "reduce"},
    {"ReduceSumSquareLast",
     [](Graph& g, Value* x) { return Apply(g, "ReduceSumSquare", {x, I64(g, {3})}); }, "reduce"},
    {"ReduceL2OfNoAxes",
     [](Graph& g, Value* x) {
       return Apply(g, "Relu",
                    {Apply(g, "ReduceL2", {x, g.AddConstant("a", Tensor::Of<int64_t>({0}, {}))},
                           {{"noop_with_empty_axes", int64_t{1}}})});
     },
     ""},
    {"PadReflect",
     [](Graph& g, Value* x) {
       return Apply(g, "Pad", {x, I64(g, {0, 1, 2, 0, 0, 0, 1, 3})},
                    {{"mode", std::string("reflect")}});
     },
     "indexed"},
    {"PadEdgeAndCrop",
     [](Graph& g, Value* x) {
       return Apply(g, "Pad", {x, I64(g, {0, 0, 2, -1, 0, 0, -1, 3})},
                    {{"mode", std::string("edge")}});
     },
     "indexed"},
    {"PadByOnes",
     [](Graph& g, Value* x) {
       return Apply(
           g, "Pad",
           {x, I64(g, {0, 0, 1, 1, 0, 0, 2, 0}), g.AddConstant("c", Tensor::Scalar(1.0f))});
     },
     "indexed"},
    {"Tile", [](Graph& g, Value* x) { return Apply(g, "Tile", {x, I64(g, {1, 2, 1, 3})}); },
     "indexed"},
    {"SpaceToDepth",
     [](Graph& g, Value* x) {
       Value* even = Apply(g, "Slice", {x, I64(g, {1}), I64(g, {5}), I64(g, {3})});
       return Apply(g, "SpaceToDepth", {even}, {{"blocksize", int64_t{2}}});
     },
     "indexed"},
    {"Trilu", [](Graph& g, Value* x) { return Apply(g, "Trilu", {x}); }, "indexed"},
    {"ResizeNearestAnyFactor",
     [](Graph& g, Value* x) {
       return Apply(g, "Resize",
                    {x, nullptr, g.AddConstant("s", Tensor::Of<float>({4}, {1, 1, 1.5f, 0.7f}))},
                    {{"mode", std::string("nearest")},
                     {"coordinate_transformation_mode", std::string("align_corners")},
                     {"nearest_mode", std::string("ceil")}});
     },
     "indexed"},
    {"GatherOneChannel",
     [](Graph& g, Value* x) {
       return Apply(g, "Relu",
                    {Apply(g, "Gather", {x, g.AddConstant("i", Tensor::Scalar<int64_t>(-3))},
                           {{"axis", int64_t{1}}})});
     },
     "copy"},
    {"ChannelShuffle",
     [](Graph& g, Value* x) {
       Value* v = Apply(g, "Reshape", {x, I64(g, {2, 2, 4, 6, 5})});
       v = Apply(g, "Transpose", {v}, {{"perm", std::vector<int64_t>{0, 2, 1, 3, 4}}});
       v = Apply(g, "Reshape", {v, I64(g, {2, 8, 6, 5})});
       Node* n = g.AddNode({.op = "Split",
                            .inputs = {v, I64(g, {4, 4})},
                            .outputs = {"a", "b"},
                            .attributes = {{"axis", int64_t{1}}}});
       return Apply(g, "Concat", {n->output(1), Apply(g, "Relu", {n->output(0)})},
                    {{"axis", int64_t{1}}});
     },
     "concat"},
    {"ViewsOfViews",
     [](Graph& g, Value* x) {
       Value* v = Apply(g, "Transpose", {x}, {{"perm", std::vector<int64_t>{0, 2, 3, 1}}});
       v = Apply(g, "Slice",
                 {v, I64(g, {4, 1}), I64(g, {-100, 7}), I64(g, {1, 3}), I64(g, {-2, 3})});
       v = Apply(g, "Reshape", {v, I64(g, {2, 3, 5, 2, 1})});
       v = Apply(g, "Expand", {v, I64(g, {2, 3, 5, 2, 4})});
       return Apply(g, "Neg", {Apply(g, "Reshape", {v, I64(g, {6, -1})})});
     },
     "copy"},
    {"InstanceNorm",
     [](Graph& g, Value* x) {
       return Apply(
           g, "InstanceNormalization",
           {x, g.AddConstant("s", RandomF32({8}, 4)), g.AddConstant("b", RandomF32({8}, 5))});
     },
     "row_norm"},
    {"GroupNorm",
     [](Graph& g, Value* x) {
       return Apply(
           g, "GroupNormalization",
           {x, g.AddConstant("s", RandomF32({4}, 4)), g.AddConstant("b", RandomF32({4}, 5))},
           {{"num_groups", int64_t{4}}});
     },
     "row_norm"},
    {"LayerNormOverTwoAxes",
     [](Graph& g, Value* x) {
       return Apply(g, "LayerNormalization", {x, g.AddConstant("s", RandomF32({6, 5}, 4))},
                    {{"axis", int64_t{2}}});
     },
     "row_norm"},
    {"BatchNorm",
     [](Graph& g, Value* x) {
       return Apply(g, "BatchNormalization",
                    {x, g.AddConstant("s", RandomF32({8}, 4)),
                     g.AddConstant("b", RandomF32({8}, 5)), g.AddConstant("m", RandomF32({8}, 6)),
                     g.AddConstant("v", RandomF32({8}, 7, 0.5f, 2.0f))});
     },
     "batch_norm"},
    {"ResizeLinearAlignCorners",
     [](Graph& g, Value* x) {
       return Apply(g, "Resize", {x, nullptr, nullptr, I64(g, {2, 8, 11, 3})},
                    {{"mode", std::string("linear")},
                     {"coordinate_transformation_mode", std::string("align_corners")}});
     },
     "resample"},
    {"ResizeCubic",
     [](Graph& g, Value* x) {
       return Apply(g, "Resize",
                    {x, nullptr, g.AddConstant("s", Tensor::Of<float>({4}, {1, 1, 1.5f, 0.7f}))},
                    {{"mode", std::string("cubic")}, {"antialias", int64_t{1}}});
     },
     "resample"},
    {"QuantizedAddRelu",
     [](Graph& g, Value* x) {
       Value* s = g.AddConstant("s", Tensor::Scalar(0.03125f));
       Value* z = g.AddConstant("z", Tensor::Scalar<uint8_t>(128));
       Value* d = Apply(g, "DequantizeLinear", {Apply(g, "QuantizeLinear", {x, s, z}), s, z});
       Value* e = Apply(g, "MaxPool", {d}, {{"kernel_shape", std::vector<int64_t>{1, 1}}});
       Value* f = Apply(g, "DequantizeLinear", {Apply(g, "QuantizeLinear", {e, s, z}), s, z});
       Value* y = Apply(g, "Relu", {Apply(g, "Add", {d, f})});
       return Apply(g, "DequantizeLinear", {Apply(g, "QuantizeLinear", {y, s, z}), s, z});
     },
     "quantized_add"},
    {"QuantizedSqueezeExcite",
     [](Graph& g, Value* x) {
       Value* s = g.AddConstant("s", Tensor::Scalar(0.03125f));
       Value* z = g.AddConstant("z", Tensor::Scalar<uint8_t>(128));
       Value* d = Apply(g, "DequantizeLinear", {Apply(g, "QuantizeLinear", {x, s, z}), s, z});
       Value* gate = Apply(g, "HardSigmoid", {Apply(g, "GlobalAveragePool", {d})});
       Value* y = Apply(g, "Mul", {gate, d});
       return Apply(g, "DequantizeLinear", {Apply(g, "QuantizeLinear", {y, s, z}), s, z});
     },
     "quantized_scale"},
    {"QuantizedScaleOfEveryImageAlike",
     [](Graph& g, Value* x) {
       Value* s = g.AddConstant("s", Tensor::Scalar(0.03125f));
       Value* z = g.AddConstant("z", Tensor::Scalar<int8_t>(-3));
       Value* d = Apply(g, "DequantizeLinear", {Apply(g, "QuantizeLinear", {x, s, z}), s, z});
       Value* y = Apply(g, "Mul", {d, g.AddConstant("f", RandomF32({1, 8, 1, 1}, 9))});
       return Apply(g, "DequantizeLinear", {Apply(g, "QuantizeLinear", {y, s, z}), s, z});
     },
     "quantized_scale"},
    {"GateOnTheLeft",
     [](Graph& g, Value* x) {
       return Apply(g, "Mul", {Apply(g, "HardSigmoid", {Apply(g, "GlobalAveragePool", {x})}), x});
     },
     "channel_scale"},
    {"FactorsPerChannel",
     [](Graph& g, Value* x) {
       return Apply(g, "Mul", {x, g.AddConstant("f", RandomF32({1, 8, 1, 1}, 9))});
     },
     "channel_scale"},
    {"QuantizedMean",
     [](Graph& g, Value* x) {
       Value* s = g.AddConstant("s", Tensor::Scalar(0.03125f));
       Value* z = g.AddConstant("z", Tensor::Scalar<int8_t>(-3));
       Value* d = Apply(g, "DequantizeLinear", {Apply(g, "QuantizeLinear", {x, s, z}), s, z});
       return Apply(g, "GlobalAveragePool", {d});
     },
     "quantized_mean"},
    {"QuantizedMaxPoolStaysInteger",
     [](Graph& g, Value* x) {
       Value* s = g.AddConstant("s", Tensor::Scalar(0.03125f));
       Value* z = g.AddConstant("z", Tensor::Scalar<uint8_t>(128));
       Value* d = Apply(g, "DequantizeLinear", {Apply(g, "QuantizeLinear", {x, s, z}), s, z});
       Value* p = Apply(g, "MaxPool", {d}, {{"kernel_shape", std::vector<int64_t>{2, 2}}});
       return Apply(g, "DequantizeLinear", {Apply(g, "QuantizeLinear", {p, s, z}), s, z});
     },
     "pool"},
};

TEST_P(OpLowering, AgreesWithTheReferenceInBothLayouts) {
  for (const bool channels_last : {false, true}) {
    Graph g = NewGraph();
    Value* x = g.AddInput("x", F32({2, 8, 6, 5}));
    if (channels_last) {
      Tensor eye = RandomF32({8, 8, 1, 1}, 1, 0, 0);
      for (int i = 0; i < 8; ++i) eye.mutable_data<float>()[i * 9] = 1;
      x = Apply(g, "Conv", {x, g.AddConstant("eye", eye)});
    }
    g.AddOutput(GetParam().build(g, x));
    const Outcome o = Compare(std::move(g), {RandomF32({2, 8, 6, 5}, 1, -2, 2)}, kAccumulate);
    EXPECT_LE(o.disagreement, 1) << "channels_last " << channels_last << "\n" << Steps(o);
    // Behind a convolution, activations and additions become part of it.
    if (!GetParam().rule.empty() && !channels_last) {
      EXPECT_TRUE(Uses(o, GetParam().rule)) << Steps(o);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, OpLowering, testing::ValuesIn(kOpCases),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace halftone
