// Signal processing: DFT, STFT, MelWeightMatrix. The windows expand to ONNX's own definitions.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/fft.h"
#include "core/ops/infer_util.h"

namespace halftone {
namespace {

// Lengths beyond this are no signals; it bounds the work space of a transform.
constexpr int64_t kMaxLength = int64_t{1} << 26;

absl::Status CheckLength(const InferContext& c, absl::string_view what, int64_t length) {
  if (length >= 1 && length <= kMaxLength) return absl::OkStatus();
  return c.Error(absl::StrCat(what, " is ", length, ", want 1 to ", kMaxLength));
}

// An optional input of one positive number; unknown when absent or not constant.
absl::StatusOr<Dim> LengthInput(const InferContext& c, int i, absl::string_view what) {
  HT_RETURN_IF_ERROR(CheckType(c, i, kIndexTypes));
  HT_RETURN_IF_ERROR(CheckOneElement(c, i));
  HT_ASSIGN_OR_RETURN(const IntsArgument input, IntsInput(c, i));
  if (!input.known() || input.values.size() != 1) return Dim();
  HT_RETURN_IF_ERROR(CheckLength(c, what, input.values[0]));
  return Dim(input.values[0]);
}

// The last axis holds real numbers, or real and imaginary parts.
absl::Status CheckComplexAxis(const InferContext& c, bool one_sided) {
  const SymbolicShape& x = c.input(0).shape;
  if (!x.has_value() || !x->back().known()) return absl::OkStatus();
  const int64_t parts = x->back().value;
  if (parts != 1 && parts != 2) {
    return c.Error(absl::StrCat("the last axis has ", parts, " elements, want 1 or 2"));
  }
  if (one_sided && parts == 2) return c.Error("onesided wants real numbers, got complex ones");
  return absl::OkStatus();
}

Dim OneSided(const Dim& length) { return length.known() ? Dim(length.value / 2 + 1) : Dim(); }

// A row of `count` (complex) numbers, `step` apart, padded with zeros to `length`.
template <typename T>
std::vector<Complex> ReadRow(const T* from, int64_t count, int64_t step, bool is_complex,
                             int64_t length) {
  std::vector<Complex> row(static_cast<size_t>(length));
  for (int64_t i = 0; i < std::min(count, length); ++i) {
    row[i] = {static_cast<double>(from[i * step]),
              is_complex ? static_cast<double>(from[i * step + 1]) : 0.0};
  }
  return row;
}

template <typename T>
void WriteRow(const std::vector<Complex>& row, int64_t count, int64_t step, double scale, T* to) {
  for (int64_t i = 0; i < count; ++i) {
    to[i * step] = static_cast<T>(row[i].real() * scale);
    to[i * step + 1] = static_cast<T>(row[i].imag() * scale);
  }
}

// --- DFT -----------------------------------------------------------------------------------------

bool IsSet(const Attributes& a, absl::string_view flag) { return a.Int(flag, 0) != 0; }

// The transformed axis of data of this rank; nullopt when an input holds it and is not known.
absl::StatusOr<std::optional<int64_t>> DftAxis(const InferContext& c, int64_t rank) {
  int64_t axis = c.opset() < 20 ? c.attributes().Int("axis", 1) : -2;
  if (c.opset() >= 20 && c.has_input(2)) {
    HT_RETURN_IF_ERROR(CheckType(c, 2, kIndexTypes));
    HT_RETURN_IF_ERROR(CheckOneElement(c, 2));
    HT_ASSIGN_OR_RETURN(const IntsArgument input, IntsInput(c, 2));
    if (!input.known() || input.values.size() != 1) return std::optional<int64_t>();
    axis = input.values[0];
  }
  HT_ASSIGN_OR_RETURN(axis, NormalizeAxis(c, axis, rank));
  if (axis == rank - 1) return c.Error("axis is the last one, which holds the complex parts");
  return std::optional<int64_t>(axis);
}

absl::Status InferDft(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 2, 64));
  const bool one_sided = IsSet(c.attributes(), "onesided");
  HT_RETURN_IF_ERROR(CheckComplexAxis(c, one_sided));
  HT_ASSIGN_OR_RETURN(Dim length, LengthInput(c, 1, "dft_length"));
  SymbolicShape shape = c.input(0).shape;
  if (shape.has_value()) {
    HT_ASSIGN_OR_RETURN(const std::optional<int64_t> axis,
                        DftAxis(c, static_cast<int64_t>(shape->size())));
    if (!axis.has_value()) {
      const bool keeps_sizes = !c.has_input(1) && !one_sided;
      if (!keeps_sizes) std::fill(shape->begin(), shape->end(), Dim());
    } else {
      if (!c.has_input(1)) length = (*shape)[*axis];
      if (length.known())
        HT_RETURN_IF_ERROR(CheckLength(c, "the transform's length", length.value));
      (*shape)[*axis] = one_sided ? OneSided(length) : length;
    }
    shape->back() = Dim(2);
  }
  c.set_output(0, c.input(0).type, std::move(shape));
  return absl::OkStatus();
}

absl::Status EvalDft(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Tensor& x = c.input(0);
  int64_t axis = c.opset() < 20 ? c.attributes().Int("axis", 1) : -2;
  if (c.opset() >= 20 && c.has_input(2)) {
    HT_ASSIGN_OR_RETURN(const Shape input, ToInt64s(c.input(2)));
    axis = input[0];
  }
  axis = Axis(axis, x.rank());
  int64_t length = x.dim(axis);
  if (c.has_input(1)) {
    HT_ASSIGN_OR_RETURN(const Shape input, ToInt64s(c.input(1)));
    length = input[0];
  }
  const int64_t parts = x.dim(x.rank() - 1);
  const int64_t inner = DimProduct(x.shape(), axis + 1, x.rank() - 1);
  const int64_t rows = DimProduct(x.shape(), 0, axis) * inner;
  const bool inverse = IsSet(c.attributes(), "inverse");
  return DispatchFloat(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t o = r / inner, i = r % inner;
      const T* from = Raw<T>(x) + (o * x.dim(axis) * inner + i) * parts;
      T* to = MutableRaw<T>(*out) + (o * out->dim(axis) * inner + i) * 2;
      const auto row = Fft(ReadRow(from, x.dim(axis), inner * parts, parts == 2, length), inverse);
      WriteRow(row, out->dim(axis), inner * 2, inverse ? 1.0 / static_cast<double>(length) : 1.0,
               to);
    }
  });
}

// --- STFT ----------------------------------------------------------------------------------------

absl::Status InferStft(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 3, 3));
  HT_RETURN_IF_ERROR(CheckSameType(c, 0, 2));
  if (!c.has_input(2) && !c.has_input(3)) return c.Error("wants a window or a frame_length");
  const bool one_sided = c.attributes().Int("onesided", 1) != 0;
  HT_RETURN_IF_ERROR(CheckComplexAxis(c, one_sided));
  HT_ASSIGN_OR_RETURN(const Dim step, LengthInput(c, 1, "frame_step"));
  Dim length;
  if (c.has_input(3)) {
    HT_ASSIGN_OR_RETURN(length, LengthInput(c, 3, "frame_length"));
  }
  HT_RETURN_IF_ERROR(CheckVector(c, 2, length));
  if (c.has_input(2) && c.input(2).shape.has_value()) length = (*c.input(2).shape)[0];
  if (length.known()) HT_RETURN_IF_ERROR(CheckLength(c, "the frame's length", length.value));
  const SymbolicShape& x = c.input(0).shape;
  Dims out(4);
  if (x.has_value()) {
    out[0] = (*x)[0];
    const Dim& size = (*x)[1];
    if (size.known() && length.known() && size.value < length.value) {
      return c.Error(
          absl::StrCat("frames of ", length.value, " do not fit into a signal of ", size.value));
    }
    if (size.known() && length.known() && step.known()) {
      out[1] = (size.value - length.value) / step.value + 1;
    }
  }
  out[2] = one_sided ? OneSided(length) : length;
  out[3] = 2;
  c.set_output(0, c.input(0).type, std::move(out));
  return absl::OkStatus();
}

absl::Status EvalStft(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Tensor& x = c.input(0);
  HT_ASSIGN_OR_RETURN(const Shape steps, ToInt64s(c.input(1)));
  int64_t length = c.has_input(2) ? c.input(2).dim(0) : 0;
  if (c.has_input(3)) {
    HT_ASSIGN_OR_RETURN(const Shape input, ToInt64s(c.input(3)));
    length = input[0];
  }
  const int64_t parts = x.dim(2), frames = out->dim(1), bins = out->dim(2);
  return DispatchFloat(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    T* to = MutableRaw<T>(*out);
    for (int64_t f = 0; f < x.dim(0) * frames; ++f, to += bins * 2) {
      const int64_t start = f / frames * x.dim(1) + f % frames * steps[0];
      auto row = ReadRow(Raw<T>(x) + start * parts, length, parts, parts == 2, length);
      for (int64_t i = 0; i < length && c.has_input(2); ++i) {
        row[i] *= static_cast<double>(Raw<T>(c.input(2))[i]);
      }
      WriteRow(Fft(std::move(row), false), bins, 2, 1.0, to);
    }
  });
}

// --- MelWeightMatrix -----------------------------------------------------------------------------

absl::Status InferMelWeights(InferContext& c) {
  for (const int i : {3, 4}) {
    HT_RETURN_IF_ERROR(CheckType(c, i, kFloatTypes));
    HT_RETURN_IF_ERROR(CheckOneElement(c, i));
  }
  HT_ASSIGN_OR_RETURN(const Dim bins, LengthInput(c, 0, "num_mel_bins"));
  HT_ASSIGN_OR_RETURN(const Dim length, LengthInput(c, 1, "dft_length"));
  HT_RETURN_IF_ERROR(LengthInput(c, 2, "sample_rate").status());
  const std::optional<DataType> type =
      DataTypeFromOnnx(static_cast<int>(c.attributes().Int("output_datatype", 1)));
  if (!type.has_value() || !Contains(kNumericTypes, *type)) {
    return c.Error("output_datatype is no type of numbers");
  }
  c.set_output(0, *type, Dims{OneSided(length), bins});
  return absl::OkStatus();
}

// Edges of the triangles as spectrogram bins, evenly spaced on the mel scale.
absl::StatusOr<std::vector<int64_t>> MelEdges(const EvalContext& c, int64_t mel_bins,
                                              int64_t rows) {
  std::array<double, 4> number;  // dft_length, sample_rate, lower and upper frequency
  for (int i = 0; i < 4; ++i) {
    HT_ASSIGN_OR_RETURN(const Tensor t, Convert(c.input(i + 1), DataType::kF64));
    number[i] = t.data<double>()[0];
  }
  const auto [length, rate, lower, upper] = number;
  const double low = 2595 * std::log10(1 + lower / 700);
  const double step =
      (2595 * std::log10(1 + upper / 700) - low) / static_cast<double>(mel_bins + 2);
  std::vector<int64_t> edges;
  for (int64_t i = 0; i < mel_bins + 2; ++i) {
    const double hertz = 700 * (std::pow(10, (static_cast<double>(i) * step + low) / 2595) - 1);
    const double edge = std::floor((length + 1) * hertz / rate);
    if (!(edge >= 0 && edge < static_cast<double>(rows)) || (i > 0 && edge < edges.back())) {
      return c.Error(absl::StrCat("frequencies ", lower, " to ", upper, " do not fit into ", rows,
                                  " bins at a sample rate of ", rate));
    }
    edges.push_back(static_cast<int64_t>(edge));
  }
  return edges;
}

absl::Status EvalMelWeights(EvalContext& c) {
  const DataType type = *c.output_types()[0].type;
  HT_RETURN_IF_ERROR(c.Allocate(0).status());  // checks the size
  const int64_t rows = c.outputs()[0].dim(0), bins = c.outputs()[0].dim(1);
  HT_ASSIGN_OR_RETURN(const std::vector<int64_t> edges, MelEdges(c, bins, rows));
  HT_ASSIGN_OR_RETURN(Tensor weights, Tensor::Create(DataType::kF64, {rows, bins}));
  const auto to = weights.mutable_data<double>();
  std::fill(to.begin(), to.end(), 0.0);
  for (int64_t b = 0; b < bins; ++b) {
    const int64_t low = edges[b], center = edges[b + 1], high = edges[b + 2];
    for (int64_t i = low; i < center; ++i) {
      to[i * bins + b] = static_cast<double>(i - low) / static_cast<double>(center - low);
    }
    to[center * bins + b] = 1;
    for (int64_t i = center; i < high; ++i) {
      to[i * bins + b] = static_cast<double>(high - i) / static_cast<double>(high - center);
    }
  }
  HT_ASSIGN_OR_RETURN(Tensor converted, Convert(weights, type));
  c.set_output(0, std::move(converted));
  return absl::OkStatus();
}

constexpr OpDef Signal(absl::string_view name, int since, Arity inputs, InferFn infer, EvalFn eval,
                       TypeSet types) {
  return {.name = name,
          .since_opset = since,
          .inputs = inputs,
          .infer = infer,
          .eval = eval,
          .types = types,
          .tolerance = kAccumulate};
}

constexpr std::array kRows = {
    Signal("DFT", 17, {1, 2}, InferDft, Widened<EvalDft>, kFloatTypes),
    Signal("DFT", 20, {1, 3}, InferDft, Widened<EvalDft>, kFloatTypes),
    Signal("STFT", 17, {2, 4}, InferStft, Widened<EvalStft>, kFloatTypes),
    Signal("MelWeightMatrix", 17, {5, 5}, InferMelWeights, EvalMelWeights, kIndexTypes),
};

}  // namespace

absl::Span<const OpDef> SignalOps() { return kRows; }

}  // namespace halftone
