#include "core/onnx/legacy.h"

#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/ops/evaluate.h"

namespace halftone {
namespace {

// Gives input 1 the missing axes of size 1.
absl::Status AlignOperand(Graph& graph, Node* node) {
  const SymbolicShape& a = node->input(0)->type().shape;
  const SymbolicShape& b = node->input(1)->type().shape;
  if (!a.has_value() || !b.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        Describe(*node), ": the rank of an operand is unknown, which opsets before 7 need"));
  }
  HT_ASSIGN_OR_RETURN(const int64_t missing, MissingAxes(*node, static_cast<int64_t>(a->size()),
                                                         static_cast<int64_t>(b->size())));
  if (missing == 0) return absl::OkStatus();
  std::vector<int64_t> axes;
  for (int64_t i = 0; i < missing; ++i) axes.push_back(static_cast<int64_t>(b->size()) + i);
  const Node* unsqueeze =
      graph.AddNode({.op = "Unsqueeze",
                     .name = absl::StrCat(node->name(), "/aligned"),
                     .inputs = {node->input(1)},
                     .outputs = {absl::StrCat(node->output(0)->name(), "/aligned")},
                     .attributes = {{"axes", std::move(axes)}}});
  graph.SetInput(node, 1, unsqueeze->output(0));
  return absl::OkStatus();
}

}  // namespace

absl::Status ModerniseBroadcasts(Graph& graph) {
  const std::vector<Node*> nodes = graph.nodes();
  for (Node* node : nodes) {
    for (const auto& [name, value] : node->attributes().items()) {
      if (std::holds_alternative<SubgraphPtr>(value)) {
        return absl::UnimplementedError(absl::StrCat(
            Describe(*node), ": nested graphs want opset 7 or newer, got ", graph.opset()));
      }
    }
    if (!node->domain().empty()) continue;
    if (NamesItsAxis(*node)) {
      HT_RETURN_IF_ERROR(AlignOperand(graph, node));
      node->attributes().Erase("axis");
    }
    for (const char* obsolete : {"broadcast", "consumed_inputs", "is_test"}) {
      node->attributes().Erase(obsolete);
    }
  }
  graph.opsets()[""] = kOldestModernOpset;
  return InferShapes(graph);
}

}  // namespace halftone
