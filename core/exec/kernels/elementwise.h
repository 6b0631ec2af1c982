// Broadcasting arithmetic on f32 and fused arithmetic on quantized tensors.
#ifndef HALFTONE_CORE_EXEC_KERNELS_ELEMENTWISE_H_
#define HALFTONE_CORE_EXEC_KERNELS_ELEMENTWISE_H_

#include <cstdint>

#include "absl/types/span.h"
#include "core/tensor/data_type.h"
#include "core/tensor/shape.h"

namespace halftone {

enum class BinaryOp : uint8_t { kAdd, kSub, kMul, kDiv, kMin, kMax, kPow, kPRelu };

// A broadcast over one output shape, in physical order; strides are 0 where an input repeats.
struct Broadcast {
  Shape shape;
  Shape a_strides;
  Shape b_strides;
};
// Merges dimensions that are contiguous (or repeated) in both inputs, so that loops are long.
Broadcast Simplify(const Broadcast& broadcast);

// out = a op b; out is contiguous. `out` may be `a` or `b` where that input is not broadcast.
void RunBinaryF32(BinaryOp op, const Broadcast& broadcast, const float* a, const float* b,
                  float* out);

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
