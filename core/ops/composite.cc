#include "core/ops/composite.h"

#include <algorithm>
#include <array>
#include <map>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/ops/evaluate.h"
#include "core/ops/families.h"

namespace halftone {
namespace {

using Index = std::map<std::pair<absl::string_view, absl::string_view>, const Composite*>;

const Index& AllComposites() {
  static const Index& index = *new Index([] {
    Index out;
    for (const auto family : {ContribFloatOps(), ContribAttentionOps(), ContribQuantOps()}) {
      for (const Composite& c : family) out[{c.domain, c.name}] = &c;
    }
    return out;
  }());
  return index;
}

absl::Status InferComposite(InferContext& c) {
  std::vector<std::optional<ValueType>> inputs;
  for (int i = 0; i < c.num_inputs(); ++i) {
    inputs.emplace_back();
    if (!c.has_input(i)) continue;
    if (!c.input(i).type.has_value() || !c.input(i).shape.has_value()) return absl::OkStatus();
    inputs.back() = c.input(i);
  }
  HT_ASSIGN_OR_RETURN(const Graph body, ComposeBody(c.node(), inputs));
  auto result = body.outputs().begin();
  for (int i = 0; i < c.num_outputs(); ++i) {
    if (!c.has_output(i)) continue;
    const ValueType& type = (*result++)->type();
    c.set_output(i, type.type, type.shape);
  }
  return absl::OkStatus();
}

absl::Status EvalComposite(EvalContext& c) {
  std::vector<std::optional<ValueType>> types;
  std::vector<Tensor> inputs;
  for (int i = 0; i < c.num_inputs(); ++i) {
    types.emplace_back();
    if (!c.has_input(i)) continue;
    types.back() = ValueType{c.input(i).type(), Symbolic(c.input(i).shape())};
    inputs.push_back(c.input(i));
  }
  HT_ASSIGN_OR_RETURN(const Graph body, ComposeBody(c.node(), types));
  absl::StatusOr<std::vector<Tensor>> results = EvaluateGraph(body, inputs);
  if (!results.ok()) return Annotate(results.status(), Describe(c.node()));
  auto result = results->begin();
  for (int i = 0; i < c.num_outputs(); ++i) {
    if (c.has_output(i)) c.set_output(i, std::move(*result++));
  }
  return absl::OkStatus();
}

}  // namespace

Body::Body(const Node& node, absl::Span<const std::optional<ValueType>> inputs)
    : node_(node), graph_(node.op()) {
  graph_.opsets()[""] = kBodyOpset;
  for (const std::optional<ValueType>& type : inputs) {
    inputs_.push_back(type ? graph_.AddInput("x", *type) : nullptr);
  }
}

Outputs Body::Op(std::string op, Outputs inputs, Attributes attributes, int outputs) {
  while (!inputs.empty() && inputs.back() == nullptr) inputs.pop_back();
  NodeSpec spec{.op = op, .name = op, .inputs = std::move(inputs)};
  for (int i = 0; i < outputs; ++i) spec.outputs.push_back(graph_.UniqueName(op));
  spec.attributes = std::move(attributes);
  return graph_.AddNode(std::move(spec))->outputs();
}

Value* Body::Op(std::string op, Outputs inputs, Attributes attributes) {
  return Op(std::move(op), std::move(inputs), std::move(attributes), 1)[0];
}

Value* Body::Constant(Tensor tensor) { return graph_.AddConstant("c", std::move(tensor)); }

Value* Body::Ints(std::initializer_list<int64_t> values) {
  return Constant(Tensor::Of<int64_t>({static_cast<int64_t>(values.size())}, values));
}

Value* Body::Number(float value, DataType type) {
  const absl::StatusOr<Tensor> t = Convert(Tensor::Scalar<float>(value), type);
  // Only a 4-bit type has no conversion; then inference names the type that does not fit.
  return Constant(t.ok() ? *t : Tensor::Scalar<float>(value));
}

Value* Body::Size(Value* of, int64_t axis) {
  return Op("Gather", {Op("Shape", {of}), Ints({axis})});
}

Value* Body::Cast(Value* value, DataType type) {
  return Op("Cast", {value}, {{"to", int64_t{Info(type).onnx_code}}});
}

Attributes Body::Copied(std::initializer_list<absl::string_view> names) const {
  Attributes out;
  for (const auto& [name, value] : attributes().items()) {
    if (std::find(names.begin(), names.end(), name) != names.end()) out.Set(name, value);
  }
  return out;
}

absl::Status Body::Error(absl::string_view what) const {
  return absl::InvalidArgumentError(absl::StrCat(Describe(node_), ": ", what));
}

absl::Status Body::Require(std::initializer_list<int> inputs) const {
  for (const int i : inputs) {
    if (!has(i)) return Error(absl::StrCat("input ", i, " is absent, want a value"));
  }
  return absl::OkStatus();
}

absl::Status Body::Unsupported(absl::string_view what) const {
  return absl::UnimplementedError(
      absl::StrCat(Describe(node_), ": ", what, ", which Halftone does not have"));
}

absl::StatusOr<Graph> Body::Finish(const Outputs& outputs) && {
  for (int i = 0; i < static_cast<int>(node_.outputs().size()); ++i) {
    if (node_.output(i) == nullptr) continue;
    Value* result = i < static_cast<int>(outputs.size()) ? outputs[i] : nullptr;
    if (result == nullptr) return Unsupported(absl::StrCat("has output ", i));
    // Each output is a value of its own that a node computes, wherever the body is put.
    if (result->producer() == nullptr || result->is_output()) result = Op("Identity", {result});
    graph_.AddOutput(result);
  }
  graph_.RemoveUnused();
  HT_RETURN_IF_ERROR(Annotate(InferShapes(graph_, {.fold_elements = 64}), Describe(node_)));
  return std::move(graph_);
}

const Composite* FindComposite(const Node& node) {
  const auto it = AllComposites().find({node.domain(), node.op()});
  return it == AllComposites().end() ? nullptr : it->second;
}

absl::StatusOr<Graph> ComposeBody(const Node& node,
                                  absl::Span<const std::optional<ValueType>> inputs) {
  Body body(node, inputs);
  HT_ASSIGN_OR_RETURN(const Outputs outputs, FindComposite(node)->body(body));
  return std::move(body).Finish(outputs);
}

absl::Span<const OpDef> CompositeOps() {
  static const std::vector<OpDef>& rows = *new std::vector<OpDef>([] {
    std::vector<OpDef> out;
    for (const auto& [key, c] : AllComposites()) {
      if (c->has_own_row) continue;
      out.push_back({.domain = c->domain,
                     .name = c->name,
                     .since_opset = 1,
                     .inputs = c->inputs,
                     .outputs = c->outputs,
                     .infer = InferComposite,
                     .eval = EvalComposite,
                     .tolerance = kAccumulate});
    }
    return out;
  }());
  return rows;
}

}  // namespace halftone
