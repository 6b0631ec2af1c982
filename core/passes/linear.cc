#include "core/passes/linear.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

std::optional<Linear> AsConv(Node* node, const Tensor* w) {
  if (w->rank() < 3) return std::nullopt;
  const int64_t group = node->attributes().Int("group", 1);
  if (group <= 0 || w->dim(0) % group != 0) return std::nullopt;
  Linear out{.node = node,
             .weights = w,
             .rank = w->rank(),
             .channel_axis = 1,
             .input_axis = 1,
             .groups = group,
             .takes_bias = true};
  out.taps = ElementCount(absl::MakeConstSpan(w->shape()).subspan(2));
  const int64_t outer_stride = w->dim(1) * out.taps;
  if (IsOp(node, "Conv")) {  // [outputs, inputs per group, kernel…]
    out.outputs = w->dim(0);
    out.inputs = w->dim(1) * group;
    out.output_stride = outer_stride;
    out.input_stride = out.taps;
  } else {  // [inputs, outputs per group, kernel…]
    out.outputs = w->dim(1) * group;
    out.inputs = w->dim(0);
    out.output_stride = out.taps;
    out.input_stride = outer_stride;
    out.transposed = true;
  }
  return out;
}

std::optional<Linear> AsMatrix(Node* node, const Tensor* w) {
  if (w->rank() != 2) return std::nullopt;
  const bool gemm = IsOp(node, "Gemm");
  const int rank = gemm ? 2 : RankOf(node->output(0));
  if (rank < 2) return std::nullopt;
  const bool turned = gemm && node->attributes().Int("transB", 0) != 0;
  Linear out{.node = node,
             .weights = w,
             .rank = rank,
             .channel_axis = rank - 1,
             .input_axis = rank - 1,
             .takes_bias = gemm};
  if (gemm && node->attributes().Int("transA", 0) != 0) out.input_axis = 0;
  out.outputs = w->dim(turned ? 0 : 1);
  out.inputs = w->dim(turned ? 1 : 0);
  out.output_stride = turned ? out.inputs : 1;
  out.input_stride = turned ? 1 : out.outputs;
  return out;
}

}  // namespace

std::optional<Linear> AsLinear(Node* node) {
  if (node == nullptr) return std::nullopt;
  const Tensor* w = FloatConstantOf(node->input(1));
  if (w == nullptr || w->num_elements() == 0) return std::nullopt;
  if (IsOp(node, "Conv") || IsOp(node, "ConvTranspose")) return AsConv(node, w);
  if (IsOp(node, "Gemm") || IsOp(node, "MatMul")) return AsMatrix(node, w);
  return std::nullopt;
}

std::optional<Linear> AsLinear(const Value* value) {
  Node* node = value == nullptr ? nullptr : value->producer();
  if (node == nullptr || node->output(0) != value) return std::nullopt;
  return AsLinear(node);
}

std::optional<std::vector<double>> PerOutputChannel(const Tensor& t, const Linear& linear) {
  if (t.rank() > linear.rank) return std::nullopt;
  const int offset = linear.rank - t.rank();
  for (int i = 0; i < t.rank(); ++i) {
    const bool along_channels = i + offset == linear.channel_axis && t.dim(i) == linear.outputs;
    if (t.dim(i) != 1 && !along_channels) return std::nullopt;
  }
  std::vector<double> out(linear.outputs);
  for (int64_t c = 0; c < linear.outputs; ++c) {
    out[c] = t.data<float>()[t.num_elements() == 1 ? 0 : c];
  }
  return out;
}

std::optional<std::vector<double>> ReadBias(const Linear& linear) {
  const Value* value = linear.takes_bias ? linear.node->input(2) : nullptr;
  if (value == nullptr) return std::vector<double>(linear.outputs, 0.0);
  const Tensor* t = FloatConstantOf(value);
  if (t == nullptr) return std::nullopt;
  if (!IsOp(linear.node, "Gemm")) {
    if (t->rank() != 1 || t->dim(0) != linear.outputs) return std::nullopt;
    return std::vector<double>(t->data<float>().begin(), t->data<float>().end());
  }
  std::optional<std::vector<double>> bias = PerOutputChannel(*t, linear);
  if (!bias) return std::nullopt;
  for (double& b : *bias) b *= linear.node->attributes().Float("beta", 1.0f);
  return bias;
}

void SetBias(Graph& graph, const Linear& linear, absl::Span<const double> bias) {
  const std::vector<float> values(bias.begin(), bias.end());
  ReplaceConstantInput(graph, linear.node, 2,
                       Tensor::Of<float>({linear.outputs}, absl::MakeConstSpan(values)),
                       absl::StrCat(linear.node->name(), "/bias"));
  linear.node->attributes().Erase("beta");
}

std::vector<double> LargestByInput(const Linear& linear) {
  std::vector<double> largest(linear.inputs, 0.0);
  const auto w = linear.weights->data<float>();
  for (int64_t row = 0; row < linear.outputs; ++row) {
    for (int64_t column = 0; column < linear.columns(); ++column) {
      double& r = largest[linear.InputOf(row, column)];
      r = std::max<double>(r, std::abs(w[linear.IndexOf(row, column)]));
    }
  }
  return largest;
}

absl::Status ScaleWeights(Graph& graph, const Linear& linear, absl::Span<const double> by_output,
                          absl::Span<const double> by_input) {
  HT_ASSIGN_OR_RETURN(Tensor scaled, linear.weights->Clone());
  const absl::Span<float> w = scaled.mutable_data<float>();
  const int64_t columns = linear.columns();
  for (int64_t row = 0; row < linear.outputs; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      float& x = w[linear.IndexOf(row, column)];
      double factor = by_output.empty() ? 1.0 : by_output[row];
      if (!by_input.empty()) factor *= by_input[linear.InputOf(row, column)];
      x = static_cast<float>(x * factor);
    }
  }
  ReplaceConstantInput(graph, linear.node, 1, std::move(scaled),
                       absl::StrCat(linear.node->name(), "/weight"));
  return absl::OkStatus();
}

}  // namespace halftone
