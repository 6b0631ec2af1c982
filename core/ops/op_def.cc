#include "core/ops/op_def.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/checked_math.h"
#include "core/base/status_macros.h"
#include "core/ops/eval_budget.h"

namespace halftone {
namespace {

// Shape arithmetic never needs more, and a file could ask for any number.
constexpr int64_t kMaxElements = 1024;

std::vector<InferInput> Describe(const std::vector<const Value*>& values) {
  std::vector<InferInput> inputs;
  inputs.reserve(values.size());
  for (const Value* v : values) {
    inputs.push_back(v == nullptr
                         ? InferInput{.present = false}
                         : InferInput{.type = v->type(),
                                      .constant = v->is_constant() ? &v->constant() : nullptr});
  }
  return inputs;
}

absl::Status NodeError(const Node& node, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(Describe(node), ": ", what));
}

}  // namespace

InferContext::InferContext(const Node& node, int opset, std::vector<const Value*> inputs)
    : InferContext(node, opset, Describe(inputs)) {}

InferContext::InferContext(const Node& node, int opset, std::vector<InferInput> inputs)
    : node_(node),
      opset_(opset),
      inputs_(std::move(inputs)),
      outputs_(node.outputs().size()),
      output_elements_(node.outputs().size()) {}

const Tensor* InferContext::constant(int i) const {
  return has_input(i) ? inputs_[i].constant : nullptr;
}

std::optional<Elements> InferContext::elements(int i) const {
  if (!has_input(i)) return std::nullopt;
  const ValueType& type = inputs_[i].type;
  if (type.type.has_value() && !IsInteger(*type.type)) return std::nullopt;
  if (const Tensor* t = inputs_[i].constant; t != nullptr) {
    if (t->rank() > 1 || t->num_elements() > kMaxElements || BitWidth(t->type()) < 8) {
      return std::nullopt;
    }
    const absl::StatusOr<Shape> numbers = ToInt64s(*t);
    if (!numbers.ok()) return std::nullopt;
    Elements out;
    for (const int64_t n : *numbers) out.push_back({.number = n});
    return out;
  }
  if (inputs_[i].elements != nullptr) return *inputs_[i].elements;
  // Of a short 1-D value of known length at least the number of elements is known.
  if (type.shape.has_value() && type.shape->size() == 1 && (*type.shape)[0].known() &&
      (*type.shape)[0].value <= kMaxElements) {
    return Elements(static_cast<size_t>((*type.shape)[0].value));
  }
  return std::nullopt;
}

void InferContext::set_output(int i, std::optional<DataType> type, SymbolicShape shape) {
  if (i < num_outputs()) outputs_[i] = {type, std::move(shape)};
}

void InferContext::set_elements(int i, Elements elements) {
  if (i < num_outputs()) output_elements_[i] = std::move(elements);
}

absl::Status InferContext::Error(absl::string_view what) const { return NodeError(node_, what); }

EvalContext::EvalContext(const Node& node, int opset, std::vector<const Tensor*> inputs,
                         std::vector<ValueType> output_types)
    : node_(node),
      opset_(opset),
      inputs_(std::move(inputs)),
      output_types_(std::move(output_types)),
      outputs_(node.outputs().size()) {
  output_types_.resize(outputs_.size());
}

absl::StatusOr<Tensor*> EvalContext::Allocate(int i) {
  if (i >= num_outputs()) return nullptr;
  const ValueType& type = output_types_[i];
  const std::optional<Shape> shape = Concrete(type.shape);
  if (!type.type.has_value() || !shape.has_value()) {
    return absl::InternalError(absl::StrCat(Describe(node_), ": output ", i, " has type ",
                                            ToString(type), ", want a concrete one"));
  }
  return Allocate(i, *type.type, *shape);
}

absl::StatusOr<Tensor*> EvalContext::Allocate(int i, DataType type,
                                              absl::Span<const int64_t> shape) {
  const absl::StatusOr<int64_t> elements = NumElements(shape);
  if (!elements.ok()) return Annotate(elements.status(), Describe(node_));
  const absl::StatusOr<int64_t> bytes = PackedBytes(*elements, BitWidth(type));
  if (!bytes.ok()) return Annotate(bytes.status(), Describe(node_));
  if (*bytes > kMaxTensorBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(Describe(node_), ": output ", i, " of ",
                                                     ToString(shape), " needs ", *bytes,
                                                     " bytes, limit ", kMaxTensorBytes));
  }
  if (absl::Status s = SpendBytes(*bytes); !s.ok()) return Annotate(s, Describe(node_));
  absl::StatusOr<Tensor> tensor = Tensor::Create(type, shape);
  if (!tensor.ok()) return Annotate(tensor.status(), Describe(node_));
  if (i >= num_outputs()) outputs_.resize(i + 1);
  outputs_[i] = *std::move(tensor);
  return &outputs_[i];
}

absl::Status EvalContext::Error(absl::string_view what) const { return NodeError(node_, what); }

}  // namespace halftone
