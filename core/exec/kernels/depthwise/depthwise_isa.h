// The kernels behind Depthwise, one set per instruction set. Only depthwise*.cc want this.
//
// Channels are cut into blocks of DepthwiseIsa::width, and a last one of half of that where it
// suffices and there is one. Interleaving the bytes of four kernel rows within the 128-bit lanes of
// a register makes four registers of one dword of four taps per channel. Their order of channels is
// that of all numbers per channel here (ChannelInBlock), and saturating packs undo it.
#ifndef HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_DEPTHWISE_ISA_H_
#define HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_DEPTHWISE_ISA_H_

#include <cstddef>
#include <cstdint>

#include "core/exec/kernels/depthwise/depthwise.h"

namespace halftone {

// Sums of `outputs` neighbours of one row of outputs, for the channels of one block.
struct DepthwiseSweep {
  const uint8_t* rows[DepthwiseWeights::kMaxKernel];  // per kernel row, the image's column 0
  int64_t steps[DepthwiseWeights::kMaxKernel];        // bytes between columns; 0: a row of padding
  int64_t width = 0;         // columns of the image; what lies outside is padding
  int64_t first_column = 0;  // of the first output's window
  int64_t outputs = 0;
  int64_t count = 0;                 // channels of the block, at most its width
  uint8_t flip = 0;                  // xor for all bytes: 128 makes u8 of i8
  const uint8_t* padding = nullptr;  // [block width]: a pixel of padding
  const std::byte* weights = nullptr;
  const int32_t* start = nullptr;  // [block width]
  int32_t* sums = nullptr;  // [outputs, block width], and kDepthwiseSpare outputs on either side
};
inline constexpr int64_t kDepthwiseSpare = 8;

// Turns such sums into outputs.
struct DepthwiseFinish {
  const int32_t* sums = nullptr;
  int64_t outputs = 0, count = 0;
  const float *scales = nullptr, *bias = nullptr;  // [block width]
  float alpha = 0, beta = 0;                       // of the activation
  float scale = 1, inverse_scale = 1;              // of the destination; 1 of f32
  int32_t zero_point = 0, low = 0, high = 0;       // 8 bits: of the destination; kClip's bounds
  std::byte* out = nullptr;
  int64_t step = 0;  // elements between outputs
};

using DepthwiseSweepFn = void (*)(const DepthwiseSweep&);
using DepthwiseFinishFn = void (*)(const DepthwiseFinish&);

inline constexpr int kDepthwiseKernels = 3;  // 3, 5, 7
inline constexpr int kDepthwiseActivations = 4;
enum DepthwiseDestination : uint8_t { kToU8, kToI8, kToF32, kDepthwiseDestinations };

// For one width of blocks.
struct DepthwiseKernels {
  DepthwiseSweepFn sweep[kDepthwiseKernels][2];  // by size and stride
  DepthwiseFinishFn finish[kDepthwiseActivations][kDepthwiseDestinations];
};

struct DepthwiseIsa {
  absl::string_view name;
  int64_t width = 0;  // channels of a block
  // Four taps are two pairs of i16, taps 0 and 2 before 1 and 3, instead of a quad of i8; the pairs
  // of a whole register stand together.
  bool pairs = false;
  DepthwiseKernels whole;                  // for blocks of `width`
  const DepthwiseKernels* half = nullptr;  // of half of it; null: there are none
};

const DepthwiseIsa& DepthwiseAvx2();
const DepthwiseIsa& DepthwiseAvx512();  // with VNNI

// The channel within a block of `width` that stands at `position`: registers of width / 4 dwords.
constexpr int64_t ChannelInBlock(int64_t position, int64_t width) {
  const int64_t vector = position / (width / 4), at = position % (width / 4);
  return at / 4 * 16 + vector * 4 + at % 4;
}

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_DEPTHWISE_ISA_H_
