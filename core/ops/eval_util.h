// What the families' reference evaluations share: dispatch, widening of half floats, strided walks.
#ifndef HALFTONE_CORE_OPS_EVAL_UTIL_H_
#define HALFTONE_CORE_OPS_EVAL_UTIL_H_

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/ops/op_def.h"

namespace halftone {

// Calls f(T{}) for an element type of the named set; an error for any other type.
template <typename F>
absl::Status DispatchFloat(const EvalContext& c, DataType type, F&& f) {
  switch (type) {
    case DataType::kF32:
      f(float{});
      return absl::OkStatus();
    case DataType::kF64:
      f(double{});
      return absl::OkStatus();
    default:
      return c.Error(absl::StrCat("type ", Name(type), " is not supported here"));
  }
}

template <typename F>
absl::Status DispatchWideInt(const EvalContext& c, DataType type, F&& f) {
  switch (type) {
    case DataType::kI64:
      f(int64_t{});
      return absl::OkStatus();
    case DataType::kU64:
      f(uint64_t{});
      return absl::OkStatus();
    default:
      return c.Error(absl::StrCat("type ", Name(type), " is not supported here"));
  }
}

// f32, f64, i64, u64: what is left inside of WidenedNumbers. The cheap way to serve every number
// type: four instantiations, where DispatchNumeric makes ten.
template <typename F>
absl::Status DispatchWide(const EvalContext& c, DataType type, F&& f) {
  return IsFloat(type) ? DispatchFloat(c, type, f) : DispatchWideInt(c, type, f);
}

template <typename F>
absl::Status DispatchInt(const EvalContext& c, DataType type, F&& f) {
  if (!IsInteger(type) || BitWidth(type) < 8) {
    return c.Error(absl::StrCat("type ", Name(type), " is not supported here"));
  }
  DispatchType(type, [&](auto tag) {
    using T = decltype(tag);
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) f(tag);
  });
  return absl::OkStatus();
}

// f32, f64 and the integers; half floats come here widened.
template <typename F>
absl::Status DispatchNumeric(const EvalContext& c, DataType type, F&& f) {
  if (IsFloat(type)) return DispatchFloat(c, type, f);
  return DispatchInt(c, type, f);
}

// Calls f with an unsigned integer as wide as an element: for code that only moves elements.
template <typename F>
absl::Status DispatchWidth(const EvalContext& c, DataType type, F&& f) {
  switch (BitWidth(type)) {
    case 8:
      f(uint8_t{});
      return absl::OkStatus();
    case 16:
      f(uint16_t{});
      return absl::OkStatus();
    case 32:
      f(uint32_t{});
      return absl::OkStatus();
    case 64:
      f(uint64_t{});
      return absl::OkStatus();
    default:
      return c.Error(absl::StrCat("type ", Name(type), " is not supported here"));
  }
}
template <typename U>
const U* Raw(const Tensor& t) {
  return reinterpret_cast<const U*>(t.raw());
}
template <typename U>
U* MutableRaw(Tensor& t) {
  return reinterpret_cast<U*>(t.mutable_raw());
}

// Runs `eval` on f32 copies of half-float and 8-bit float inputs and rounds its f32 outputs to the
// types that inference wants. Without such inputs it just runs.
absl::Status EvalWidened(EvalContext& c, EvalFn eval);
template <EvalFn kEval>
absl::Status Widened(EvalContext& c) {
  return EvalWidened(c, kEval);
}

// The same, with narrow integers computed as i64 as well: results wrap into the narrow type. Keeps
// families of many operators small.
absl::Status EvalWidenedNumbers(EvalContext& c, EvalFn eval);
template <EvalFn kEval>
absl::Status WidenedNumbers(EvalContext& c) {
  return EvalWidenedNumbers(c, kEval);
}

// Runs `eval`, which only moves elements, on one-byte copies of 4-bit inputs.
absl::Status EvalUnpacked(EvalContext& c, EvalFn eval);
template <EvalFn kEval>
absl::Status Unpacked(EvalContext& c) {
  return EvalUnpacked(c, kEval);
}

// 4-bit elements as i8 or u8, and back: the low four bits of each byte.
absl::StatusOr<Tensor> Unpack4(const Tensor& t);
absl::StatusOr<Tensor> Pack4(const Tensor& t, DataType type);

// Axis of [-rank, rank) that inference has checked.
inline int64_t Axis(int64_t axis, int64_t rank) { return axis < 0 ? axis + rank : axis; }
// The product of dims [first, last).
int64_t DimProduct(absl::Span<const int64_t> shape, int64_t first, int64_t last);

// Strides of `shape` seen as broadcast to `to`, 0 along repeated axes.
Shape BroadcastStrides(absl::Span<const int64_t> shape, absl::Span<const int64_t> to);

// One innermost row of a walk: operand n has its elements at offsets[n] + i * steps[n], i < count.
using RowFn = absl::FunctionRef<void(int64_t count, const int64_t* offsets, const int64_t* steps)>;

// Visits an index space in row-major order, one call per row. `strides` holds those of each operand
// over `shape`; neighbouring axes are merged where memory allows, so rows are long.
void ForEachRow(absl::Span<const int64_t> shape, absl::Span<const Shape> strides, RowFn row);

// Copies a strided view of `in` (element `start`, then `strides`) into the row-major `out`, which
// has its type; 4-bit types as well.
absl::Status StridedCopy(const EvalContext& c, const Tensor& in, int64_t start,
                         absl::Span<const int64_t> shape, const Shape& strides, Tensor& out);

// A number as T: truncated towards zero, saturated, NaN becomes 0.
template <typename T>
T Saturate(double x) {
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(x);
  } else {
    if (x != x) return T{0};
    // The upper bound as a double may round up to 2^63; >= keeps the cast defined.
    if (x >= static_cast<double>(std::numeric_limits<T>::max())) {
      return std::numeric_limits<T>::max();
    }
    if (x <= static_cast<double>(std::numeric_limits<T>::min())) {
      return std::numeric_limits<T>::min();
    }
    return static_cast<T>(x);
  }
}

}  // namespace halftone

#endif  // HALFTONE_CORE_OPS_EVAL_UTIL_H_
