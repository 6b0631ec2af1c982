#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/passes/accuracy.h"
#include "core/passes/linear.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

constexpr double kSmallest = 1e-5;  // scales below would make a channel's weights vanish

// A normalisation over the last axis, whose output is read by products only.
struct Smoothable {
  Node* norm = nullptr;
  std::vector<Node*> products;
};

std::optional<Smoothable> AsSmoothable(Node* node) {
  if (!IsOp(node, "LayerNormalization") || node->output(0) == nullptr) return std::nullopt;
  const Value* out = node->output(0);
  const Tensor* scale = FloatConstantOf(node->input(1));
  if (scale == nullptr || scale->rank() != 1 || out->is_output() || out->uses().empty()) {
    return std::nullopt;
  }
  if (node->input(2) != nullptr) {
    const Tensor* bias = FloatConstantOf(node->input(2));
    if (bias == nullptr || bias->shape() != scale->shape()) return std::nullopt;
  }
  Smoothable found{.norm = node};
  for (Node* user : out->uses()) {
    const std::optional<Linear> linear = AsLinear(user);
    if (!linear || user->input(0) != out || user->input(1) == out) return std::nullopt;
    if (linear->input_axis != RankOf(out) - 1 || linear->inputs != scale->dim(0)) {
      return std::nullopt;
    }
    found.products.push_back(user);
  }
  return found;
}

// The largest weight that each input channel meets, over all products.
std::vector<double> LargestWeights(const Smoothable& found, size_t channels) {
  std::vector<double> largest(channels, 0.0);
  for (Node* product : found.products) {
    const std::vector<double> own = LargestByInput(*AsLinear(product));
    for (size_t i = 0; i < channels; ++i) largest[i] = std::max(largest[i], own[i]);
  }
  return largest;
}

void Divide(Graph& graph, Node* norm, int input, const std::vector<double>& scales) {
  const Tensor& old = norm->input(input)->constant();
  std::vector<float> values(scales.size());
  for (size_t i = 0; i < scales.size(); ++i) {
    values[i] = static_cast<float>(old.data<float>()[i] / scales[i]);
  }
  const Tensor divided = Tensor::Of<float>(old.shape(), absl::MakeConstSpan(values));
  ReplaceConstantInput(graph, norm, input, divided, absl::StrCat(norm->name(), "/smoothed"));
}

}  // namespace

std::vector<std::string> ValuesToSmooth(const Graph& graph) {
  std::vector<std::string> names;
  for (Node* node : graph.nodes()) {
    if (AsSmoothable(node)) names.push_back(node->output(0)->name());
  }
  return names;
}

absl::StatusOr<int> SmoothInputs(Graph& graph, const ChannelStatsMap& stats) {
  int smoothed = 0;
  for (Node* node : graph.nodes()) {
    const std::optional<Smoothable> found = AsSmoothable(node);
    if (!found) continue;
    const auto seen = stats.find(node->output(0)->name());
    const size_t channels = static_cast<size_t>(node->input(1)->constant().dim(0));
    if (seen == stats.end() || seen->second.max_abs.size() != channels) continue;
    const std::vector<double> weights = LargestWeights(*found, channels);
    std::vector<double> scales(channels, 1.0);
    for (size_t j = 0; j < channels; ++j) {
      const double x = seen->second.max_abs[j];
      if (!(x > 0 && weights[j] > 0) || !std::isfinite(x) || !std::isfinite(weights[j])) continue;
      scales[j] = std::max(std::sqrt(x / weights[j]), kSmallest);
    }
    Divide(graph, node, 1, scales);
    if (node->input(2) != nullptr) Divide(graph, node, 2, scales);
    for (Node* product : found->products) {
      HT_RETURN_IF_ERROR(ScaleWeights(graph, *AsLinear(product), {}, scales));
    }
    ++smoothed;
  }
  if (smoothed > 0) graph.RemoveUnused();
  return smoothed;
}

}  // namespace halftone
