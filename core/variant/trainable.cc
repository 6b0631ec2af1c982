#include "core/variant/trainable.h"

#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/ops/evaluate.h"
#include "core/ops/op_def.h"
#include "core/ops/unpack.h"
#include "core/tensor/tensor.h"

namespace halftone {
namespace {

bool IsConstant(const Value* v) { return v != nullptr && v->is_constant(); }

// The node of ours behind which packed weights lie; null: they are not packed.
const Node* UnpackerOf(const Node& dequantize) {
  const Node* node = dequantize.input(0)->producer();
  return node != nullptr && UnpacksWeights(*node) && IsConstant(node->input(0)) ? node : nullptr;
}

// DequantizeLinear of constants alone, maybe packed ones.
bool WidensConstant(const Node& node) {
  if (node.op() != "DequantizeLinear" || !node.domain().empty()) return false;
  if (node.inputs().size() < 2 || node.input(0) == nullptr) return false;
  return (IsConstant(node.input(0)) || UnpackerOf(node) != nullptr) && IsConstant(node.input(1)) &&
         (node.input(2) == nullptr || IsConstant(node.input(2)));
}

// What a layer reads of `v`: weights that are stored as rows get their shape back first.
const Value* AsRead(const Value* v) {
  while (v->uses().size() == 1 && v->uses()[0]->op() == "Reshape" && v->uses()[0]->input(0) == v) {
    v = v->uses()[0]->output(0);
  }
  return v;
}

// The f32 weights that `fp32` has where a reader of `v` takes them from, in the shape of `v`;
// nullopt when it has no constant like them.
std::optional<Tensor> Original(const Graph& fp32, const Value& v) {
  const Value* read = AsRead(&v);
  const std::optional<Shape> stored = Concrete(v.type().shape),
                             shape = Concrete(read->type().shape);
  if (!stored || !shape) return std::nullopt;
  for (const Node* user : read->uses()) {
    if (user->output(0) == nullptr) continue;
    const Value* there = fp32.FindValue(user->output(0)->name());
    if (there == nullptr || there->producer() == nullptr) continue;
    for (size_t i = 0; i < user->inputs().size(); ++i) {
      const Value* weights = there->producer()->input(static_cast<int>(i));
      if (user->inputs()[i] != read || !IsConstant(weights) ||
          weights->type().type != DataType::kF32 || weights->constant().shape() != *shape) {
        continue;
      }
      if (ElementCount(*stored) == ElementCount(*shape))
        return weights->constant().Reshaped(*stored);
    }
  }
  return std::nullopt;
}

// What the node makes of its constants, or with `first` in place of input 0.
absl::StatusOr<Tensor> Evaluate(const Graph& graph, const Node& node,
                                const Tensor* first = nullptr) {
  std::vector<const Tensor*> inputs;
  for (const Value* in : node.inputs()) {
    inputs.push_back(IsConstant(in) ? &in->constant() : nullptr);
  }
  if (first != nullptr) inputs[0] = first;
  HT_ASSIGN_OR_RETURN(std::vector<Tensor> outputs, EvaluateNode(graph, node, inputs));
  return std::move(outputs[0]);
}

// The nodes that make codes of the f32 weights in front of one DequantizeLinear.
class Quantizer {
 public:
  Quantizer(Graph& graph, Node* dequantize) : graph_(graph), dequantize_(dequantize) {}

  // Of type `codes`; what was there unpacks `bits` of each byte (8: they are not packed). Returns
  // the codes.
  absl::StatusOr<Value*> Add(Value* weights, DataType codes, int bits) {
    // A zero point of 0 is code 0, which one bit does not have.
    if (bits == 1) {
      Value* sign = AddNode({.op = "Sign", .inputs = {weights}}, DataType::kF32);
      return AddNode(
          {.op = "Cast", .inputs = {sign}, .attributes = {{"to", int64_t{Info(codes).onnx_code}}}},
          codes);
    }
    HT_ASSIGN_OR_RETURN(Value* const zero_point, ZeroPoint(codes));
    Value* rounded = AddNode({.op = "QuantizeLinear",
                              .inputs = {weights, dequantize_->input(1), zero_point},
                              .attributes = dequantize_->attributes()},
                             codes);
    if (bits != 2) return rounded;
    const auto limit = [&](int8_t x) {
      return graph_.AddConstant(absl::StrCat(Name(), "_limit"), Tensor::Scalar(x));
    };
    return AddNode({.op = "Clip", .inputs = {rounded, limit(-1), limit(1)}}, codes);
  }

  // What these nodes make of other weights.
  absl::StatusOr<Tensor> Codes(Tensor weights) const {
    for (const Node* node : nodes_) {
      HT_ASSIGN_OR_RETURN(weights, Evaluate(graph_, *node, &weights));
    }
    return weights;
  }

 private:
  const std::string& Name() const { return dequantize_->output(0)->name(); }

  Value* AddNode(NodeSpec spec, DataType type) {
    spec.name = absl::StrCat(Name(), "_", spec.op);
    spec.outputs = {absl::StrCat(Name(), spec.op == "Sign" ? "_sign" : "_quantized")};
    nodes_.push_back(graph_.AddNode(std::move(spec)));
    Value* out = nodes_.back()->output(0);
    out->set_type({type, dequantize_->output(0)->type().shape});
    return out;
  }

  // QuantizeLinear wants a zero point of the stored type; without one that would be u8.
  absl::StatusOr<Value*> ZeroPoint(DataType codes) {
    if (Value* given = dequantize_->input(2); given != nullptr) return given;
    HT_ASSIGN_OR_RETURN(Tensor zero_point,
                        Tensor::Create(codes, dequantize_->input(1)->constant().shape()));
    std::memset(zero_point.mutable_raw(), 0, static_cast<size_t>(zero_point.num_bytes()));
    Value* added =
        graph_.AddConstant(absl::StrCat(dequantize_->input(0)->name(), "_zero_point"), zero_point);
    graph_.SetInput(dequantize_, 2, added);
    return added;
  }

  Graph& graph_;
  Node* dequantize_;
  std::vector<Node*> nodes_;
};

absl::Status Unquantize(const Graph& fp32, Graph& graph, Node* dequantize) {
  const Node* unpacker = UnpackerOf(*dequantize);
  Tensor codes;
  if (unpacker == nullptr) {
    codes = dequantize->input(0)->constant();
  } else {
    HT_ASSIGN_OR_RETURN(codes, Evaluate(graph, *unpacker));
  }
  HT_ASSIGN_OR_RETURN(Tensor weights, Evaluate(graph, *dequantize, &codes));
  const std::optional<Tensor> original = Original(fp32, *dequantize->output(0));
  Value* const trained =
      graph.AddConstant(absl::StrCat(dequantize->output(0)->name(), "_weights"), weights);
  Quantizer quantizer(graph, dequantize);
  HT_ASSIGN_OR_RETURN(
      Value* const quantized,
      quantizer.Add(trained, codes.type(), unpacker == nullptr ? 8 : UnpackedBits(*unpacker)));
  if (original) {
    HT_ASSIGN_OR_RETURN(const Tensor rounded, quantizer.Codes(*original));
    HT_ASSIGN_OR_RETURN(const Tensor got, Evaluate(graph, *dequantize, &rounded));
    HT_ASSIGN_OR_RETURN(weights, weights.Clone());
    const absl::Span<float> to = weights.mutable_data<float>();
    for (size_t i = 0; i < to.size(); ++i) {
      if (got.data<float>()[i] == to[i]) to[i] = original->data<float>()[i];
    }
    graph.SetConstant(trained, std::move(weights));
  }
  graph.SetInput(dequantize, 0, quantized);
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
