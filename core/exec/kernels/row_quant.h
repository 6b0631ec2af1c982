// Dynamic quantization with a scale and a zero point per row, and what turns the accumulators of a
// product of such rows into floats. Rows are split over the calling thread's team when there is
// enough to do; results do not depend on it.
#ifndef HALFTONE_CORE_EXEC_KERNELS_ROW_QUANT_H_
#define HALFTONE_CORE_EXEC_KERNELS_ROW_QUANT_H_

#include <cstdint>

namespace halftone {

// DynamicQuantizeRows of core/ops/row_quant.h for [rows, n].
void QuantizeRows(const float* x, int64_t rows, int64_t n, uint8_t* codes, float* scale,
                  uint8_t* zero_point);

// [rows, n] accumulators of u8 codes times i8 weights, as floats:
//   y = scale[r] * weight_scale[c] * (accumulator - zero_point[r] * weight_sum[c]) + bias[c]
// The difference is exact in 32 bits wherever the accumulator is. y may be the accumulators' own
// memory.
struct RowScaling {
  int64_t rows = 0, n = 0;
  const float* scale = nullptr;         // [rows]
  const uint8_t* zero_point = nullptr;  // [rows]
  const float* weight_scale = nullptr;  // [n]
  const int32_t* weight_sum = nullptr;  // [n], over what a product sums over
  const float* bias = nullptr;          // [n]
};
void ScaleRows(const RowScaling& s, const int32_t* accumulators, float* y);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_ROW_QUANT_H_
