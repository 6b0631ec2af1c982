// Fused arithmetic on quantized tensors.
#ifndef HALFTONE_CORE_EXEC_KERNELS_ELEMENTWISE_H_
#define HALFTONE_CORE_EXEC_KERNELS_ELEMENTWISE_H_

#include <cstdint>

#include "core/tensor/data_type.h"

namespace halftone {

struct QuantizedView {
  DataType type = DataType::kU8;  // u8 or i8
  float scale = 1;
  int32_t zero_point = 0;
  bool operator==(const QuantizedView&) const = default;
};

// q_out = quantize(act(dequantize(a) + dequantize(b))), act: none, or max(x, 0). All contiguous.
void RunQuantizedAdd(const QuantizedView& a_view, const void* a, const QuantizedView& b_view,
                     const void* b, bool relu, const QuantizedView& out_view, void* out, int64_t n);

// q_out = quantize(dequantize(x) · gain[n, c]) of a quantized tensor [batch, positions, channels]
// (channels last) or [batch, channels, positions]. `gain` has `batch` or one row of `channels`;
// where it is NaN the result is zero_point. The factors of a channel are multiplied first: up to
// one step away from the formula.
struct ScaledShape {
  int64_t batch = 1;
  int64_t positions = 1;
  int64_t channels = 1;
  bool channels_last = true;
  bool gain_per_batch = true;  // false: one row for all
};
void RunQuantizedScale(const QuantizedView& x_view, const void* x, const float* gain,
                       const QuantizedView& out_view, void* out, const ScaledShape& shape);

// out = x · gain[n, c], of f32 or bf16 (rounded once, to nearest even). `out` may be x.
void RunChannelScale(DataType type, const void* x, const float* gain, void* out,
                     const ScaledShape& shape);

// out[i] = table[src[i]]; `table` has 256 entries, out may be src.
void RunByteTable(const uint8_t* table, const uint8_t* src, uint8_t* out, int64_t n);

// Mean over `spatial` positions of a channels-last quantized tensor [batch, spatial, channels],
// dequantized: out[batch, channels].
void RunQuantizedMean(const QuantizedView& view, const void* src, int64_t batch, int64_t spatial,
                      int64_t channels, float* out);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_ELEMENTWISE_H_
