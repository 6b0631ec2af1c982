// Measures how fast a variant is against its fp32 graph: as a whole, and layer by layer.
#ifndef HALFTONE_CORE_VARIANT_TIMING_H_
#define HALFTONE_CORE_VARIANT_TIMING_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/graph/graph.h"
#include "core/tensor/tensor.h"
#include "core/variant/graph_runner.h"

namespace halftone {

struct Latencies {
  double reference_seconds = 0, variant_seconds = 0;  // medians
};
// Alternates both on one request for about a second, so that drift of the machine meets both.
absl::StatusOr<Latencies> MeasureLatency(const RunnableGraph& reference,
                                         const RunnableGraph& variant,
                                         absl::Span<const Tensor> inputs);

// What one layer takes of a run, in seconds.
struct LayerSeconds {
  double fp32 = 0, variant = 0;
};
// A graph and what runs it.
struct TimedGraph {
  const Graph& graph;
  const RunnableGraph& runnable;
};

// By name of each layer's node. A layer takes the time of the step that it became, with whatever is
// fused into that, and of the steps that are there for its sake: conversions in front of it, and
// nodes that `fp32` does not have (quantization), which belong to the layer that reads their
// results, else to the one that they follow. Medians of alternating runs, for about half a second.
// Empty where a runner knows no steps.
absl::StatusOr<std::map<std::string, LayerSeconds>> MeasureLayerTimes(
    const TimedGraph& fp32, const TimedGraph& variant, const std::vector<std::string>& layers,
    absl::Span<const Tensor> inputs);

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_TIMING_H_
