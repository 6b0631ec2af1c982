#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/status_macros.h"
#include "core/passes/accuracy.h"
#include "core/passes/linear.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

constexpr int kMaxRounds = 20;
constexpr double kSettled = 1e-3;         // a round that changes no scale by more is the last
constexpr double kLargestStep = 1 << 10;  // per round: dead channels must not run away

// f(s·x) = s·f(x) for s > 0, channel by channel.
bool IsHomogeneous(const Node& node) {
  for (const char* op : {"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool",
                         "GlobalMaxPool", "Identity"}) {
    if (IsOp(&node, op)) return node.outputs().size() == 1;
  }
  return false;
}

// The layer that alone reads what `first` computes.
Node* NextLayer(const Node& first) {
  const Value* value = first.output(0);
  while (Node* user = SoleUser(value)) {
    if (user->input(0) != value) return nullptr;
    if (AsLinear(user)) return user;
    if (!IsHomogeneous(*user)) return nullptr;
    value = user->output(0);
  }
  return nullptr;
}

std::vector<double> LargestByOutput(const Linear& l) {
  std::vector<double> largest(l.outputs, 0.0);
  const auto w = l.weights->data<float>();
  for (int64_t row = 0; row < l.outputs; ++row) {
    for (int64_t column = 0; column < l.columns(); ++column) {
      largest[row] = std::max<double>(largest[row], std::abs(w[l.IndexOf(row, column)]));
    }
  }
  return largest;
}

// Scales that make both ranges equal; 1 where a channel is dead or not finite.
std::vector<double> EqualizingScales(const Linear& first, const Linear& second) {
  const std::vector<double> r1 = LargestByOutput(first), r2 = LargestByInput(second);
  std::vector<double> scales(r1.size(), 1.0);
  for (size_t i = 0; i < scales.size(); ++i) {
    if (!(r1[i] > 0 && r2[i] > 0) || !std::isfinite(r1[i]) || !std::isfinite(r2[i])) continue;
    scales[i] = std::clamp(std::sqrt(r1[i] / r2[i]), 1 / kLargestStep, kLargestStep);
  }
  return scales;
}

using Pair = std::pair<Node*, Node*>;

// Layers that follow each other with nothing but homogeneous operators in between.
std::vector<Pair> FindPairs(const Graph& graph) {
  std::vector<Pair> pairs;
  for (Node* node : graph.nodes()) {
    const std::optional<Linear> first = AsLinear(node);
    if (!first || node->attributes().Float("alpha", 1.0f) != 1.0f || !ReadBias(*first)) continue;
    Node* next = NextLayer(*node);
    if (next == nullptr) continue;
    const std::optional<Linear> second = AsLinear(next);
    // A pooling of a matrix product would see its columns as space.
    const bool same_axis =
        first->channel_axis == second->input_axis && first->rank == RankOf(next->input(0));
    if (same_axis && first->outputs == second->inputs) pairs.push_back({node, next});
  }
  return pairs;
}

// One step for one pair; returns how far the scales are from 1.
absl::StatusOr<double> Equalize(Graph& graph, const Pair& pair) {
  const Linear first = *AsLinear(pair.first);
  const std::vector<double> scales = EqualizingScales(first, *AsLinear(pair.second));
  double moved = 0;
  std::vector<double> inverse;
  for (double s : scales) {
    inverse.push_back(1 / s);
    moved = std::max(moved, std::abs(std::log(s)));
  }
  if (moved < kSettled) return moved;
  std::optional<std::vector<double>> bias;
  if (first.takes_bias && pair.first->input(2) != nullptr) bias = ReadBias(first);
  HT_RETURN_IF_ERROR(ScaleWeights(graph, first, inverse, {}));
  if (bias) {
    for (size_t i = 0; i < scales.size(); ++i) (*bias)[i] *= inverse[i];
    SetBias(graph, first, *bias);
  }
  // Only now: the layer may be the same constant's other reader.
  HT_RETURN_IF_ERROR(ScaleWeights(graph, *AsLinear(pair.second), {}, scales));
  return moved;
}

}  // namespace

absl::StatusOr<int> EqualizeLayers(Graph& graph) {
  const std::vector<Pair> pairs = FindPairs(graph);
  for (int round = 0; round < kMaxRounds; ++round) {
    double moved = 0;
    for (const Pair& pair : pairs) {
      HT_ASSIGN_OR_RETURN(const double step, Equalize(graph, pair));
      moved = std::max(moved, step);
    }
    if (moved < kSettled) break;
  }
  if (!pairs.empty()) graph.RemoveUnused();
  return static_cast<int>(pairs.size());
}

}  // namespace halftone
