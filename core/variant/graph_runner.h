// The door through which graphs run during calibration and comparison: the executor in production,
// the reference evaluation in tests.
#ifndef HALFTONE_CORE_VARIANT_GRAPH_RUNNER_H_
#define HALFTONE_CORE_VARIANT_GRAPH_RUNNER_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/graph/graph.h"
#include "core/tensor/tensor.h"

namespace halftone {

// A graph that is ready to run any number of requests. Thread-compatible.
struct RunnableGraph {
  // Inputs and outputs in graph order.
  std::function<absl::StatusOr<std::vector<Tensor>>(absl::Span<const Tensor>)> run;
  // Weights and packed weights that it keeps in memory now (after at least one run).
  std::function<int64_t()> resident_bytes;
};

using GraphRunner = std::function<absl::StatusOr<RunnableGraph>(Graph)>;

// Plan and Context. Sets the intra-op threads of the thread that calls it. A run ends with
// CANCELLED once `cancelled`, if given, says so.
GraphRunner PlanRunner(int threads, std::function<bool()> cancelled = nullptr);

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_GRAPH_RUNNER_H_
