// Kernels of QuantizeLinear and DequantizeLinear over contiguous elements that share parameters.
// Pure functions: no allocation, any thread.
#ifndef HALFTONE_CORE_QUANT_AFFINE_H_
#define HALFTONE_CORE_QUANT_AFFINE_H_

#include <cstdint>

#include "absl/types/span.h"
#include "core/quant/qparams.h"

namespace halftone {

// Writes round_half_even(x / scale) + zero_point, saturated to the integer type. NaN becomes
// zero_point. Requires: q.size() == x.size(); valid params with zero_point within the type.
void Quantize(absl::Span<const float> x, QParams p, absl::Span<uint8_t> q);
void Quantize(absl::Span<const float> x, QParams p, absl::Span<int8_t> q);
void Quantize(absl::Span<const float> x, QParams p, absl::Span<uint16_t> q);
void Quantize(absl::Span<const float> x, QParams p, absl::Span<int16_t> q);
// As above, saturated to [-limit, limit]: weights that leave room. Requires: 0 < limit <= 127 and
// zero_point 0.
void QuantizeSymmetric(absl::Span<const float> x, float scale, int32_t limit, absl::Span<int8_t> q);
// As above, saturated to [low, high], for weights of any type. Requires: low <= zero_point <= high,
// both within 16 bits.
void QuantizeBetween(absl::Span<const float> x, QParams p, int32_t low, int32_t high,
                     absl::Span<int32_t> q);

// Writes scale * (q - zero_point). Requires: x.size() == q.size().
void Dequantize(absl::Span<const uint8_t> q, QParams p, absl::Span<float> x);
void Dequantize(absl::Span<const int8_t> q, QParams p, absl::Span<float> x);
void Dequantize(absl::Span<const uint16_t> q, QParams p, absl::Span<float> x);
void Dequantize(absl::Span<const int16_t> q, QParams p, absl::Span<float> x);
void Dequantize(absl::Span<const int32_t> q, QParams p, absl::Span<float> x);

}  // namespace halftone

#endif  // HALFTONE_CORE_QUANT_AFFINE_H_
