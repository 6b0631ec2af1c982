#include "core/variant/weight_histogram.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/ops/evaluate.h"
#include "core/tensor/tensor.h"

namespace halftone {
namespace {

// Narrow bytes pass through few nodes (Cast, DequantizeLinear, Reshape …) until they are floats.
constexpr int kMaxDepth = 8;

void Extend(absl::Span<const float> values, WeightHistogram& h) {
  for (const float x : values) {
    if (!std::isfinite(x)) continue;
    h.min = std::min<double>(h.min, x);
    h.max = std::max<double>(h.max, x);
  }
}

std::vector<int64_t> Count(absl::Span<const float> values, const WeightHistogram& h) {
  std::vector<int64_t> counts(kHistogramBins);
  const double bins_per_unit = h.max > h.min ? kHistogramBins / (h.max - h.min) : 0;
  for (const float x : values) {
    if (!std::isfinite(x)) continue;
    const int bin = static_cast<int>((x - h.min) * bins_per_unit);
    ++counts[std::clamp(bin, 0, kHistogramBins - 1)];
  }
  return counts;
}

// The value of what depends on constants alone.
absl::StatusOr<Tensor> ConstantValue(const Graph& graph, const Value& v, int depth = 0) {
  if (v.is_constant()) return v.constant();
  const Node* node = v.producer();
  if (node == nullptr || depth == kMaxDepth) {
    return absl::InternalError(absl::StrCat("weights '", v.name(), "': are not constant"));
  }
  std::vector<Tensor> values(node->inputs().size());
  std::vector<const Tensor*> inputs;
  for (size_t i = 0; i < values.size(); ++i) {
    const Value* input = node->inputs()[i];
    if (input != nullptr && !input->is_constant()) {
      HT_ASSIGN_OR_RETURN(values[i], ConstantValue(graph, *input, depth + 1));
    }
    inputs.push_back(input == nullptr       ? nullptr
                     : input->is_constant() ? &input->constant()
                                            : &values[i]);
  }
  HT_ASSIGN_OR_RETURN(const std::vector<Tensor> outputs, EvaluateNode(graph, *node, inputs));
  const auto at = std::find(node->outputs().begin(), node->outputs().end(), &v);
  return outputs[at - node->outputs().begin()];
}

const Value* FirstOutput(const Node& node) {
  const auto it = std::find_if(node.outputs().begin(), node.outputs().end(),
                               [](const Value* v) { return v != nullptr; });
  return it == node.outputs().end() ? nullptr : *it;
}

}  // namespace

WeightHistogram CountWeights(absl::Span<const float> fp32, absl::Span<const float> variant) {
  WeightHistogram h = {.min = HUGE_VAL, .max = -HUGE_VAL};
  Extend(fp32, h);
  Extend(variant, h);
  if (!(h.min <= h.max)) return {};
  h.fp32 = Count(fp32, h);
  h.variant = Count(variant, h);
  return h;
}

absl::StatusOr<WeightHistogram> HistogramOf(const Graph& fp32, const Graph& variant,
                                            const NodeChoice& choice) {
  // Codes of a table meet their scales only when rows were chosen.
  if (choice.moves_weights && IsInteger(choice.format.type)) return WeightHistogram{};
  // Values keep their names; a node that moves narrow weights has its old output behind a Cast.
  const Value* output = FirstOutput(*choice.node);
  if (output == nullptr) return WeightHistogram{};
  const Value* there = fp32.FindValue(choice.moves_weights ? choice.output : output->name());
  const Value* before = there == nullptr || there->producer() == nullptr
                            ? nullptr
                            : there->producer()->input(choice.weight_input);
  const Value* after = choice.node->input(choice.weight_input);
  if (before == nullptr || after == nullptr || !before->is_constant() ||
      before->constant().type() != DataType::kF32) {
    return WeightHistogram{};
  }
  HT_ASSIGN_OR_RETURN(const Tensor narrow, ConstantValue(variant, *after));
  HT_ASSIGN_OR_RETURN(const Tensor widened, Convert(narrow, DataType::kF32));
  return CountWeights(before->constant().data<float>(), widened.data<float>());
}

}  // namespace halftone
