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
};

// q_out = quantize(act(dequantize(a) + dequantize(b))), act: none, or max(x, 0). All contiguous.
void RunQuantizedAdd(const QuantizedView& a_view, const void* a, const QuantizedView& b_view,
                     const void* b, bool relu, const QuantizedView& out_view, void* out, int64_t n);

// Mean over `spatial` positions of a channels-last quantized tensor [batch, spatial, channels],
// dequantized: out[batch, channels].
void RunQuantizedMean(const QuantizedView& view, const void* src, int64_t batch, int64_t spatial,
                      int64_t channels, float* out);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_ELEMENTWISE_H_
