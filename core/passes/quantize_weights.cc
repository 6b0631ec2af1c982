#include "core/passes/quantize_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/checked_math.h"
#include "core/base/status_macros.h"
#include "core/quant/affine.h"
#include "core/quant/low_bit.h"
#include "core/quant/observer.h"
#include "core/quant/packed.h"
#include "core/quant/qparams.h"

namespace halftone {
namespace {

constexpr float kLargestF16 = 65504.0f;

struct IntegerRow {
  WeightType type;
  DataType stored;
  int32_t low, high, middle;
};
constexpr std::array kIntegerRows = {
    IntegerRow{WeightType::kI16, DataType::kI16, -32768, 32767, 0},
    IntegerRow{WeightType::kI8, DataType::kI8, -128, 127, 0},
    IntegerRow{WeightType::kU8, DataType::kU8, 0, 255, 128},
    IntegerRow{WeightType::kI4, DataType::kI4, -8, 7, 0},
    IntegerRow{WeightType::kU4, DataType::kU4, 0, 15, 8},
    IntegerRow{WeightType::kTernary, DataType::kU8, -1, 1, 0},
    IntegerRow{WeightType::kBinary, DataType::kU8, -1, 1, 0},
};

const IntegerRow& RowOf(WeightType type) {
  return kIntegerRows[static_cast<size_t>(type) - static_cast<size_t>(WeightType::kI16)];
}
bool IsPackedBits(WeightType type) {
  return type == WeightType::kTernary || type == WeightType::kBinary;
}

// --- which elements share a scale -------------------------------------------------------------

// `strips` runs of `count` elements, `step` apart, in the flat tensor.
struct ScaleGroup {
  int64_t start = 0;
  int64_t strips = 1, strip_stride = 0;
  int64_t count = 0, step = 1;
};

// A tensor seen as [outer, size, inner] with the quantized axis in the middle. Groups are in the
// order of the scale's elements.
class ScaleGroups {
 public:
  ScaleGroups(absl::Span<const int64_t> shape, const WeightFormat& format) {
    if (format.group_size == 0 && !format.channel_axis) {
      inner_ = ElementCount(shape);
      return;
    }
    const int axis = format.group_size > 0 ? format.group_axis : *format.channel_axis;
    block_ = format.group_size;
    for (int i = 0; i < static_cast<int>(shape.size()); ++i) {
      (i < axis ? outer_ : i == axis ? size_ : inner_) *= shape[i];
    }
    scale_shape_ = {size_};
    if (block_ == 0) return;
    scale_shape_.assign(shape.begin(), shape.end());
    scale_shape_[axis] = blocks();
  }

  const Shape& scale_shape() const { return scale_shape_; }
  int64_t count() const { return block_ == 0 ? size_ : outer_ * blocks() * inner_; }
  ScaleGroup group(int64_t i) const {
    if (block_ == 0) return {i * inner_, outer_, size_ * inner_, inner_, 1};
    const int64_t j = i % inner_, b = i / inner_ % blocks(), o = i / inner_ / blocks();
    const int64_t first = b * block_;
    return {(o * size_ + first) * inner_ + j, 1, 0, std::min(block_, size_ - first), inner_};
  }

 private:
  int64_t blocks() const { return (size_ + block_ - 1) / block_; }

  int64_t outer_ = 1, size_ = 1, inner_ = 1, block_ = 0;
  Shape scale_shape_;
};

// --- the numbers of one group -----------------------------------------------------------------

// Where the codes of a format lie.
struct CodeRange {
  int32_t low, high;
};
CodeRange CodesOf(const WeightFormat& format, const IntegerRow& row) {
  if (format.scheme == QuantScheme::kAffine || IsPackedBits(format.type))
    return {row.low, row.high};
  const int32_t limit = format.limit != 0 ? format.limit : row.high - row.middle;
  return {row.middle - limit, row.middle + limit};
}

// Scales cover the range.
QParams QuantizeRange(absl::Span<const float> w, const WeightFormat& format, const IntegerRow& row,
                      const ValueRange& range, absl::Span<int32_t> q) {
  const CodeRange codes = CodesOf(format, row);
  QParams p;
  if (format.scheme == QuantScheme::kAffine) {
    p = AffineQParams(range, codes.low, codes.high);
  } else {
    const float largest = std::max(std::abs(range.min), std::abs(range.max));
    p = {SymmetricQParams(largest, codes.high - row.middle).scale, row.middle};
  }
  QuantizeBetween(w, p, codes.low, codes.high, q);
  return p;
}

// Scales cover the part of the range that loses least.
QParams BestClip(absl::Span<const float> w, const WeightFormat& format, const IntegerRow& row,
                 const ValueRange& range, absl::Span<int32_t> q) {
  constexpr int kSteps = 20, kLargestCut = 12;  // of 20: down to 40 % of the range
  double least = std::numeric_limits<double>::infinity();
  int best = 0;
  for (int cut = 0; cut <= kLargestCut; ++cut) {
    const float part = 1.0f - static_cast<float>(cut) / kSteps;
    const QParams p = QuantizeRange(w, format, row, {range.min * part, range.max * part}, q);
    double error = 0;
    for (size_t i = 0; i < w.size(); ++i) {
      const double e = static_cast<double>(p.scale) * (q[i] - p.zero_point) - w[i];
      error += e * e;
    }
    if (error >= least) continue;
    least = error;
    best = cut;
  }
  const float part = 1.0f - static_cast<float>(best) / kSteps;
  return QuantizeRange(w, format, row, {range.min * part, range.max * part}, q);
}

// Writes the codes of values that share a scale.
QParams QuantizeGroup(absl::Span<const float> w, const WeightFormat& format, const IntegerRow& row,
                      bool clip, absl::Span<int32_t> q, std::vector<int8_t>& small) {
  if (IsPackedBits(format.type)) {
    small.resize(w.size());
    const bool ternary = format.type == WeightType::kTernary;
    const float scale = ternary ? TernaryScale(w) : BinaryScale(w);
    ternary ? QuantizeTernary(w, scale, absl::MakeSpan(small))
            : QuantizeBinary(w, absl::MakeSpan(small));
    std::copy(small.begin(), small.end(), q.begin());
    return {scale, 0};
  }
  ValueRange range;
  for (const float v : w) range.Include({v, v});
  return clip ? BestClip(w, format, row, range, q) : QuantizeRange(w, format, row, range, q);
}

bool StoresZeroPoint(const WeightFormat& format, const IntegerRow& row) {
  if (IsPackedBits(format.type)) return false;
  return format.scheme == QuantScheme::kAffine || row.middle != 0 ||
         (format.type == WeightType::kI8 && format.group_size == 0);
}

// Integers as the file holds them.
absl::StatusOr<Tensor> PackIntegers(absl::Span<const int16_t> q, WeightType type,
                                    absl::Span<const int64_t> shape) {
  const DataType stored = RowOf(type).stored;
  if (!IsPackedBits(type) && BitWidth(stored) >= 8) {
    HT_ASSIGN_OR_RETURN(Tensor out, Tensor::Create(stored, shape));
    DispatchType(stored, [&](auto tag) {
      using T = decltype(tag);
      std::transform(q.begin(), q.end(), out.mutable_data<T>().begin(),
                     [](int16_t v) { return static_cast<T>(v); });
    });
    return out;
  }
  const int64_t n = static_cast<int64_t>(q.size());
  std::vector<int8_t> codes(q.begin(), q.end());
  Shape packed_shape(shape.begin(), shape.end());
  if (IsPackedBits(type)) {
    HT_ASSIGN_OR_RETURN(const int64_t bytes, PackedBytes(n, BitsOf(type)));
    packed_shape = {bytes};
  }
  HT_ASSIGN_OR_RETURN(Tensor out, Tensor::Create(stored, packed_shape));
  const auto packed = absl::MakeSpan(reinterpret_cast<uint8_t*>(out.mutable_raw()),
                                     static_cast<size_t>(out.num_bytes()));
  if (type == WeightType::kTernary) {
    PackTernary(codes, packed);
  } else if (type == WeightType::kBinary) {
    PackBinary(codes, packed);
  } else {
    PackCodes(absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(codes.data()), codes.size()), 4,
              packed);
  }
  return out;
}

// --- stored order -----------------------------------------------------------------------------

// [C, M/g, taps] → [M, C/g * taps].
absl::StatusOr<Tensor> TransposeRows(const Tensor& w, const WeightFormat& format) {
  const Shape rows = StoredShape(w.shape(), format);
  const int64_t groups = format.conv_groups;
  const int64_t in = w.dim(0) / groups, out = w.dim(1);
  const int64_t taps = ElementCount(absl::MakeConstSpan(w.shape()).subspan(2));
  HT_ASSIGN_OR_RETURN(Tensor result, Tensor::Create(DataType::kF32, rows));
  const float* from = w.data<float>().data();
  float* to = result.mutable_data<float>().data();
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t i = 0; i < in; ++i, to += taps) {
        const float* tap = from + ((g * in + i) * out + o) * taps;
        std::copy(tap, tap + taps, to);
      }
    }
  }
  return result;
}

absl::StatusOr<Tensor> InStoredOrder(const Tensor& w, const WeightFormat& format) {
  switch (format.order) {
    case WeightOrder::kAsIs:
      return w;
    case WeightOrder::kConvRows:
      return w.Reshaped(StoredShape(w.shape(), format));
    case WeightOrder::kTransposeRows:
      return TransposeRows(w, format);
  }
  return w;
}

// Codes of a whole tensor in the stored order.
struct Codes {
  std::vector<int16_t> q;         // one per weight; no format has more bits
  std::vector<QParams> params;    // one per scale
  std::vector<int32_t> scale_of;  // index into params per weight; filled when asked for
};

// Calls f(place in the tensor, place in the group) for the elements of a group.
template <typename F>
void ForEachElement(const ScaleGroup& g, F&& f) {
  int64_t at = 0;
  for (int64_t s = 0; s < g.strips; ++s) {
    const int64_t strip = g.start + s * g.strip_stride;
    for (int64_t k = 0; k < g.count; ++k) f(strip + k * g.step, at++);
  }
}

// The number of groups from `first` on, at most `most`, that lie side by side: each like the one
// before, one element further on.
int64_t SideBySide(const ScaleGroups& groups, int64_t first, int64_t most) {
  const ScaleGroup a = groups.group(first);
  int64_t n = 1;
  for (; n < most && first + n < groups.count(); ++n) {
    const ScaleGroup b = groups.group(first + n);
    if (b.start != a.start + n || b.strips != a.strips || b.count != a.count) break;
  }
  return n;
}

Codes NearestCodes(absl::Span<const float> w, const ScaleGroups& groups, const WeightFormat& format,
                   const IntegerRow& row, bool clip, bool with_scales) {
  constexpr int64_t kTile = 16;  // columns of a matrix that share cache lines are read together
  Codes out{.q = std::vector<int16_t>(w.size())};
  if (with_scales) out.scale_of.resize(w.size());
  std::vector<float> values;   // [tile, elements of a group]
  std::vector<int32_t> codes;  // the same
  std::vector<int8_t> small;
  for (int64_t i = 0, tile = 1; i < groups.count(); i += tile) {
    tile = SideBySide(groups, i, kTile);
    const ScaleGroup g = groups.group(i);
    const int64_t n = g.strips * g.count;
    values.resize(tile * n);
    codes.resize(tile * n);
    ForEachElement(g, [&](int64_t place, int64_t at) {
      for (int64_t t = 0; t < tile; ++t) values[t * n + at] = w[place + t];
    });
    for (int64_t t = 0; t < tile; ++t) {
      out.params.push_back(QuantizeGroup(absl::MakeConstSpan(values).subspan(t * n, n), format, row,
                                         clip, absl::MakeSpan(codes).subspan(t * n, n), small));
    }
    ForEachElement(g, [&](int64_t place, int64_t at) {
      for (int64_t t = 0; t < tile; ++t) {
        out.q[place + t] = static_cast<int16_t>(codes[t * n + at]);
        if (with_scales) out.scale_of[place + t] = static_cast<int32_t>(i + t);
      }
    });
  }
  return out;
}

// Chooses the codes again, row by row of the layer, by what its outputs want.
void RoundForOutputs(absl::Span<const float> w, const WeightFormat& format, const IntegerRow& row,
                     const WeightRounding& rounding, Codes& codes) {
  const Linear& layer = *rounding.layer;
  const int64_t columns = layer.columns(), rows = layer.outputs / layer.groups;
  const CodeRange range = CodesOf(format, row);
  const RoundingGrid grid{.qmin = range.low, .qmax = range.high, .group = 1};
  const size_t count = static_cast<size_t>(rows * columns);
  std::vector<float> weights(count);
  std::vector<QParams> params(count);
  std::vector<int32_t> q(count);
  std::vector<int64_t> place(count);
  for (int64_t g = 0; g < layer.groups; ++g) {
    for (size_t i = 0; i < count; ++i) {
      const int64_t r = g * rows + static_cast<int64_t>(i) / columns,
                    c = static_cast<int64_t>(i) % columns;
      place[i] = format.order == WeightOrder::kAsIs ? layer.IndexOf(r, c) : r * columns + c;
      weights[i] = w[place[i]];
      params[i] = codes.params[codes.scale_of[place[i]]];
      q[i] = codes.q[place[i]];
    }
    const SecondMoment& h = (*rounding.moments)[g];
    if (rounding.gptq) RoundGptq(weights, h, grid, params, absl::MakeSpan(q));
    if (rounding.descent) RoundByDescent(weights, h, grid, params, absl::MakeSpan(q));
    for (size_t i = 0; i < count; ++i) codes.q[place[i]] = static_cast<int16_t>(q[i]);
  }
}

absl::StatusOr<NarrowWeights> QuantizeWeights(const Tensor& weights, const WeightFormat& format,
                                              const WeightRounding& rounding) {
  const IntegerRow& row = RowOf(format.type);
  HT_ASSIGN_OR_RETURN(const Tensor w, InStoredOrder(weights, format));
  const ScaleGroups groups(w.shape(), format);
  const bool by_outputs = rounding.moments != nullptr && format.type != WeightType::kBinary;
  Codes codes = NearestCodes(w.data<float>(), groups, format, row, rounding.clip, by_outputs);
  if (by_outputs) RoundForOutputs(w.data<float>(), format, row, rounding, codes);
  NarrowWeights out{.shape = weights.shape(), .order = format.order};
  HT_ASSIGN_OR_RETURN(out.scale, Tensor::Create(DataType::kF32, groups.scale_shape()));
  std::vector<int16_t> zeros;
  for (size_t i = 0; i < codes.params.size(); ++i) {
    out.scale.mutable_data<float>()[i] = codes.params[i].scale;
    zeros.push_back(static_cast<int16_t>(codes.params[i].zero_point));
  }
  HT_ASSIGN_OR_RETURN(out.stored, PackIntegers(codes.q, format.type, w.shape()));
  if (StoresZeroPoint(format, row)) {
    HT_ASSIGN_OR_RETURN(out.zero_point, PackIntegers(zeros, format.type, groups.scale_shape()));
  }
  return out;
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

Shape StoredShape(absl::Span<const int64_t> shape, const WeightFormat& format) {
  if (format.order == WeightOrder::kAsIs) return Shape(shape.begin(), shape.end());
  const int64_t rows =
      format.order == WeightOrder::kConvRows ? shape[0] : shape[1] * format.conv_groups;
  return {rows, rows == 0 ? 0 : ElementCount(shape) / rows};
}

absl::StatusOr<WeightFormat> FormatFor(const QuantSpec& spec, WeightType type, const Node& node,
                                       const WeightOperand& operand) {
  WeightFormat format{.type = type};
  if (!IsInteger(type)) return format;
  if (type != spec.weights) {  // an override to int8 beside fewer bits
    QuantSpec own = DefaultsOf(type);
    own.activations = spec.activations;
    return FormatFor(own, type, node, operand);
  }
  format.scheme = spec.scheme;
  const Tensor& w = node.input(operand.input)->constant();
  const bool matrix = node.op() == "MatMul" || node.op() == "Gemm";
  // How a grouped ConvTranspose knows its output channels, and a convolution its groups.
  const auto as_rows = [&] {
    format.order = node.op() == "Conv" ? WeightOrder::kConvRows : WeightOrder::kTransposeRows;
    if (node.op() == "ConvTranspose") format.conv_groups = node.attributes().Int("group", 1);
  };
  if (std::holds_alternative<PerTensor>(spec.granularity)) return format;
  if (const auto* channel = std::get_if<PerChannel>(&spec.granularity)) {
    if (channel->axis >= w.rank()) {
      return absl::InvalidArgumentError(absl::StrCat("its weights have rank ", w.rank(),
                                                     ", the spec wants scales along axis ",
                                                     channel->axis));
    }
    format.channel_axis = channel->axis >= 0 ? std::optional(channel->axis) : operand.channel_axis;
    if (!format.channel_axis && spec.activations == ActivationMode::kWeightOnly) {
      as_rows();
      format.channel_axis = 0;
    }
    return format;
  }
  if (matrix && w.rank() != 2) return format;  // such weights stay float, see quantize_graph.cc
  if (matrix) {
    format.group_axis = 1 - *operand.channel_axis;
  } else {
    as_rows();
    format.group_axis = 1;
  }
  format.group_size = std::get<PerGroup>(spec.granularity).size;
  if (format.group_size < StoredShape(w.shape(), format)[format.group_axis]) return format;
  QuantSpec per_channel = spec;
  per_channel.granularity = PerChannel{};
  return FormatFor(per_channel, type, node, operand);
}

int64_t NarrowWeights::bytes() const {
  if (IsFloat(stored.type())) return stored.num_bytes();
  const int64_t rank = static_cast<int64_t>(shape.size());
  const int64_t sizes = order == WeightOrder::kAsIs       ? 0
                        : order == WeightOrder::kConvRows ? rank
                                                          : 2 * rank + 1;
  return stored.num_bytes() + scale.num_bytes() + zero_point.num_bytes() +
         sizes * static_cast<int64_t>(sizeof(int64_t));
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

absl::StatusOr<NarrowWeights> NarrowTheWeights(const Tensor& weights, const WeightFormat& format,
                                               const WeightRounding& rounding) {
  if (IsInteger(format.type)) return QuantizeWeights(weights, format, rounding);
  NarrowWeights out{.shape = weights.shape()};
  const DataType stored = format.type == WeightType::kF16 ? DataType::kF16 : DataType::kBF16;
  HT_ASSIGN_OR_RETURN(out.stored, Convert(weights, stored));
  return out;
}

}  // namespace halftone
