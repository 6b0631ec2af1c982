#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/passes/portable.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

// A node that is linear in its constant weights, seen per output channel.
struct Linear {
  Node* node = nullptr;
  const Tensor* weights = nullptr;  // input 1
  int rank = 0;                     // of the output
  int channel_axis = 0;             // of the output
  int64_t channels = 0;
  bool takes_bias = false;                     // as input 2
  std::function<int64_t(int64_t)> channel_of;  // of a flat index into the weights
};

std::optional<Linear> AsConv(Node* node, const Tensor* w) {
  if (w->rank() < 3) return std::nullopt;
  Linear out{.node = node, .weights = w, .rank = w->rank(), .channel_axis = 1, .takes_bias = true};
  const int64_t kernel = ElementCount(absl::MakeConstSpan(w->shape()).subspan(2));
  if (IsOp(node, "Conv")) {
    out.channels = w->dim(0);
    const int64_t row = w->dim(1) * kernel;
    out.channel_of = [row](int64_t i) { return i / row; };
    return out;
  }
  // ConvTranspose: [inputs, outputs per group, kernel…].
  const int64_t group = node->attributes().Int("group", 1);
  const int64_t per_group = w->dim(1);
  if (group <= 0 || w->dim(0) % group != 0 || w->dim(0) == 0) return std::nullopt;
  const int64_t inputs_per_group = w->dim(0) / group;
  out.channels = per_group * group;
  out.channel_of = [=](int64_t i) {
    const int64_t input = i / (per_group * kernel);
    return input / inputs_per_group * per_group + i / kernel % per_group;
  };
  return out;
}

std::optional<Linear> AsMatrix(Node* node, const Tensor* w) {
  if (w->rank() != 2) return std::nullopt;
  const bool gemm = IsOp(node, "Gemm");
  const int rank = gemm ? 2 : RankOf(node->output(0));
  if (rank < 2) return std::nullopt;
  Linear out{
      .node = node, .weights = w, .rank = rank, .channel_axis = rank - 1, .takes_bias = gemm};
  const int64_t columns = w->dim(1);
  if (gemm && node->attributes().Int("transB", 0) != 0) {
    out.channels = w->dim(0);
    out.channel_of = [columns](int64_t i) { return i / columns; };
  } else {
    out.channels = columns;
    out.channel_of = [columns](int64_t i) { return i % columns; };
  }
  return out;
}

std::optional<Linear> AsLinear(const Value* value) {
  Node* node = value == nullptr ? nullptr : value->producer();
  if (node == nullptr || node->output(0) != value) return std::nullopt;
  const Tensor* w = FloatConstantOf(node->input(1));
  if (w == nullptr || w->num_elements() == 0) return std::nullopt;
  if (IsOp(node, "Conv") || IsOp(node, "ConvTranspose")) return AsConv(node, w);
  if (IsOp(node, "Gemm") || IsOp(node, "MatMul")) return AsMatrix(node, w);
  return std::nullopt;
}

// A constant that broadcasts along one axis only, as one number per channel.
std::optional<std::vector<double>> PerChannel(const Tensor& t, const Linear& linear) {
  if (t.rank() > linear.rank) return std::nullopt;
  const int offset = linear.rank - t.rank();
  for (int i = 0; i < t.rank(); ++i) {
    const bool along_channels = i + offset == linear.channel_axis && t.dim(i) == linear.channels;
    if (t.dim(i) != 1 && !along_channels) return std::nullopt;
  }
  std::vector<double> out(linear.channels);
  for (int64_t c = 0; c < linear.channels; ++c) {
    out[c] = t.data<float>()[t.num_elements() == 1 ? 0 : c];
  }
  return out;
}

// What the node after the linear one does: x·scale + shift; an empty part changes nothing.
struct Change {
  std::vector<double> scale, shift;
};

std::optional<Change> ReadChange(const Node& node, const Tensor& constant, bool constant_first,
                                 const Linear& linear) {
  std::optional<std::vector<double>> c = PerChannel(constant, linear);
  if (!c) return std::nullopt;
  Change out;
  if (node.op() == "Mul") {
    out.scale = *c;
  } else if (node.op() == "Div" && !constant_first) {
    for (double v : *c) out.scale.push_back(1.0 / v);
  } else if (node.op() == "Add") {
    out.shift = *c;
  } else if (node.op() == "Sub" && !constant_first) {
    for (double v : *c) out.shift.push_back(-v);
  } else {
    return std::nullopt;
  }
  const auto finite = [](double v) { return std::isfinite(v); };
  const bool sane = std::all_of(out.scale.begin(), out.scale.end(), finite) &&
                    std::all_of(out.shift.begin(), out.shift.end(), finite);
  return sane ? std::optional<Change>(out) : std::nullopt;
}

// The bias of the linear node, per channel; nullopt if it cannot be seen that way.
std::optional<std::vector<double>> ReadBias(const Linear& linear) {
  const Value* value = linear.node->input(2);
  if (value == nullptr) return std::vector<double>(linear.channels, 0.0);
  const Tensor* t = FloatConstantOf(value);
  if (t == nullptr) return std::nullopt;
  if (!IsOp(linear.node, "Gemm")) {
    if (t->rank() != 1 || t->dim(0) != linear.channels) return std::nullopt;
    return std::vector<double>(t->data<float>().begin(), t->data<float>().end());
  }
  std::optional<std::vector<double>> bias = PerChannel(*t, linear);
  if (!bias) return std::nullopt;
  for (double& b : *bias) b *= linear.node->attributes().Float("beta", 1.0f);
  return bias;
}

absl::Status ScaleWeights(Graph& graph, const Linear& linear, absl::Span<const double> scale) {
  HT_ASSIGN_OR_RETURN(Tensor scaled, linear.weights->Clone());
  const absl::Span<float> w = scaled.mutable_data<float>();
  for (size_t i = 0; i < w.size(); ++i) {
    w[i] = static_cast<float>(w[i] * scale[linear.channel_of(static_cast<int64_t>(i))]);
  }
  ReplaceConstantInput(graph, linear.node, 1, std::move(scaled),
                       absl::StrCat(linear.node->name(), "/weight"));
  return absl::OkStatus();
}

absl::StatusOr<bool> Apply(Graph& graph, const Linear& linear, const Change& change) {
  if (!change.shift.empty() && !linear.takes_bias) return false;
  std::optional<std::vector<double>> bias;
  if (linear.takes_bias && (!change.shift.empty() || linear.node->input(2) != nullptr)) {
    bias = ReadBias(linear);
    if (!bias) return false;
  }
  if (!change.scale.empty()) HT_RETURN_IF_ERROR(ScaleWeights(graph, linear, change.scale));
  if (!bias) return true;
  std::vector<float> values(linear.channels);
  for (int64_t c = 0; c < linear.channels; ++c) {
    const double scaled = (*bias)[c] * (change.scale.empty() ? 1.0 : change.scale[c]);
    values[c] = static_cast<float>(scaled + (change.shift.empty() ? 0.0 : change.shift[c]));
  }
  ReplaceConstantInput(graph, linear.node, 2,
                       Tensor::Of<float>({linear.channels}, absl::MakeConstSpan(values)),
                       absl::StrCat(linear.node->name(), "/bias"));
  linear.node->attributes().Erase("beta");
  return true;
}

absl::StatusOr<bool> FoldInto(Graph& graph, Node* node) {
  for (int i = 0; i < 2; ++i) {
    const Tensor* constant = FloatConstantOf(node->input(i));
    Value* x = node->input(1 - i);
    if (constant == nullptr || SoleUser(x) != node) continue;
    const std::optional<Linear> linear = AsLinear(x);
    if (!linear) continue;
    const std::optional<Change> change = ReadChange(*node, *constant, i == 0, *linear);
    if (!change) continue;
    HT_ASSIGN_OR_RETURN(const bool folded, Apply(graph, *linear, *change));
    if (!folded) continue;
    graph.ReplaceUsesKeepingName(node->output(0), x);
    return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<bool> FoldScale(Graph& graph) {
  HT_RETURN_IF_ERROR(graph.SortTopologically());  // so that Conv, Mul, Add folds in one sweep
  bool changed = false;
  const std::vector<Node*> nodes = graph.nodes();
  for (Node* node : nodes) {
    const bool candidate =
        IsOp(node, "Mul") || IsOp(node, "Div") || IsOp(node, "Add") || IsOp(node, "Sub");
    if (!candidate || node->output(0) == nullptr) continue;
    HT_ASSIGN_OR_RETURN(const bool folded, FoldInto(graph, node));
    if (!folded) continue;
    // The folded node still reads the linear one and would hide it from the next fold.
    graph.RemoveNode(node);
    changed = true;
  }
  if (changed) graph.RemoveUnused();
  return changed;
}

}  // namespace halftone
