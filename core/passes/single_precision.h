// Models in f64, computed in f32.
#ifndef HALFTONE_CORE_PASSES_SINGLE_PRECISION_H_
#define HALFTONE_CORE_PASSES_SINGLE_PRECISION_H_

#include "absl/status/status.h"
#include "core/graph/graph.h"

namespace halftone {

// True when a node other than Cast, here or in a nested graph, reads or makes f64.
bool ComputesInDoubles(const Graph& graph);

// Makes everything inside of the graph f32 that was f64. Inputs and outputs keep their type, behind
// and in front of a Cast. Constants are rounded; finite ones beyond the range of f32 become its
// largest number. Values keep their names, but an f64 output "y" is computed as "y_f32". Types are
// inferred anew. Errors are those of inference.
absl::Status ComputeInSingles(Graph& graph);

}  // namespace halftone

#endif  // HALFTONE_CORE_PASSES_SINGLE_PRECISION_H_
