#include <vector>

#include "core/passes/portable.h"
#include "core/passes/rewrite_util.h"

namespace halftone {

absl::StatusOr<bool> MergeTransposes(Graph& graph) {
  bool changed = false;
  for (Node* node : graph.nodes()) {
    if (!IsOp(node, "Transpose") || node->input(0) == nullptr) continue;
    const Node* first = node->input(0)->producer();
    if (!IsOp(first, "Transpose")) continue;
    const std::vector<int64_t> inner = first->attributes().Ints("perm");
    std::vector<int64_t> outer = node->attributes().Ints("perm");
    // Of a known rank: then inference has checked that both are permutations.
    const int rank = RankOf(first->input(0));
    if (rank < 0 || static_cast<int>(inner.size()) != rank ||
        static_cast<int>(outer.size()) != rank) {
      continue;
    }
    for (int64_t& axis : outer) axis = inner[axis];
    node->attributes().Set("perm", outer);
    graph.SetInput(node, 0, first->input(0));
    changed = true;
  }
  if (changed) graph.RemoveUnused();
  return changed;
}

}  // namespace halftone
