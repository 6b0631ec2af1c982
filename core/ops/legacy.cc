#include "core/ops/legacy.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"
#include "core/ops/registry.h"

namespace halftone {

bool NamesItsAxis(const Node& node) {
  constexpr std::array<absl::string_view, 12> kOps = {
      "Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Less", "Greater", "PRelu"};
  return node.domain().empty() && std::find(kOps.begin(), kOps.end(), node.op()) != kOps.end();
}

absl::StatusOr<int64_t> MissingAxes(const Node& node, int64_t rank_0, int64_t rank_1) {
  if (!NamesItsAxis(node)) return 0;
  if (node.op() == "PRelu") return rank_1 == 1 && rank_0 > 1 ? rank_0 - 2 : 0;
  if (node.attributes().Int("broadcast", 0) == 0) return 0;
  const int64_t suffix = rank_0 - rank_1;
  const int64_t axis = node.attributes().Int("axis", suffix);
  if (axis < -rank_0 || axis > rank_0) {
    return absl::InvalidArgumentError(
        absl::StrCat(Describe(node), ": axis is ", axis, " for rank ", rank_0));
  }
  const int64_t missing = suffix - (axis < 0 ? axis + rank_0 : axis);
  if (missing < 0) {
    return absl::InvalidArgumentError(absl::StrCat(Describe(node), ": input 1 of rank ", rank_1,
                                                   " does not fit into rank ", rank_0,
                                                   " from axis ", axis, " on"));
  }
  return missing;
}

namespace {

const OpDef& Modern(const Node& node) { return *FindOp("", node.op(), kOldestModernOpset); }

// Both run the row of opset 7 with input 1 aligned.
absl::Status InferLegacy(InferContext& c) {
  std::vector<InferInput> inputs;
  for (int i = 0; i < c.num_inputs(); ++i) {
    inputs.push_back({.present = c.has_input(i)});
    if (c.has_input(i)) inputs.back().type = c.input(i);
  }
  if (c.has_input(0) && c.has_input(1) && inputs[0].type.shape && inputs[1].type.shape) {
    HT_ASSIGN_OR_RETURN(const int64_t missing,
                        MissingAxes(c.node(), static_cast<int64_t>(inputs[0].type.shape->size()),
                                    static_cast<int64_t>(inputs[1].type.shape->size())));
    inputs[1].type.shape->resize(inputs[1].type.shape->size() + missing, Dim(1));
  } else if (inputs.size() > 1) {
    inputs[1].type.shape = std::nullopt;
  }
  InferContext aligned(c.node(), c.opset(), std::move(inputs));
  HT_RETURN_IF_ERROR(Modern(c.node()).infer(aligned));
  for (int i = 0; i < c.num_outputs(); ++i) {
    c.set_output(i, aligned.outputs()[i].type, aligned.outputs()[i].shape);
  }
  return absl::OkStatus();
}

absl::Status EvalLegacy(EvalContext& c) {
  std::vector<const Tensor*> inputs = c.inputs();
  Tensor aligned;
  if (c.has_input(1)) {
    HT_ASSIGN_OR_RETURN(const int64_t missing,
                        MissingAxes(c.node(), c.input(0).rank(), c.input(1).rank()));
    Shape shape = c.input(1).shape();
    shape.resize(shape.size() + missing, 1);
    aligned = c.input(1).Reshaped(shape);
    inputs[1] = &aligned;
  }
  EvalContext modern(c.node(), c.opset(), std::move(inputs), c.output_types());
  HT_RETURN_IF_ERROR(Modern(c.node()).eval(modern));
  c.outputs() = std::move(modern.outputs());
  return absl::OkStatus();
}

constexpr OpDef Legacy(absl::string_view name, Arity inputs = {2, 2}, Arity outputs = {1, 1}) {
  return {.name = name,
          .since_opset = 1,
          .inputs = inputs,
          .outputs = outputs,
          .infer = InferLegacy,
          .eval = EvalLegacy};
}

constexpr std::array kRows = {
    Legacy("Add"),
    Legacy("Sub"),
    Legacy("Mul"),
    Legacy("Div"),
    Legacy("Pow"),
    Legacy("And"),
    Legacy("Or"),
    Legacy("Xor"),
    Legacy("Less"),
    Legacy("Equal"),
    Legacy("PRelu"),
    Legacy("Greater"),
    Legacy("Gemm", {3, 3}),
    Legacy("BatchNormalization", {5, 5}, {1, 5}),
    Legacy("Dropout", {1, 1}, {1, 2}),
};

}  // namespace

absl::Span<const OpDef> LegacyOps() { return kRows; }

}  // namespace halftone
