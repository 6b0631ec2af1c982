// What the tests of lowering rules share: small graphs, and a plan beside the reference evaluation.
#ifndef HALFTONE_TESTS_UNIT_EXEC_LOWERING_UTIL_H_
#define HALFTONE_TESTS_UNIT_EXEC_LOWERING_UTIL_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/exec/plan.h"
#include "core/ops/evaluate.h"
#include "tests/testing/random_tensor.h"
#include "tests/testing/status_matchers.h"

namespace halftone {

inline ValueType F32(Dims dims) { return {DataType::kF32, std::move(dims)}; }

inline Dims StaticDims(const Shape& s) { return Dims(s.begin(), s.end()); }

inline Graph NewGraph(int opset = 20) {
  Graph g("test");
  g.opsets()[""] = opset;
  return g;
}

inline Value* Apply(Graph& g, std::string op, std::vector<Value*> in, Attributes attributes = {}) {
  Node* n = g.AddNode({.op = std::move(op),
                       .inputs = std::move(in),
                       .outputs = {"t"},
                       .attributes = std::move(attributes)});
  return n->output(0);
}

// A quantization per tensor.
struct Quant {
  DataType type = DataType::kU8;
  float scale = 0.03125f;
  int zero_point = 128;
};
// Its constants.
struct QuantConstants {
  Value* scale;
  Value* zero_point;
};
inline QuantConstants AddConstants(Graph& g, const Quant& q) {
  Tensor zero = q.type == DataType::kU8
                    ? Tensor::Scalar<uint8_t>(static_cast<uint8_t>(q.zero_point))
                    : Tensor::Scalar<int8_t>(static_cast<int8_t>(q.zero_point));
  return {g.AddConstant("s", Tensor::Scalar(q.scale)), g.AddConstant("z", std::move(zero))};
}
// QuantizeLinear, DequantizeLinear.
inline Value* QuantizePair(Graph& g, Value* v, const Quant& q) {
  const QuantConstants c = AddConstants(g, q);
  Value* bytes = Apply(g, "QuantizeLinear", {v, c.scale, c.zero_point});
  return Apply(g, "DequantizeLinear", {bytes, c.scale, c.zero_point});
}

struct Outcome {
  std::vector<StepInfo> steps;
  double disagreement = 0;
  int64_t packed_bytes = 0;
  std::vector<Tensor> got, want;
};

// Runs the graph with our plan and with the reference, on the same inputs, twice (the second run
// shows state that leaked from the first). Weights stay narrow, as in models that are larger than a
// test's.
inline Outcome Compare(Graph g, const std::vector<Tensor>& inputs, Tolerance tolerance,
                       const PlanOptions& options = {.max_widened_bytes = 0}) {
  Outcome o;
  EXPECT_THAT(InferShapes(g), IsOk());
  EXPECT_THAT(g.Verify(), IsOk());
  auto want = EvaluateGraph(g, inputs);
  EXPECT_THAT(want, IsOk());
  auto plan = Plan::Create(std::move(g), options);
  EXPECT_THAT(plan, IsOk());
  if (!want.ok() || !plan.ok()) return o;
  Context context(*plan);
  for (int run = 0; run < 2; ++run) {
    auto got = context.Run(inputs);
    EXPECT_THAT(got, IsOk());
    if (!got.ok()) return o;
    EXPECT_EQ(got->size(), want->size());
    for (size_t i = 0; i < want->size(); ++i) {
      o.disagreement = std::max(o.disagreement, Disagreement((*got)[i], (*want)[i], tolerance));
    }
    o.got = *std::move(got);
  }
  o.want = *std::move(want);
  o.packed_bytes = (*plan)->memory().packed_bytes;
  std::vector<Shape> shapes;
  for (const Tensor& t : inputs) shapes.push_back(t.shape());
  auto steps = (*plan)->Describe(shapes);
  EXPECT_THAT(steps, IsOk());
  if (steps.ok()) o.steps = *std::move(steps);
  return o;
}

inline bool Uses(const Outcome& o, absl::string_view rule) {
  for (const StepInfo& s : o.steps) {
    if (s.rule == rule) return true;
  }
  return false;
}

inline std::string Steps(const Outcome& o) {
  std::string out;
  for (const StepInfo& s : o.steps) {
    out += s.op + " " + s.rule + " " + s.implementation + " " + s.precision + " " + s.detail + "\n";
  }
  return out;
}

}  // namespace halftone

#endif  // HALFTONE_TESTS_UNIT_EXEC_LOWERING_UTIL_H_
