#include "core/exec/kernels/depthwise/depthwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/exec/kernels/depthwise/depthwise_isa.h"
#include "core/exec/kernels/depthwise/exp.h"

namespace halftone {
namespace {

// Outputs whose sums are on the stack: 16 KiB of a first cache of 32.
constexpr int64_t kTile = 56;
// Rows of outputs, of one block of channels, that are made one after the other: what they read of
// the image is in the first cache then.
constexpr int64_t kRows = 8;
[[maybe_unused]] constexpr int64_t kParallelProducts = 1 << 18;

// As the minimum and maximum instructions, also for zeros of different sign.
float Min(float a, float b) { return a < b ? a : b; }
float Max(float a, float b) { return a > b ? a : b; }

bool IsByte(DataType t) { return t != DataType::kF32; }
// f32 counts in steps of 1.
float Scale(const DepthwiseArithmetic& a) {
  return IsByte(a.destination) ? a.destination_scale : 1.0f;
}
float InverseScale(const DepthwiseArithmetic& a) { return 1.0f / Scale(a); }

// activation(y) in steps of the destination; of kClip, y is in steps already.
float Activate(float y, const DepthwiseArithmetic& a) {
  switch (a.activation) {
    case DepthwiseActivation::kClip:
      return Min(Max(y, a.alpha), a.beta);
    case DepthwiseActivation::kHardSwish:
      return y * Min(Max(std::fma(y, a.alpha, a.beta), 0.0f), 1.0f) * InverseScale(a);
    case DepthwiseActivation::kSigmoid:
      return 1.0f / std::fma(ExpOfMinus(y), Scale(a), Scale(a));
    case DepthwiseActivation::kSwish:
      return y / std::fma(ExpOfMinus(y), Scale(a), Scale(a));
  }
  return y;
}

int32_t Lowest(DataType t) { return t == DataType::kI8 ? -128 : 0; }
int32_t Highest(DataType t) { return t == DataType::kI8 ? 127 : 255; }

// What y is in steps of the destination before it is rounded, as far as scales and bias say it.
float FoldedScale(const DepthwiseArithmetic& a) {
  return IsByte(a.destination) && a.activation == DepthwiseActivation::kClip ? InverseScale(a)
                                                                             : 1.0f;
}

int32_t Saturate(double steps, const DepthwiseArithmetic& a) {
  const double low = Lowest(a.destination) - a.destination_zero;
  const double high = Highest(a.destination) - a.destination_zero;
  return static_cast<int32_t>(std::nearbyint(std::clamp(steps, low, high))) + a.destination_zero;
}

// A bound of kClip, as a byte.
int32_t Bound(float bound, const DepthwiseArithmetic& a) {
  return Saturate(static_cast<double>(bound * InverseScale(a)), a);
}

int32_t Rounded(int32_t sum, int64_t c, const DepthwiseArithmetic& a) {
  const float folded = FoldedScale(a);
  const float y = std::fma(static_cast<float>(sum), a.scales[c] * folded, a.bias[c] * folded);
  if (a.activation != DepthwiseActivation::kClip) return Saturate(Activate(y, a), a);
  return std::min(std::max(Saturate(y, a), Bound(a.alpha, a)), Bound(a.beta, a));
}

// The last block is a half one where that is enough.
int64_t BlockWidth(const DepthwiseIsa& isa, int64_t channels, int64_t block) {
  const int64_t left = channels - block * isa.width;
  return isa.half != nullptr && left <= isa.width / 2 ? isa.width / 2 : isa.width;
}

int64_t Blocks(const DepthwiseIsa& isa, int64_t channels) {
  return (channels + isa.width - 1) / isa.width;
}

// Calls f(position, channel) for every channel of every block; positions count numbers of whole
// blocks in the order of registers.
template <typename F>
void ForChannels(const DepthwiseIsa& isa, int64_t channels, F f) {
  for (int64_t b = 0; b < Blocks(isa, channels); ++b) {
    const int64_t first = b * isa.width, width = BlockWidth(isa, channels, b);
    for (int64_t i = 0; i < width; ++i) {
      const int64_t c = first + ChannelInBlock(i, width);
      if (c < channels) f(first + i, c);
    }
  }
}

// Where a tap of a channel lies among the codes; position as ForChannels gives it.
int64_t TapOffset(const DepthwiseIsa& isa, int64_t channels, int64_t kernel, int64_t position,
                  int64_t row, int64_t column) {
  const int64_t quads = (kernel + 3) / 4, tap_bytes = isa.pairs ? 2 : 1;
  const int64_t block = position / isa.width, at = position % isa.width;
  const int64_t width = BlockWidth(isa, channels, block), lanes = width / 4;
  const int64_t vector = at / lanes, lane = at % lanes, tap = row % 4;
  const int64_t vector_bytes = lanes * 4 * tap_bytes;
  const int64_t begin = block * isa.width * 4 * tap_bytes * quads * kernel +
                        ((column * quads + row / 4) * 4 + vector) * vector_bytes;
  if (!isa.pairs) return begin + lane * 4 + tap;
  return begin + tap % 2 * vector_bytes / 2 + lane * 4 + tap / 2 * 2;
}

}  // namespace

bool DepthwiseStaysInRange(const DepthwiseShape& shape, const DepthwiseArithmetic& a) {
  constexpr double kMost = 1 << 30;
  const double most_sum =
      255.0 * 128.0 * static_cast<double>(shape.kernel_height * shape.kernel_width);
  const double inverse = IsByte(a.destination) ? 1.0 / a.destination_scale : 1.0;
  for (size_t c = 0; c < a.scales.size(); ++c) {
    const double y = std::abs(a.scales[c]) * most_sum + std::abs(a.bias[c]);
    if (!(y < kMost) || !(y * inverse < kMost)) return false;  // NaN, too
  }
  return std::isfinite(InverseScale(a)) && !std::isnan(a.alpha) && !std::isnan(a.beta);
}

void DepthwiseReference(const DepthwiseShape& s, const int8_t* weights,
                        const DepthwiseArithmetic& a, const void* source, void* out) {
  const auto read = [&](int64_t i) -> int32_t {
    return a.source == DataType::kI8 ? static_cast<const int8_t*>(source)[i]
                                     : static_cast<const uint8_t*>(source)[i];
  };
  int64_t to = 0;
  for (int64_t at = 0; at < s.batch * s.out_height * s.out_width; ++at) {
    const int64_t ox = at % s.out_width, oy = at / s.out_width % s.out_height;
    const int64_t n = at / s.out_width / s.out_height;
    for (int64_t c = 0; c < s.channels; ++c, ++to) {
      int32_t sum = 0;
      for (int64_t tap = 0; tap < s.kernel_height * s.kernel_width; ++tap) {
        const int64_t y = oy * s.stride_height - s.pad_top + tap / s.kernel_width;
        const int64_t x = ox * s.stride_width - s.pad_left + tap % s.kernel_width;
        if (y < 0 || y >= s.height || x < 0 || x >= s.width) continue;
        const int32_t value = read(((n * s.height + y) * s.width + x) * s.channels + c);
        sum += (value - a.source_zero) * weights[c * s.kernel_height * s.kernel_width + tap];
      }
      if (!IsByte(a.destination)) {
        const float y = std::fma(static_cast<float>(sum), a.scales[c], a.bias[c]);
        static_cast<float*>(out)[to] = Activate(y, a);
        continue;
      }
      static_cast<uint8_t*>(out)[to] = static_cast<uint8_t>(Rounded(sum, c, a));
    }
  }
}

absl::string_view Name(const DepthwiseIsa& isa) { return isa.name; }

const DepthwiseIsa* ChooseDepthwise(const CpuFeatures& features) {
  if (features.avx512 && features.vnni) return &DepthwiseAvx512();
  if (features.avx2 && __builtin_cpu_supports("fma")) return &DepthwiseAvx2();
  return nullptr;
}

std::shared_ptr<const DepthwiseWeights> DepthwiseWeights::Pack(const DepthwiseIsa& isa,
                                                               const int8_t* weights,
                                                               int64_t channels,
                                                               int64_t kernel_height,
                                                               int64_t kernel_width) {
  std::shared_ptr<DepthwiseWeights> out(new DepthwiseWeights(isa));
  const int64_t side = std::max<int64_t>(std::max(kernel_height, kernel_width), 3);
  out->kernel_ = side + (side + 1) % 2;
  const int64_t quads = (out->kernel_ + 3) / 4;
  const int64_t bytes =
      Blocks(isa, channels) * isa.width * out->kernel_ * quads * 4 * (isa.pairs ? 2 : 1);
  out->codes_ = Buffer::Allocate(static_cast<size_t>(bytes));
  if (out->codes_ == nullptr) return nullptr;
  auto* codes = reinterpret_cast<char*>(out->codes_->mutable_data());
  std::memset(codes, 0, static_cast<size_t>(bytes));
  out->sums_.assign(static_cast<size_t>(channels), 0);
  ForChannels(isa, channels, [&](int64_t position, int64_t c) {
    for (int64_t tap = 0; tap < kernel_height * kernel_width; ++tap) {
      const auto w = static_cast<int16_t>(weights[c * kernel_height * kernel_width + tap]);
      const int64_t at =
          TapOffset(isa, channels, out->kernel_, position, tap / kernel_width, tap % kernel_width);
      std::memcpy(codes + at, &w, isa.pairs ? 2 : 1);  // little-endian, as every x86
      out->sums_[c] += w;
    }
  });
  return out;
}

int64_t DepthwiseWeights::bytes() const {
  return static_cast<int64_t>(codes_->size() + sums_.size() * sizeof(int32_t));
}

Depthwise::Depthwise(const DepthwiseShape& shape, std::shared_ptr<const DepthwiseWeights> weights,
                     DepthwiseArithmetic arithmetic)
    : shape_(shape), weights_(std::move(weights)), arithmetic_(std::move(arithmetic)) {
  const DepthwiseIsa& isa = weights_->isa();
  const DepthwiseArithmetic& a = arithmetic_;
  blocks_.resize(static_cast<size_t>(Blocks(isa, shape.channels)));
  const int32_t zero = a.source_zero + (a.source == DataType::kI8 ? 128 : 0);
  const float folded = FoldedScale(a);
  ForChannels(isa, shape.channels, [&](int64_t position, int64_t c) {
    Block& block = blocks_[position / isa.width];
    const int64_t at = position % isa.width;
    block.start[at] = -zero * weights_->sum(c);
    block.scales[at] = a.scales[c] * folded;
    block.bias[at] = a.bias[c] * folded;
  });
  std::memset(padding_.bytes, a.source_zero, sizeof(padding_.bytes));
  if (IsByte(a.destination)) {
    low_ = Bound(a.alpha, a);
    high_ = Bound(a.beta, a);
  }
}

void Depthwise::Run(const void* source, void* out) const {
  const int64_t rows = shape_.batch * shape_.out_height;
  const int64_t blocks = static_cast<int64_t>(blocks_.size());
  [[maybe_unused]] const int64_t products =
      rows * shape_.out_width * shape_.channels * weights_->kernel() * weights_->kernel();
#pragma omp parallel for collapse(2) schedule(static) if (products >= kParallelProducts)
  for (int64_t first = 0; first < rows; first += kRows) {
    for (int64_t block = 0; block < blocks; ++block) {
      for (int64_t row = first; row < std::min(first + kRows, rows); ++row) {
        RunRow(block, row, static_cast<const uint8_t*>(source), static_cast<std::byte*>(out));
      }
    }
  }
}

void Depthwise::RunRow(int64_t index, int64_t row, const uint8_t* source, std::byte* out) const {
  const DepthwiseShape& s = shape_;
  const DepthwiseArithmetic& a = arithmetic_;
  const DepthwiseIsa& isa = weights_->isa();
  const Block& block = blocks_[index];
  const int64_t kernel = weights_->kernel(), first = index * isa.width;
  const int64_t width = BlockWidth(isa, s.channels, index);
  const DepthwiseKernels& kernels = width == isa.width ? isa.whole : *isa.half;
  const bool bytes = IsByte(a.destination);
  alignas(64) int32_t sums[(kTile + 2 * kDepthwiseSpare) * kBlock];
  DepthwiseSweep sweep{
      .width = s.width,
      .count = std::min(s.channels - first, width),
      .flip = static_cast<uint8_t>(a.source == DataType::kI8 ? 128 : 0),
      .padding = padding_.bytes,
      .weights = weights_->codes() + first * 4 * ((kernel + 3) / 4) * kernel * (isa.pairs ? 2 : 1),
      .start = block.start,
      .sums = sums + kDepthwiseSpare * kBlock};
  const int64_t n = row / s.out_height, oy = row % s.out_height;
  for (int64_t k = 0; k < kernel; ++k) {
    const int64_t y = oy * s.stride_height - s.pad_top + k;
    const bool inside = y >= 0 && y < s.height;
    sweep.rows[k] =
        inside ? source + (n * s.height + y) * s.width * s.channels + first : padding_.bytes;
    sweep.steps[k] = inside ? s.channels : 0;
  }
  DepthwiseFinish finish{.sums = sweep.sums,
                         .count = sweep.count,
                         .scales = block.scales,
                         .bias = block.bias,
                         .alpha = a.alpha,
                         .beta = a.beta,
                         .scale = Scale(a),
                         .inverse_scale = InverseScale(a),
                         .zero_point = a.destination_zero,
                         .low = low_,
                         .high = high_,
                         .step = s.channels};
  const auto to = bytes ? (a.destination == DataType::kI8 ? kToI8 : kToU8) : kToF32;
  const DepthwiseSweepFn run_sweep = kernels.sweep[(kernel - 3) / 2][s.stride_width - 1];
  const DepthwiseFinishFn run_finish = kernels.finish[static_cast<int>(a.activation)][to];
  for (int64_t x = 0; x < s.out_width; x += kTile) {
    sweep.first_column = x * s.stride_width - s.pad_left;
    sweep.outputs = finish.outputs = std::min(kTile, s.out_width - x);
    run_sweep(sweep);
    finish.out = out + ((row * s.out_width + x) * s.channels + first) * (bytes ? 1 : 4);
    run_finish(finish);
  }
}

}  // namespace halftone
