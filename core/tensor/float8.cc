#include "core/tensor/float8.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace halftone {
namespace {

struct Format {
  int mantissa_bits, bias;
  uint8_t largest;  // magnitude bits of the largest finite value
  bool unsigned_zero, has_infinity;

  uint8_t nan() const { return unsigned_zero ? 0x80 : 0x7f; }
};

Format FormatOf(DataType type) {
  switch (type) {
    case DataType::kF8E4M3FN:
      return {3, 7, 0x7e, false, false};
    case DataType::kF8E4M3FNUZ:
      return {3, 8, 0x7f, true, false};
    case DataType::kF8E5M2:
      return {2, 15, 0x7b, false, true};
    default:
      return {2, 16, 0x7f, true, false};
  }
}

}  // namespace

uint8_t EncodeFloat8(DataType type, double x, bool saturate) {
  const Format f = FormatOf(type);
  const uint8_t sign = std::signbit(x) ? 0x80 : 0;
  const auto with_sign = [sign](int magnitude) { return static_cast<uint8_t>(sign | magnitude); };
  if (std::isnan(x)) return f.unsigned_zero ? f.nan() : with_sign(f.nan());
  // The exponent whose steps x is rounded to; a carry of the mantissa moves to the exponent itself.
  const double size = std::min(std::abs(x), 0x1p30);
  const int exponent = std::max(size == 0 ? 0 : std::ilogb(size), 1 - f.bias);
  const int steps = static_cast<int>(std::nearbyint(std::ldexp(size, f.mantissa_bits - exponent)));
  const int magnitude = ((exponent + f.bias - 1) << f.mantissa_bits) + steps;
  if (steps == 0) return f.unsigned_zero ? 0 : sign;
  if (magnitude <= f.largest) return with_sign(magnitude);
  if (saturate) return with_sign(f.largest);
  if (f.has_infinity) return with_sign(f.largest + 1);
  return f.unsigned_zero ? f.nan() : with_sign(f.nan());
}

float DecodeFloat8(DataType type, uint8_t bits) {
  const Format f = FormatOf(type);
  const bool negative = (bits & 0x80) != 0;
  const int magnitude = bits & 0x7f;
  if (f.unsigned_zero && bits == f.nan()) return std::numeric_limits<float>::quiet_NaN();
  float x;
  if (magnitude <= f.largest) {
    const int exponent = std::max(1, magnitude >> f.mantissa_bits);
    const int mantissa = magnitude - ((exponent - 1) << f.mantissa_bits);
    x = std::ldexp(static_cast<float>(mantissa), exponent - f.bias - f.mantissa_bits);
  } else if (f.has_infinity && magnitude == f.largest + 1) {
    x = std::numeric_limits<float>::infinity();
  } else {
    x = std::numeric_limits<float>::quiet_NaN();
  }
  return negative ? -x : x;
}

}  // namespace halftone
