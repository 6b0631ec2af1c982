#include <algorithm>
#include <string>
#include <vector>

#include "core/passes/portable.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

// Padding of the spatial axes, begins then ends, if that is all the node does, with zeros.
std::optional<std::vector<int64_t>> ZeroSpatialPads(const Node& pad, int opset) {
  if (pad.attributes().String("mode", "constant") != "constant") return std::nullopt;
  const int rank = RankOf(pad.input(0));
  if (rank < 3) return std::nullopt;
  std::optional<std::vector<int64_t>> pads;
  if (opset < 11) {
    if (pad.attributes().Float("value", 0.0f) != 0.0f) return std::nullopt;
    pads = pad.attributes().Ints("pads");
  } else {
    if (pad.input(2) != nullptr && !IsScalar(pad.input(2), 0.0, 0.0)) return std::nullopt;
    if (pad.input(3) != nullptr) return std::nullopt;
    pads = IntsOf(pad.input(1));
  }
  if (!pads || static_cast<int>(pads->size()) != 2 * rank) return std::nullopt;
  std::vector<int64_t> spatial;
  for (int i = 0; i < 2 * rank; ++i) {
    const int64_t p = (*pads)[i];
    const bool is_spatial = i % rank >= 2;
    if (p < 0 || (!is_spatial && p != 0)) return std::nullopt;
    if (is_spatial) spatial.push_back(p);
  }
  return spatial;
}

bool HasExplicitPads(const Node& node) {
  const std::string mode = node.attributes().String("auto_pad", "NOTSET");
  return mode == "NOTSET" || mode == "VALID";
}

std::vector<int64_t> AddedPads(const Node& node, const std::vector<int64_t>& extra) {
  std::vector<int64_t> pads = node.attributes().Ints("pads");
  if (pads.empty() || node.attributes().String("auto_pad", "NOTSET") == "VALID") {
    pads.assign(extra.size(), 0);
  }
  if (pads.size() != extra.size()) return {};
  for (size_t i = 0; i < pads.size(); ++i) pads[i] += extra[i];
  return pads;
}

// An average counts pads that the Pad node made; it must go on doing so, and its own must not have
// been left out until now.
bool PoolTakesPads(const Node& pool, const std::vector<int64_t>& pads) {
  const std::vector<int64_t> own = pool.attributes().Ints("pads");
  const bool own_zero = std::all_of(own.begin(), own.end(), [](int64_t p) { return p == 0; });
  if (pool.attributes().Int("count_include_pad", 0) == 0 && !own_zero) return false;
  if (pool.attributes().Int("ceil_mode", 0) != 0) return false;
  // Runtimes want every pad to be smaller than the window.
  const std::vector<int64_t> kernel = pool.attributes().Ints("kernel_shape");
  if (kernel.size() * 2 != pads.size()) return false;
  for (size_t i = 0; i < pads.size(); ++i) {
    if (pads[i] >= kernel[i % kernel.size()]) return false;
  }
  return true;
}

bool FoldInto(Graph& graph, const Node& pad, Node* user) {
  const bool pool = IsOp(user, "AveragePool");
  if ((!IsOp(user, "Conv") && !pool) || user->input(0) != pad.output(0)) return false;
  if (!HasExplicitPads(*user)) return false;
  const auto extra = ZeroSpatialPads(pad, graph.opset());
  if (!extra) return false;
  const std::vector<int64_t> pads = AddedPads(*user, *extra);
  if (pads.empty() || (pool && !PoolTakesPads(*user, pads))) return false;
  user->attributes().Set("pads", pads);
  user->attributes().Erase("auto_pad");
  if (pool) user->attributes().Set("count_include_pad", int64_t{1});
  graph.SetInput(user, 0, pad.input(0));
  return true;
}

}  // namespace

absl::StatusOr<bool> FoldPad(Graph& graph) {
  bool changed = false;
  const std::vector<Node*> nodes = graph.nodes();
  for (const Node* node : nodes) {
    if (!IsOp(node, "Pad") || node->input(0) == nullptr || node->output(0) == nullptr) continue;
    if (node->output(0)->is_output()) continue;
    // The Pad may feed other nodes too; those keep it.
    const std::vector<Node*> users = node->output(0)->uses();
    for (Node* user : users) changed |= FoldInto(graph, *node, user);
  }
  if (changed) graph.RemoveUnused();
  return changed;
}

}  // namespace halftone
