#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/ops/composite.h"
#include "core/passes/portable.h"
#include "core/passes/raise_opset.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

// LayerNormalization as ONNX Runtime writes it into models older than opset 17.
bool IsEarlyLayerNorm(const Graph& graph, const Node& node) {
  return graph.opset() < 17 && IsOp(&node, "LayerNormalization");
}

bool TypesAreKnown(const Node& node) {
  for (const Value* in : node.inputs()) {
    if (in != nullptr && (!in->type().type || !in->type().shape)) return false;
  }
  return true;
}

// Operators of ONNX with integer arithmetic have bodies for the sake of the kernels that recognise
// them; those want everything but activations (a product may have two) to be constant.
bool IsWorthwhile(const Node& node) {
  if (!FindComposite(node)->has_own_row) return true;
  for (size_t i = 1; i < node.inputs().size(); ++i) {
    const Value* in = node.input(static_cast<int>(i));
    const bool activation = i == 3 && IsOp(&node, "QLinearMatMul");
    if (!activation && in != nullptr && !in->is_constant()) return false;
  }
  return true;
}

bool Expands(const Node& node) {
  return FindComposite(node) != nullptr && TypesAreKnown(node) && IsWorthwhile(node);
}

// Copies the body into the graph, in the node's place.
void Splice(Graph& graph, const Node& node, const Graph& body) {
  absl::flat_hash_map<const Value*, Value*> copies;
  auto input = body.inputs().begin();
  for (Value* in : node.inputs()) {
    if (in != nullptr) copies[*input++] = in;
  }
  const auto copy_of = [&](Value* v) -> Value* {
    if (v == nullptr) return nullptr;
    Value*& copy = copies[v];
    if (copy == nullptr) {
      copy = graph.AddConstant(absl::StrCat(node.name(), "/", v->name()), v->constant());
    }
    return copy;
  };
  for (const Node* inner : body.nodes()) {
    NodeSpec spec{.op = inner->op(), .name = absl::StrCat(node.name(), "/", inner->name())};
    for (Value* v : inner->inputs()) spec.inputs.push_back(copy_of(v));
    for (const Value* v : inner->outputs()) {
      spec.outputs.push_back(
          v == nullptr ? "" : graph.UniqueName(absl::StrCat(node.name(), "/", v->name())));
    }
    spec.attributes = inner->attributes();
    const Node* added = graph.AddNode(std::move(spec));
    for (size_t i = 0; i < added->outputs().size(); ++i) {
      if (added->outputs()[i] == nullptr) continue;
      added->outputs()[i]->set_type(inner->outputs()[i]->type());
      copies[inner->outputs()[i]] = added->outputs()[i];
    }
  }
  auto result = body.outputs().begin();
  for (Value* out : node.outputs()) {
    if (out != nullptr) graph.ReplaceUsesKeepingName(out, copies[*result++]);
  }
}

absl::Status Expand(Graph& graph, const Node& node) {
  std::vector<std::optional<ValueType>> types;
  for (const Value* in : node.inputs()) {
    types.push_back(in == nullptr ? std::nullopt : std::optional(in->type()));
  }
  HT_ASSIGN_OR_RETURN(const Graph body, ComposeBody(node, types));
  Splice(graph, node, body);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<bool> ExpandComposites(Graph& graph) {
  bool wanted = false;
  for (const Node* node : graph.nodes()) {
    wanted |= Expands(*node) || IsEarlyLayerNorm(graph, *node);
  }
  // A graph that cannot be raised runs its composites by their rows.
  if (!wanted || !RaiseOpset(graph, kBodyOpset).ok()) return false;
  bool changed = false;
  const std::vector<Node*> nodes = graph.nodes();
  for (const Node* node : nodes) {
    // Whoever infers or runs a node without a body gets the error that says why.
    if (Expands(*node) && Expand(graph, *node).ok()) changed = true;
  }
  if (changed) graph.RemoveUnused();
  return changed;
}

}  // namespace halftone
