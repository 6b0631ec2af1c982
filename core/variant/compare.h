// Measures what a variant answers against its fp32 graph: results, and layer by layer.
#ifndef HALFTONE_CORE_VARIANT_COMPARE_H_
#define HALFTONE_CORE_VARIANT_COMPARE_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/graph/graph.h"
#include "core/tensor/tensor.h"
#include "core/variant/graph_runner.h"

namespace halftone {

using Samples = std::vector<std::vector<Tensor>>;  // one entry per request, in signature order
using StepFn = std::function<absl::Status(int done, int total)>;  // an error stops the work

struct OutputComparison {
  std::string name;
  double sqnr_db = 0;
};
struct Comparison {
  std::vector<OutputComparison> outputs;  // the f32 and f64 outputs in graph order
  double sqnr_db = 0;                     // over all of them
  double max_abs_error = 0;
  double top1_agreement = -1;  // -1: the first output does not look like a classifier's
  bool top1_degenerate = false;
  int samples = 0;
};

// Runs the first `count` samples through both.
absl::StatusOr<Comparison> CompareOutputs(const Graph& fp32, const RunnableGraph& reference,
                                          const RunnableGraph& variant, const Samples& samples,
                                          int count, const StepFn& step);

// A graph and what runs it.
struct GraphToRun {
  const Graph& graph;
  const GraphRunner& runner;
};
// SQNR of the named values that both graphs have, over the first `count` samples.
absl::StatusOr<std::map<std::string, double>> CompareLayers(const GraphToRun& fp32,
                                                            const GraphToRun& variant,
                                                            const std::vector<std::string>& names,
                                                            const Samples& samples, int count,
                                                            const StepFn& step);

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_COMPARE_H_
