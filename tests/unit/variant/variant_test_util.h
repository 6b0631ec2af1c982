// A small net and the reference evaluation as runner, so that variant tests are exact and need no
// executor.
#ifndef HALFTONE_TESTS_UNIT_VARIANT_VARIANT_TEST_UTIL_H_
#define HALFTONE_TESTS_UNIT_VARIANT_VARIANT_TEST_UTIL_H_

#include <memory>
#include <utility>
#include <vector>

#include "core/ops/evaluate.h"
#include "core/variant/build_variant.h"
#include "tests/unit/passes/quantize_test_util.h"

namespace halftone {

inline GraphRunner ReferenceRunner() {
  return [](Graph graph) -> absl::StatusOr<RunnableGraph> {
    absl::Status sorted = graph.SortTopologically();
    if (!sorted.ok()) return sorted;
    auto shared = std::make_shared<const Graph>(std::move(graph));
    return RunnableGraph{
        .run = [shared](absl::Span<const Tensor> in) { return EvaluateGraph(*shared, in); },
        .resident_bytes = [] { return int64_t{1}; }};
  };
}

// Conv "n_c1" + Relu, Gemm "n_y" with 10 classes; batch is symbolic.
inline Graph ClassifierNet() {
  GraphMaker m;
  Value* x = m.graph().AddInput("x", {DataType::kF32, Dims{Dim("batch"), 3, 4, 4}});
  Value* w1 = m.Constant("w1", RandomTensor({8, 3, 3, 3}, 1));
  Value* c1 =
      m.Node("Conv", "c1", {x, w1}, {1, 8, 4, 4}, {{"pads", std::vector<int64_t>{1, 1, 1, 1}}});
  Value* flat = m.Node("Flatten", "flat", {m.Node("Relu", "r1", {c1}, {1, 8, 4, 4})}, {1, 128});
  m.Output(m.Node("Gemm", "y", {flat, m.Constant("w2", RandomTensor({128, 10}, 3))}, {1, 10}));
  for (const char* name : {"c1", "r1", "flat", "y"}) {
    Value* v = m.graph().FindValue(name);
    Dims dims = *v->type().shape;
    dims[0] = Dim("batch");
    v->set_type({DataType::kF32, dims});
  }
  return std::move(m.graph());
}

inline SampleSet RealSamples(int count) {
  SampleSet set{.name = "real", .digest = "d"};
  for (int i = 0; i < count; ++i) set.samples.push_back({RandomTensor({1, 3, 4, 4}, 100 + i)});
  return set;
}

}  // namespace halftone

#endif  // HALFTONE_TESTS_UNIT_VARIANT_VARIANT_TEST_UTIL_H_
