// Depthwise convolution of 8-bit activations, channels last, with i8 weights, and what follows it:
//
//   sum[c] = Σ over taps of (x[tap, c] - source_zero) * w[c, tap]     exact, in 32 bits
//   y[c]   = fma(sum[c], scales[c], bias[c])                          f32
//   out[c] = activation(y[c]), as f32 or rounded to 8 bits
//
// Padding counts as source_zero, that is, as nothing. Every instruction set gives the same bytes.
#ifndef HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_DEPTHWISE_H_
#define HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_DEPTHWISE_H_

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/base/buffer.h"
#include "core/exec/cpu_features.h"
#include "core/tensor/data_type.h"

namespace halftone {

// [batch, height, width, channels] → [batch, out_height, out_width, channels].
struct DepthwiseShape {
  int64_t batch = 1, channels = 0, height = 0, width = 0, out_height = 0, out_width = 0;
  int64_t kernel_height = 0, kernel_width = 0;
  int64_t stride_height = 1, stride_width = 1;
  // Rows and columns of padding before the image; after it there are as many as the output needs.
  int64_t pad_top = 0, pad_left = 0;
};

enum class DepthwiseActivation : uint8_t {
  kClip,       // min(max(y, alpha), beta); of 8 bits the rounded y and bounds, which is the same
  kHardSwish,  // y * min(max(alpha * y + beta, 0), 1)
  kSigmoid,    // 1 / (1 + exp(-y))
  kSwish,      // y * sigmoid(y): SiLU
};

struct DepthwiseArithmetic {
  DataType source = DataType::kU8;  // u8 or i8
  int32_t source_zero = 0;
  std::vector<float> scales, bias;  // one per channel
  DepthwiseActivation activation = DepthwiseActivation::kClip;
  float alpha = std::numeric_limits<float>::lowest(), beta = std::numeric_limits<float>::max();
  DataType destination = DataType::kF32;  // f32, u8 or i8
  // 8 bits: round_half_even(activation(y) / destination_scale) + destination_zero, saturated. The
  // division is part of scales and bias (kClip) or of the denominator (kSigmoid, kSwish).
  float destination_scale = 1.0f;
  int32_t destination_zero = 0;
};

// Whether no y leaves what is exact in 32 bits, for weights of any value: |y| and, of 8 bits,
// |y / destination_scale| stay below 2^30, and scales and bias are finite.
bool DepthwiseStaysInRange(const DepthwiseShape& shape, const DepthwiseArithmetic& arithmetic);

// The definition, one output after the other. `weights` is [channels, kernel_height, kernel_width].
// Requires: DepthwiseStaysInRange.
void DepthwiseReference(const DepthwiseShape& shape, const int8_t* weights,
                        const DepthwiseArithmetic& arithmetic, const void* source, void* out);

struct DepthwiseIsa;  // one instruction set, see depthwise_isa.h
// "avx512_vnni", "avx2".
absl::string_view Name(const DepthwiseIsa& isa);
// Null when this CPU has nothing better than the definition.
const DepthwiseIsa* ChooseDepthwise(const CpuFeatures& features);

// Weights in the order in which one instruction set reads them. Immutable.
class DepthwiseWeights {
 public:
  static constexpr int64_t kMaxKernel = 7;
  // Null when memory is short. Requires: sizes > 0, kernel sizes up to kMaxKernel.
  static std::shared_ptr<const DepthwiseWeights> Pack(const DepthwiseIsa& isa,
                                                      const int8_t* weights, int64_t channels,
                                                      int64_t kernel_height, int64_t kernel_width);

  const DepthwiseIsa& isa() const { return isa_; }
  int64_t kernel() const { return kernel_; }  // both sides, with taps of zeros: 3, 5 or 7
  const std::byte* codes() const { return codes_->data(); }
  int32_t sum(int64_t channel) const { return sums_[channel]; }  // Σ w
  int64_t bytes() const;                                         // that it keeps in memory

 private:
  explicit DepthwiseWeights(const DepthwiseIsa& isa) : isa_(isa) {}

  const DepthwiseIsa& isa_;
  int64_t kernel_ = 0;
  std::shared_ptr<Buffer> codes_;
  std::vector<int32_t> sums_;
};

// A convolution that is ready to run. Immutable.
class Depthwise {
 public:
  // Requires: DepthwiseStaysInRange; weights of this shape; stride_width 1 or 2; sizes > 0.
  Depthwise(const DepthwiseShape& shape, std::shared_ptr<const DepthwiseWeights> weights,
            DepthwiseArithmetic arithmetic);

  // Splits rows and channels over the calling thread's team.
  void Run(const void* source, void* out) const;

 private:
  static constexpr int kBlock = 64;  // channels at most, whatever the instruction set
  // Numbers per channel, in the order of registers.
  struct alignas(64) Block {
    int32_t start[kBlock] = {};  // what sums start with
    float scales[kBlock] = {}, bias[kBlock] = {};
  };
  struct alignas(64) Pixel {
    uint8_t bytes[kBlock];
  };

  // One block of one row of outputs, of all images.
  void RunRow(int64_t index, int64_t row, const uint8_t* source, std::byte* out) const;

  DepthwiseShape shape_;
  std::shared_ptr<const DepthwiseWeights> weights_;
  DepthwiseArithmetic arithmetic_;
  std::vector<Block> blocks_;
  Pixel padding_;
  int32_t low_ = 0, high_ = 0;  // of kClip, as bytes
};

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_DEPTHWISE_H_
