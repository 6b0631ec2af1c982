// The kernels behind FloatDepthwise. Only float_depthwise*.cc want this.
//
// Channels are cut into blocks of 32, or of 16 (some f32); the last block ends with the last
// channel and shares some with the one before. In bf16 two rows of the kernel are interleaved into
// pairs, within the 128-bit lanes of a register; that decides the order of channels within a block
// (FloatChannelInBlock).
#ifndef HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_FLOAT_DEPTHWISE_ISA_H_
#define HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_FLOAT_DEPTHWISE_ISA_H_

#include <cstddef>
#include <cstdint>

#include "core/exec/kernels/depthwise/depthwise.h"
#include "core/tensor/data_type.h"

namespace halftone {

// One row of outputs of one block of channels.
struct FloatDepthwiseRow {
  const std::byte* rows[DepthwiseWeights::kMaxKernel];  // per kernel row, the image's column 0
  int64_t steps[DepthwiseWeights::kMaxKernel];          // bytes between columns; 0: all padding
  int64_t width = 0;         // columns of the image; what lies outside is padding
  int64_t first_column = 0;  // of the first output's window
  int64_t outputs = 0;
  const std::byte* padding = nullptr;  // zeros, as many as a block has bytes
  const std::byte* weights = nullptr;
  const float* bias = nullptr;  // [block]
  float alpha = 0, beta = 0;    // of the activation
  std::byte* out = nullptr;
  int64_t out_step = 0;  // bytes between outputs
};
using FloatDepthwiseFn = void (*)(const FloatDepthwiseRow&);

// `block` is 16 or 32, of bf16 32; `kernel` 3, 5 or 7; `stride` 1 or 2.
FloatDepthwiseFn FloatDepthwiseKernel(DataType type, int64_t block, int64_t kernel, int64_t stride,
                                      DepthwiseActivation activation);

// The channel within a block that stands at `position`.
constexpr int64_t FloatChannelInBlock(DataType type, int64_t position) {
  if (type == DataType::kF32) return position;
  const int64_t half = position / 16, at = position % 16;
  return at / 4 * 8 + half * 4 + at % 4;
}

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_FLOAT_DEPTHWISE_ISA_H_
