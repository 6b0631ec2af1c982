#include "core/ops/evaluate.h"

#include <memory>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/checked_math.h"
#include "core/base/status_macros.h"
#include "core/ops/eval_budget.h"
#include "core/ops/infer_util.h"
#include "core/ops/random.h"
#include "core/ops/registry.h"
#include "core/ops/unpack.h"

namespace halftone {
namespace {

absl::Status CheckCount(const Node& node, absl::string_view what, int got, Arity want) {
  if (got >= want.min && (want.max < 0 || got <= want.max)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(Describe(node), ": got ", got, " ", what, ", want ", want.min, " to ",
                   want.max < 0 ? "any number" : absl::StrCat(want.max)));
}

// The node's table row, with the number of inputs and outputs checked.
absl::StatusOr<const OpDef*> RowFor(const Graph& graph, const Node& node) {
  const OpDef* def = FindOp(graph, node);
  if (def == nullptr) {
    return absl::UnimplementedError(absl::StrCat(
        Describe(node), ": operator ", node.domain(), node.domain().empty() ? "" : ".", node.op(),
        " of opset ", graph.opset(node.domain()), " is not in the operator table"));
  }
  const int inputs = static_cast<int>(node.inputs().size()) - node.num_captures();
  HT_RETURN_IF_ERROR(CheckCount(node, "inputs", inputs, def->inputs));
  HT_RETURN_IF_ERROR(CheckCount(node, "outputs", static_cast<int>(node.outputs().size()),
                                {def->outputs.min == 0 ? 0 : 1, def->outputs.max}));
  // Loop counts two inputs that may be absent all the same; its row looks itself.
  for (int i = 0; i < def->inputs.min && node.op() != "Loop"; ++i) {
    if (node.input(i) == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat(Describe(node), ": input ", i, " is absent, want a value"));
    }
  }
  return def;
}

// Sizes beyond any memory end here, so that rows may add and compare what they are given.
constexpr int64_t kMaxDim = int64_t{1} << 40;
constexpr size_t kMaxRank = 64;

absl::Status CheckSizes(const InferContext& c) {
  for (const ValueType& type : c.outputs()) {
    if (!type.shape.has_value()) continue;
    if (type.shape->size() > kMaxRank) {
      return c.Error(
          absl::StrCat("an output has rank ", type.shape->size(), ", the limit is ", kMaxRank));
    }
    for (const Dim& d : *type.shape) {
      if (d.value <= kMaxDim) continue;
      return c.Error(absl::StrCat("an output has dimension ", d.value, ", the limit is ", kMaxDim));
    }
  }
  return absl::OkStatus();
}

absl::Status InferNode(const OpDef& def, InferContext& c) {
  if (def.types != 0) HT_RETURN_IF_ERROR(CheckType(c, 0, def.types));
  HT_RETURN_IF_ERROR(def.infer(c));
  return CheckSizes(c);
}

// What inference found, completed by what the value said before.
ValueType Merge(const ValueType& inferred, const ValueType& before) {
  ValueType out = inferred;
  if (!out.type.has_value()) out.type = before.type;
  if (!out.shape.has_value()) {
    out.shape = before.shape;
  } else if (before.shape.has_value() && before.shape->size() == out.shape->size()) {
    for (size_t i = 0; i < out.shape->size(); ++i) {
      Dim& d = (*out.shape)[i];
      const Dim& b = (*before.shape)[i];
      if (!d.known() && (b.known() || d.symbol.empty())) d = b;
    }
  }
  return out;
}

// The tensor of a scalar or 1-D integer value whose elements are all numbers.
std::optional<Tensor> TensorFromElements(const ValueType& type, const Elements& elements) {
  const std::optional<Shape> shape = Concrete(type.shape);
  if (!shape.has_value() || shape->size() > 1 ||
      (type.type != DataType::kI64 && type.type != DataType::kI32) ||
      ElementCount(*shape) != static_cast<int64_t>(elements.size())) {
    return std::nullopt;
  }
  std::vector<int64_t> numbers;
  for (const Element& e : elements) {
    if (!e.number.has_value()) return std::nullopt;
    numbers.push_back(*e.number);
  }
  absl::StatusOr<Tensor> t = Convert(Tensor::Of<int64_t>(*shape, numbers), *type.type);
  if (!t.ok()) return std::nullopt;
  return *std::move(t);
}

// Constants that a variant stores in a narrow type are widened by such nodes: folding them would
// undo the quantization.
bool WidensWeights(const Node& node) {
  if (node.op() == "DequantizeLinear" || node.op() == "QuantizeLinear" || UnpacksWeights(node)) {
    return true;
  }
  const Value* in = node.input(0);
  return (node.op() == "Cast" || node.op() == "CastLike") && in != nullptr &&
         (in->type().type == DataType::kF16 || in->type().type == DataType::kBF16);
}

// Types and constants of a node's inputs.
std::vector<InferInput> KnownInputs(const Node& node) {
  std::vector<InferInput> inputs;
  inputs.reserve(node.inputs().size());
  for (const Value* v : node.inputs()) {
    InferInput& in = inputs.emplace_back();
    in.present = v != nullptr;
    if (v == nullptr) continue;
    in.type = v->type();
    if (v->is_constant()) in.constant = &v->constant();
  }
  return inputs;
}

// Enough for shape arithmetic and small tables. Loops get less: their bodies may spin for nothing.
constexpr EvalBudget kFoldBudget = {.work = 1 << 27, .bytes = 256 << 20};
constexpr EvalBudget kSubgraphBudget = {.work = 1 << 20, .bytes = 16 << 20};

class ShapeInference {
 public:
  ShapeInference(Graph& graph, const InferOptions& options) : graph_(graph), options_(options) {}

  absl::Status Run() {
    HT_RETURN_IF_ERROR(graph_.SortTopologically());
    const ScopedEvalBudget budget(kFoldBudget);
    const std::vector<Node*> nodes = graph_.nodes();
    std::vector<Node*> folded;
    for (Node* node : nodes) {
      if (DependsOnFailure(*node)) continue;
      if (absl::Status s = Infer(*node); !s.ok()) {
        failures_.push_back(std::move(s));
        MarkFailed(*node);
        if (failures_.size() == kMaxListed) break;
      } else if (Fold(*node)) {
        folded.push_back(node);
      }
    }
    if (!failures_.empty()) return AllFailures();
    // Backwards, so that a folded chain goes in one sweep.
    for (auto node = folded.rbegin(); node != folded.rend(); ++node) graph_.RemoveNode(*node);
    return absl::OkStatus();
  }

 private:
  static constexpr size_t kMaxListed = 50;

  // What comes after a failure could only repeat it in other words.
  bool DependsOnFailure(const Node& node) {
    if (failures_.empty()) return false;
    for (const Value* v : node.inputs()) {
      if (v == nullptr || !failed_.contains(v)) continue;
      MarkFailed(node);
      return true;
    }
    return false;
  }

  void MarkFailed(const Node& node) {
    failed_.insert(node.outputs().begin(), node.outputs().end());
  }

  absl::Status AllFailures() const {
    if (failures_.size() == 1) return failures_[0];
    return absl::Status(failures_[0].code(),
                        absl::StrJoin(failures_, "; ", [](std::string* out, const absl::Status& s) {
                          absl::StrAppend(out, s.message());
                        }));
  }

  absl::Status Infer(const Node& node) {
    HT_ASSIGN_OR_RETURN(const OpDef* def, RowFor(graph_, node));
    std::vector<InferInput> inputs = KnownInputs(node);
    for (size_t i = 0; i < inputs.size(); ++i) {
      const auto it = elements_.find(node.inputs()[i]);
      if (it != elements_.end()) inputs[i].elements = it->second.get();
    }
    InferContext context(node, graph_.opset(node.domain()), std::move(inputs));
    HT_RETURN_IF_ERROR(InferNode(*def, context));
    for (int i = 0; i < context.num_outputs(); ++i) {
      Value* out = node.output(i);
      if (out == nullptr) continue;
      out->set_type(Merge(context.outputs()[i], out->type()));
      if (const auto& elements = context.output_elements()[i]; elements.has_value()) {
        elements_[out] = std::make_unique<Elements>(*elements);
      }
    }
    return absl::OkStatus();
  }

  // Turns the node's outputs into constants where they are small and known; true when the node has
  // nothing left to do.
  bool Fold(Node& node) {
    if (node.outputs().empty() || WidensWeights(node) || IsRandom(node)) return false;
    int64_t elements = 0;
    for (const Value* out : node.outputs()) {
      if (out == nullptr) continue;
      if (out->is_output()) return false;
      const std::optional<Shape> shape = Concrete(out->type().shape);
      if (!shape.has_value()) return false;
      const absl::StatusOr<int64_t> count = NumElements(*shape);
      if (!count.ok() || *count > options_.fold_elements) return false;
      elements += *count;
    }
    if (elements > options_.fold_elements) return false;
    std::vector<Tensor> values = FromKnownElements(node);
    if (values.empty()) values = FromConstantInputs(node);
    if (values.empty()) return false;
    for (int i = 0; i < static_cast<int>(node.outputs().size()); ++i) {
      Value* out = node.output(i);
      if (out != nullptr) graph_.MakeConstant(out, std::move(values[i]));
    }
    return true;
  }

  // Empty when not possible.
  std::vector<Tensor> FromKnownElements(const Node& node) const {
    if (node.outputs().size() != 1 || node.output(0) == nullptr) return {};
    const auto it = elements_.find(node.output(0));
    if (it == elements_.end()) return {};
    std::optional<Tensor> t = TensorFromElements(node.output(0)->type(), *it->second);
    if (!t.has_value()) return {};
    return {*std::move(t)};
  }

  std::vector<Tensor> FromConstantInputs(const Node& node) {
    std::vector<const Tensor*> inputs;
    for (const Value* v : node.inputs()) {
      if (v != nullptr && !v->is_constant()) return {};
      inputs.push_back(v == nullptr ? nullptr : &v->constant());
    }
    std::optional<ScopedEvalBudget> budget;
    if (HasSubgraph(node)) {
      if (!options_.fold_subgraphs || a_subgraph_was_too_much_) return {};
      budget.emplace(kSubgraphBudget);
    }
    // A failure here may sit in a branch that never runs, so it is the run's business to report it.
    absl::StatusOr<std::vector<Tensor>> values = EvaluateNode(graph_, node, inputs);
    if (budget && absl::IsResourceExhausted(values.status())) a_subgraph_was_too_much_ = true;
    if (!values.ok()) return {};
    return *std::move(values);
  }

  Graph& graph_;
  const InferOptions options_;
  absl::flat_hash_map<const Value*, std::unique_ptr<Elements>> elements_;
  bool a_subgraph_was_too_much_ = false;
  std::vector<absl::Status> failures_;
  absl::flat_hash_set<const Value*> failed_;  // outputs of nodes that failed or follow one that did
};

}  // namespace

absl::Status InferShapes(Graph& graph, const InferOptions& options) {
  return ShapeInference(graph, options).Run();
}

bool HasSubgraph(const Node& node) {
  for (const auto& [name, value] : node.attributes().items()) {
    if (std::holds_alternative<SubgraphPtr>(value)) return true;
  }
  return false;
}

absl::StatusOr<std::vector<ValueType>> InferOutputs(const Graph& graph, const Node& node) {
  HT_ASSIGN_OR_RETURN(const OpDef* def, RowFor(graph, node));
  InferContext context(node, graph.opset(node.domain()), KnownInputs(node));
  HT_RETURN_IF_ERROR(InferNode(*def, context));
  return context.outputs();
}

absl::StatusOr<std::vector<Tensor>> EvaluateNode(const Graph& graph, const Node& node,
                                                 absl::Span<const Tensor* const> inputs) {
  HT_ASSIGN_OR_RETURN(const OpDef* def, RowFor(graph, node));
  const int opset = graph.opset(node.domain());
  std::vector<InferInput> known;
  known.reserve(inputs.size());
  for (const Tensor* t : inputs) {
    known.push_back(t == nullptr
                        ? InferInput{.present = false}
                        : InferInput{.type = {t->type(), Symbolic(t->shape())}, .constant = t});
  }
  InferContext infer(node, opset, std::move(known));
  HT_RETURN_IF_ERROR(InferNode(*def, infer));
  if (absl::Status s = SpendWork(EstimateWork(node, inputs, infer.outputs())); !s.ok()) {
    return Annotate(s, Describe(node));
  }
  EvalContext eval(node, opset, {inputs.begin(), inputs.end()}, infer.outputs());
  HT_RETURN_IF_ERROR(def->eval(eval));
  return std::move(eval.outputs());
}

absl::StatusOr<std::vector<Tensor>> EvaluateGraph(const Graph& graph,
                                                  absl::Span<const Tensor> inputs) {
  HT_RETURN_IF_ERROR(SpendWork(kWorkPerNode));  // a body without nodes takes time, too
  if (inputs.size() != graph.inputs().size()) {
    return absl::InvalidArgumentError(absl::StrCat("graph '", graph.name(), "': got ",
                                                   inputs.size(), " inputs, want ",
                                                   graph.inputs().size()));
  }
  struct Live {
    Tensor tensor;
    size_t uses_left;
  };
  absl::flat_hash_map<const Value*, Live> live;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Value* v = graph.inputs()[i];
    if (v->type().type.has_value() && *v->type().type != inputs[i].type()) {
      return absl::InvalidArgumentError(absl::StrCat("input '", v->name(), "': got type ",
                                                     Name(inputs[i].type()), ", want ",
                                                     Name(*v->type().type)));
    }
    live[v] = {inputs[i], v->uses().size()};
  }
  const auto find = [&](const Value* v) -> const Tensor* {
    if (v->is_constant()) return &v->constant();
    const auto it = live.find(v);
    return it == live.end() ? nullptr : &it->second.tensor;
  };
  for (const Node* node : graph.nodes()) {
    std::vector<const Tensor*> node_inputs;
    for (const Value* v : node->inputs()) {
      node_inputs.push_back(v == nullptr ? nullptr : find(v));
      if (v != nullptr && node_inputs.back() == nullptr) {
        return absl::InternalError(
            absl::StrCat(Describe(*node), ": '", v->name(), "' is not computed yet"));
      }
    }
    HT_ASSIGN_OR_RETURN(std::vector<Tensor> outputs, EvaluateNode(graph, *node, node_inputs));
    for (const Value* v : node->inputs()) {
      const auto it = v == nullptr ? live.end() : live.find(v);
      if (it != live.end() && --it->second.uses_left == 0 && !v->is_output()) live.erase(it);
    }
    for (size_t i = 0; i < node->outputs().size(); ++i) {
      const Value* v = node->outputs()[i];
      if (v == nullptr || (v->uses().empty() && !v->is_output())) continue;
      live[v] = {std::move(outputs[i]), v->uses().size()};
    }
  }
  std::vector<Tensor> results;
  for (const Value* v : graph.outputs()) {
    const Tensor* t = find(v);
    if (t == nullptr) {
      return absl::InternalError(absl::StrCat("output '", v->name(), "' is never computed"));
    }
    results.push_back(*t);
  }
  return results;
}

}  // namespace halftone
