// FormUnits: which nodes run together, and in which order.
#include <algorithm>

#include "absl/algorithm/container.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "core/exec/lowering.h"

namespace halftone {
namespace {

using NodeSet = absl::flat_hash_set<const Node*>;

void AddInput(Unit& unit, const Value* v) {
  if (v != nullptr) unit.inputs.push_back(v);
}

void AddQuantInputs(Unit& unit, const TensorQuant& q) {
  AddInput(unit, q.quantized);
  if (!q.is_static) {
    AddInput(unit, q.scale_value);
    AddInput(unit, q.zero_point_value);
  }
}

// The operands that stay outside: x, w (or its stored constant), bias, residuals.
Unit ComputeUnit(ComputeMatch match) {
  Unit unit;
  unit.anchor = match.anchor;
  unit.nodes = {match.anchor};
  if (match.input_quant) {
    AddQuantInputs(unit, *match.input_quant);
  } else if (match.row_quant) {
    for (const Value* v :
         {match.row_quant->codes, match.row_quant->scale, match.row_quant->zero_point}) {
      AddInput(unit, v);
    }
  } else {
    AddInput(unit, match.input);
  }
  if (match.weights) {
    AddInput(unit, match.weights->constant);
  } else if (match.right_quant) {
    AddQuantInputs(unit, *match.right_quant);
  } else {
    AddInput(unit, match.anchor->input(1));
  }
  AddInput(unit, match.bias);
  for (const TailOp& op : match.tail) {
    unit.nodes.insert(unit.nodes.end(), op.nodes.begin(), op.nodes.end());
    if (op.other_quant) {
      AddQuantInputs(unit, *op.other_quant);
    } else {
      AddInput(unit, op.other);
    }
  }
  if (match.transpose_result) unit.nodes.push_back(match.transpose_result->node);
  unit.match = std::make_shared<const ComputeMatch>(std::move(match));
  return unit;
}

// Adds what follows the unit's last node up to a static QuantizeLinear: nothing, or a Relu where
// `allow_relu`. False when something else reads or follows the values in between.
bool ExtendToQuantize(Unit& unit, bool allow_relu, const NodeSet& taken) {
  for (int hop = 0; hop < 2; ++hop) {
    const Value* v = unit.nodes.back()->output(0);
    if (v->is_output() || v->uses().size() != 1 || taken.contains(v->uses()[0])) return false;
    Node* next = v->uses()[0];
    unit.nodes.push_back(next);
    if (MatchQuantize(*next)) return true;
    if (!allow_relu || next->op() != "Relu") return false;
  }
  return false;
}

// DQ, DQ → Add [→ Relu] → Q: integer addition without a float tensor in between.
std::optional<Unit> QuantizedAddUnit(Node* add, const NodeSet& taken) {
  if (add->op() != "Add" || add->inputs().size() != 2) return std::nullopt;
  Unit unit{.anchor = add, .nodes = {add}};
  for (const Value* in : add->inputs()) {
    const auto q = MatchDequantize(in);
    if (!q || !q->is_static ||
        Concrete(in->type().shape) != Concrete(add->output(0)->type().shape)) {
      return std::nullopt;
    }
    AddQuantInputs(unit, *q);
  }
  if (!ExtendToQuantize(unit, /*allow_relu=*/true, taken)) return std::nullopt;
  return unit;
}

// DQ → Mul by one factor per channel → Q, likewise.
std::optional<Unit> QuantizedScaleUnit(Node* mul, const NodeSet& taken) {
  const auto scale = MatchQuantizedScale(*mul);
  if (!scale) return std::nullopt;
  Unit unit{.anchor = mul, .nodes = {mul}};
  AddQuantInputs(unit, scale->x);
  AddInput(unit, scale->gain);
  if (!ExtendToQuantize(unit, /*allow_relu=*/false, taken)) return std::nullopt;
  return unit;
}

// Any function of one 8-bit tensor that ends in this QuantizeLinear.
std::optional<Unit> ByteFunctionUnit(Node* quantize, const NodeSet& taken) {
  auto f = MatchByteFunction(quantize, [&](const Node* n) { return taken.contains(n); });
  if (!f) return std::nullopt;
  Unit unit{.anchor = quantize, .nodes = f->nodes};
  AddQuantInputs(unit, f->x);
  unit.byte_function = std::make_shared<const ByteFunction>(*std::move(f));
  return unit;
}

// The Cast or DequantizeLinear of constants that makes this value; null: there is none.
const Node* WidensConstants(const Value* value) {
  const Node* node = value->producer();
  if (node == nullptr || (node->op() != "Cast" && node->op() != "DequantizeLinear")) return nullptr;
  const auto constant = [](const Value* v) { return v == nullptr || v->is_constant(); };
  return absl::c_all_of(node->inputs(), constant) ? node : nullptr;
}

}  // namespace

Unit SingleUnit(Node* node) {
  // Nothing behind the node is free to be absorbed.
  if (auto match = MatchCompute(node, [](const Node*) { return true; })) {
    return ComputeUnit(*std::move(match));
  }
  Unit unit{.anchor = node, .nodes = {node}};
  if (node->op() == "GlobalAveragePool") {
    if (const auto q = MatchDequantize(node->input(0)); q && q->is_static) {
      AddQuantInputs(unit, *q);
      return unit;
    }
  }
  const bool recurrent = node->op() == "LSTM" || node->op() == "GRU" || node->op() == "RNN";
  for (const Value* in : node->inputs()) {
    // The layer packs weights as they are stored: nothing runs to widen them.
    const Node* widen = recurrent && in != nullptr ? WidensConstants(in) : nullptr;
    if (widen == nullptr) {
      AddInput(unit, in);
    } else {
      for (const Value* stored : widen->inputs()) AddInput(unit, stored);
    }
  }
  return unit;
}

absl::StatusOr<std::vector<Unit>> FormUnits(const Graph& graph) {
  NodeSet taken;
  const auto is_taken = [&](const Node* n) { return taken.contains(n); };
  std::vector<Unit> units;
  const auto take = [&](Unit unit) {
    taken.insert(unit.nodes.begin(), unit.nodes.end());
    units.push_back(std::move(unit));
  };
  // Heavy nodes choose first, so that an addition fuses with the convolution before it.
  for (Node* node : graph.nodes()) {
    if (taken.contains(node)) continue;
    if (auto match = MatchCompute(node, is_taken)) take(ComputeUnit(*std::move(match)));
  }
  // From the end: a function may hold another.
  for (auto it = graph.nodes().rbegin(); it != graph.nodes().rend(); ++it) {
    if (taken.contains(*it)) continue;
    if (auto function = ByteFunctionUnit(*it, taken)) take(*std::move(function));
  }
  for (Node* node : graph.nodes()) {
    if (taken.contains(node)) continue;
    if (auto add = QuantizedAddUnit(node, taken)) take(*std::move(add));
    if (auto scale = QuantizedScaleUnit(node, taken)) take(*std::move(scale));
  }
  for (Node* node : graph.nodes()) {
    if (!taken.contains(node)) take(SingleUnit(node));
  }
  // A unit runs where its last node stood: by then everything that it reads exists.
  absl::flat_hash_map<const Node*, int> position;
  for (Node* node : graph.nodes()) position[node] = static_cast<int>(position.size());
  std::sort(units.begin(), units.end(), [&](const Unit& a, const Unit& b) {
    return position[a.nodes.back()] < position[b.nodes.back()];
  });
  absl::flat_hash_set<const Value*> wanted(graph.outputs().begin(), graph.outputs().end());
  std::vector<Unit> needed;
  for (auto it = units.rbegin(); it != units.rend(); ++it) {
    const auto& outputs = it->nodes.back()->outputs();
    if (std::none_of(outputs.begin(), outputs.end(),
                     [&](const Value* v) { return v != nullptr && wanted.contains(v); })) {
      continue;
    }
    wanted.insert(it->inputs.begin(), it->inputs.end());
    needed.push_back(std::move(*it));
  }
  std::reverse(needed.begin(), needed.end());
  return needed;
}

}  // namespace halftone
