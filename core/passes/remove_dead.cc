#include "core/passes/portable.h"

namespace halftone {

absl::StatusOr<bool> RemoveDead(Graph& graph) {
  const size_t nodes = graph.nodes().size();
  const size_t values = graph.values().size();
  graph.RemoveUnused();
  return graph.nodes().size() != nodes || graph.values().size() != values;
}

}  // namespace halftone
