#include "core/exec/kernels/row_quant.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/exec/kernels/convert.h"
#include "core/ops/row_quant.h"

namespace halftone {
namespace {

constexpr int64_t kParallelElements = 1 << 15;

#define HT_VECTORIZED __attribute__((target_clones("default", "avx2", "avx512f")))

// `from` and `to` may be the same bytes, so elements pass through memcpy, a block at a time.
HT_VECTORIZED void ScaleRow(const std::byte* from, float scale, int32_t zero_point,
                            const float* __restrict weight_scale,
                            const int32_t* __restrict weight_sum, const float* __restrict bias,
                            int64_t n, std::byte* to) {
  constexpr int kBlock = 64;
  const auto block = [&](int64_t begin, int count) __attribute__((always_inline)) {
    int32_t acc[kBlock];
    float y[kBlock];
    std::memcpy(acc, from + begin * 4, static_cast<size_t>(count) * 4);
    for (int i = 0; i < count; ++i) {
      const int32_t sum = acc[i] - zero_point * weight_sum[begin + i];
      y[i] = static_cast<float>(sum) * (scale * weight_scale[begin + i]) + bias[begin + i];
    }
    std::memcpy(to + begin * 4, y, static_cast<size_t>(count) * 4);
  };
  int64_t begin = 0;
  for (; begin + kBlock <= n; begin += kBlock) block(begin, kBlock);
  if (begin < n) block(begin, static_cast<int>(n - begin));
}

}  // namespace

void QuantizeRows(const float* x, int64_t rows, int64_t n, uint8_t* codes, float* scale,
                  uint8_t* zero_point) {
#pragma omp parallel for if (rows > 1 && rows * n >= kParallelElements) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    const RangeF32 range = FindRange(x + r * n, n);
    const float step = (range.max - range.min) / 255.0f;
    scale[r] = std::clamp(step, kSmallestRowScale, kLargestRowScale);
    const float zero = std::clamp(std::nearbyint(-range.min / scale[r]), 0.0f, 255.0f);
    zero_point[r] = static_cast<uint8_t>(zero);
    QuantizeF32(x + r * n, scale[r], zero_point[r], DataType::kU8, codes + r * n, n);
  }
}

void ScaleRows(const RowScaling& s, const int32_t* accumulators, float* y) {
  const auto* from = reinterpret_cast<const std::byte*>(accumulators);
  auto* to = reinterpret_cast<std::byte*>(y);
#pragma omp parallel for if (s.rows * s.n >= kParallelElements) schedule(static)
  for (int64_t r = 0; r < s.rows; ++r) {
    ScaleRow(from + r * s.n * 4, s.scale[r], s.zero_point[r], s.weight_scale, s.weight_sum, s.bias,
             s.n, to + r * s.n * 4);
  }
}

}  // namespace halftone
