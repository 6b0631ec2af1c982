#include "core/exec/byte_function.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "core/exec/dnnl_util.h"
#include "core/ops/evaluate.h"

namespace halftone {
namespace {

// Every element of the result depends on the elements at the same place alone, and on nothing but
// them: no randomness, no state.
bool IsElementwise(const Node& node) {
  static const auto* const kOps =
      new absl::flat_hash_set<absl::string_view>{"Abs",       "Add",
                                                 "Atan",      "Celu",
                                                 "Clip",      "Cos",
                                                 "Div",       "Elu",
                                                 "Erf",       "Exp",
                                                 "Gelu",      "HardSigmoid",
                                                 "HardSwish", "LeakyRelu",
                                                 "Log",       "Max",
                                                 "Min",       "Mish",
                                                 "Mul",       "Neg",
                                                 "PRelu",     "Pow",
                                                 "Relu",      "Reciprocal",
                                                 "Selu",      "Sigmoid",
                                                 "Sign",      "Sin",
                                                 "Softplus",  "Softsign",
                                                 "Sqrt",      "Sub",
                                                 "Tanh",      "ThresholdedRelu"};
  return node.domain().empty() && kOps->contains(node.op());
}

bool IsScalarConstant(const Value* v) {
  return v->is_constant() && v->constant().num_elements() == 1;
}

// Walks from the result back to the one tensor that everything is a function of.
class Walk {
 public:
  explicit Walk(const std::function<bool(const Node*)>& taken) : taken_(taken) {}

  std::optional<ByteFunction> Run(Node* quantize) {
    const auto result = MatchQuantize(*quantize);
    if (!result || !Take(quantize)) return std::nullopt;
    // Of several tensors some are functions of others: of what they were quantized from.
    while (leaves_.size() > 1) {
      if (!GoBehindALeaf()) return std::nullopt;
    }
    if (leaves_.empty() || !NothingElseReads(quantize)) return std::nullopt;
    ByteFunction f{.x = leaves_[0].quant, .result = *result};
    const auto shape = Concrete(f.x.quantized->type().shape);
    if (!shape || shape != Concrete(f.result.quantized->type().shape)) return std::nullopt;
    Order(quantize, f.nodes);
    return f;
  }

 private:
  // More than any activation has; a walk never costs more than this.
  static constexpr size_t kMostNodes = 32;
  // A tensor that is read in its dequantized form.
  struct Leaf {
    TensorQuant quant;
    std::vector<const Node*> dequantize;  // nodes may have one each
  };

  // Adds the node and what it reads.
  bool Take(const Node* node) {
    if (inside_.contains(node)) return true;
    if (taken_(node) || inside_.size() >= kMostNodes) return false;
    inside_.insert(node);
    return std::all_of(node->inputs().begin(), node->inputs().end(), [&](const Value* in) {
      return in == nullptr || IsScalarConstant(in) || TakeProducer(in);
    });
  }
  bool TakeProducer(const Value* in) {
    const Node* producer = in->producer();
    if (producer == nullptr) return false;
    const auto q = MatchDequantize(in);
    if (!q) return IsElementwise(*producer) && Take(producer);
    if (!q->is_static) return false;
    auto leaf = std::find_if(leaves_.begin(), leaves_.end(),
                             [&](const Leaf& l) { return l.quant.quantized == q->quantized; });
    if (leaf == leaves_.end()) leaf = leaves_.insert(leaf, Leaf{.quant = *q});
    leaf->dequantize.push_back(producer);
    return leaf->quant.view == q->view;
  }

  // Replaces one leaf by what it was quantized from.
  bool GoBehindALeaf() {
    for (size_t i = 0; i < leaves_.size(); ++i) {
      const Node* made_by = leaves_[i].quant.quantized->producer();
      if (made_by == nullptr || !MatchQuantize(*made_by)) continue;
      Walk behind = *this;
      const Leaf leaf = std::move(behind.leaves_[i]);
      behind.leaves_.erase(behind.leaves_.begin() + static_cast<std::ptrdiff_t>(i));
      behind.inside_.insert(leaf.dequantize.begin(), leaf.dequantize.end());
      if (!behind.Take(made_by)) continue;
      inside_ = std::move(behind.inside_);
      leaves_ = std::move(behind.leaves_);
      return true;
    }
    return false;
  }

  bool NothingElseReads(const Node* last) const {
    return std::all_of(inside_.begin(), inside_.end(), [&](const Node* n) {
      const Value* v = n->output(0);
      return n == last || (!v->is_output() &&
                           std::all_of(v->uses().begin(), v->uses().end(),
                                       [&](const Node* user) { return inside_.contains(user); }));
    });
  }

  void Order(Node* node, std::vector<Node*>& nodes) const {
    if (std::find(nodes.begin(), nodes.end(), node) != nodes.end()) return;
    for (const Value* in : node->inputs()) {
      Node* producer = in == nullptr ? nullptr : in->producer();
      if (producer != nullptr && inside_.contains(producer)) Order(producer, nodes);
    }
    nodes.push_back(node);
  }

  const std::function<bool(const Node*)>& taken_;
  absl::flat_hash_set<const Node*> inside_;
  std::vector<Leaf> leaves_;
};

}  // namespace

std::optional<ByteFunction> MatchByteFunction(Node* quantize,
                                              const std::function<bool(const Node*)>& taken) {
  return Walk(taken).Run(quantize);
}

absl::StatusOr<ByteTable> Tabulate(const Graph& graph, const ByteFunction& function) {
  constexpr int64_t kBytes = 256;
  const QuantizedView& view = function.x.view;
  HT_ASSIGN_OR_RETURN(Tensor x, Tensor::Create(DataType::kF32, {kBytes}));
  for (int i = 0; i < kBytes; ++i) {
    const int q = view.type == DataType::kI8 ? static_cast<int8_t>(i) : i;
    x.mutable_data<float>()[i] = view.scale * static_cast<float>(q - view.zero_point);
  }
  absl::flat_hash_map<const Value*, Tensor> values;
  for (const Node* node : function.nodes) {
    std::vector<const Tensor*> inputs;
    for (const Value* in : node->inputs()) {
      if (in == nullptr) {
        inputs.push_back(nullptr);
      } else if (in->is_constant()) {
        inputs.push_back(&in->constant());
      } else {
        const auto it = values.find(in);
        inputs.push_back(it == values.end() ? &x : &it->second);
      }
    }
    HT_ASSIGN_OR_RETURN(std::vector<Tensor> out, EvaluateNode(graph, *node, inputs));
    values[node->output(0)] = std::move(out[0]);
  }
  const Tensor& y = values.at(function.nodes.back()->output(0));
  if (y.num_bytes() != kBytes) {
    return absl::InternalError(absl::StrCat(Describe(*function.nodes.back()), ": got ",
                                            y.num_bytes(), " results for ", kBytes, " bytes"));
  }
  ByteTable table;
  std::memcpy(table.data(), y.bytes().data(), table.size());
  return table;
}

}  // namespace halftone
