// Helpers for tests of single operators.
#ifndef HALFTONE_TESTS_UNIT_OPS_OPS_TESTING_H_
#define HALFTONE_TESTS_UNIT_OPS_OPS_TESTING_H_

#include <gmock/gmock.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/graph/graph.h"
#include "core/ops/evaluate.h"
#include "core/ops/registry.h"
#include "tests/testing/status_matchers.h"

namespace halftone {

struct NodeCase {
  std::string name;
  std::string op;
  int opset = 17;
  Attributes attributes;
  std::vector<Tensor> inputs;  // an element with the name-less default (f32 of shape [0]) is absent
  std::vector<Tensor> outputs;
  float tolerance = 0;
};

inline bool IsAbsent(const Tensor& t) { return t.raw() == nullptr; }

// A graph of one node whose present inputs are graph inputs of the given types.
inline Graph GraphOf(const NodeCase& c, int outputs) {
  Graph g("case");
  g.opsets()[""] = c.opset;
  NodeSpec spec = {.op = c.op, .name = "n", .attributes = c.attributes};
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    const Tensor& t = c.inputs[i];
    spec.inputs.push_back(
        IsAbsent(t) ? nullptr : g.AddInput(absl::StrCat("x", i), {t.type(), Symbolic(t.shape())}));
  }
  for (int i = 0; i < outputs; ++i) spec.outputs.push_back(absl::StrCat("y", i));
  const Node* node = g.AddNode(std::move(spec));
  for (Value* v : node->outputs()) g.AddOutput(v);
  return g;
}

inline absl::StatusOr<std::vector<Tensor>> Evaluate(const NodeCase& c, int outputs = 1) {
  const Graph g = GraphOf(c, outputs);
  std::vector<const Tensor*> inputs;
  for (const Tensor& t : c.inputs) inputs.push_back(IsAbsent(t) ? nullptr : &t);
  return EvaluateNode(g, *g.nodes()[0], inputs);
}

// Floats agree within `tolerance`, everything else in every bit.
inline void ExpectSame(const Tensor& got, const Tensor& want, float tolerance) {
  ASSERT_EQ(got.type(), want.type());
  ASSERT_EQ(got.shape(), want.shape());
  if (got.type() != DataType::kF32) {
    EXPECT_EQ(got.bytes(), want.bytes()) << "got " << got.ToString() << " want " << want.ToString();
    return;
  }
  for (int64_t i = 0; i < got.num_elements(); ++i) {
    const float a = got.data<float>()[i], b = want.data<float>()[i];
    if (a == b || (std::isnan(a) && std::isnan(b))) continue;
    EXPECT_NEAR(a, b, tolerance) << "element " << i;
  }
}

inline void ExpectOutputs(const NodeCase& c) {
  HT_ASSERT_OK_AND_ASSIGN(const auto got, Evaluate(c, static_cast<int>(c.outputs.size())));
  ASSERT_EQ(got.size(), c.outputs.size());
  for (size_t i = 0; i < got.size(); ++i) ExpectSame(got[i], c.outputs[i], c.tolerance);
}

inline absl::StatusOr<Tensor> CastTo(const Tensor& t, DataType type) {
  absl::StatusOr<std::vector<Tensor>> out =
      Evaluate({.op = "Cast",
                .opset = 21,
                .attributes = {{"to", int64_t{Info(type).onnx_code}}},
                .inputs = {t}});
  if (!out.ok()) return out.status();
  return (*out)[0];
}

// The case runs with every element type that its row allows for input 0; other inputs of the same
// type follow. In the wider floats it gives the same numbers.
inline void ExpectEveryElementType(const NodeCase& c) {
  const OpDef* row = FindOp("", c.op, c.opset);
  ASSERT_NE(row, nullptr) << c.op;
  // Scales of Resize stay f32, bodies of Scan as well, and QLinearMatMul does not mix i8 and f8.
  for (const char* op : {"Resize", "Scan", "QLinearMatMul"}) {
    if (c.op == op) return;
  }
  if (c.inputs.empty() || IsAbsent(c.inputs[0])) return;
  const DataType from = c.inputs[0].type();
  if (from == DataType::kI64) return;  // then indices would follow
  for (const DataTypeInfo& info : kDataTypes) {
    if (!Contains(row->types, info.type) || info.type == from) continue;
    SCOPED_TRACE(absl::StrCat(c.name, " in ", info.name));
    NodeCase typed = c;
    for (Tensor& t : typed.inputs) {
      if (IsAbsent(t) || t.type() != from) continue;
      HT_ASSERT_OK_AND_ASSIGN(t, CastTo(t, info.type));
    }
    HT_ASSERT_OK_AND_ASSIGN(const auto got, Evaluate(typed, static_cast<int>(c.outputs.size())));
    if (from != DataType::kF32 || !info.is_float || info.bits < 16) continue;
    for (size_t i = 0; i < got.size(); ++i) {
      if (c.outputs[i].type() != DataType::kF32) continue;
      HT_ASSERT_OK_AND_ASSIGN(const Tensor back, CastTo(got[i], DataType::kF32));
      float largest = 1;
      for (const float x : c.outputs[i].data<float>()) {
        if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
      }
      ExpectSame(back, c.outputs[i], 0.03f * largest);  // bf16 has 8 bits
    }
  }
}

inline Tensor F(absl::Span<const int64_t> shape, std::initializer_list<float> values) {
  return Tensor::Of<float>(shape, values);
}
inline Tensor I(absl::Span<const int64_t> shape, std::initializer_list<int64_t> values) {
  return Tensor::Of<int64_t>(shape, values);
}
inline Tensor U8(absl::Span<const int64_t> shape, std::initializer_list<uint8_t> values) {
  return Tensor::Of<uint8_t>(shape, values);
}
inline Tensor I8(absl::Span<const int64_t> shape, std::initializer_list<int8_t> values) {
  return Tensor::Of<int8_t>(shape, values);
}
inline Tensor B(absl::Span<const int64_t> shape, std::initializer_list<bool> values) {
  return Tensor::Of<bool>(shape, values);
}

}  // namespace halftone

#endif  // HALFTONE_TESTS_UNIT_OPS_OPS_TESTING_H_
