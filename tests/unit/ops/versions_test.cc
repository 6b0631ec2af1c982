// Small cases for the rows that families_test.cc leaves out: functions of one number, and the forms
// that operators had in older opsets.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "core/graph/graph.h"
#include "tests/unit/ops/ops_testing.h"

namespace halftone {
namespace {

using Ints = std::vector<int64_t>;
constexpr float kPi = std::numbers::pi_v<float>;
constexpr float kE = std::numbers::e_v<float>;

struct Point {
  const char* op;
  int opset;
  float x, y;
};
constexpr Point kPoints[] = {
    {"Abs", 13, -2, 2},
    {"Sign", 13, -3, -1},
    {"Floor", 13, -1.5f, -2},
    {"Ceil", 13, -1.5f, -1},
    {"Sqrt", 13, 9, 3},
    {"Reciprocal", 13, 4, 0.25f},
    {"Log", 13, kE, 1},
    {"Erf", 13, 1, 0.842700793f},
    {"Sin", 7, kPi / 2, 1},
    {"Cos", 7, kPi, -1},
    {"Tan", 7, kPi / 4, 1},
    {"Asin", 7, 1, kPi / 2},
    {"Acos", 7, -1, kPi},
    {"Atan", 7, 1, kPi / 4},
    {"Sinh", 9, 1, 1.17520119f},
    {"Cosh", 9, 1, 1.54308063f},
    {"Asinh", 9, 1.17520119f, 1},
    {"Acosh", 9, 1.54308063f, 1},
    {"Atanh", 9, 0.761594156f, 1},
    {"Tanh", 13, 1, 0.761594156f},
    {"Sigmoid", 13, 0, 0.5f},
    {"Softplus", 1, 0, 0.693147181f},
    {"Softsign", 1, 3, 0.75f},
    {"Mish", 18, 0, 0},
    {"Elu", 6, -1, 1 / kE - 1},
    {"Celu", 12, -1, 1 / kE - 1},
    {"Selu", 6, 1, 1.05070099f},
    {"ThresholdedRelu", 10, 0.5f, 0},
    {"HardSigmoid", 6, 1, 0.7f},
    {"Shrink", 9, 0.25f, 0},
};

NodeCase AsCase(const Point& p) {
  return {.name = p.op,
          .op = p.op,
          .opset = p.opset,
          .inputs = {F({1}, {p.x})},
          .outputs = {F({1}, {p.y})},
          .tolerance = 1e-6f};
}

TEST(FunctionsOfOneNumber, HaveTheirKnownValues) {
  for (const Point& p : kPoints) {
    SCOPED_TRACE(p.op);
    ExpectOutputs(AsCase(p));
  }
}

TEST(FunctionsOfOneNumber, RunWithEveryElementTypeOfTheirRow) {
  for (const Point& p : kPoints) ExpectEveryElementType(AsCase(p));
}

// A body that adds its slice to its state and gives the sum twice.
SubgraphPtr RunningSum() {
  auto body = std::make_shared<Graph>("body");
  Value* state = body->AddInput("state", {DataType::kF32, Dims{1}});
  Value* slice = body->AddInput("slice", {DataType::kF32, Dims{1}});
  const Node* add = body->AddNode({.op = "Add", .inputs = {state, slice}, .outputs = {"sum"}});
  const Node* copy =
      body->AddNode({.op = "Identity", .inputs = {add->output(0)}, .outputs = {"copy"}});
  body->AddOutput(add->output(0));
  body->AddOutput(copy->output(0));
  body->opsets()[""] = 8;
  return body;
}

const Tensor kAbsent;

std::vector<NodeCase> ElementwiseCases() {
  const Tensor flags = B({2}, {true, false}), ones = B({2}, {true, true});
  return {
      {"Sub", "Sub", 7, {}, {F({2}, {5, 1}), F({2}, {2, 3})}, {F({2}, {3, -2})}},
      {"Mul", "Mul", 7, {}, {F({2}, {5, 1}), F({2}, {2, 3})}, {F({2}, {10, 3})}},
      {"PRelu", "PRelu", 9, {}, {F({2}, {-4, 1}), F({1}, {2})}, {F({2}, {-8, 1})}},
      {"Min", "Min", 8, {}, {F({2}, {5, 1}), F({2}, {2, 3})}, {F({2}, {2, 1})}},
      {"Sum", "Sum", 8, {}, {F({1}, {5}), F({1}, {2}), F({1}, {1})}, {F({1}, {8})}},
      {"And", "BitwiseAnd", 18, {}, {U8({1}, {6}), U8({1}, {3})}, {U8({1}, {2})}},
      {"Or", "BitwiseOr", 18, {}, {U8({1}, {6}), U8({1}, {3})}, {U8({1}, {7})}},
      {"Xor", "BitwiseXor", 18, {}, {U8({1}, {6}), U8({1}, {3})}, {U8({1}, {5})}},
      {"Not", "BitwiseNot", 18, {}, {U8({1}, {6})}, {U8({1}, {249})}},
      {"Left",
       "BitShift",
       11,
       {{"direction", std::string("LEFT")}},
       {U8({2}, {3, 255}), U8({2}, {2, 1})},
       {U8({2}, {12, 254})}},
      {"Equal", "Equal", 7, {}, {F({2}, {5, 1}), F({2}, {5, 3})}, {B({2}, {true, false})}},
      {"Greater", "Greater", 7, {}, {F({2}, {5, 1}), F({1}, {2})}, {B({2}, {true, false})}},
      {"Le", "LessOrEqual", 12, {}, {F({2}, {5, 2}), F({1}, {2})}, {B({2}, {false, true})}},
      {"Ge", "GreaterOrEqual", 12, {}, {F({2}, {1, 2}), F({1}, {2})}, {B({2}, {false, true})}},
      {"LogicAnd", "And", 7, {}, {flags, ones}, {flags}},
      {"LogicOr", "Or", 7, {}, {flags, ones}, {ones}},
      {"LogicXor", "Xor", 7, {}, {flags, ones}, {B({2}, {false, true})}},
      {"LogicNot", "Not", 1, {}, {flags}, {B({2}, {false, true})}},
      {"IsNaN", "IsNaN", 13, {}, {F({2}, {NAN, 1})}, {flags}},
      {"CastLike", "CastLike", 15, {}, {F({2}, {1.5, -2}), I({1}, {0})}, {I({2}, {1, -2})}},
      {"EyeLike", "EyeLike", 9, {}, {F({2, 2}, {5, 5, 5, 5})}, {F({2, 2}, {1, 0, 0, 1})}},
      {"Identity", "Identity", 1, {}, {F({2}, {5, 1})}, {F({2}, {5, 1})}},
      {"Constant", "Constant", 13, {{"value_float", 2.5f}}, {}, {F({}, {2.5f})}},
      {"Size", "Size", 1, {}, {F({2, 2}, {0, 0, 0, 0})}, {I({}, {4})}},
      // The mask has the data's type at first.
      {"OldMask", "Dropout", 7, {}, {F({2}, {5, 1})}, {F({2}, {5, 1}), F({2}, {1, 1})}},
      {"BoolMask", "Dropout", 10, {}, {F({2}, {5, 1})}, {F({2}, {5, 1}), ones}},
      {"NewMask", "Dropout", 12, {}, {F({2}, {5, 1})}, {F({2}, {5, 1}), ones}},
  };
}

std::vector<NodeCase> ReductionCases() {
  const Tensor x = F({2, 2}, {1, 2, 3, 4});
  const Attributes rows = {{"axes", Ints{1}}, {"keepdims", int64_t{0}}};
  const Attributes flat = {{"keepdims", int64_t{0}}};
  const Tensor axis = I({1}, {1});
  const auto ln = [](float v) { return std::log(v); };
  const float sums = std::log(std::exp(1.0f) + std::exp(2.0f)), more = sums + 2;
  return {
      {"Mean", "ReduceMean", 1, rows, {x}, {F({2}, {1.5, 3.5})}},
      {"Prod", "ReduceProd", 1, rows, {x}, {F({2}, {2, 12})}},
      {"Prod18", "ReduceProd", 18, flat, {x, axis}, {F({2}, {2, 12})}},
      {"L1", "ReduceL1", 1, rows, {x}, {F({2}, {3, 7})}},
      {"L2", "ReduceL2", 1, rows, {x}, {F({2}, {std::sqrt(5.0f), 5})}, 1e-6f},
      {"Square", "ReduceSumSquare", 1, rows, {x}, {F({2}, {5, 25})}},
      {"Square18", "ReduceSumSquare", 18, flat, {x, axis}, {F({2}, {5, 25})}},
      {"Log", "ReduceLogSum", 1, rows, {x}, {F({2}, {ln(3), ln(7)})}, 1e-6f},
      {"Log18", "ReduceLogSum", 18, flat, {x, axis}, {F({2}, {ln(3), ln(7)})}, 1e-6f},
      {"LogExp", "ReduceLogSumExp", 1, rows, {x}, {F({2}, {sums, more})}, 1e-6f},
      {"Max", "ReduceMax", 1, rows, {x}, {F({2}, {2, 4})}},
      {"Min", "ReduceMin", 1, rows, {x}, {F({2}, {1, 3})}},
      {"Min18", "ReduceMin", 18, flat, {x, axis}, {F({2}, {1, 3})}},
      {"Any", "ReduceMax", 20, flat, {B({2}, {true, false})}, {B({}, {true})}},
      {"OfNothing", "ReduceMax", 20, flat, {I8({0}, {})}, {I8({}, {-128})}},
      {"LeastOfNothing", "ReduceMin", 20, flat, {U8({0}, {})}, {U8({}, {255})}},
  };
}

std::vector<NodeCase> WindowAndNormCases() {
  const Tensor x = F({1, 2, 2}, {3, 4, 6, 8});
  const Tensor zeros = F({2}, {0, 0}), ones = F({2}, {1, 1});
  const Attributes exact = {{"epsilon", 0.0f}};
  const Attributes groups = {{"epsilon", 0.0f}, {"num_groups", int64_t{1}}};
  return {
      {"Lp", "LpPool", 2, {{"kernel_shape", Ints{2}}}, {x}, {F({1, 2, 1}, {5, 10})}, 1e-6f},
      {"GlobalLp", "GlobalLpPool", 2, {}, {x}, {F({1, 2, 1}, {5, 10})}, 1e-6f},
      {"GlobalMax", "GlobalMaxPool", 1, {}, {x}, {F({1, 2, 1}, {4, 8})}},
      {"LpNorm", "LpNormalization", 1, {}, {F({1, 2}, {3, 4})}, {F({1, 2}, {0.6, 0.8})}, 1e-6f},
      {"Lrn",
       "LRN",
       13,
       {{"size", int64_t{1}}, {"alpha", 1.0f}, {"beta", 1.0f}, {"bias", 0.0f}},
       {F({1, 1, 2}, {2, 4})},
       {F({1, 1, 2}, {0.5f, 0.25f})}},
      {"BatchNorm9",
       "BatchNormalization",
       9,
       exact,
       {x, ones, ones, zeros, F({2}, {4, 4})},
       {F({1, 2, 2}, {2.5f, 3, 4, 5})}},
      {"BatchNormPerActivation",
       "BatchNormalization",
       7,
       {{"epsilon", 0.0f}, {"spatial", int64_t{0}}},
       {F({1, 1, 2}, {3, 4}), F({1, 2}, {1, 2}), F({1, 2}, {0, 1}), F({1, 2}, {1, 2}),
        F({1, 2}, {1, 4})},
       {F({1, 1, 2}, {2, 3})}},
      // Scale and bias per group, then per channel.
      {"GroupNorm18",
       "GroupNormalization",
       18,
       groups,
       {F({1, 2, 1}, {1, 3}), F({1}, {2}), F({1}, {1})},
       {F({1, 2, 1}, {-1, 3})},
       1e-6f},
      {"GroupNorm21",
       "GroupNormalization",
       21,
       groups,
       {F({1, 2, 1}, {1, 3}), F({2}, {2, 4}), F({2}, {0, 1})},
       {F({1, 2, 1}, {-2, 5})},
       1e-6f},
      {"LogSoftmaxOfAMatrix",
       "LogSoftmax",
       1,
       {},
       {F({1, 2, 1}, {0, 0})},
       {F({1, 2, 1}, {-0.693147181f, -0.693147181f})},
       1e-6f},
      {"LogSoftmaxOfTheLastAxis",
       "LogSoftmax",
       13,
       {},
       {F({1, 2, 1}, {0, 5})},
       {F({1, 2, 1}, {0, 0})}},
      {"HardmaxOfAMatrix", "Hardmax", 1, {}, {F({1, 2, 1}, {1, 5})}, {F({1, 2, 1}, {0, 1})}},
      {"HardmaxOfTheLastAxis", "Hardmax", 13, {}, {F({1, 2, 1}, {1, 5})}, {F({1, 2, 1}, {1, 1})}},
  };
}

std::vector<NodeCase> MovementCases() {
  const Tensor x = F({1, 3}, {3, 1, 2});
  const Tensor condition = B({3}, {true, false, true});
  return {
      {"Unsqueeze", "Unsqueeze", 11, {{"axes", Ints{0}}}, {F({1}, {3})}, {F({1, 1}, {3})}},
      {"Split",
       "Split",
       11,
       {{"axis", int64_t{1}}, {"split", Ints{1, 2}}},
       {x},
       {F({1, 1}, {3}), F({1, 2}, {1, 2})}},
      {"SpaceToDepth",
       "SpaceToDepth",
       13,
       {{"blocksize", int64_t{2}}},
       {F({1, 1, 2, 2}, {1, 2, 3, 4})},
       {F({1, 4, 1, 1}, {1, 2, 3, 4})}},
      {"Pad",
       "Pad",
       2,
       {{"pads", Ints{0, 1, 0, 0}}, {"value", 7.0f}},
       {x},
       {F({1, 4}, {7, 3, 1, 2})}},
      {"TopK", "TopK", 1, {{"k", int64_t{2}}}, {x}, {F({1, 2}, {3, 2}), I({1, 2}, {0, 2})}},
      {"Compress", "Compress", 11, {{"axis", int64_t{1}}}, {x, condition}, {F({1, 2}, {3, 2})}},
      {"Reverse",
       "ReverseSequence",
       10,
       {{"batch_axis", int64_t{0}}, {"time_axis", int64_t{1}}},
       {x, I({1}, {2})},
       {F({1, 3}, {1, 3, 2})}},
      {"EitherIsSet",
       "ScatterElements",
       18,
       {{"reduction", std::string("max")}},
       {B({2}, {true, false}), I({2}, {0, 1}), B({2}, {false, true})},
       {B({2}, {true, true})}},
      {"Scan",
       "Scan",
       9,
       {{"num_scan_inputs", int64_t{1}}, {"body", RunningSum()}},
       {F({1}, {10}), F({3, 1}, {1, 2, 3})},
       {F({1}, {16}), F({3, 1}, {11, 13, 16})}},
      // Two samples, the second of which ends after one step; its rest is zero.
      {"ScanOfABatch",
       "Scan",
       8,
       {{"num_scan_inputs", int64_t{1}}, {"body", RunningSum()}},
       {I({2}, {2, 1}), F({2, 1}, {10, 20}), F({2, 2, 1}, {1, 2, 3, 4})},
       {F({2, 1}, {13, 23}), F({2, 2, 1}, {11, 13, 23, 0})}},
      {"ScanBackwards",
       "Scan",
       8,
       {{"num_scan_inputs", int64_t{1}}, {"body", RunningSum()}, {"directions", Ints{1}}},
       {kAbsent, F({1, 1}, {10}), F({1, 2, 1}, {1, 2})},
       {F({1, 1}, {13}), F({1, 2, 1}, {12, 13})}},
  };
}

void ExpectAll(const std::vector<NodeCase>& cases) {
  for (const NodeCase& c : cases) {
    SCOPED_TRACE(c.name + " of " + c.op);
    ExpectOutputs(c);
    ExpectEveryElementType(c);
  }
}

TEST(Versions, Elementwise) { ExpectAll(ElementwiseCases()); }
TEST(Versions, Reductions) { ExpectAll(ReductionCases()); }
TEST(Versions, WindowsAndNorms) { ExpectAll(WindowAndNormCases()); }
TEST(Versions, Movement) { ExpectAll(MovementCases()); }

// --- 8-bit floats and 4-bit integers
// ---------------------------------------------------------------

Tensor F8(DataType type, absl::Span<const int64_t> shape, std::initializer_list<float> values) {
  return *Convert(Tensor::Of<float>(shape, values), type);
}

TEST(Float8, CastsSaturateUnlessTheyMayNot) {
  const Tensor x = F({2}, {1.06f, 1e6f});
  const auto cast = [&](int64_t saturate) {
    const auto got = Evaluate({.op = "Cast",
                               .opset = 19,
                               .attributes = {{"to", int64_t{17}}, {"saturate", saturate}},
                               .inputs = {x}});
    return Convert((*got)[0], DataType::kF32)->data<float>()[1];
  };
  EXPECT_EQ(cast(1), 448);
  EXPECT_TRUE(std::isnan(cast(0)));
}

TEST(Float8, QuantizesAndDequantizes) {
  for (const DataType type : {DataType::kF8E4M3FN, DataType::kF8E5M2FNUZ}) {
    SCOPED_TRACE(Name(type));
    const Tensor zero = F8(type, {}, {0});
    const Tensor q = F8(type, {3}, {1, -3, 1e9f});
    ExpectOutputs({"q", "QuantizeLinear", 19, {}, {F({3}, {2, -6, 1e9f}), F({}, {2}), zero}, {q}});
    const float top = Convert(q, DataType::kF32)->data<float>()[2];
    ExpectOutputs(
        {"dq", "DequantizeLinear", 19, {}, {q, F({}, {2}), zero}, {F({3}, {2, -6, 2 * top})}});
  }
}

TEST(Float8, MultipliesMatrices) {
  constexpr DataType kType = DataType::kF8E4M3FN;
  const Tensor zero = F8(kType, {}, {0});
  ExpectOutputs({"product",
                 "QLinearMatMul",
                 21,
                 {},
                 {F8(kType, {1, 2}, {2, 3}), F({}, {0.5f}), zero, F8(kType, {2, 1}, {4, -1}),
                  F({}, {2}), zero, F({}, {1}), zero},
                 {F8(kType, {1, 1}, {5})}});
  EXPECT_FALSE(Evaluate({.op = "QLinearMatMul",
                         .opset = 21,
                         .inputs = {F8(kType, {1, 1}, {2}), F({}, {1}), zero, U8({1, 1}, {4}),
                                    F({}, {1}), U8({}, {0}), F({}, {1}), zero}})
                   .ok());
}

TEST(FourBits, PadAndFillKeepTheirNeighbours) {
  const auto u4 = [](std::initializer_list<uint8_t> values) {
    return *CastTo(U8({static_cast<int64_t>(values.size())}, values), DataType::kU4);
  };
  ExpectOutputs({"pad",
                 "Pad",
                 21,
                 {},
                 {u4({1, 2, 3}), I({2}, {1, 1}), u4({9}).Reshaped({})},
                 {u4({9, 1, 2, 3, 9})}});
  ExpectOutputs(
      {"fill", "ConstantOfShape", 21, {{"value", u4({7})}}, {I({1}, {3})}, {u4({7, 7, 7})}});
}

}  // namespace
}  // namespace halftone
