#include "core/passes/rewrite_util.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "core/ops/row_quant.h"
#include "core/ops/unpack.h"

namespace halftone {

bool IsOp(const Node* node, absl::string_view op) {
  return node != nullptr && node->domain().empty() && node->op() == op;
}

const Tensor* ConstantOf(const Value* value) {
  return value != nullptr && value->is_constant() ? &value->constant() : nullptr;
}

const Tensor* FloatConstantOf(const Value* value) {
  const Tensor* t = ConstantOf(value);
  return t != nullptr && t->type() == DataType::kF32 ? t : nullptr;
}

std::optional<double> ScalarOf(const Value* value) {
  const Tensor* t = ConstantOf(value);
  if (t == nullptr || t->num_elements() != 1 || BitWidth(t->type()) < 8) return std::nullopt;
  const absl::StatusOr<Tensor> wide = Convert(*t, DataType::kF64);
  return wide.ok() ? std::optional<double>(wide->data<double>()[0]) : std::nullopt;
}

bool IsScalar(const Value* value, double want, double tolerance) {
  const std::optional<double> got = ScalarOf(value);
  return got && std::abs(*got - want) <= tolerance;
}

std::optional<std::vector<int64_t>> IntsOf(const Value* value) {
  const Tensor* t = ConstantOf(value);
  if (t == nullptr) return std::nullopt;
  const absl::StatusOr<Shape> ints = ToInt64s(*t);
  if (!ints.ok()) return std::nullopt;
  return std::vector<int64_t>(ints->begin(), ints->end());
}

int RankOf(const Value* value) {
  return value != nullptr && value->type().shape ? static_cast<int>(value->type().shape->size())
                                                 : -1;
}

Node* SoleUser(const Value* value) {
  return value != nullptr && value->uses().size() == 1 && !value->is_output() ? value->uses()[0]
                                                                              : nullptr;
}

bool CanReplace(const Value* from, const Value* to) {
  return !from->is_output() || (!to->is_input() && !to->is_output());
}

Node* ReplaceByNode(Graph& graph, Value* replaced, NodeSpec spec) {
  spec.outputs = {graph.UniqueName(replaced->name())};
  Node* node = graph.AddNode(std::move(spec));
  node->output(0)->set_type(replaced->type());
  graph.ReplaceUsesKeepingName(replaced, node->output(0));
  return node;
}

void ReplaceConstantInput(Graph& graph, Node* node, int index, Tensor tensor,
                          absl::string_view name) {
  Value* old = node->input(index);
  if (old != nullptr && old->is_constant() && SoleUser(old) == node) {
    graph.SetConstant(old, std::move(tensor));
    return;
  }
  graph.SetInput(node, index, graph.AddConstant(std::string(name), std::move(tensor)));
}

std::optional<int> NormalAxis(int64_t axis, int rank) {
  if (axis < -rank || axis >= rank) return std::nullopt;
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

bool IsQuantization(const Node& node) {
  return node.op() == "QuantizeLinear" || node.op() == "DequantizeLinear" ||
         node.op() == "DynamicQuantizeLinear" || UnpacksWeights(node) || QuantizesRows(node);
}

}  // namespace halftone
