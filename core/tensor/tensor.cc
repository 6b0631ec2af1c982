#include "core/tensor/tensor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/checked_math.h"
#include "core/base/status_macros.h"
#include "core/tensor/float8.h"

namespace halftone {
namespace {

template <typename T>
constexpr bool kIsHalf = std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>;

template <typename To, typename From>
To ConvertElement(From x) {
  if constexpr (kIsHalf<From> || kIsHalf<To>) {
    return static_cast<To>(static_cast<float>(x));
  } else if constexpr (std::is_same_v<To, bool>) {
    return x != From{};
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    if (std::isnan(x)) return To{0};
    // The upper bound as a double may round up to 2^63; >= keeps the cast defined.
    if (x >= static_cast<double>(std::numeric_limits<To>::max())) {
      return std::numeric_limits<To>::max();
    }
    if (x <= static_cast<double>(std::numeric_limits<To>::min())) {
      return std::numeric_limits<To>::min();
    }
    return static_cast<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

template <typename To, typename From>
void ConvertAll(const Tensor& t, Tensor& out) {
  const auto from = t.data<From>();
  std::transform(from.begin(), from.end(), out.mutable_data<To>().begin(),
                 ConvertElement<To, From>);
}

// Half floats meet f32 only: the other pairs take two steps, which keeps this file small.
constexpr bool OneStep(DataType from, DataType to) {
  const auto is_half = [](DataType t) { return t == DataType::kF16 || t == DataType::kBF16; };
  return from == DataType::kF32 || to == DataType::kF32 || (!is_half(from) && !is_half(to));
}

absl::StatusOr<Tensor> FromFloat8(const Tensor& t, DataType to) {
  std::array<float, 256> values;
  for (int i = 0; i < 256; ++i) values[i] = DecodeFloat8(t.type(), static_cast<uint8_t>(i));
  HT_ASSIGN_OR_RETURN(Tensor wide, Tensor::Create(DataType::kF32, t.shape()));
  const auto* from = reinterpret_cast<const uint8_t*>(t.raw());
  std::transform(from, from + t.num_elements(), wide.mutable_data<float>().begin(),
                 [&](uint8_t bits) { return values[bits]; });
  return Convert(wide, to);
}

absl::StatusOr<Tensor> ToFloat8(const Tensor& t, DataType to, bool saturate) {
  HT_ASSIGN_OR_RETURN(const Tensor wide, Convert(t, DataType::kF64));
  HT_ASSIGN_OR_RETURN(Tensor out, Tensor::Create(to, t.shape()));
  const auto from = wide.data<double>();
  std::transform(from.begin(), from.end(), reinterpret_cast<uint8_t*>(out.mutable_raw()),
                 [&](double x) { return EncodeFloat8(to, x, saturate); });
  return out;
}

}  // namespace

absl::StatusOr<Tensor> Tensor::Create(DataType type, absl::Span<const int64_t> shape) {
  HT_ASSIGN_OR_RETURN(const int64_t elements, NumElements(shape));
  HT_ASSIGN_OR_RETURN(const int64_t size, PackedBytes(elements, BitWidth(type)));
  std::shared_ptr<Buffer> buffer = Buffer::Allocate(static_cast<size_t>(size));
  if (buffer == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot allocate ", size, " bytes for ",
                                                     Name(type), halftone::ToString(shape)));
  }
  return FromBuffer(type, shape, std::move(buffer));
}

absl::StatusOr<Tensor> Tensor::FromBuffer(DataType type, absl::Span<const int64_t> shape,
                                          std::shared_ptr<Buffer> buffer, size_t offset) {
  HT_ASSIGN_OR_RETURN(const int64_t elements, NumElements(shape));
  HT_ASSIGN_OR_RETURN(const int64_t size, PackedBytes(elements, BitWidth(type)));
  if (offset > buffer->size() || static_cast<size_t>(size) > buffer->size() - offset) {
    return absl::InvalidArgumentError(absl::StrCat(Name(type), halftone::ToString(shape), " needs ",
                                                   size, " bytes at offset ", offset, ", got ",
                                                   buffer->size()));
  }
  Tensor t;
  t.type_ = type;
  t.shape_.assign(shape.begin(), shape.end());
  t.num_elements_ = elements;
  t.buffer_ = std::move(buffer);
  t.offset_ = offset;
  return t;
}

Tensor Tensor::Borrow(DataType type, absl::Span<const int64_t> shape, const void* data) {
  const int64_t bytes = (ElementCount(shape) * BitWidth(type) + 7) / 8;
  absl::StatusOr<Tensor> t =
      FromBuffer(type, shape, Buffer::Borrow(data, static_cast<size_t>(bytes)));
  CHECK_OK(t.status());
  return *std::move(t);
}

Tensor Tensor::Reshaped(absl::Span<const int64_t> shape) const {
  CHECK_EQ(ElementCount(shape), num_elements_) << halftone::ToString(shape);
  Tensor t = *this;
  t.shape_.assign(shape.begin(), shape.end());
  return t;
}

Tensor Tensor::Reinterpreted(DataType type) const {
  CHECK_EQ(BitWidth(type), BitWidth(type_));
  Tensor t = *this;
  t.type_ = type;
  return t;
}

absl::StatusOr<Tensor> Tensor::Clone() const {
  HT_ASSIGN_OR_RETURN(Tensor t, Create(type_, shape_));
  if (num_bytes() > 0) std::memcpy(t.mutable_raw(), raw(), static_cast<size_t>(num_bytes()));
  return t;
}

void Tensor::DropPages() const {
  if (buffer_) buffer_->DropPages(offset_, static_cast<size_t>(num_bytes()));
}

std::string Tensor::ToString(int max_values) const {
  std::string out = absl::StrCat(Name(type_), halftone::ToString(shape_));
  if (BitWidth(type_) < 8 || IsFloat8(type_)) return out;
  absl::StrAppend(&out, " {");
  DispatchType(type_, [&](auto tag) {
    using T = decltype(tag);
    const auto values = data<T>();
    for (int64_t i = 0; i < num_elements_ && i < max_values; ++i) {
      if (i > 0) absl::StrAppend(&out, ", ");
      if constexpr (sizeof(T) == 1) {
        absl::StrAppend(&out, static_cast<int>(values[i]));
      } else if constexpr (std::is_integral_v<T>) {
        absl::StrAppend(&out, values[i]);
      } else {
        absl::StrAppend(&out, static_cast<double>(static_cast<float>(values[i])));
      }
    }
  });
  absl::StrAppend(&out, num_elements_ <= max_values ? "}" : max_values > 0 ? ", …}" : "…}");
  return out;
}

absl::StatusOr<Tensor> Convert(const Tensor& t, DataType to, bool saturate) {
  if (BitWidth(t.type()) < 8 || BitWidth(to) < 8) {
    return absl::UnimplementedError(
        absl::StrCat("convert ", Name(t.type()), " to ", Name(to), ": packed types"));
  }
  if (t.type() == to) return t;
  if (IsFloat8(to)) return ToFloat8(t, to, saturate);
  if (IsFloat8(t.type())) return FromFloat8(t, to);
  if (!OneStep(t.type(), to)) {
    HT_ASSIGN_OR_RETURN(const Tensor wide, Convert(t, DataType::kF32));
    return Convert(wide, to);
  }
  HT_ASSIGN_OR_RETURN(Tensor out, Tensor::Create(to, t.shape()));
  DispatchType(t.type(), [&](auto from_tag) {
    using From = decltype(from_tag);
    DispatchType(to, [&](auto to_tag) {
      using To = decltype(to_tag);
      if constexpr (OneStep(DataTypeOf<From>::value, DataTypeOf<To>::value)) {
        ConvertAll<To, From>(t, out);
      }
    });
  });
  return out;
}

absl::StatusOr<Shape> ToInt64s(const Tensor& t) {
  if (!IsInteger(t.type())) {
    return absl::InvalidArgumentError(absl::StrCat("got ", Name(t.type()), ", want integers"));
  }
  HT_ASSIGN_OR_RETURN(const Tensor wide, Convert(t, DataType::kI64));
  const auto values = wide.data<int64_t>();
  return Shape(values.begin(), values.end());
}

}  // namespace halftone
