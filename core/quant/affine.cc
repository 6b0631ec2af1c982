#include "core/quant/affine.h"

#include <limits>

namespace halftone {
namespace {

// Rounds to nearest even for |v| < 2^22: adding 1.5·2^23 leaves no fraction bits, so the addition
// itself rounds. Unlike nearbyint this becomes one vector instruction on every x86-64.
float RoundHalfEven(float v) {
  constexpr float kMagic = 12582912.0f;
  return (v + kMagic) - kMagic;
}

// Bounds are relative to the zero point, so clamping before rounding is exact (they are integers)
// and keeps v small enough for RoundHalfEven.
template <typename T>
void QuantizeBounded(absl::Span<const float> x, float scale, int32_t zero_point, int32_t low,
                     int32_t high, absl::Span<T> q) {
  const float lo = static_cast<float>(low - zero_point);
  const float hi = static_cast<float>(high - zero_point);
  const float* in = x.data();
  T* out = q.data();
  const size_t n = x.size();
  for (size_t i = 0; i < n; ++i) {
    float v = in[i] / scale;
    v = v == v ? v : 0.0f;
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    out[i] = static_cast<T>(static_cast<int32_t>(RoundHalfEven(v)) + zero_point);
  }
}

template <typename T>
void QuantizeFull(absl::Span<const float> x, QParams p, absl::Span<T> q) {
  QuantizeBounded<T>(x, p.scale, p.zero_point, std::numeric_limits<T>::min(),
                     std::numeric_limits<T>::max(), q);
}

// The difference is exact in 64 bits whatever the type; 32 bits suffice below i32.
template <typename T, typename Wide = int32_t>
void DequantizeAll(absl::Span<const T> q, QParams p, absl::Span<float> x) {
  const T* in = q.data();
  float* out = x.data();
  const size_t n = q.size();
  const Wide zero = p.zero_point;
  for (size_t i = 0; i < n; ++i)
    out[i] = static_cast<float>(static_cast<Wide>(in[i]) - zero) * p.scale;
}

}  // namespace

void Quantize(absl::Span<const float> x, QParams p, absl::Span<uint8_t> q) {
  QuantizeFull(x, p, q);
}
void Quantize(absl::Span<const float> x, QParams p, absl::Span<int8_t> q) { QuantizeFull(x, p, q); }
void Quantize(absl::Span<const float> x, QParams p, absl::Span<uint16_t> q) {
  QuantizeFull(x, p, q);
}
void Quantize(absl::Span<const float> x, QParams p, absl::Span<int16_t> q) {
  QuantizeFull(x, p, q);
}
void QuantizeSymmetric(absl::Span<const float> x, float scale, int32_t limit,
                       absl::Span<int8_t> q) {
  QuantizeBounded<int8_t>(x, scale, 0, -limit, limit, q);
}
void QuantizeBetween(absl::Span<const float> x, QParams p, int32_t low, int32_t high,
                     absl::Span<int32_t> q) {
  QuantizeBounded<int32_t>(x, p.scale, p.zero_point, low, high, q);
}

void Dequantize(absl::Span<const uint8_t> q, QParams p, absl::Span<float> x) {
  DequantizeAll(q, p, x);
}
void Dequantize(absl::Span<const int8_t> q, QParams p, absl::Span<float> x) {
  DequantizeAll(q, p, x);
}
void Dequantize(absl::Span<const uint16_t> q, QParams p, absl::Span<float> x) {
  DequantizeAll(q, p, x);
}
void Dequantize(absl::Span<const int16_t> q, QParams p, absl::Span<float> x) {
  DequantizeAll(q, p, x);
}
void Dequantize(absl::Span<const int32_t> q, QParams p, absl::Span<float> x) {
  DequantizeAll<int32_t, int64_t>(q, p, x);
}

}  // namespace halftone
