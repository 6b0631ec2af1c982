#include <algorithm>
#include <array>
#include <vector>

#include "core/passes/portable.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

// Equal for certain: dimension by dimension, one unknown dimension allowed where the number of
// elements stays the same.
bool SameShape(const Value* a, const Value* b, bool same_count) {
  const SymbolicShape& x = a->type().shape;
  const SymbolicShape& y = b->type().shape;
  if (!x || !y || x->size() != y->size()) return false;
  int unknown = 0;
  for (size_t i = 0; i < x->size(); ++i) {
    if ((*x)[i] == (*y)[i]) {
      // A size of zero says nothing about the other dimensions.
      if ((*x)[i].known() && (*x)[i].value == 0) same_count = false;
      continue;
    }
    if ((*x)[i].known() && (*y)[i].known()) return false;
    ++unknown;
  }
  return unknown == 0 || (unknown == 1 && same_count);
}

bool ChangesNoElement(const Node& node) {
  const Value* x = node.input(0);
  return x != nullptr && SameShape(x, node.output(0), /*same_count=*/true);
}

bool IsInferenceDropout(const Node& node) {
  const Value* mask = node.output(1);
  if (mask != nullptr && (!mask->uses().empty() || mask->is_output())) return false;
  return node.input(2) == nullptr || IsScalar(node.input(2), 0);
}

bool CastsToSameType(const Node& node) {
  const auto& in = node.input(0)->type().type;
  return in && Info(*in).onnx_code == node.attributes().Int("to", -1);
}

bool KeepsOrder(const Node& node) {
  const std::vector<int64_t> perm = node.attributes().Ints("perm");
  if (perm.empty()) return RankOf(node.input(0)) == 0 || RankOf(node.input(0)) == 1;
  for (size_t i = 0; i < perm.size(); ++i) {
    if (perm[i] != static_cast<int64_t>(i)) return false;
  }
  return true;
}

bool PadsNothing(const Node& node) {
  std::vector<int64_t> pads = node.attributes().Ints("pads");
  if (node.input(1) != nullptr) {
    const auto constant = IntsOf(node.input(1));
    if (!constant) return false;
    pads = *constant;
  }
  return std::all_of(pads.begin(), pads.end(), [](int64_t p) { return p == 0; });
}

// A slice as long as the tensor, forwards, takes everything.
bool TakesEverything(const Node& node) {
  if (node.input(4) != nullptr) {
    const auto steps = IntsOf(node.input(4));
    if (!steps || std::any_of(steps->begin(), steps->end(), [](int64_t s) { return s < 0; })) {
      return false;
    }
  }
  return SameShape(node.input(0), node.output(0), /*same_count=*/false);
}

bool ExpandsNothing(const Node& node) {
  return SameShape(node.input(0), node.output(0), /*same_count=*/false);
}

bool HasOneInput(const Node& node) { return node.inputs().size() == 1; }

bool Always(const Node&) { return true; }

struct Rule {
  absl::string_view op;
  bool (*is_identity)(const Node&);  // of input 0
};

constexpr std::array kRules = {
    Rule{"Identity", Always},
    Rule{"Dropout", IsInferenceDropout},
    Rule{"Cast", CastsToSameType},
    Rule{"Reshape", ChangesNoElement},
    Rule{"Flatten", ChangesNoElement},
    Rule{"Squeeze", ChangesNoElement},
    Rule{"Unsqueeze", ChangesNoElement},
    Rule{"Transpose", KeepsOrder},
    Rule{"Pad", PadsNothing},
    Rule{"Slice", TakesEverything},
    Rule{"Expand", ExpandsNothing},
    Rule{"Concat", HasOneInput},
    Rule{"Sum", HasOneInput},
    Rule{"Max", HasOneInput},
    Rule{"Min", HasOneInput},
    Rule{"Mean", HasOneInput},
};

// x·1, x/1, x+0, x−0 where the constant does not broadcast x.
Value* NeutralOperand(const Node& node) {
  const bool commutes = IsOp(&node, "Mul") || IsOp(&node, "Add");
  const bool product = IsOp(&node, "Mul") || IsOp(&node, "Div");
  if (!product && !IsOp(&node, "Add") && !IsOp(&node, "Sub")) return nullptr;
  for (int i = commutes ? 0 : 1; i < 2; ++i) {
    Value* other = node.input(1 - i);
    if (other == nullptr || !IsScalar(node.input(i), product ? 1 : 0, 0)) continue;
    const int constant_rank = RankOf(node.input(i));
    if (constant_rank == 0 || (RankOf(other) >= 0 && constant_rank <= RankOf(other))) return other;
  }
  return nullptr;
}

Value* IdentityOperand(const Node& node) {
  if (!node.domain().empty() || node.output(0) == nullptr) return nullptr;
  for (const Rule& rule : kRules) {
    if (node.op() != rule.op) continue;
    return node.input(0) != nullptr && rule.is_identity(node) ? node.input(0) : nullptr;
  }
  return NeutralOperand(node);
}

// What the file says about the result holds for the operand: a rank, a symbol for a dimension.
void Learn(Value* x, const ValueType& also) {
  ValueType type = x->type();
  if (!type.shape.has_value()) {
    type.shape = also.shape;
  } else if (also.shape.has_value() && also.shape->size() == type.shape->size()) {
    for (size_t i = 0; i < type.shape->size(); ++i) {
      Dim& d = (*type.shape)[i];
      if (!d.known() && (d.symbol.empty() || (*also.shape)[i].known())) d = (*also.shape)[i];
    }
  }
  x->set_type(std::move(type));
}

}  // namespace

absl::StatusOr<bool> RemoveIdentity(Graph& graph) {
  bool changed = false;
  const std::vector<Node*> nodes = graph.nodes();
  for (const Node* node : nodes) {
    Value* x = IdentityOperand(*node);
    Value* y = node->output(0);
    if (x == nullptr || !CanReplace(y, x) || (y->uses().empty() && !y->is_output())) continue;
    if (!x->is_input() && !x->is_constant()) Learn(x, y->type());
    graph.ReplaceUsesKeepingName(y, x);
    changed = true;
  }
  if (changed) graph.RemoveUnused();
  return changed;
}

}  // namespace halftone
