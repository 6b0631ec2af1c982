#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/passes/portable.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

bool IsSpatialMean(const Node& node) {
  if (!IsOp(&node, "ReduceMean") || RankOf(node.input(0)) != 4 || node.output(0) == nullptr) {
    return false;
  }
  if (node.input(0)->type().type != DataType::kF32) return false;
  std::vector<int64_t> axes = node.attributes().Ints("axes");
  if (node.input(1) != nullptr) axes = IntsOf(node.input(1)).value_or(std::vector<int64_t>{});
  for (int64_t& axis : axes) axis = NormalAxis(axis, 4).value_or(-1);
  std::sort(axes.begin(), axes.end());
  return axes == std::vector<int64_t>{2, 3};
}

}  // namespace

absl::StatusOr<bool> CanonicalizePooling(Graph& graph) {
  bool changed = false;
  const std::vector<Node*> nodes = graph.nodes();
  for (Node* node : nodes) {
    if (!IsSpatialMean(*node)) continue;
    Value* y = node->output(0);
    NodeSpec pool{.op = "GlobalAveragePool", .name = node->name(), .inputs = {node->input(0)}};
    if (node->attributes().Int("keepdims", 1) != 0) {
      ReplaceByNode(graph, y, std::move(pool));
    } else {
      pool.outputs = {absl::StrCat(y->name(), "/pooled")};
      const Node* added = graph.AddNode(std::move(pool));
      const Dims& in = *node->input(0)->type().shape;
      added->output(0)->set_type({DataType::kF32, Dims{in[0], in[1], 1, 1}});
      ReplaceByNode(graph, y,
                    {.op = "Flatten",
                     .name = absl::StrCat(node->name(), "/flatten"),
                     .inputs = {added->output(0)},
                     .attributes = {{"axis", int64_t{1}}}});
    }
    changed = true;
  }
  if (changed) graph.RemoveUnused();
  return changed;
}

}  // namespace halftone
