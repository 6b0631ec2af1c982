// Helpers for tests of single operators.
#ifndef HALFTONE_TESTS_UNIT_OPS_OPS_TESTING_H_
#define HALFTONE_TESTS_UNIT_OPS_OPS_TESTING_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/graph/graph.h"
#include "core/ops/evaluate.h"

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
