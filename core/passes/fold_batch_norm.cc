#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/passes/portable.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

// y = x·scale + shift, per channel.
struct ScaleShift {
  std::vector<float> scale, shift;
};

std::optional<ScaleShift> ReadStatistics(const Node& node) {
  const Tensor* parts[4];  // gamma, beta, mean, variance
  for (int i = 0; i < 4; ++i) {
    parts[i] = FloatConstantOf(node.input(i + 1));
    if (parts[i] == nullptr || parts[i]->rank() != 1 || parts[i]->dim(0) != parts[0]->dim(0)) {
      return std::nullopt;
    }
  }
  const double epsilon = node.attributes().Float("epsilon", 1e-5f);
  ScaleShift out;
  for (int64_t c = 0; c < parts[0]->dim(0); ++c) {
    const double scale =
        parts[0]->data<float>()[c] / std::sqrt(parts[3]->data<float>()[c] + epsilon);
    const double shift = parts[1]->data<float>()[c] - parts[2]->data<float>()[c] * scale;
    if (!std::isfinite(scale) || !std::isfinite(shift)) return std::nullopt;
    out.scale.push_back(static_cast<float>(scale));
    out.shift.push_back(static_cast<float>(shift));
  }
  return out;
}

bool IsFoldable(const Node& node) {
  if (!IsOp(&node, "BatchNormalization") || RankOf(node.input(0)) < 2) return false;
  if (node.input(0)->type().type != DataType::kF32) return false;
  if (node.attributes().Int("training_mode", 0) != 0 || node.attributes().Int("spatial", 1) != 1) {
    return false;
  }
  for (size_t i = 1; i < node.outputs().size(); ++i) {  // running statistics
    const Value* extra = node.outputs()[i];
    if (extra != nullptr && (!extra->uses().empty() || extra->is_output())) return false;
  }
  return node.output(0) != nullptr;
}

}  // namespace

absl::StatusOr<bool> FoldBatchNorm(Graph& graph) {
  bool changed = false;
  const std::vector<Node*> nodes = graph.nodes();
  for (Node* node : nodes) {
    if (!IsFoldable(*node)) continue;
    const std::optional<ScaleShift> folded = ReadStatistics(*node);
    if (!folded) continue;
    Shape shape(RankOf(node->input(0)) - 1, 1);  // channels, then ones for the spatial axes
    shape[0] = static_cast<int64_t>(folded->scale.size());
    const std::string name = node->name();
    Value* scale = graph.AddConstant(absl::StrCat(name, "/scale"),
                                     Tensor::Of<float>(shape, absl::MakeConstSpan(folded->scale)));
    Value* shift = graph.AddConstant(absl::StrCat(name, "/shift"),
                                     Tensor::Of<float>(shape, absl::MakeConstSpan(folded->shift)));
    Value* y = node->output(0);
    const Node* mul = graph.AddNode({.op = "Mul",
                                     .name = absl::StrCat(name, "/mul"),
                                     .inputs = {node->input(0), scale},
                                     .outputs = {absl::StrCat(y->name(), "/scaled")}});
    mul->output(0)->set_type(y->type());
    ReplaceByNode(
        graph, y,
        {.op = "Add", .name = absl::StrCat(name, "/add"), .inputs = {mul->output(0), shift}});
    changed = true;
  }
  if (changed) graph.RemoveUnused();
  return changed;
}

}  // namespace halftone
