#include <limits>
#include <vector>

#include "core/base/checked_math.h"
#include "core/base/status_macros.h"
#include "core/ops/eval_budget.h"
#include "core/ops/evaluate.h"
#include "core/ops/random.h"
#include "core/ops/registry.h"
#include "core/passes/portable.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

// A node whose result is larger than its inputs may make this much, and so may all nodes together.
constexpr int64_t kMaxBytes = int64_t{64} << 20;
// Casts of constants up to this size are shape arithmetic; larger ones unpack stored weights.
constexpr int64_t kMaxWidenedElements = 4096;

// -1: not known before evaluation.
int64_t OutputBytes(const Node& node) {
  int64_t total = 0;
  for (const Value* out : node.outputs()) {
    if (out == nullptr) continue;
    const std::optional<Shape> shape = Concrete(out->type().shape);
    if (!shape || !out->type().type) return -1;
    const absl::StatusOr<int64_t> elements = NumElements(*shape);
    if (!elements.ok()) return -1;
    const absl::StatusOr<int64_t> bytes = PackedBytes(*elements, BitWidth(*out->type().type));
    if (!bytes.ok() || __builtin_add_overflow(total, *bytes, &total)) return -1;
  }
  return total;
}

bool WidensStoredWeights(const Node& node) {
  if (!IsOp(&node, "Cast") && !IsOp(&node, "CastLike")) return false;
  const Tensor& in = node.input(0)->constant();
  const auto out = node.output(0) == nullptr ? std::nullopt : node.output(0)->type().type;
  return in.num_elements() > kMaxWidenedElements && (!out || BitWidth(*out) > BitWidth(in.type()));
}

bool ShouldFold(const Graph& graph, const Node& node) {
  int64_t input_bytes = 0;
  for (const Value* in : node.inputs()) {
    if (in == nullptr) continue;
    if (!in->is_constant()) return false;
    input_bytes += in->constant().num_bytes();
  }
  // Quantized weights stay so; weights that a file quantizes (as training leaves them) become it.
  const bool stays_quantized = IsQuantization(node) && !IsOp(&node, "QuantizeLinear");
  if (IsRandom(node) || stays_quantized || HasSubgraph(node)) return false;
  if (FindOp(graph, node) == nullptr || node.inputs().empty() || node.input(0) == nullptr) {
    return false;
  }
  if (WidensStoredWeights(node)) return false;
  const int64_t bytes = OutputBytes(node);
  return bytes >= 0 && (bytes <= kMaxBytes || bytes <= input_bytes);
}

int64_t ConstantBytes(const Graph& graph) {
  int64_t total = 0;
  for (const Value* v : graph.values()) {
    if (v->is_constant()) total += v->constant().num_bytes();
  }
  return total;
}

// Bytes by which folding the node lets the graph grow: inputs that nobody else reads vanish.
int64_t Growth(const Node& node) {
  int64_t bytes = OutputBytes(node);
  for (const Value* in : node.inputs()) {
    if (in != nullptr && in->uses().size() == 1) bytes -= in->constant().num_bytes();
  }
  return bytes;
}

}  // namespace

absl::StatusOr<bool> FoldConstants(Graph& graph) {
  HT_RETURN_IF_ERROR(graph.SortTopologically());  // so that one sweep folds whole chains
  // A few bytes of a file can ask for much; a large file may.
  const int64_t constant_bytes = ConstantBytes(graph);
  int64_t room = kMaxBytes + constant_bytes / 4;
  const ScopedEvalBudget budget(
      {.work = (1 << 27) + 16 * constant_bytes, .bytes = std::numeric_limits<int64_t>::max()});
  bool changed = false;
  const std::vector<Node*> nodes = graph.nodes();
  for (Node* node : nodes) {
    if (!ShouldFold(graph, *node) || Growth(*node) > room) continue;
    room -= Growth(*node);
    std::vector<const Tensor*> inputs;
    for (const Value* in : node->inputs()) inputs.push_back(ConstantOf(in));
    absl::StatusOr<std::vector<Tensor>> results = EvaluateNode(graph, *node, inputs);
    if (!results.ok()) continue;  // whoever runs the node gets this error with its own inputs
    const std::vector<Value*> outputs = node->outputs();
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i] != nullptr) graph.MakeConstant(outputs[i], std::move((*results)[i]));
    }
    changed = true;
  }
  if (changed) graph.RemoveUnused();
  return changed;
}

}  // namespace halftone
