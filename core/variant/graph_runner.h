// The door through which graphs run during calibration and comparison: the executor in production,
// the reference evaluation in tests.
#ifndef HALFTONE_CORE_VARIANT_GRAPH_RUNNER_H_
#define HALFTONE_CORE_VARIANT_GRAPH_RUNNER_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/exec/plan.h"
#include "core/graph/graph.h"
#include "core/quant/quant_spec.h"
#include "core/tensor/tensor.h"

namespace halftone {

// A graph that is ready to run any number of requests. Thread-compatible.
struct RunnableGraph {
  // Inputs and outputs in graph order.
  std::function<absl::StatusOr<std::vector<Tensor>>(absl::Span<const Tensor>)> run;
  // Weights that steps read in place, and packed weights, after at least one run: what stays in
  // memory once the graph's constants are mapped from a file.
  std::function<int64_t()> resident_bytes;
  // One run: its steps in order, with the seconds that each took. Empty: nothing is known of steps.
  std::function<absl::StatusOr<std::vector<StepInfo>>(absl::Span<const Tensor>)> profile;
};

using GraphRunner = std::function<absl::StatusOr<RunnableGraph>(Graph)>;

// A graph whose outputs are shown while it runs and then forgotten. Thread-compatible.
struct WatchableGraph {
  std::function<absl::Status(absl::Span<const Tensor> inputs, const OutputWatcher&)> run;
};
using GraphWatcher = std::function<absl::StatusOr<WatchableGraph>(Graph)>;

// Plan and Context. Sets the intra-op threads of the thread that calls it. A run ends with
// CANCELLED once `cancelled`, if given, says so.
GraphRunner PlanRunner(int threads, std::function<bool()> cancelled = nullptr,
                       ComputeType compute = ComputeType::kAuto);
// The same for watching: memory for what a run needs at a time, however many outputs there are.
GraphWatcher PlanWatcher(int threads, std::function<bool()> cancelled = nullptr);
// Shows what a runner returns: holds all outputs of a run at once.
GraphWatcher WatcherOf(GraphRunner runner);

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_GRAPH_RUNNER_H_
