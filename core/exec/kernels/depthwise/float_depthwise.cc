#include "core/exec/kernels/depthwise/float_depthwise.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/exec/kernels/depthwise/float_depthwise_isa.h"
#include "core/tensor/float16.h"

namespace halftone {
namespace {

// An image of up to this lies in a near cache. Then the rows of one block of channels are made one
// after the other, and what they read stays in the first cache.
constexpr int64_t kNearBytes = 1 << 19;
constexpr int64_t kRows = 8;
// A larger one is read nearly in order: all blocks of so many outputs of a row.
constexpr int64_t kTile = 14;
constexpr int64_t kParallelProducts = 1 << 18;

int64_t Bytes(DataType type) { return BitWidth(type) / 8; }

// How channels and weights are cut.
struct Cut {
  int64_t channels = 0;
  int64_t side = 0;   // of the kernel, with taps of zeros: 3, 5 or 7
  int64_t block = 0;  // channels of a block
  int64_t blocks = 0;
  int64_t per_term = 1;  // kernel rows that one operand of a product has
  int64_t terms = 0;

  Cut(DataType type, int64_t c, int64_t kernel_height, int64_t kernel_width) : channels(c) {
    side = std::max<int64_t>(std::max(kernel_height, kernel_width), 3);
    side += (side + 1) % 2;
    // The 25 weights of 16 channels f32 fit into registers, those of 32 do not.
    const bool narrow = type == DataType::kF32 && (channels < 32 || side == 5);
    block = narrow ? 16 : 32;
    blocks = (channels + block - 1) / block;
    per_term = type == DataType::kBF16 ? 2 : 1;
    terms = (side + per_term - 1) / per_term;
  }
  int64_t weights() const { return side * terms * per_term * block; }  // of one block
  int64_t first(int64_t b) const { return std::min(b * block, channels - block); }
};

}  // namespace

bool HasFloatDepthwise(const CpuFeatures& features, DataType type, int64_t channels) {
  if (!features.avx512) return false;
  if (type == DataType::kF32) return channels >= 16;
  return type == DataType::kBF16 && features.bf16 && channels >= 32;
}

std::shared_ptr<Buffer> PackFloatDepthwise(DataType type, absl::Span<const float> weights,
                                           int64_t channels, int64_t kernel_height,
                                           int64_t kernel_width) {
  const Cut cut(type, channels, kernel_height, kernel_width);
  const int64_t bytes = cut.blocks * cut.weights() * Bytes(type);
  std::shared_ptr<Buffer> out = Buffer::Allocate(static_cast<size_t>(bytes));
  if (out == nullptr) return nullptr;
  std::memset(out->mutable_data(), 0, out->size());
  for (int64_t b = 0; b < cut.blocks; ++b) {
    for (int64_t tap = 0; tap < kernel_height * kernel_width; ++tap) {
      const int64_t row = tap / kernel_width, column = tap % kernel_width;
      for (int64_t i = 0; i < cut.block; ++i) {
        const int64_t c = cut.first(b) + FloatChannelInBlock(type, i);
        const float w = weights[c * kernel_height * kernel_width + tap];
        const int64_t term = (b * cut.side + column) * cut.terms + row / cut.per_term;
        const int64_t at = (term * cut.block + i) * cut.per_term + row % cut.per_term;
        if (type == DataType::kBF16) {
          reinterpret_cast<BFloat16*>(out->mutable_data())[at] = BFloat16(w);
        } else {
          reinterpret_cast<float*>(out->mutable_data())[at] = w;
        }
      }
    }
  }
  return out;
}

FloatDepthwise::FloatDepthwise(const DepthwiseShape& shape, std::shared_ptr<const Buffer> weights,
                               FloatDepthwiseArithmetic arithmetic)
    : shape_(shape), weights_(std::move(weights)), arithmetic_(std::move(arithmetic)) {
  const DataType type = arithmetic_.type;
  const Cut cut(type, shape.channels, shape.kernel_height, shape.kernel_width);
  kernel_ = cut.side;
  block_ = cut.block;
  block_weights_ = cut.weights();
  run_row_ =
      FloatDepthwiseKernel(type, block_, kernel_, shape.stride_width, arithmetic_.activation);
  for (int64_t b = 0; b < cut.blocks; ++b) {
    first_.push_back(cut.first(b));
    for (int64_t i = 0; i < block_; ++i) {
      bias_.push_back(arithmetic_.bias[cut.first(b) + FloatChannelInBlock(type, i)]);
    }
  }
}

void FloatDepthwise::Run(const void* source, void* out) const {
  const auto* from = static_cast<const std::byte*>(source);
  auto* to = static_cast<std::byte*>(out);
  const int64_t rows = shape_.batch * shape_.out_height, columns = shape_.out_width;
  const auto blocks = static_cast<int64_t>(first_.size());
  [[maybe_unused]] const bool parallel =
      rows * columns * shape_.channels * kernel_ * kernel_ >= kParallelProducts;
  if (shape_.height * shape_.width * shape_.channels * Bytes(arithmetic_.type) > kNearBytes) {
#pragma omp parallel for schedule(static) if (parallel)
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t x = 0; x < columns; x += kTile) {
        for (int64_t b = 0; b < blocks; ++b) {
          RunRow(b, row, x, std::min(kTile, columns - x), from, to);
        }
      }
    }
    return;
  }
  // Blocks that share channels write the same bytes: one thread has both.
  const int64_t units = std::max<int64_t>(shape_.channels / block_, 1);
#pragma omp parallel for collapse(2) schedule(static) if (parallel)
  for (int64_t first = 0; first < rows; first += kRows) {
    for (int64_t unit = 0; unit < units; ++unit) {
      for (int64_t b = unit; b < (unit + 1 == units ? blocks : unit + 1); ++b) {
        for (int64_t row = first; row < std::min(first + kRows, rows); ++row) {
          RunRow(b, row, 0, columns, from, to);
        }
      }
    }
  }
}

void FloatDepthwise::RunRow(int64_t block, int64_t row, int64_t column, int64_t outputs,
                            const std::byte* source, std::byte* out) const {
  alignas(64) static constexpr std::byte kZeros[128] = {};
  const DepthwiseShape& s = shape_;
  const FloatDepthwiseArithmetic& a = arithmetic_;
  const int64_t bytes = Bytes(a.type), first = first_[block] * bytes;
  const int64_t pixel = s.channels * bytes;
  FloatDepthwiseRow task{.width = s.width,
                         .first_column = column * s.stride_width - s.pad_left,
                         .outputs = outputs,
                         .padding = kZeros,
                         .weights = weights_->data() + block * block_weights_ * bytes,
                         .bias = bias_.data() + block * block_,
                         .alpha = a.alpha,
                         .beta = a.beta,
                         .out = out + (row * s.out_width + column) * pixel + first,
                         .out_step = pixel};
  const int64_t n = row / s.out_height, oy = row % s.out_height;
  for (int64_t k = 0; k < kernel_; ++k) {
    const int64_t y = oy * s.stride_height - s.pad_top + k;
    const bool inside = y >= 0 && y < s.height;
    task.rows[k] = inside ? source + (n * s.height + y) * s.width * pixel + first : kZeros;
    task.steps[k] = inside ? pixel : 0;
  }
  run_row_(task);
}

}  // namespace halftone
