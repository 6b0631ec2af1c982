// QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear.
//
// real = scale * (q - zero_point). Quantizing to integers rounds half to even, adds the zero point,
// saturates; NaN becomes the zero point. Quantizing to an 8-bit float is a cast of the quotient.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"

namespace halftone {
namespace {

constexpr TypeSet kQuantizedTypes =
    Types(DataType::kI8, DataType::kU8, DataType::kI16, DataType::kU16) | kPackedTypes |
    kFloat8Types;

struct QuantRange {
  double low, high;
};
QuantRange RangeOf(DataType t) {
  const int bits = BitWidth(t);
  const double span = std::ldexp(1.0, bits);
  return Info(t).is_signed ? QuantRange{-span / 2, span / 2 - 1} : QuantRange{0, span - 1};
}

// --- where each element's scale is ---------------------------------------------------------------

// Checks that scale and zero point (inputs 1 and 2) fit the data: one for all, one per slice of
// `axis`, or one per block along `axis`.
absl::Status CheckScales(const InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, kFloatTypes | Types(DataType::kI32)));
  const SymbolicShape& x = c.input(0).shape;
  const SymbolicShape& scale = c.input(1).shape;
  if (c.has_input(2)) {
    const std::optional<Shape> s = Concrete(scale), z = Concrete(c.input(2).shape);
    if (s.has_value() && z.has_value() && *s != *z && ElementCount(*s) != ElementCount(*z)) {
      return c.Error(absl::StrCat("scale has shape ", ToString(*s), " and zero point ",
                                  ToString(*z), ", want the same"));
    }
  }
  const int64_t block = c.attributes().Int("block_size", 0);
  if (block < 0) return c.Error("block_size is negative");
  const std::optional<Shape> s = Concrete(scale);
  if (!x.has_value() || !s.has_value()) return absl::OkStatus();
  if (block == 0 && (s->empty() || (s->size() == 1 && (*s)[0] == 1))) return absl::OkStatus();
  const int64_t rank = static_cast<int64_t>(x->size());
  if (block == 0 && c.opset() < 13) return c.Error("scale has several elements before opset 13");
  HT_ASSIGN_OR_RETURN(const int64_t axis, NormalizeAxis(c, c.attributes().Int("axis", 1), rank));
  if (block == 0) {
    if (s->size() != 1) return c.Error(absl::StrCat("scale has shape ", ToString(*s)));
    return CheckVector(c, 1, (*x)[axis]);
  }
  bool fits = static_cast<int64_t>(s->size()) == rank;
  for (int64_t i = 0; i < rank && fits; ++i) {
    const Dim& d = (*x)[i];
    const int64_t want = i == axis ? (d.value + block - 1) / block : d.value;
    fits = !d.known() || (*s)[i] == want;
  }
  if (fits) return absl::OkStatus();
  return c.Error(absl::StrCat("scale of ", ToString(*s), " does not fit ", ToString(x),
                              " in blocks of ", block));
}

// Calls fn(element, scale index) for every element of the data.
template <typename Fn>
void ForEachScaled(const EvalContext& c, Fn fn) {
  const Tensor& x = c.input(0);
  const Tensor& scale = c.input(1);
  if (x.num_elements() == 0) return;
  const int64_t block = c.attributes().Int("block_size", 0);
  if (block == 0 && scale.num_elements() == 1) {
    for (int64_t i = 0; i < x.num_elements(); ++i) fn(i, int64_t{0});
    return;
  }
  const int64_t axis = Axis(c.attributes().Int("axis", 1), x.rank());
  const int64_t size = x.dim(axis), outer = DimProduct(x.shape(), 0, axis);
  const int64_t inner = DimProduct(x.shape(), axis + 1, x.rank());
  const int64_t blocks = block == 0 ? 0 : (size + block - 1) / block;
  int64_t i = 0;
  for (int64_t o = 0; o < outer; ++o) {
    for (int64_t a = 0; a < size; ++a) {
      const int64_t at = block == 0 ? a : (o * blocks + a / block) * inner;
      for (int64_t j = 0; j < inner; ++j, ++i) fn(i, block == 0 ? at : at + j);
    }
  }
}

absl::StatusOr<Tensor> AsType(const Tensor& t, DataType type) {
  if (BitWidth(t.type()) >= 8) return Convert(t, type);
  HT_ASSIGN_OR_RETURN(const Tensor wide, Unpack4(t));
  return Convert(wide, type);
}

// Zero points as T, zeros when absent.
template <typename T>
absl::StatusOr<std::vector<T>> ZeroPoints(const EvalContext& c) {
  std::vector<T> out(static_cast<size_t>(c.input(1).num_elements()), T{0});
  if (!c.has_input(2)) return out;
  HT_ASSIGN_OR_RETURN(const Tensor t, AsType(c.input(2), DataTypeOf<T>::value));
  const auto values = t.data<T>();
  out.assign(values.begin(), values.end());
  return out;
}

// The type that attribute output_dtype names, or `fallback` without it.
absl::StatusOr<std::optional<DataType>> OutputType(const InferContext& c, TypeSet allowed,
                                                   std::optional<DataType> fallback) {
  const int64_t code = c.attributes().Int("output_dtype", 0);
  if (code == 0) return fallback;
  const std::optional<DataType> type = DataTypeFromOnnx(code);
  if (type.has_value() && Contains(allowed, *type)) return type;
  return c.Error(absl::StrCat("output_dtype is ", code));
}

// --- QuantizeLinear ------------------------------------------------------------------------------

absl::Status InferQuantize(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 2, kQuantizedTypes));
  HT_RETURN_IF_ERROR(CheckScales(c));
  HT_ASSIGN_OR_RETURN(
      const std::optional<DataType> type,
      OutputType(c, kQuantizedTypes, c.has_input(2) ? c.input(2).type : DataType::kU8));
  c.set_output(0, type, c.input(0).shape);
  return absl::OkStatus();
}

// x / scale + zero point in f32.
absl::StatusOr<Tensor> QuantizedToFloat8(const EvalContext& c, const Tensor& x, const Tensor& scale,
                                         DataType type) {
  HT_ASSIGN_OR_RETURN(const std::vector<float> zero, ZeroPoints<float>(c));
  HT_ASSIGN_OR_RETURN(Tensor wide, Tensor::Create(DataType::kF32, x.shape()));
  const float* from = Raw<float>(x);
  const float* scales = Raw<float>(scale);
  float* to = MutableRaw<float>(wide);
  ForEachScaled(c, [&](int64_t i, int64_t s) { to[i] = from[i] / scales[s] + zero[s]; });
  return Convert(wide, type, c.attributes().Int("saturate", 1) != 0);
}

absl::Status EvalQuantize(EvalContext& c) {
  const DataType type = *c.output_types()[0].type;
  const QuantRange range = RangeOf(type);
  // f64 data is quantized in f32 as well: that is the type of scales.
  HT_ASSIGN_OR_RETURN(const Tensor x, Convert(c.input(0), DataType::kF32));
  HT_ASSIGN_OR_RETURN(const Tensor scale, Convert(c.input(1), DataType::kF32));
  if (IsFloat8(type)) {
    HT_ASSIGN_OR_RETURN(Tensor out, QuantizedToFloat8(c, x, scale, type));
    c.set_output(0, std::move(out));
    return absl::OkStatus();
  }
  HT_ASSIGN_OR_RETURN(const std::vector<int32_t> zero, ZeroPoints<int32_t>(c));
  HT_ASSIGN_OR_RETURN(Tensor wide, Tensor::Create(DataType::kI32, x.shape()));
  const float* from = Raw<float>(x);
  const float* scales = Raw<float>(scale);
  int32_t* to = MutableRaw<int32_t>(wide);
  ForEachScaled(c, [&](int64_t i, int64_t s) {
    const float q = std::nearbyint(from[i] / scales[s]);
    to[i] = std::isnan(q) ? zero[s]
                          : static_cast<int32_t>(std::clamp(static_cast<double>(q) + zero[s],
                                                            range.low, range.high));
  });
  absl::StatusOr<Tensor> out =
      BitWidth(type) >= 8 ? Convert(wide, type) : Convert(wide, DataType::kI8);
  if (out.ok() && BitWidth(type) < 8) out = Pack4(*out, type);
  if (!out.ok()) return out.status();
  c.set_output(0, *std::move(out));
  return absl::OkStatus();
}

// --- DequantizeLinear ----------------------------------------------------------------------------

absl::Status InferDequantize(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, kFloatTypes));
  HT_RETURN_IF_ERROR(CheckSameType(c, 0, 2));
  HT_RETURN_IF_ERROR(CheckScales(c));
  HT_ASSIGN_OR_RETURN(const std::optional<DataType> type,
                      OutputType(c, kFloatTypes, c.input(1).type));
  c.set_output(0, type, c.input(0).shape);
  return absl::OkStatus();
}

// (q - zero point) * scale in f32, with the difference computed as Wide.
template <typename T, typename Wide>
absl::StatusOr<Tensor> Dequantized(const EvalContext& c) {
  HT_ASSIGN_OR_RETURN(const Tensor q, AsType(c.input(0), DataTypeOf<T>::value));
  HT_ASSIGN_OR_RETURN(const Tensor scale, Convert(c.input(1), DataType::kF32));
  HT_ASSIGN_OR_RETURN(const std::vector<T> zero, ZeroPoints<T>(c));
  HT_ASSIGN_OR_RETURN(Tensor out, Tensor::Create(DataType::kF32, q.shape()));
  const T* from = Raw<T>(q);
  const float* scales = Raw<float>(scale);
  float* to = MutableRaw<float>(out);
  ForEachScaled(c, [&](int64_t i, int64_t s) {
    to[i] = static_cast<float>(static_cast<Wide>(from[i]) - static_cast<Wide>(zero[s])) * scales[s];
  });
  return out;
}

absl::Status EvalDequantize(EvalContext& c) {
  const bool floats = IsFloat8(c.input(0).type());
  HT_ASSIGN_OR_RETURN(const Tensor wide,
                      (floats ? Dequantized<float, float>(c) : Dequantized<int32_t, int64_t>(c)));
  HT_ASSIGN_OR_RETURN(Tensor out, Convert(wide, *c.output_types()[0].type));
  c.set_output(0, std::move(out));
  return absl::OkStatus();
}

// --- DynamicQuantizeLinear -----------------------------------------------------------------------

absl::Status InferDynamicQuantize(InferContext& c) {
  c.set_output(0, DataType::kU8, c.input(0).shape);
  c.set_output(1, DataType::kF32, Dims());
  c.set_output(2, DataType::kU8, Dims());
  return absl::OkStatus();
}

absl::Status EvalDynamicQuantize(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const auto x = c.input(0).data<float>();
  float low = 0, high = 0;  // the range always contains 0
  for (const float v : x) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
  // A tensor of zeros has no range; scale 1 keeps q = 0 exact and avoids 0/0.
  const float scale = high == low ? 1.0f : (high - low) / 255.0f;
  const float start = std::nearbyint(-low / scale);
  const float zero = std::isnan(start) ? 0.0f : std::clamp(start, 0.0f, 255.0f);
  const auto y = out->mutable_data<uint8_t>();
  for (size_t i = 0; i < x.size(); ++i) {
    const float q = std::nearbyint(x[i] / scale);
    y[i] = static_cast<uint8_t>(std::isnan(q) ? zero : std::clamp(q + zero, 0.0f, 255.0f));
  }
  c.set_output(1, Tensor::Scalar<float>(scale));
  c.set_output(2, Tensor::Scalar<uint8_t>(static_cast<uint8_t>(zero)));
  return absl::OkStatus();
}

constexpr OpDef DynamicQuantize() {
  OpDef row = ExactRow("DynamicQuantizeLinear", 11, {1, 1}, InferDynamicQuantize,
                       EvalDynamicQuantize, Types(DataType::kF32));
  row.outputs = {3, 3};
  return row;
}

constexpr std::array kRows = {
    ExactRow("QuantizeLinear", 10, {2, 3}, InferQuantize, EvalQuantize,
             kFloatTypes | Types(DataType::kI32)),
    ExactRow("DequantizeLinear", 10, {2, 3}, InferDequantize, EvalDequantize,
             kQuantizedTypes | Types(DataType::kI32)),
    DynamicQuantize(),
};

}  // namespace

absl::Span<const OpDef> QuantOps() { return kRows; }

}  // namespace halftone
