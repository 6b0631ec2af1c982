// Integer products: MatMulInteger, ConvInteger and their quantized forms QLinearMatMul,
// QLinearConv.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/status_macros.h"
#include "core/ops/conv_kernel.h"
#include "core/ops/families.h"
#include "core/ops/matmul_kernel.h"

namespace halftone {
namespace {

constexpr TypeSet kBytes = Types(DataType::kI8, DataType::kU8);

// value - zero_point as i32, or as f32 for 8-bit floats. The zero point is one number, or one per
// slice of `axis`, or has the data's rank with size 1 along every axis but some (then it
// broadcasts).
absl::StatusOr<Tensor> Centered(const EvalContext& c, int data, int zero, int64_t axis) {
  const DataType wide = IsFloat8(c.input(data).type()) ? DataType::kF32 : DataType::kI32;
  HT_ASSIGN_OR_RETURN(Tensor x, Convert(c.input(data), wide));
  if (!c.has_input(zero)) return x;
  HT_ASSIGN_OR_RETURN(const Tensor z, Convert(c.input(zero), wide));
  Shape strides(x.rank(), 0);
  if (z.num_elements() != 1) {
    if (z.rank() == x.rank()) {
      strides = BroadcastStrides(z.shape(), x.shape());
    } else {
      strides[axis] = 1;
    }
  }
  const auto subtract = [&](auto tag) {
    using T = decltype(tag);
    T* to = MutableRaw<T>(x);
    const T* zeros = Raw<T>(z);
    ForEachRow(x.shape(), {strides},
               [&](int64_t count, const int64_t* offsets, const int64_t* steps) {
                 for (int64_t i = 0; i < count; ++i) to[i] -= zeros[offsets[0] + i * steps[0]];
                 to += count;
               });
  };
  wide == DataType::kF32 ? subtract(float{}) : subtract(int32_t{});
  return x;
}

// A parameter of input `data`: one element, or one per slice of `axis` (1-D), or of the data's rank
// with size 1 along the axis that the product sums over (`summed`; conv weights: all but axis 0).
absl::Status CheckParameter(const InferContext& c, int i, int data, int64_t axis, int64_t summed) {
  if (!c.has_input(i)) return absl::OkStatus();
  const std::optional<Shape> shape = Concrete(c.input(i).shape);
  const SymbolicShape& x = c.input(data).shape;
  if (!shape.has_value() || !x.has_value()) return absl::OkStatus();
  if (std::all_of(shape->begin(), shape->end(), [](int64_t d) { return d == 1; })) {
    return absl::OkStatus();
  }
  const int64_t rank = static_cast<int64_t>(x->size());
  if (shape->size() == 1 && rank > 1) return CheckVector(c, i, (*x)[Axis(axis, rank)]);
  bool fits = rank > 1 && static_cast<int64_t>(shape->size()) == rank;
  for (int64_t d = 0; d < rank && fits; ++d) {
    fits = (*shape)[d] == 1 ||
           (d != Axis(summed, rank) && (!(*x)[d].known() || (*x)[d].value == (*shape)[d]));
  }
  if (fits) return absl::OkStatus();
  return c.Error(
      absl::StrCat("input ", i, " has shape ", ToString(*shape), " for data of ", ToString(x)));
}

// Weights of a convolution have one zero point or scale, or one per output channel.
absl::Status CheckChannelParameter(const InferContext& c, int i, int weights) {
  HT_RETURN_IF_ERROR(CheckRank(c, i, 0, 1));
  if (!c.has_input(i) || !c.input(i).shape.has_value() || c.input(i).shape->empty()) {
    return absl::OkStatus();
  }
  return CheckParameter(c, i, weights, 0, 1);
}

// --- MatMulInteger, ConvInteger ------------------------------------------------------------------

absl::Status InferMatMulInteger(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, kBytes));
  for (const int i : {0, 1}) {
    HT_RETURN_IF_ERROR(CheckSameType(c, i, i + 2));
  }
  HT_RETURN_IF_ERROR(CheckParameter(c, 2, 0, -2, -1));
  HT_RETURN_IF_ERROR(CheckParameter(c, 3, 1, -1, -2));
  HT_ASSIGN_OR_RETURN(SymbolicShape shape, MatMulShape(c, c.input(0).shape, c.input(1).shape));
  c.set_output(0, DataType::kI32, std::move(shape));
  return absl::OkStatus();
}

absl::Status EvalMatMulInteger(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const int rank_a = c.input(0).rank(), rank_b = c.input(1).rank();
  HT_ASSIGN_OR_RETURN(const Tensor a, Centered(c, 0, 2, std::max(0, rank_a - 2)));
  HT_ASSIGN_OR_RETURN(const Tensor b, Centered(c, 1, 3, rank_b - 1));
  BatchedMatMul<int32_t>(a, b, *out);
  return absl::OkStatus();
}

absl::Status InferConvInteger(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, kBytes));
  for (const int i : {0, 1}) {
    HT_RETURN_IF_ERROR(CheckSameType(c, i, i + 2));
  }
  HT_RETURN_IF_ERROR(CheckOneElement(c, 2));
  HT_RETURN_IF_ERROR(CheckChannelParameter(c, 3, 1));
  HT_ASSIGN_OR_RETURN(SymbolicShape shape, ConvShape(c, 0, 1, -1));
  c.set_output(0, DataType::kI32, std::move(shape));
  return absl::OkStatus();
}

// Convolves centred data and weights into `out` of type i32.
absl::Status ConvolveIntegers(const EvalContext& c, const Tensor& x, const Tensor& w,
                              const Tensor* bias, Tensor& out) {
  HT_ASSIGN_OR_RETURN(const Window window,
                      ReadWindow(c, absl::MakeConstSpan(w.shape()).subspan(2)));
  const Spatial s = MakeSpatial(window, x.shape(), out.shape());
  const ConvSizes sizes = {x.dim(0), c.attributes().Int("group", 1), x.dim(1), w.dim(0)};
  int32_t* to = MutableRaw<int32_t>(out);
  for (int64_t i = 0; i < sizes.batch * sizes.out_channels; ++i) {
    const int32_t start = bias == nullptr ? 0 : Raw<int32_t>(*bias)[i % sizes.out_channels];
    std::fill(to + i * s.out_size(), to + (i + 1) * s.out_size(), start);
  }
  // Unsigned arithmetic wraps, so that sums of any length stay defined.
  ConvAccumulate<uint32_t>(sizes, s, Raw<uint32_t>(x), Raw<uint32_t>(w), MutableRaw<uint32_t>(out));
  return absl::OkStatus();
}

absl::Status EvalConvInteger(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  HT_ASSIGN_OR_RETURN(const Tensor x, Centered(c, 0, 2, 0));
  HT_ASSIGN_OR_RETURN(const Tensor w, Centered(c, 1, 3, 0));
  return ConvolveIntegers(c, x, w, nullptr, *out);
}

// --- QLinearMatMul, QLinearConv ------------------------------------------------------------------
//
// Inputs: x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero [, bias].

absl::Status CheckQLinear(const InferContext& c) {
  // Integers and 8-bit floats do not mix.
  const std::optional<DataType> x = c.input(0).type;
  const TypeSet alike = x.has_value() && IsFloat8(*x) ? kFloat8Types : kBytes;
  for (const int i : {3, 7}) HT_RETURN_IF_ERROR(CheckType(c, i, alike));
  for (const int i : {0, 3}) {
    HT_RETURN_IF_ERROR(CheckSameType(c, i, i + 2));
    HT_RETURN_IF_ERROR(CheckType(c, i + 1, kFloatTypes));
  }
  HT_RETURN_IF_ERROR(CheckType(c, 6, kFloatTypes));
  for (const int i : {6, 7}) HT_RETURN_IF_ERROR(CheckOneElement(c, i));
  return absl::OkStatus();
}

// Rescales sums (i32, or f32 of 8-bit floats) by x_scale * w_scale / y_scale and saturates.
// `strides` walk the two scales over the output.
template <typename T>
absl::Status Requantize(EvalContext& c, const Tensor& sums, const Shape& x_strides,
                        const Shape& w_strides) {
  const DataType type = *c.output_types()[0].type;
  HT_ASSIGN_OR_RETURN(const Tensor xs, Convert(c.input(1), DataType::kF32));
  HT_ASSIGN_OR_RETURN(const Tensor ws, Convert(c.input(4), DataType::kF32));
  HT_ASSIGN_OR_RETURN(const Tensor ys, Convert(c.input(6), DataType::kF32));
  HT_ASSIGN_OR_RETURN(const Tensor zero_point, Convert(c.input(7), DataTypeOf<T>::value));
  HT_ASSIGN_OR_RETURN(Tensor wide, Tensor::Create(DataTypeOf<T>::value, sums.shape()));
  const float y_scale = ys.data<float>()[0];
  const T zero = zero_point.data<T>()[0];
  const double low = type == DataType::kI8 ? -128 : 0, high = low + 255;
  const T* from = Raw<T>(sums);
  T* to = MutableRaw<T>(wide);
  ForEachRow(sums.shape(), {x_strides, w_strides},
             [&](int64_t count, const int64_t* o, const int64_t* s) {
               for (int64_t i = 0; i < count; ++i) {
                 const float scale =
                     Raw<float>(xs)[o[0] + i * s[0]] * Raw<float>(ws)[o[1] + i * s[1]] / y_scale;
                 const double y = static_cast<double>(*from++) * scale;
                 if constexpr (std::is_same_v<T, float>) {
                   *to++ = static_cast<float>(y) + zero;
                 } else {
                   const double q = std::nearbyint(y);
                   *to++ = std::isnan(q) ? zero : static_cast<T>(std::clamp(q + zero, low, high));
                 }
               }
             });
  HT_ASSIGN_OR_RETURN(Tensor out, Convert(wide, type));
  c.set_output(0, std::move(out));
  return absl::OkStatus();
}

absl::Status InferQLinearMatMul(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckQLinear(c));
  for (const int i : {1, 2}) {
    HT_RETURN_IF_ERROR(CheckParameter(c, i, 0, -2, -1));
    HT_RETURN_IF_ERROR(CheckParameter(c, i + 3, 3, -1, -2));
  }
  HT_ASSIGN_OR_RETURN(SymbolicShape shape, MatMulShape(c, c.input(0).shape, c.input(3).shape));
  c.set_output(0, c.input(7).type, std::move(shape));
  return absl::OkStatus();
}

// Strides of a scale over the output, `axis` being that of a 1-D scale. `dropped` >= 0 is the axis
// of the scale's matrix that the output lacks because the other operand is a vector.
Shape ScaleStrides(const Tensor& scale, absl::Span<const int64_t> out, int64_t axis,
                   int64_t dropped) {
  Shape strides(out.size(), 0);
  if (scale.num_elements() == 1) return strides;
  if (scale.rank() == 1) {
    strides[axis] = 1;
    return strides;
  }
  Shape shape = scale.shape();
  if (dropped >= 0) shape.erase(shape.begin() + dropped);
  return BroadcastStrides(shape, out);
}

absl::Status EvalQLinearMatMul(EvalContext& c) {
  const int rank_a = c.input(0).rank(), rank_b = c.input(3).rank();
  HT_ASSIGN_OR_RETURN(const Tensor a, Centered(c, 0, 2, std::max(0, rank_a - 2)));
  HT_ASSIGN_OR_RETURN(const Tensor b, Centered(c, 3, 5, rank_b - 1));
  const std::optional<Shape> shape = Concrete(c.output_types()[0].shape);
  if (!shape.has_value()) return c.Error("the output shape is not known");
  const int64_t rank = static_cast<int64_t>(shape->size());
  const int64_t row_axis = rank_b > 1 ? rank - 2 : rank - 1;
  const Shape a_strides = ScaleStrides(c.input(1), *shape, row_axis, rank_b > 1 ? -1 : rank_a - 1);
  const Shape b_strides = ScaleStrides(c.input(4), *shape, rank - 1, rank_a > 1 ? -1 : rank_b - 2);
  HT_ASSIGN_OR_RETURN(Tensor sums, Tensor::Create(a.type(), *shape));
  if (a.type() == DataType::kF32) {
    BatchedMatMul<float>(a, b, sums);
    return Requantize<float>(c, sums, a_strides, b_strides);
  }
  BatchedMatMul<int32_t>(a, b, sums);
  return Requantize<int32_t>(c, sums, a_strides, b_strides);
}

absl::Status InferQLinearConv(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckQLinear(c));
  for (const int i : {1, 2}) {
    HT_RETURN_IF_ERROR(CheckOneElement(c, i));
    HT_RETURN_IF_ERROR(CheckChannelParameter(c, i + 3, 3));
  }
  HT_RETURN_IF_ERROR(CheckType(c, 8, Types(DataType::kI32)));
  HT_ASSIGN_OR_RETURN(SymbolicShape shape, ConvShape(c, 0, 3, 8));
  c.set_output(0, c.input(7).type, std::move(shape));
  return absl::OkStatus();
}

absl::Status EvalQLinearConv(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(const Tensor x, Centered(c, 0, 2, 0));
  HT_ASSIGN_OR_RETURN(const Tensor w, Centered(c, 3, 5, 0));
  const std::optional<Shape> shape = Concrete(c.output_types()[0].shape);
  if (!shape.has_value()) return c.Error("the output shape is not known");
  HT_ASSIGN_OR_RETURN(Tensor sums, Tensor::Create(DataType::kI32, *shape));
  HT_RETURN_IF_ERROR(ConvolveIntegers(c, x, w, c.has_input(8) ? &c.input(8) : nullptr, sums));
  Shape w_strides(shape->size(), 0);
  if (c.input(4).num_elements() != 1) w_strides[1] = 1;
  return Requantize<int32_t>(c, sums, Shape(shape->size(), 0), w_strides);
}

constexpr std::array kRows = {
    ExactRow("MatMulInteger", 10, {2, 4}, InferMatMulInteger, EvalMatMulInteger, kBytes),
    ExactRow("ConvInteger", 10, {2, 4}, InferConvInteger, EvalConvInteger, kBytes),
    ExactRow("QLinearMatMul", 10, {8, 8}, InferQLinearMatMul, EvalQLinearMatMul,
             kBytes | kFloat8Types),
    ExactRow("QLinearConv", 10, {8, 9}, InferQLinearConv, EvalQLinearConv, kBytes),
};

}  // namespace

absl::Span<const OpDef> QuantComputeOps() { return kRows; }

}  // namespace halftone
