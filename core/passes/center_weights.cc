#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/ops/evaluate.h"
#include "core/passes/portable.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

// Bytes that are unsigned or have a zero point.
bool IsOffCenter(const Node& node) {
  if (!IsOp(&node, "DequantizeLinear")) return false;
  const Tensor* weights = ConstantOf(node.input(0));
  if (weights == nullptr || BitWidth(weights->type()) != 8 || weights->num_elements() == 0) {
    return false;
  }
  if (node.input(2) == nullptr) return weights->type() == DataType::kU8;
  const Tensor* zero = ConstantOf(node.input(2));
  if (zero == nullptr) return false;
  const auto bytes = zero->bytes();
  return weights->type() == DataType::kU8 ||
         std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; });
}

// Weights minus zero points as i8; nullopt where a difference has nine bits.
std::optional<Tensor> Centered(const Graph& graph, const Node& node) {
  const Tensor* scale = ConstantOf(node.input(1));
  if (scale == nullptr || scale->type() != DataType::kF32) return std::nullopt;
  // The operator itself knows which zero point belongs to which weight.
  const std::vector<float> ones(static_cast<size_t>(scale->num_elements()), 1.0f);
  const Tensor unit = Tensor::Of<float>(scale->shape(), ones);
  const auto differences =
      EvaluateNode(graph, node, {ConstantOf(node.input(0)), &unit, ConstantOf(node.input(2))});
  if (!differences.ok() || (*differences)[0].type() != DataType::kF32) return std::nullopt;
  const auto values = (*differences)[0].data<float>();
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  if (*low < -128 || *high > 127) return std::nullopt;
  absl::StatusOr<Tensor> narrow = Convert((*differences)[0], DataType::kI8);
  return narrow.ok() ? std::optional(*std::move(narrow)) : std::nullopt;
}

}  // namespace

absl::StatusOr<bool> CenterWeights(Graph& graph) {
  bool changed = false;
  for (Node* node : graph.nodes()) {
    if (!IsOffCenter(*node)) continue;
    std::optional<Tensor> centered = Centered(graph, *node);
    if (!centered) continue;
    const std::string name = absl::StrCat(node->input(0)->name(), "_centered");
    graph.SetInput(node, 0, graph.AddConstant(name, *std::move(centered)));
    graph.SetInput(node, 2, nullptr);
    changed = true;
  }
  if (changed) graph.RemoveUnused();
  return changed;
}

}  // namespace halftone
