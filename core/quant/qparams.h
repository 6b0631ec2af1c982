// Scale and zero point: real = scale * (q - zero_point).
#ifndef HALFTONE_CORE_QUANT_QPARAMS_H_
#define HALFTONE_CORE_QUANT_QPARAMS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace halftone {

struct QParams {
  float scale = 1.0f;      // > 0, finite, never subnormal
  int32_t zero_point = 0;  // within the integer type

  bool operator==(const QParams&) const = default;
};

// A closed interval of reals. Empty (min > max) until something was observed.
struct ValueRange {
  float min = std::numeric_limits<float>::infinity();
  float max = -std::numeric_limits<float>::infinity();

  bool empty() const { return !(min <= max); }
  void Include(const ValueRange& other) {
    min = std::min(min, other.min);
    max = std::max(max, other.max);
  }
  bool operator==(const ValueRange&) const = default;
};

namespace internal_qparams {
// Subnormal scales lose precision and are flushed to zero by vector units.
inline float ValidScale(double scale) {
  constexpr double kSmallest = std::numeric_limits<float>::min();
  constexpr double kLargest = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(scale, kSmallest, kLargest));
}
}  // namespace internal_qparams

// Parameters that map `range`, widened to contain 0, onto the integers [qmin, qmax] so that 0 is
// exact. A range of nothing but zeros gets scale 1. Requires: a non-empty finite range, qmin <
// qmax.
inline QParams AffineQParams(ValueRange range, int32_t qmin, int32_t qmax) {
  const double lo = std::min(range.min, 0.0f);
  const double hi = std::max(range.max, 0.0f);
  if (lo == hi) return {.scale = 1.0f, .zero_point = std::clamp(0, qmin, qmax)};
  const float scale = internal_qparams::ValidScale((hi - lo) / (qmax - qmin));
  const double zero = std::nearbyint(qmin - lo / scale);
  return {.scale = scale, .zero_point = static_cast<int32_t>(std::clamp<double>(zero, qmin, qmax))};
}
inline QParams AffineU8(ValueRange range) { return AffineQParams(range, 0, 255); }
inline QParams AffineS8(ValueRange range) { return AffineQParams(range, -128, 127); }

// Parameters with zero_point 0 that map [-max_abs, max_abs] onto [-qmax, qmax]; scale 1 for
// max_abs 0. Requires: max_abs finite and >= 0, qmax > 0.
inline QParams SymmetricQParams(float max_abs, int32_t qmax) {
  if (max_abs == 0.0f) return {};
  return {.scale = internal_qparams::ValidScale(static_cast<double>(max_abs) / qmax)};
}

}  // namespace halftone

#endif  // HALFTONE_CORE_QUANT_QPARAMS_H_
