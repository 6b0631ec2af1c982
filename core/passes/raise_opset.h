// Rewrites a graph for a newer version of the ai.onnx operator set.
#ifndef HALFTONE_CORE_PASSES_RAISE_OPSET_H_
#define HALFTONE_CORE_PASSES_RAISE_OPSET_H_

#include "absl/status/status.h"
#include "core/graph/graph.h"

namespace halftone {

// Raises the graph, and the graphs nested in it, to at least `opset`: attributes that became inputs
// move, defaults that changed are written out, renamed operators get their new name. The graph
// computes the same afterwards; types of new values are inferred. Does nothing if the graph is new
// enough. Nodes that stay what they are stay valid as pointers.
//
// UNIMPLEMENTED, with the graph unchanged, if a node has no equivalent: the message names it.
// Graphs older than opset 7 (another kind of broadcasting) are not raised.
absl::Status RaiseOpset(Graph& graph, int opset);

inline constexpr int kNewestRaisedOpset = 22;

}  // namespace halftone

#endif  // HALFTONE_CORE_PASSES_RAISE_OPSET_H_
