#include "core/passes/quantize_weights.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/quant/affine.h"
#include "core/quant/error_stats.h"
#include "core/quant/observer.h"
#include "core/quant/qparams.h"

namespace halftone {
namespace {

constexpr float kLargestF16 = 65504.0f;

// A tensor seen as [outer, channels, inner] with the quantized axis in the middle.
struct ChannelView {
  int64_t outer = 1, channels = 1, inner = 1;
};

ChannelView ViewOf(absl::Span<const int64_t> shape, std::optional<int> axis) {
  ChannelView v;
  if (!axis) {
    v.inner = ElementCount(shape);
    return v;
  }
  for (int i = 0; i < static_cast<int>(shape.size()); ++i) {
    (i < *axis ? v.outer : i == *axis ? v.channels : v.inner) *= shape[i];
  }
  return v;
}

std::vector<QParams> ChooseParams(const Tensor& w, const ChannelView& view,
                                  const WeightFormat& format) {
  ChannelObserver observer(view.channels);
  observer.Observe(w.data<float>(), view.inner);
  std::vector<QParams> out;
  for (const MinMaxObserver& channel : observer.channels()) {
    const ValueRange& r = channel.range();
    out.push_back(format.scheme == QuantScheme::kAffine
                      ? AffineS8(r)
                      : SymmetricQParams(std::max(std::abs(r.min), std::abs(r.max)), format.limit));
  }
  return out;
}

absl::StatusOr<NarrowWeights> QuantizeWeights(const Tensor& w, const WeightFormat& format) {
  const ChannelView view = ViewOf(w.shape(), format.channel_axis);
  const std::vector<QParams> params = ChooseParams(w, view, format);
  NarrowWeights out;
  HT_ASSIGN_OR_RETURN(out.stored, Tensor::Create(DataType::kI8, w.shape()));
  const absl::Span<const float> from = w.data<float>();
  const absl::Span<int8_t> to = out.stored.mutable_data<int8_t>();
  const size_t inner = static_cast<size_t>(view.inner);
  for (size_t row = 0, at = 0; at < from.size(); ++row, at += inner) {
    const QParams& p = params[row % params.size()];
    if (format.scheme == QuantScheme::kAffine) {
      Quantize(from.subspan(at, inner), p, to.subspan(at, inner));
    } else {
      QuantizeSymmetric(from.subspan(at, inner), p.scale, format.limit, to.subspan(at, inner));
    }
  }
  const Shape shape = format.channel_axis ? Shape{view.channels} : Shape{};
  HT_ASSIGN_OR_RETURN(out.scale, Tensor::Create(DataType::kF32, shape));
  HT_ASSIGN_OR_RETURN(out.zero_point, Tensor::Create(DataType::kI8, shape));
  for (size_t c = 0; c < params.size(); ++c) {
    out.scale.mutable_data<float>()[c] = params[c].scale;
    out.zero_point.mutable_data<int8_t>()[c] = static_cast<int8_t>(params[c].zero_point);
  }
  return out;
}

DataType StoredType(WeightType type) {
  return type == WeightType::kF16    ? DataType::kF16
         : type == WeightType::kBF16 ? DataType::kBF16
                                     : DataType::kI8;
}

Attributes DequantizeAttributes(const WeightFormat& format) {
  if (!format.channel_axis) return {};
  return {{"axis", static_cast<int64_t>(*format.channel_axis)}};
}

}  // namespace

std::optional<WeightOperand> FindWeightOperand(const Node& node) {
  if (!node.domain().empty() || node.input(1) == nullptr) return std::nullopt;
  const std::string& op = node.op();
  const SymbolicShape& shape = node.input(1)->type().shape;
  const int rank = shape ? static_cast<int>(shape->size()) : 0;
  if (op == "Conv") return WeightOperand{1, 0};
  if (op == "ConvTranspose") {
    if (node.attributes().Int("group", 1) != 1) return WeightOperand{1, std::nullopt};
    return WeightOperand{1, 1};
  }
  if (op == "Gemm") return WeightOperand{1, node.attributes().Int("transB", 0) != 0 ? 0 : 1};
  if (op == "MatMul") return WeightOperand{1, std::max(rank - 1, 0)};
  return std::nullopt;
}

int64_t NarrowWeights::bytes() const {
  if (stored.type() != DataType::kI8) return stored.num_bytes();
  return stored.num_bytes() + scale.num_bytes() + zero_point.num_bytes();
}

absl::StatusOr<Tensor> NarrowWeights::Widen(const WeightFormat& format) const {
  if (stored.type() != DataType::kI8) return Convert(stored, DataType::kF32);
  HT_ASSIGN_OR_RETURN(Tensor out, Tensor::Create(DataType::kF32, stored.shape()));
  const ChannelView view = ViewOf(stored.shape(), format.channel_axis);
  const size_t inner = static_cast<size_t>(view.inner);
  const absl::Span<const int8_t> from = stored.data<int8_t>();
  const absl::Span<float> to = out.mutable_data<float>();
  for (size_t row = 0, at = 0; at < from.size(); ++row, at += inner) {
    const size_t c = row % static_cast<size_t>(scale.num_elements());
    const QParams p{scale.data<float>()[c], zero_point.data<int8_t>()[c]};
    Dequantize(from.subspan(at, inner), p, to.subspan(at, inner));
  }
  return out;
}

std::string WeightObstacle(const Tensor& weights, const WeightFormat& format) {
  if (weights.num_elements() == 0) return "its weights are empty";
  MinMaxObserver observer;
  observer.Observe(weights.data<float>());
  if (observer.non_finite() > 0) {
    return absl::StrCat("its weights hold ", observer.non_finite(), " NaN or infinite values");
  }
  const float largest = std::max(std::abs(observer.range().min), std::abs(observer.range().max));
  if (format.type == WeightType::kF16 && largest > kLargestF16) {
    return absl::StrCat("a weight of magnitude ", largest, " is beyond f16's largest, 65504");
  }
  if (format.type == WeightType::kBF16 && std::isinf(static_cast<float>(BFloat16(largest)))) {
    return absl::StrCat("a weight of magnitude ", largest, " is beyond bf16's largest");
  }
  return "";
}

absl::StatusOr<NarrowWeights> NarrowTheWeights(const Tensor& weights, const WeightFormat& format) {
  if (format.type == WeightType::kI8) return QuantizeWeights(weights, format);
  NarrowWeights out;
  HT_ASSIGN_OR_RETURN(out.stored, Convert(weights, StoredType(format.type)));
  return out;
}

absl::StatusOr<double> WeightSqnr(const Tensor& weights, const WeightFormat& format) {
  HT_ASSIGN_OR_RETURN(const NarrowWeights narrow, NarrowTheWeights(weights, format));
  HT_ASSIGN_OR_RETURN(const Tensor wide, narrow.Widen(format));
  ErrorStats stats;
  stats.Add(weights.data<float>(), wide.data<float>());
  return stats.sqnr_db();
}

absl::StatusOr<WeightNarrower::Entry*> WeightNarrower::Store(Value* weights,
                                                             const WeightFormat& format) {
  const auto key = std::make_pair(weights->name(), format);
  const auto it = entries_.find(key);
  if (it != entries_.end()) return &it->second;
  HT_ASSIGN_OR_RETURN(const NarrowWeights narrow, NarrowTheWeights(weights->constant(), format));
  const std::string& name = weights->name();
  Entry entry;
  entry.bytes = narrow.bytes();
  const bool i8 = format.type == WeightType::kI8;
  entry.stored = graph_.AddConstant(
      absl::StrCat(name, i8 ? "_quantized" : absl::StrCat("_", Name(narrow.stored.type()))),
      narrow.stored);
  if (i8) {
    parameters_[entry.stored->name()] = {
        graph_.AddConstant(absl::StrCat(name, "_scale"), narrow.scale),
        graph_.AddConstant(absl::StrCat(name, "_zero_point"), narrow.zero_point)};
  }
  return &(entries_[key] = entry);
}

absl::StatusOr<int64_t> WeightNarrower::Narrow(Node* node, int index, const WeightFormat& format) {
  Value* weights = node->input(index);
  HT_ASSIGN_OR_RETURN(Entry* const entry, Store(weights, format));
  if (entry->widened == nullptr) {
    NodeSpec spec;
    if (format.type == WeightType::kI8) {
      const auto& [scale, zero_point] = parameters_.at(entry->stored->name());
      spec = {.op = "DequantizeLinear",
              .name = absl::StrCat(weights->name(), "_DequantizeLinear"),
              .inputs = {entry->stored, scale, zero_point},
              .outputs = {absl::StrCat(weights->name(), "_dequantized")},
              .attributes = DequantizeAttributes(format)};
    } else {
      spec = {.op = "Cast",
              .name = absl::StrCat(weights->name(), "_Cast"),
              .inputs = {entry->stored},
              .outputs = {absl::StrCat(weights->name(), "_widened")},
              .attributes = {{"to", int64_t{Info(DataType::kF32).onnx_code}}}};
    }
    entry->widened = graph_.AddNode(std::move(spec))->output(0);
    entry->widened->set_type(weights->type());
  }
  graph_.SetInput(node, index, entry->widened);
  return entry->bytes;
}

absl::StatusOr<int64_t> WeightNarrower::NarrowThrough(Node* node, int index,
                                                      const WeightFormat& format) {
  HT_ASSIGN_OR_RETURN(Entry* const entry, Store(node->input(index), format));
  graph_.SetInput(node, index, entry->stored);
  Value* out = node->output(0);
  const std::string name = out->name();
  const ValueType wide = out->type();
  Node* cast = graph_.AddNode({.op = "Cast",
                               .name = absl::StrCat(node->name(), "_Cast"),
                               .outputs = {absl::StrCat(name, "_widened")},
                               .attributes = {{"to", int64_t{Info(DataType::kF32).onnx_code}}}});
  graph_.ReplaceUses(out, cast->output(0));
  graph_.SetInput(cast, 0, out);
  graph_.RenameValue(out, graph_.UniqueName(absl::StrCat(name, "_narrow")));
  graph_.RenameValue(cast->output(0), name);
  cast->output(0)->set_type(wide);
  out->set_type({entry->stored->type().type, wide.shape});
  return entry->bytes;
}

}  // namespace halftone
