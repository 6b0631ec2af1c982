// Streaming conversions between stored and computed element types. All kernels walk n elements in
// order, split over the calling thread's team when n is large, and pick AVX2/F16C code at run time.
#ifndef HALFTONE_CORE_EXEC_KERNELS_CONVERT_H_
#define HALFTONE_CORE_EXEC_KERNELS_CONVERT_H_

#include <cstdint>

#include "core/tensor/data_type.h"

namespace halftone {

// From here on a conversion is split; fewer elements stay on the calling thread.
inline constexpr int64_t kParallelConversion = 1 << 15;

// f16, bf16, i8 or u8 → f32, element by element; i8 and u8 without a scale. Other types: returns
// false and writes nothing.
bool WidenToF32(DataType from, const void* src, float* dst, int64_t n);

// f32 → f16 or bf16, round to nearest even.
bool NarrowFromF32(DataType to, const float* src, void* dst, int64_t n);

// q = saturate(round_half_even(x / scale) + zero_point); NaN becomes zero_point. To u8 or i8.
void QuantizeF32(const float* src, float scale, int32_t zero_point, DataType to, void* dst,
                 int64_t n);

// x = scale · (q − zero_point), from u8 or i8.
void DequantizeToF32(DataType from, const void* src, float scale, int32_t zero_point, float* dst,
                     int64_t n);

struct RangeF32 {
  float min = 0;
  float max = 0;
};
// The range of x widened to contain 0 (so 0 for n = 0). NaN is ignored.
RangeF32 FindRange(const float* src, int64_t n);

// ONNX DynamicQuantizeLinear's parameters for u8.
struct DynamicParams {
  float scale = 1;
  uint8_t zero_point = 0;
};
DynamicParams ChooseDynamicParams(RangeF32 range);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_CONVERT_H_
