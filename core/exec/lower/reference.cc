// The last rule: what no other rule took runs with its reference evaluation.
#include <cstring>
#include <limits>

#include "core/base/status_macros.h"
#include "core/exec/lowering.h"
#include "core/ops/eval_budget.h"
#include "core/ops/evaluate.h"

namespace halftone {
namespace {

// Where an operand is found at run time.
struct Operand {
  BufferId buffer = -1;  // -1: absent
  bool dynamic = false;
  DataType type = DataType::kF32;
  Shape shape;
};

bool AllConstant(const Node& node) {
  for (const Value* v : node.inputs()) {
    if (v != nullptr && !v->is_constant()) return false;
  }
  return !node.inputs().empty();
}

// A result is what the plan has room for. Where only the file knew the size, because it depends on
// data or is said inside a nested graph, it is the file that was wrong.
absl::Status CheckResult(const Graph& graph, const Node& node, size_t output, const Tensor& got,
                         DataType type, const Shape& shape) {
  if (got.type() == type && got.shape() == shape) return absl::OkStatus();
  const std::string text =
      absl::StrCat(Describe(node), ": output ", output, " is ", got.ToString(0), ", want ",
                   Name(type), ToString(absl::MakeConstSpan(shape)));
  HT_ASSIGN_OR_RETURN(const std::vector<ValueType> inferred, InferOutputs(graph, node));
  const bool derived = inferred[output].type == type && Concrete(inferred[output].shape) == shape;
  if (derived && !HasSubgraph(node)) {
    return absl::InternalError(text);
  }
  return absl::InvalidArgumentError(absl::StrCat(text, ", as the model says"));
}

// Weights that nothing absorbs (e.g. dequantized ones of an operator without a narrow form).
absl::Status FoldNow(ProgramBuilder& b, const Node& node) {
  std::vector<const Tensor*> inputs;
  int64_t input_bytes = 0;
  for (const Value* v : node.inputs()) {
    inputs.push_back(v == nullptr ? nullptr : &v->constant());
    if (v != nullptr) input_bytes += v->constant().num_bytes();
  }
  // Unpacking takes a few operations per byte; a loop over nothing may take any number.
  const ScopedEvalBudget budget(
      {.work = (1 << 22) + 16 * input_bytes, .bytes = std::numeric_limits<int64_t>::max()});
  HT_ASSIGN_OR_RETURN(std::vector<Tensor> outputs, EvaluateNode(b.graph(), node, inputs));
  for (size_t i = 0; i < node.outputs().size(); ++i) {
    if (node.outputs()[i] == nullptr) continue;
    const DataType type = outputs[i].type();
    HT_RETURN_IF_ERROR(
        CheckResult(b.graph(), node, i, outputs[i], type, b.ShapeOf(node.outputs()[i])));
    b.DefineIn(node.outputs()[i], {b.Constant(std::move(outputs[i])), Layout::kPlain, type});
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status LowerReference(ProgramBuilder& b, const Node& node, std::string reason) {
  const bool fixed_outputs = [&] {
    for (const Value* v : node.outputs()) {
      if (v != nullptr && !b.IsStatic(v)) return false;
    }
    return true;
  }();
  if (fixed_outputs && AllConstant(node)) {
    const absl::Status folded = FoldNow(b, node);
    if (!absl::IsResourceExhausted(folded)) return folded;  // else every run pays for it
  }
  std::vector<Operand> inputs, outputs;
  std::vector<BufferId> touches;
  const auto add = [&](std::vector<Operand>& list, const Value* v, BufferId buffer) {
    Operand o{buffer, !b.IsStatic(v), v->type().type.value_or(DataType::kF32), {}};
    if (!o.dynamic) o.shape = b.ShapeOf(v);
    list.push_back(std::move(o));
    touches.push_back(buffer);
  };
  for (const Value* v : node.inputs()) {
    if (v == nullptr) {
      inputs.push_back({});
      continue;
    }
    HT_ASSIGN_OR_RETURN(const BufferId buffer, b.FetchPlain(v));
    add(inputs, v, buffer);
  }
  for (const Value* v : node.outputs()) {
    if (v == nullptr) {
      outputs.push_back({});
    } else if (b.IsStatic(v)) {
      add(outputs, v, b.Define(v, Layout::kPlain, *v->type().type));
    } else {
      add(outputs, v, b.DefineDynamic(v));
    }
  }
  const Graph* graph = &b.graph();
  const Node* n = &node;
  b.AddStep({.node = node.name(),
             .op = node.op(),
             .rule = "reference",
             .implementation = "reference",
             .detail = std::move(reason)},
            std::move(touches), [=](Binding& bind) -> BoundStep {
              return [=, &bind]() -> absl::Status {
                std::vector<Tensor> views(inputs.size());
                std::vector<const Tensor*> pointers(inputs.size(), nullptr);
                for (size_t i = 0; i < inputs.size(); ++i) {
                  const Operand& o = inputs[i];
                  if (o.buffer < 0) continue;
                  views[i] = o.dynamic ? bind.dynamic(o.buffer)
                                       : Tensor::Borrow(o.type, o.shape, bind.pointer(o.buffer));
                  pointers[i] = &views[i];
                }
                HT_ASSIGN_OR_RETURN(std::vector<Tensor> results,
                                    EvaluateNode(*graph, *n, pointers));
                for (size_t i = 0; i < outputs.size(); ++i) {
                  const Operand& o = outputs[i];
                  if (o.buffer < 0) continue;
                  if (o.dynamic) {
                    // An identity may hand out its input, which lives in the arena.
                    HT_ASSIGN_OR_RETURN(bind.dynamic(o.buffer), results[i].Clone());
                    continue;
                  }
                  HT_RETURN_IF_ERROR(CheckResult(*graph, *n, i, results[i], o.type, o.shape));
                  std::memcpy(bind.pointer(o.buffer), results[i].raw(),
                              static_cast<size_t>(results[i].num_bytes()));
                }
                return absl::OkStatus();
              };
            });
  return absl::OkStatus();
}

}  // namespace halftone
