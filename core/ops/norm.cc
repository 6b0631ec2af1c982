// Normalisations.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"

namespace halftone {
namespace {

struct Moments {
  double mean, variance;
};

template <typename T>
Moments MomentsOf(absl::Span<const T> x) {
  double sum = 0, squares = 0;
  for (const T v : x) sum += v;
  const double mean = sum / static_cast<double>(x.size());
  for (const T v : x) squares += (v - mean) * (v - mean);
  return {mean, squares / static_cast<double>(x.size())};
}

Dim ChannelsOf(const SymbolicShape& shape) {
  return shape.has_value() && shape->size() > 1 ? (*shape)[1] : Dim();
}

// --- BatchNormalization --------------------------------------------------------------------------

bool Training(const Attributes& a, int opset) {
  return opset >= 14 && a.Int("training_mode", 0) != 0;
}

// Before opset 9 every position of a sample could have its own statistics.
bool PerActivation(const Attributes& a, int opset) { return opset < 9 && a.Int("spatial", 1) == 0; }

absl::Status InferBatchNorm(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 1, 64));
  for (int i = 1; i < 5; ++i) {
    HT_RETURN_IF_ERROR(CheckType(c, i, kFloatTypes));
    if (!PerActivation(c.attributes(), c.opset())) {
      HT_RETURN_IF_ERROR(CheckVector(c, i, ChannelsOf(c.input(0).shape)));
    }
  }
  if (!Training(c.attributes(), c.opset()) && (c.has_output(1) || c.has_output(2))) {
    return c.Error("has running statistics as outputs, want training_mode = 1 for them");
  }
  HT_RETURN_IF_ERROR(InferLikeInput(c));
  for (const int i : {1, 2}) c.set_output(i, c.input(i + 2).type, c.input(i + 2).shape);
  return absl::OkStatus();
}

// Statistics of every channel over batch and space, and the running ones.
template <typename T>
absl::Status TrainingStatistics(EvalContext& c, int64_t plane, std::vector<double>& mean,
                                std::vector<double>& variance) {
  const Tensor& x = c.input(0);
  const int64_t channels = static_cast<int64_t>(mean.size());
  const double momentum = c.attributes().Float("momentum", 0.9f);
  std::vector<T> values;
  for (int64_t ch = 0; ch < channels; ++ch) {
    values.clear();
    for (int64_t n = 0; n < x.dim(0); ++n) {
      const T* from = Raw<T>(x) + (n * channels + ch) * plane;
      values.insert(values.end(), from, from + plane);
    }
    const Moments m = MomentsOf<T>(values);
    for (const int i : {1, 2}) {
      if (!c.has_output(i)) continue;
      const double now = i == 1 ? m.mean : m.variance;
      const double before = i == 1 ? mean[ch] : variance[ch];
      c.outputs()[i].template mutable_data<T>()[ch] =
          static_cast<T>(before * momentum + now * (1 - momentum));
    }
    mean[ch] = m.mean;
    variance[ch] = m.variance;
  }
  return absl::OkStatus();
}

template <typename T>
std::vector<double> AsDoubles(const Tensor& t) {
  const auto x = t.data<T>();
  return {x.begin(), x.end()};
}

absl::Status EvalBatchNorm(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  for (const int i : {1, 2}) {
    if (c.has_output(i)) HT_RETURN_IF_ERROR(c.Allocate(i).status());
  }
  const Tensor& x = c.input(0);
  const int spatial = PerActivation(c.attributes(), c.opset()) ? x.rank() : 2;
  const int64_t channels = DimProduct(x.shape(), 1, std::min(spatial, x.rank()));
  const int64_t plane = DimProduct(x.shape(), spatial, x.rank());
  const double epsilon = c.attributes().Float("epsilon", 1e-5f);
  // Scale, bias and statistics may have another float type than the data.
  std::array<Tensor, 4> parameters;
  for (int i = 0; i < 4; ++i) {
    HT_ASSIGN_OR_RETURN(parameters[i], Convert(c.input(i + 1), x.type()));
    if (parameters[i].num_elements() != channels) return c.Error("got too few statistics");
  }
  return DispatchFloat(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    const std::vector<double> scale = AsDoubles<T>(parameters[0]),
                              bias = AsDoubles<T>(parameters[1]);
    std::vector<double> mean = AsDoubles<T>(parameters[2]), variance = AsDoubles<T>(parameters[3]);
    if (Training(c.attributes(), c.opset())) {
      TrainingStatistics<T>(c, plane, mean, variance).IgnoreError();
    }
    const T* from = Raw<T>(x);
    T* to = MutableRaw<T>(*out);
    for (int64_t i = 0; i < x.dim(0) * channels; ++i) {
      const int64_t ch = i % channels;
      const double factor = scale[ch] / std::sqrt(variance[ch] + epsilon);
      const double shift = bias[ch] - mean[ch] * factor;
      for (int64_t j = 0; j < plane; ++j) *to++ = static_cast<T>(*from++ * factor + shift);
    }
  });
}

// --- LayerNormalization --------------------------------------------------------------------------

absl::Status InferLayerNorm(InferContext& c) {
  for (const int i : {1, 2}) HT_RETURN_IF_ERROR(CheckSameType(c, 0, i));
  HT_RETURN_IF_ERROR(InferLikeInput(c));
  const SymbolicShape& x = c.input(0).shape;
  SymbolicShape moments = x;
  if (x.has_value()) {
    HT_ASSIGN_OR_RETURN(const int64_t axis, NormalizeAxis(c, c.attributes().Int("axis", -1),
                                                          static_cast<int64_t>(x->size())));
    const Dims tail(x->begin() + axis, x->end());
    for (const int i : {1, 2}) {
      if (c.has_input(i)) HT_RETURN_IF_ERROR(CheckBroadcastsTo(c, c.input(i).shape, tail));
    }
    std::fill(moments->begin() + axis, moments->end(), Dim(1));
  }
  c.set_output(1, DataType::kF32, moments);
  c.set_output(2, DataType::kF32, std::move(moments));
  return absl::OkStatus();
}

// Scale or bias repeated to one element per normalised position; `fallback` where absent.
template <typename T>
std::vector<T> Repeated(const EvalContext& c, int i, absl::Span<const int64_t> shape, T fallback) {
  std::vector<T> out(static_cast<size_t>(ElementCount(shape)), fallback);
  if (!c.has_input(i)) return out;
  const T* from = Raw<T>(c.input(i));
  T* to = out.data();
  ForEachRow(shape, {BroadcastStrides(c.input(i).shape(), shape)},
             [&](int64_t count, const int64_t* offsets, const int64_t* steps) {
               for (int64_t j = 0; j < count; ++j) *to++ = from[offsets[0] + j * steps[0]];
             });
  return out;
}

absl::Status EvalLayerNorm(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  for (const int i : {1, 2}) {
    if (c.has_output(i)) HT_RETURN_IF_ERROR(c.Allocate(i).status());
  }
  const Tensor& x = c.input(0);
  const int64_t axis = Axis(c.attributes().Int("axis", -1), x.rank());
  const absl::Span<const int64_t> shape = absl::MakeConstSpan(x.shape()).subspan(axis);
  const int64_t rows = DimProduct(x.shape(), 0, axis), width = ElementCount(shape);
  const double epsilon = c.attributes().Float("epsilon", 1e-5f);
  return DispatchFloat(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    const std::vector<T> scale = Repeated<T>(c, 1, shape, T{1}),
                         bias = Repeated<T>(c, 2, shape, T{0});
    const auto from = x.data<T>();
    T* to = MutableRaw<T>(*out);
    for (int64_t r = 0; r < rows; ++r) {
      const auto row = from.subspan(r * width, width);
      const Moments m = MomentsOf<T>(row);
      const double inverse = 1 / std::sqrt(m.variance + epsilon);
      for (int64_t j = 0; j < width; ++j) {
        *to++ = static_cast<T>((row[j] - m.mean) * inverse * scale[j] + bias[j]);
      }
      if (c.has_output(1)) MutableRaw<float>(c.outputs()[1])[r] = static_cast<float>(m.mean);
      if (c.has_output(2)) MutableRaw<float>(c.outputs()[2])[r] = static_cast<float>(inverse);
    }
  });
}

// --- InstanceNormalization, GroupNormalization ---------------------------------------------------

// Groups of channels are normalised together. Scale and bias are per channel, or per group before
// GroupNormalization-21.
int64_t GroupCount(const Attributes& a, int64_t channels) { return a.Int("num_groups", channels); }
bool PerGroup(const Node& node, int opset) {
  return node.op() == "GroupNormalization" && opset < 21;
}

absl::Status InferGroupNorm(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 3, 64));
  const Dim channels = ChannelsOf(c.input(0).shape);
  if (c.node().op() == "GroupNormalization") {
    const int64_t groups = c.attributes().Int("num_groups", 0);
    if (groups < 1 || (channels.known() && channels.value % groups != 0)) {
      return c.Error(absl::StrCat("num_groups is ", groups, " for ", ToString(c.input(0).shape)));
    }
  }
  const Dim size =
      PerGroup(c.node(), c.opset()) ? Dim(c.attributes().Int("num_groups", 0)) : channels;
  for (const int i : {1, 2}) {
    HT_RETURN_IF_ERROR(CheckSameType(c, 0, i));
    HT_RETURN_IF_ERROR(CheckVector(c, i, size));
  }
  return InferLikeInput(c);
}

absl::Status EvalGroupNorm(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Tensor& x = c.input(0);
  const int64_t channels = x.dim(1), plane = DimProduct(x.shape(), 2, x.rank());
  const int64_t groups = GroupCount(c.attributes(), channels);
  const int64_t per_group = groups == 0 ? 0 : channels / groups;
  const bool per_group_scale = PerGroup(c.node(), c.opset());
  const double epsilon = c.attributes().Float("epsilon", 1e-5f);
  return DispatchFloat(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    const auto from = x.data<T>();
    const auto scale = c.input(1).data<T>(), bias = c.input(2).data<T>();
    T* to = MutableRaw<T>(*out);
    for (int64_t i = 0; i < x.dim(0) * groups; ++i) {
      const auto group = from.subspan(i * per_group * plane, per_group * plane);
      const Moments m = MomentsOf<T>(group);
      const double inverse = 1 / std::sqrt(m.variance + epsilon);
      for (int64_t j = 0; j < per_group * plane; ++j) {
        const int64_t g = i % groups;
        const int64_t at = per_group_scale ? g : g * per_group + j / plane;
        *to++ = static_cast<T>((group[j] - m.mean) * inverse * scale[at] + bias[at]);
      }
    }
  });
}

// --- LpNormalization, LRN ------------------------------------------------------------------------

absl::Status InferLpNorm(InferContext& c) {
  if (c.input(0).shape.has_value()) {
    HT_RETURN_IF_ERROR(NormalizeAxis(c, c.attributes().Int("axis", -1),
                                     static_cast<int64_t>(c.input(0).shape->size()))
                           .status());
  }
  const int64_t p = c.attributes().Int("p", 2);
  if (p != 1 && p != 2) return c.Error(absl::StrCat("p is ", p, ", want 1 or 2"));
  return InferLikeInput(c);
}

absl::Status EvalLpNorm(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Tensor& x = c.input(0);
  const int64_t axis = Axis(c.attributes().Int("axis", -1), x.rank());
  const int64_t size = x.dim(axis), inner = DimProduct(x.shape(), axis + 1, x.rank());
  const int64_t outer = DimProduct(x.shape(), 0, axis);
  const bool squared = c.attributes().Int("p", 2) == 2;
  return DispatchFloat(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    for (int64_t i = 0; i < outer * inner; ++i) {
      const int64_t start = i / inner * size * inner + i % inner;
      const T* from = Raw<T>(x) + start;
      T* to = MutableRaw<T>(*out) + start;
      double sum = 0;
      for (int64_t j = 0; j < size; ++j) {
        const double v = from[j * inner];
        sum += squared ? v * v : std::abs(v);
      }
      const double norm = squared ? std::sqrt(sum) : sum;
      for (int64_t j = 0; j < size; ++j) {
        to[j * inner] = norm == 0 ? T{0} : static_cast<T>(from[j * inner] / norm);
      }
    }
  });
}

absl::Status InferLrn(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 2, 64));
  if (c.attributes().Int("size", 0) < 1) return c.Error("size is not positive");
  return InferLikeInput(c);
}

absl::Status EvalLrn(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Tensor& x = c.input(0);
  const int64_t size = c.attributes().Int("size", 1), channels = x.dim(1);
  const int64_t plane = DimProduct(x.shape(), 2, x.rank());
  const double alpha = c.attributes().Float("alpha", 1e-4f) / static_cast<double>(size);
  const double beta = c.attributes().Float("beta", 0.75f), bias = c.attributes().Float("bias", 1);
  return DispatchFloat(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    for (int64_t i = 0; i < x.num_elements(); ++i) {
      const int64_t ch = i / plane % channels, base = i - ch * plane;
      const int64_t first = std::max<int64_t>(0, ch - (size - 1) / 2);
      const int64_t last = std::min(channels - 1, ch + size / 2);
      double sum = 0;
      for (int64_t j = first; j <= last; ++j) {
        const double v = Raw<T>(x)[base + j * plane];
        sum += v * v;
      }
      MutableRaw<T>(*out)[i] = static_cast<T>(Raw<T>(x)[i] / std::pow(bias + alpha * sum, beta));
    }
  });
}

template <EvalFn kEval>
constexpr OpDef Norm(absl::string_view name, int since, Arity inputs, Arity outputs,
                     InferFn infer) {
  return {.name = name,
          .since_opset = since,
          .inputs = inputs,
          .outputs = outputs,
          .infer = infer,
          .eval = Widened<kEval>,
          .types = kFloatTypes,
          .tolerance = kAccumulate};
}

constexpr std::array kRows = {
    Norm<EvalBatchNorm>("BatchNormalization", 7, {5, 5}, {1, 5}, InferBatchNorm),
    Norm<EvalBatchNorm>("BatchNormalization", 9, {5, 5}, {1, 5}, InferBatchNorm),
    Norm<EvalBatchNorm>("BatchNormalization", 14, {5, 5}, {1, 3}, InferBatchNorm),
    // In ONNX since opset 17; ONNX Runtime writes it into older models as well.
    Norm<EvalLayerNorm>("LayerNormalization", 1, {2, 3}, {1, 3}, InferLayerNorm),
    Norm<EvalGroupNorm>("InstanceNormalization", 6, {3, 3}, {1, 1}, InferGroupNorm),
    Norm<EvalGroupNorm>("GroupNormalization", 18, {3, 3}, {1, 1}, InferGroupNorm),
    Norm<EvalGroupNorm>("GroupNormalization", 21, {3, 3}, {1, 1}, InferGroupNorm),
    Norm<EvalLpNorm>("LpNormalization", 1, {1, 1}, {1, 1}, InferLpNorm),
    Norm<EvalLrn>("LRN", 1, {1, 1}, {1, 1}, InferLrn),
};

}  // namespace

absl::Span<const OpDef> NormOps() { return kRows; }

}  // namespace halftone
