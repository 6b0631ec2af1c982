#include "core/passes/single_precision.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "core/ops/evaluate.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

constexpr int64_t kOnnxFloat = 1, kOnnxDouble = 11;  // TensorProto.DataType
// Attributes that name an element type.
constexpr std::array<absl::string_view, 5> kTypeAttributes = {"dtype", "output_datatype",
                                                              "output_dtype", "stash_type", "to"};

bool IsDouble(const Value* v) { return v != nullptr && v->type().type == DataType::kF64; }

absl::StatusOr<Tensor> Rounded(const Tensor& t) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  HT_ASSIGN_OR_RETURN(Tensor out, Tensor::Create(DataType::kF32, t.shape()));
  const auto from = t.data<double>();
  const auto to = out.mutable_data<float>();
  for (size_t i = 0; i < from.size(); ++i) {
    const double x = from[i];
    to[i] = static_cast<float>(std::isfinite(x) ? std::clamp(x, -kLargest, kLargest) : x);
  }
  return out;
}

absl::Status RewriteInside(Graph& graph);

absl::Status RewriteAttributes(Node& node) {
  std::vector<std::pair<std::string, Attribute>> changed;
  for (const auto& [name, value] : node.attributes().items()) {
    if (const auto* nested = std::get_if<SubgraphPtr>(&value); nested != nullptr && *nested) {
      Graph copy = (*nested)->Clone();
      for (Value* in : copy.inputs()) {
        if (IsDouble(in)) in->set_type({DataType::kF32, in->type().shape});
      }
      HT_RETURN_IF_ERROR(RewriteInside(copy));
      changed.emplace_back(name, std::make_shared<const Graph>(std::move(copy)));
    } else if (const auto* tensor = std::get_if<Tensor>(&value);
               tensor != nullptr && tensor->type() == DataType::kF64) {
      HT_ASSIGN_OR_RETURN(Tensor rounded, Rounded(*tensor));
      changed.emplace_back(name, std::move(rounded));
    } else if (const auto* type = std::get_if<int64_t>(&value);
               type != nullptr && *type == kOnnxDouble &&
               std::find(kTypeAttributes.begin(), kTypeAttributes.end(), name) !=
                   kTypeAttributes.end()) {
      changed.emplace_back(name, kOnnxFloat);
    }
  }
  for (auto& [name, value] : changed) node.attributes().Set(name, std::move(value));
  return absl::OkStatus();
}

// Constants, attributes and types of computed values.
absl::Status RewriteInside(Graph& graph) {
  for (Value* v : graph.values()) {
    if (!IsDouble(v) || v->is_input()) continue;
    if (v->is_constant()) {
      HT_ASSIGN_OR_RETURN(Tensor rounded, Rounded(v->constant()));
      graph.SetConstant(v, std::move(rounded));
    } else {
      v->set_type({std::nullopt, v->type().shape});
    }
  }
  for (Node* node : graph.nodes()) HT_RETURN_IF_ERROR(RewriteAttributes(*node));
  return absl::OkStatus();
}

Node* AddCast(Graph& graph, Value* from, int64_t to, const std::string& name) {
  return graph.AddNode({.op = "Cast",
                        .name = absl::StrCat(name, "_Cast"),
                        .inputs = {from},
                        .outputs = {name},
                        .attributes = {{"to", to}}});
}

// Every node that read `from` reads `to`.
void ReadInstead(Graph& graph, const std::vector<Node*>& users, const Value* from, Value* to) {
  for (Node* user : users) {
    for (int i = 0; i < static_cast<int>(user->inputs().size()); ++i) {
      if (user->input(i) == from) graph.SetInput(user, i, to);
    }
  }
}

void CastInput(Graph& graph, Value* input) {
  const std::vector<Node*> users = input->uses();
  if (users.empty()) return;
  Node* cast = AddCast(graph, input, kOnnxFloat, absl::StrCat(input->name(), "_f32"));
  ReadInstead(graph, users, input, cast->output(0));
}

void CastOutput(Graph& graph, Value* computed) {
  const std::string name = computed->name();
  const std::vector<Node*> users = computed->uses();
  graph.RenameValue(computed, graph.UniqueName(absl::StrCat(name, "_f32")));
  Node* cast = AddCast(graph, computed, kOnnxDouble, name);
  graph.ReplaceUses(computed, cast->output(0));
  ReadInstead(graph, users, cast->output(0), computed);
  graph.SetInput(cast, 0, computed);
}

}  // namespace

bool ComputesInDoubles(const Graph& graph) {
  for (const Node* node : graph.nodes()) {
    for (const auto& [name, value] : node->attributes().items()) {
      const auto* nested = std::get_if<SubgraphPtr>(&value);
      if (nested != nullptr && *nested && ComputesInDoubles(**nested)) return true;
    }
    if (IsOp(node, "Cast")) continue;
    const auto any = [](const std::vector<Value*>& values) {
      return std::any_of(values.begin(), values.end(), IsDouble);
    };
    if (any(node->inputs()) || any(node->outputs())) return true;
  }
  return false;
}

absl::Status ComputeInSingles(Graph& graph) {
  std::vector<Value*> inputs, outputs;
  for (Value* v : graph.inputs()) {
    if (IsDouble(v)) inputs.push_back(v);
  }
  for (Value* v : graph.outputs()) {
    const bool seen = std::find(outputs.begin(), outputs.end(), v) != outputs.end();
    if (IsDouble(v) && !v->is_input() && !seen) outputs.push_back(v);
  }
  HT_RETURN_IF_ERROR(RewriteInside(graph));
  for (Value* v : inputs) CastInput(graph, v);
  for (Value* v : outputs) CastOutput(graph, v);
  HT_RETURN_IF_ERROR(InferShapes(graph, {.fold_elements = 0}));
  return graph.Verify();
}

}  // namespace halftone
