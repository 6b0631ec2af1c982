// Shared by the tests of the portable passes.
#ifndef HALFTONE_TESTS_UNIT_PASSES_PASS_TESTING_H_
#define HALFTONE_TESTS_UNIT_PASSES_PASS_TESTING_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "core/ops/evaluate.h"
#include "core/passes/pass.h"
#include "tests/testing/onnx_text.h"
#include "tests/testing/random_tensor.h"
#include "tests/testing/status_matchers.h"

namespace halftone {

// The graph of an ONNX text, "net (…) => (…) {…}", at an opset.
inline Graph LoadText(absl::string_view net, int opset = 17) {
  absl::StatusOr<Graph> graph =
      ImportText(absl::StrCat("<ir_version: 8, opset_import: [\"\" : ", opset, "]> ", net));
  CHECK_OK(graph.status());
  return *std::move(graph);
}

// Seeded random values for every input; unknown dimensions are 3.
inline std::vector<Tensor> InputsFor(const Graph& graph) {
  std::vector<Tensor> inputs;
  uint32_t seed = 1;
  for (const Value* v : graph.inputs()) {
    Shape shape;
    for (const Dim& d : *v->type().shape) shape.push_back(d.known() ? d.value : 3);
    inputs.push_back(RandomF32(shape, seed++, -3, 3));
  }
  return inputs;
}

// Both graphs take the same inputs, have the same output names and compute the same.
inline void ExpectSame(const Graph& got, const Graph& want, float tolerance = 2e-6f) {
  ASSERT_EQ(got.outputs().size(), want.outputs().size());
  const std::vector<Tensor> inputs = InputsFor(want);
  HT_ASSERT_OK_AND_ASSIGN(const auto a, EvaluateGraph(got, inputs));
  HT_ASSERT_OK_AND_ASSIGN(const auto b, EvaluateGraph(want, inputs));
  for (size_t i = 0; i < b.size(); ++i) {
    EXPECT_EQ(got.outputs()[i]->name(), want.outputs()[i]->name());
    EXPECT_LE(Disagreement(a[i], b[i], {tolerance, tolerance}), 1) << got.Dump();
  }
}

// Runs one pass to its end and checks that the graph means what it meant.
inline Graph RunPass(const Graph& before, absl::StatusOr<bool> (*pass)(Graph&),
                     float tolerance = 2e-6f) {
  Graph after = before.Clone();
  const Pass passes[] = {{"tested", pass}};
  EXPECT_THAT(RunPasses(after, passes), IsOk());
  ExpectSame(after, before, tolerance);
  return after;
}

inline int CountOp(const Graph& graph, absl::string_view op) {
  return static_cast<int>(std::count_if(graph.nodes().begin(), graph.nodes().end(),
                                        [&](const Node* n) { return n->op() == op; }));
}

// The operators in order: "Conv Relu".
inline std::string OpsOf(const Graph& graph) {
  std::string out;
  for (const Node* n : graph.nodes()) absl::StrAppend(&out, out.empty() ? "" : " ", n->op());
  return out;
}

}  // namespace halftone

#endif  // HALFTONE_TESTS_UNIT_PASSES_PASS_TESTING_H_
