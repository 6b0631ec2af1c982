// Depthwise convolution of f32 or bf16, channels last, and the activation that follows it:
//
//   out[c] = activation(bias[c] + Σ over taps of x[tap, c] * w[c, tap])
//
// in f32 (of bf16: products of pairs of taps, as vdpbf16ps sums them, rounded once at the end), in
// an order that depends on nothing but the shape. AVX-512 only.
#ifndef HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_FLOAT_DEPTHWISE_H_
#define HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_FLOAT_DEPTHWISE_H_

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "core/base/buffer.h"
#include "core/exec/cpu_features.h"
#include "core/exec/kernels/depthwise/depthwise.h"
#include "core/tensor/data_type.h"

namespace halftone {

struct FloatDepthwiseArithmetic {
  DataType type = DataType::kF32;  // of source, weights and result: f32 or bf16
  std::vector<float> bias;         // one per channel
  DepthwiseActivation activation = DepthwiseActivation::kClip;
  float alpha = std::numeric_limits<float>::lowest(), beta = std::numeric_limits<float>::max();
};

struct FloatDepthwiseRow;  // see float_depthwise_isa.h

// Whether there is a kernel for these channels on this CPU.
bool HasFloatDepthwise(const CpuFeatures& features, DataType type, int64_t channels);

// Weights [channels, kernel_height, kernel_width] in the order in which the kernel reads them; null
// when memory is short. `type` is f32 or bf16, to which they are rounded. Requires:
// HasFloatDepthwise, kernel sizes from 1 to DepthwiseWeights::kMaxKernel.
std::shared_ptr<Buffer> PackFloatDepthwise(DataType type, absl::Span<const float> weights,
                                           int64_t channels, int64_t kernel_height,
                                           int64_t kernel_width);

// A convolution that is ready to run. Immutable.
class FloatDepthwise {
 public:
  // Requires: weights that PackFloatDepthwise made for this shape and type; stride_width 1 or 2;
  // sizes > 0; bias of shape.channels.
  FloatDepthwise(const DepthwiseShape& shape, std::shared_ptr<const Buffer> weights,
                 FloatDepthwiseArithmetic arithmetic);

  // Splits rows and channels over the calling thread's team. `out` does not overlap `source`.
  void Run(const void* source, void* out) const;

 private:
  // `outputs` of one block and row, from a column of outputs on; rows of all images.
  void RunRow(int64_t block, int64_t row, int64_t column, int64_t outputs, const std::byte* source,
              std::byte* out) const;

  DepthwiseShape shape_;
  std::shared_ptr<const Buffer> weights_;
  FloatDepthwiseArithmetic arithmetic_;
  int64_t kernel_ = 0, block_ = 0, block_weights_ = 0;
  void (*run_row_)(const FloatDepthwiseRow&) = nullptr;
  std::vector<int64_t> first_;  // channel, per block
  std::vector<float> bias_;     // [blocks, block_], in the order of registers
};

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_FLOAT_DEPTHWISE_H_
