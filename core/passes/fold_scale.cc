#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "core/base/status_macros.h"
#include "core/passes/linear.h"
#include "core/passes/portable.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

// What the node after the linear one does: x·scale + shift; an empty part changes nothing.
struct Change {
  std::vector<double> scale, shift;
};

std::optional<Change> ReadChange(const Node& node, const Tensor& constant, bool constant_first,
                                 const Linear& linear) {
  std::optional<std::vector<double>> c = PerOutputChannel(constant, linear);
  if (!c) return std::nullopt;
  Change out;
  if (node.op() == "Mul") {
    out.scale = *c;
  } else if (node.op() == "Div" && !constant_first) {
    for (double v : *c) out.scale.push_back(1.0 / v);
  } else if (node.op() == "Add") {
    out.shift = *c;
  } else if (node.op() == "Sub" && !constant_first) {
    for (double v : *c) out.shift.push_back(-v);
  } else {
    return std::nullopt;
  }
  const auto finite = [](double v) { return std::isfinite(v); };
  const bool sane = std::all_of(out.scale.begin(), out.scale.end(), finite) &&
                    std::all_of(out.shift.begin(), out.shift.end(), finite);
  return sane ? std::optional<Change>(out) : std::nullopt;
}

absl::StatusOr<bool> Apply(Graph& graph, const Linear& linear, const Change& change) {
  if (!change.shift.empty() && !linear.takes_bias) return false;
  std::optional<std::vector<double>> bias;
  if (linear.takes_bias && (!change.shift.empty() || linear.node->input(2) != nullptr)) {
    bias = ReadBias(linear);
    if (!bias) return false;
  }
  if (!change.scale.empty()) {
    HT_RETURN_IF_ERROR(ScaleWeights(graph, linear, change.scale, {}));
  }
  if (!bias) return true;
  for (int64_t c = 0; c < linear.outputs; ++c) {
    (*bias)[c] = (*bias)[c] * (change.scale.empty() ? 1.0 : change.scale[c]) +
                 (change.shift.empty() ? 0.0 : change.shift[c]);
  }
  SetBias(graph, linear, *bias);
  return true;
}

absl::StatusOr<bool> FoldInto(Graph& graph, Node* node) {
  for (int i = 0; i < 2; ++i) {
    const Tensor* constant = FloatConstantOf(node->input(i));
    Value* x = node->input(1 - i);
    if (constant == nullptr || SoleUser(x) != node) continue;
    const std::optional<Linear> linear = AsLinear(x);
    if (!linear) continue;
    const std::optional<Change> change = ReadChange(*node, *constant, i == 0, *linear);
    if (!change) continue;
    HT_ASSIGN_OR_RETURN(const bool folded, Apply(graph, *linear, *change));
    if (!folded) continue;
    graph.ReplaceUsesKeepingName(node->output(0), x);
    return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<bool> FoldScale(Graph& graph) {
  HT_RETURN_IF_ERROR(graph.SortTopologically());  // so that Conv, Mul, Add folds in one sweep
  bool changed = false;
  const std::vector<Node*> nodes = graph.nodes();
  for (Node* node : nodes) {
    const bool candidate =
        IsOp(node, "Mul") || IsOp(node, "Div") || IsOp(node, "Add") || IsOp(node, "Sub");
    if (!candidate || node->output(0) == nullptr) continue;
    HT_ASSIGN_OR_RETURN(const bool folded, FoldInto(graph, node));
    if (!folded) continue;
    // The folded node still reads the linear one and would hide it from the next fold.
    graph.RemoveNode(node);
    changed = true;
  }
  if (changed) graph.RemoveUnused();
  return changed;
}

}  // namespace halftone
