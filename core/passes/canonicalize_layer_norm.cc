#include <cmath>
#include <string>
#include <vector>

#include "core/base/status_macros.h"
#include "core/passes/portable.h"
#include "core/passes/raise_opset.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

// ReduceMean over the last axis, kept.
bool IsLastAxisMean(const Value* value) {
  const Node* node = value == nullptr ? nullptr : value->producer();
  if (!IsOp(node, "ReduceMean") || node->attributes().Int("keepdims", 1) == 0) return false;
  std::vector<int64_t> axes = node->attributes().Ints("axes");
  if (node->input(1) != nullptr) axes = IntsOf(node->input(1)).value_or(std::vector<int64_t>{});
  const int rank = RankOf(node->input(0));
  return axes.size() == 1 && (axes[0] == -1 || (rank > 0 && axes[0] == rank - 1));
}

const Node* ProducerIf(const Value* value, absl::string_view op) {
  return value != nullptr && IsOp(value->producer(), op) ? value->producer() : nullptr;
}

// x − mean(x); returns x, or null.
Value* CenteredSource(const Value* centered) {
  const Node* sub = ProducerIf(centered, "Sub");
  if (sub == nullptr || !IsLastAxisMean(sub->input(1))) return nullptr;
  return sub->input(1)->producer()->input(0) == sub->input(0) ? sub->input(0) : nullptr;
}

// Whether `value` is the square of x − mean(x).
bool IsSquareOfCentered(const Value* value, const Value* x) {
  if (const Node* pow = ProducerIf(value, "Pow")) {
    return IsScalar(pow->input(1), 2.0) && CenteredSource(pow->input(0)) == x;
  }
  const Node* mul = ProducerIf(value, "Mul");
  return mul != nullptr && mul->input(0) == mul->input(1) && CenteredSource(mul->input(0)) == x;
}

// √(mean((x − mean(x))²) + ε); returns ε.
std::optional<float> EpsilonOfDeviation(const Value* value, const Value* x) {
  const Node* sqrt = ProducerIf(value, "Sqrt");
  const Node* add = sqrt == nullptr ? nullptr : ProducerIf(sqrt->input(0), "Add");
  if (add == nullptr) return std::nullopt;
  for (int i = 0; i < 2; ++i) {
    const std::optional<double> epsilon = ScalarOf(add->input(i));
    const Value* variance = add->input(1 - i);
    if (!epsilon || !IsLastAxisMean(variance)) continue;
    if (IsSquareOfCentered(variance->producer()->input(0), x)) return static_cast<float>(*epsilon);
  }
  return std::nullopt;
}

struct Normalized {
  Value* x = nullptr;
  float epsilon = 0;
};

// (x − mean) / deviation, or (x − mean) · (1 / deviation).
std::optional<Normalized> ReadNormalized(const Value* value) {
  const Node* node = value == nullptr ? nullptr : value->producer();
  if (!IsOp(node, "Div") && !IsOp(node, "Mul")) return std::nullopt;
  for (int i = 0; i < (node->op() == "Mul" ? 2 : 1); ++i) {
    Value* x = CenteredSource(node->input(i));
    if (x == nullptr) continue;
    const Value* deviation = node->input(1 - i);
    if (node->op() == "Mul") {
      const Node* reciprocal = ProducerIf(deviation, "Reciprocal");
      const Node* division = ProducerIf(deviation, "Div");
      if (reciprocal != nullptr) {
        deviation = reciprocal->input(0);
      } else if (division != nullptr && IsScalar(division->input(0), 1.0)) {
        deviation = division->input(1);
      } else {
        continue;
      }
    }
    const std::optional<float> epsilon = EpsilonOfDeviation(deviation, x);
    if (epsilon) return Normalized{x, *epsilon};
  }
  return std::nullopt;
}

// The operand of a commutative node that is a vector as long as the last axis of `like`.
std::optional<int> VectorOperand(const Node& node, const Value* like) {
  const auto& shape = like->type().shape;
  if (!shape || shape->empty() || !shape->back().known()) return std::nullopt;
  for (int i = 0; i < 2; ++i) {
    const Tensor* t = FloatConstantOf(node.input(i));
    if (t != nullptr && t->rank() == 1 && t->dim(0) == shape->back().value) return i;
  }
  return std::nullopt;
}

bool Rewrite(Graph& graph, Node* mul) {
  const std::optional<int> gamma = VectorOperand(*mul, mul->output(0));
  if (!gamma) return false;
  const std::optional<Normalized> normalized = ReadNormalized(mul->input(1 - *gamma));
  if (!normalized || normalized->x->type().type != DataType::kF32) return false;
  const absl::Status raised = RaiseOpset(graph, 17);
  if (!raised.ok()) return false;  // then the spelled-out form stays

  NodeSpec spec{.op = "LayerNormalization",
                .name = mul->name(),
                .inputs = {normalized->x, mul->input(*gamma)},
                .attributes = {{"axis", int64_t{-1}}, {"epsilon", normalized->epsilon}}};
  Value* y = mul->output(0);
  Node* add = SoleUser(y);
  const std::optional<int> beta =
      IsOp(add, "Add") ? VectorOperand(*add, add->output(0)) : std::nullopt;
  if (beta && add->input(1 - *beta) == y) {
    spec.inputs.push_back(add->input(*beta));
    y = add->output(0);
  }
  ReplaceByNode(graph, y, std::move(spec));
  return true;
}

}  // namespace

absl::StatusOr<bool> CanonicalizeLayerNorm(Graph& graph) {
  bool changed = false;
  const std::vector<Node*> nodes = graph.nodes();
  for (Node* node : nodes) {
    if (!IsOp(node, "Mul") || node->output(0) == nullptr) continue;
    if (node->output(0)->uses().empty() && !node->output(0)->is_output()) continue;
    changed |= Rewrite(graph, node);
  }
  if (changed) graph.RemoveUnused();
  return changed;
}

}  // namespace halftone
