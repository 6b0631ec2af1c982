#include <gmock/gmock.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "core/ops/unpack.h"
#include "core/passes/portable.h"
#include "tests/unit/passes/pass_testing.h"

namespace halftone {
namespace {

// y = x · DequantizeLinear(codes, 0.5), x maybe quantized.
Graph Product(const std::vector<int8_t>& codes, bool quantized_data = false) {
  Graph g("product");
  g.opsets()[""] = 21;
  const auto add = [&](const std::string& op, const std::string& out, std::vector<Value*> in,
                       const ValueType& type) {
    Value* v = g.AddNode({.op = op, .inputs = std::move(in), .outputs = {out}})->output(0);
    v->set_type(type);
    return v;
  };
  Value* x = g.AddInput("x", {DataType::kF32, Dims{2, 32}});
  const ValueType data = x->type(), weights = {DataType::kF32, Dims{32, 64}};
  Value* scale = g.AddConstant("s", Tensor::Scalar(0.5f));
  Value* zero = g.AddConstant("z", Tensor::Scalar<int8_t>(0));
  if (quantized_data) {
    Value* q = add("QuantizeLinear", "q", {x, scale, zero}, {DataType::kI8, Dims{2, 32}});
    x = add("DequantizeLinear", "d", {q, scale, zero}, data);
  }
  Value* w = g.AddConstant("w", Tensor::Of<int8_t>({32, 64}, codes));
  Value* f = add("DequantizeLinear", "f", {w, scale, zero}, weights);
  g.AddOutput(add("MatMul", "y", {x, f}, {DataType::kF32, Dims{2, 64}}));
  return g;
}

int64_t WeightBytes(const Graph& graph) {
  int64_t most = 0;
  for (const Value* v : graph.values()) {
    if (v->is_constant()) most = std::max(most, v->constant().num_bytes());
  }
  return most;
}

TEST(PackFewBits, TernaryTakesTwoBitsAndBinaryOne) {
  std::vector<int8_t> ternary(2048), binary(2048);
  for (size_t i = 0; i < ternary.size(); ++i) {
    ternary[i] = static_cast<int8_t>(static_cast<int>(i * 7 % 5 % 3) - 1);
    binary[i] = i * 7 % 5 < 2 ? 1 : -1;
  }
  for (const auto& [codes, op, bytes] : {std::tuple(ternary, kUnpackTernary, 2048 / 4),
                                         std::tuple(binary, kUnpackBinary, 2048 / 8)}) {
    const Graph before = Product(codes);
    const Graph after = RunPass(before, PackFewBits);  // compares the answers
    EXPECT_EQ(CountOp(after, std::string(op)), 1);
    EXPECT_EQ(WeightBytes(after), bytes);
    EXPECT_EQ(CountOp(RunPass(after, PackFewBits), std::string(op)), 1) << "once";
  }
}

TEST(PackFewBits, LeavesWhatNeedsMoreOrMeetsIntegers) {
  std::vector<int8_t> codes(2048, 1);
  codes[5] = 2;
  EXPECT_EQ(WeightBytes(RunPass(Product(codes), PackFewBits)), 2048);
  codes[5] = 0;
  EXPECT_EQ(WeightBytes(RunPass(Product(codes), PackFewBits)), 2048 / 4);
  EXPECT_EQ(WeightBytes(RunPass(Product(codes, /*quantized_data=*/true), PackFewBits)), 2048);
}

}  // namespace
}  // namespace halftone
