#include "core/variant/trainable.h"

#include <cstring>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/ops/evaluate.h"
#include "core/ops/op_def.h"
#include "core/tensor/tensor.h"

namespace halftone {
namespace {

// DequantizeLinear of constants alone.
bool WidensConstant(const Node& node) {
  if (node.op() != "DequantizeLinear" || !node.domain().empty()) return false;
  for (const Value* in : node.inputs()) {
    if (in != nullptr && !in->is_constant()) return false;
  }
  return node.inputs().size() >= 2 && node.input(0) != nullptr && node.input(1) != nullptr;
}

// What `fp32` has where a reader of `v` takes it from; null when it has no f32 constant like it.
const Tensor* Original(const Graph& fp32, const Value& v) {
  for (const Node* user : v.uses()) {
    if (user->output(0) == nullptr) continue;
    const Value* there = fp32.FindValue(user->output(0)->name());
    if (there == nullptr || there->producer() == nullptr) continue;
    for (size_t i = 0; i < user->inputs().size(); ++i) {
      const Value* weights = there->producer()->input(static_cast<int>(i));
      if (user->inputs()[i] == &v && weights != nullptr && weights->is_constant() &&
          weights->type().type == DataType::kF32 && v.type().shape &&
          Dims(weights->constant().shape().begin(), weights->constant().shape().end()) ==
              *v.type().shape) {
        return &weights->constant();
      }
    }
  }
  return nullptr;
}

// What the node makes of its constants, or with `first` in place of input 0.
absl::StatusOr<Tensor> Evaluate(const Graph& graph, const Node& node,
                                const Tensor* first = nullptr) {
  std::vector<const Tensor*> inputs;
  for (const Value* in : node.inputs()) {
    inputs.push_back(in == nullptr ? nullptr : &in->constant());
  }
  if (first != nullptr) inputs[0] = first;
  HT_ASSIGN_OR_RETURN(std::vector<Tensor> outputs, EvaluateNode(graph, node, inputs));
  return std::move(outputs[0]);
}

// QuantizeLinear wants a zero point of the stored type; without one that would be u8.
absl::StatusOr<Value*> ZeroPointOf(Graph& graph, const Node& dequantize) {
  if (Value* given = dequantize.input(2); given != nullptr) return given;
  HT_ASSIGN_OR_RETURN(Tensor zero_point, Tensor::Create(dequantize.input(0)->constant().type(),
                                                        dequantize.input(1)->constant().shape()));
  std::memset(zero_point.mutable_raw(), 0, static_cast<size_t>(zero_point.num_bytes()));
  return graph.AddConstant(absl::StrCat(dequantize.input(0)->name(), "_zero_point"), zero_point);
}

absl::Status Unquantize(const Graph& fp32, Graph& graph, Node* dequantize) {
  Value* const stored = dequantize->input(0);
  const std::string& name = dequantize->output(0)->name();
  HT_ASSIGN_OR_RETURN(Tensor weights, Evaluate(graph, *dequantize));
  const Tensor* original = Original(fp32, *dequantize->output(0));
  HT_ASSIGN_OR_RETURN(Value* const zero_point, ZeroPointOf(graph, *dequantize));
  Value* const trained =
      graph.AddConstant(absl::StrCat(name, "_weights"), original == nullptr ? weights : *original);
  Node* quantize = graph.AddNode({.op = "QuantizeLinear",
                                  .name = absl::StrCat(name, "_QuantizeLinear"),
                                  .inputs = {trained, dequantize->input(1), zero_point},
                                  .outputs = {absl::StrCat(name, "_quantized")},
                                  .attributes = dequantize->attributes()});
  quantize->output(0)->set_type(stored->type());
  if (original != nullptr) {
    HT_ASSIGN_OR_RETURN(const Tensor rounded, Evaluate(graph, *quantize));
    HT_ASSIGN_OR_RETURN(const Tensor got, Evaluate(graph, *dequantize, &rounded));
    const absl::Span<float> to = weights.mutable_data<float>();
    for (size_t i = 0; i < to.size(); ++i) {
      if (got.data<float>()[i] == to[i]) to[i] = original->data<float>()[i];
    }
    graph.SetConstant(trained, std::move(weights));
  }
  graph.SetInput(dequantize, 0, quantize->output(0));
  if (dequantize->input(2) == nullptr) graph.SetInput(dequantize, 2, zero_point);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Graph> MakeTrainable(const Graph& fp32, const Graph& variant) {
  Graph graph = variant.Clone();
  bool any = false;
  const std::vector<Node*> nodes = graph.nodes();
  for (Node* node : nodes) {
    if (!WidensConstant(*node)) continue;
    HT_RETURN_IF_ERROR(Annotate(Unquantize(fp32, graph, node), Describe(*node)));
    any = true;
  }
  if (!any) {
    return absl::FailedPreconditionError(
        "training form: the variant has no weights behind a DequantizeLinear, want integer ones");
  }
  HT_RETURN_IF_ERROR(graph.SortTopologically());
  graph.RemoveUnused();
  HT_RETURN_IF_ERROR(graph.Verify());
  return graph;
}

}  // namespace halftone
