#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/passes/accuracy.h"
#include "core/passes/linear.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

// By how much rounding moves the mean of each output channel: (Ŵ − W)·E[x].
std::vector<double> MeanShift(const Linear& linear, const Tensor& widened,
                              const std::vector<double>& mean) {
  const double alpha = linear.node->attributes().Float("alpha", 1.0f);
  const auto before = linear.weights->data<float>(), after = widened.data<float>();
  std::vector<double> shift(linear.outputs, 0.0);
  for (int64_t row = 0; row < linear.outputs; ++row) {
    for (int64_t column = 0; column < linear.columns(); ++column) {
      const int64_t i = linear.IndexOf(row, column);
      shift[row] += (double{after[i]} - before[i]) * mean[linear.InputOf(row, column)];
    }
    shift[row] *= alpha;
  }
  return shift;
}

// A product's bias may be an Add of a constant behind it.
absl::StatusOr<bool> CorrectAdd(Graph& graph, const Linear& linear,
                                const std::vector<double>& shift) {
  Node* add = SoleUser(linear.node->output(0));
  if (!IsOp(add, "Add")) return false;
  const int constant = add->input(0) == linear.node->output(0) ? 1 : 0;
  const Tensor* old = FloatConstantOf(add->input(constant));
  if (old == nullptr || old->rank() > 1) return false;
  const std::optional<std::vector<double>> bias = PerOutputChannel(*old, linear);
  if (!bias) return false;
  std::vector<float> values(shift.size());
  for (size_t i = 0; i < shift.size(); ++i) values[i] = static_cast<float>((*bias)[i] - shift[i]);
  ReplaceConstantInput(graph, add, constant,
                       Tensor::Of<float>({linear.outputs}, absl::MakeConstSpan(values)),
                       absl::StrCat(add->name(), "/bias"));
  return true;
}

}  // namespace

absl::StatusOr<bool> CorrectBias(Graph& graph, Node* linear_node, const Tensor& widened,
                                 const ChannelStats& input) {
  const std::optional<Linear> linear = AsLinear(linear_node);
  if (!linear || widened.shape() != linear->weights->shape() ||
      static_cast<int64_t>(input.mean.size()) != linear->inputs) {
    return false;
  }
  const std::vector<double> shift = MeanShift(*linear, widened, input.mean);
  if (!linear->takes_bias) return CorrectAdd(graph, *linear, shift);
  std::optional<std::vector<double>> bias = ReadBias(*linear);
  if (!bias) return false;
  for (size_t i = 0; i < shift.size(); ++i) (*bias)[i] -= shift[i];
  SetBias(graph, *linear, *bias);
  return true;
}

}  // namespace halftone
