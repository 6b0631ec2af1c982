#include "core/exec/kernels/normalize.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace halftone {
namespace {

constexpr int64_t kParallelElements = 1 << 15;
constexpr int kLanes = 16;

#define HT_VECTORIZED __attribute__((target_clones("default", "avx2", "avx512f")))

HT_VECTORIZED double SumOf(const float* x, int64_t n) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) lanes[l] += x[i + l];
  }
  double sum = 0;
  for (; i < n; ++i) sum += x[i];
  for (const double lane : lanes) sum += lane;
  return sum;
}

HT_VECTORIZED double SquaredDeviations(const float* x, int64_t n, double mean) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) lanes[l] += (x[i + l] - mean) * (x[i + l] - mean);
  }
  double sum = 0;
  for (; i < n; ++i) sum += (x[i] - mean) * (x[i] - mean);
  for (const double lane : lanes) sum += lane;
  return sum;
}

HT_VECTORIZED void Affine(const float* x, float mean, float factor, float shift, float* y,
                          int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * factor + shift;
}

HT_VECTORIZED void AffineEach(const float* x, float mean, float inverse, const float* scale,
                              const float* shift, float* y, int64_t n) {
  if (shift == nullptr) {
    for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * inverse * scale[i];
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * inverse * scale[i] + shift[i];
  }
}

// Sums of short blocks in float, which is what makes them fast; of the blocks in double.
constexpr int64_t kBlock = 1024;
constexpr int kFloatLanes = 32;

// Half of the lanes onto the other half, until one is left.
__attribute__((always_inline)) inline float Fold(float (&lanes)[kFloatLanes]) {
  for (int width = kFloatLanes / 2; width > 0; width /= 2) {
    for (int l = 0; l < width; ++l) lanes[l] += lanes[l + width];
  }
  return lanes[0];
}

// Of term(x).
template <typename Term>
__attribute__((always_inline)) inline double SumOfBlocks(const float* x, int64_t n, Term term) {
  double sum = 0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = std::min(n, begin + kBlock);
    float lanes[kFloatLanes] = {};
    int64_t i = begin;
    for (; i + kFloatLanes <= end; i += kFloatLanes) {
      for (int l = 0; l < kFloatLanes; ++l) lanes[l] += term(x[i + l]);
    }
    for (; i < end; ++i) lanes[0] += term(x[i]);
    sum += Fold(lanes);
  }
  return sum;
}

HT_VECTORIZED double FastSum(const float* x, int64_t n) {
  return SumOfBlocks(x, n, [](float v) __attribute__((always_inline)) { return v; });
}

HT_VECTORIZED double FastSquaredDeviations(const float* x, int64_t n, float mean) {
  return SumOfBlocks(
      x, n, [mean](float v) __attribute__((always_inline)) { return (v - mean) * (v - mean); });
}

template <typename Q>
HT_VECTORIZED void QuantizeBlock(const float* __restrict y, float inverse_scale, int32_t zero_point,
                                 Q* __restrict q, int64_t n) {
  const float low = std::numeric_limits<Q>::min() - static_cast<float>(zero_point);
  const float high = std::numeric_limits<Q>::max() - static_cast<float>(zero_point);
  for (int64_t i = 0; i < n; ++i) {
    float steps = y[i] * inverse_scale;
    steps = steps == steps ? steps : 0.0f;
    // Adding and subtracting 1.5·2^23 rounds to nearest even.
    steps = (std::min(std::max(steps, low), high) + 12582912.0f) - 12582912.0f;
    q[i] = static_cast<Q>(static_cast<int32_t>(steps) + zero_point);
  }
}

template <typename Q>
void NormalizeRowsTo(const RowNormalization& n, const float* x, const float* scale,
                     const float* shift, float* y, const QuantizedView& to, Q* q) {
  const int64_t row = n.channels;
  const float inverse_scale = 1.0f / to.scale;
#pragma omp parallel for if (n.rows * row >= kParallelElements) schedule(static)
  for (int64_t r = 0; r < n.rows; ++r) {
    const float* from = x + r * row;
    const float mean = static_cast<float>(FastSum(from, row) / static_cast<double>(row));
    const double variance = FastSquaredDeviations(from, row, mean) / static_cast<double>(row);
    const float inverse = static_cast<float>(1.0 / std::sqrt(variance + n.epsilon));
    for (int64_t begin = 0; begin < row; begin += kBlock) {
      const int64_t count = std::min(kBlock, row - begin);
      float unseen[kBlock];
      float* block = y == nullptr ? unseen : y + r * row + begin;
      AffineEach(from + begin, mean, inverse, scale + begin,
                 shift == nullptr ? nullptr : shift + begin, block, count);
      QuantizeBlock(block, inverse_scale, to.zero_point, q + r * row + begin, count);
    }
  }
}

}  // namespace

void NormalizeRows(const RowNormalization& n, const float* x, const float* scale,
                   const float* shift, float* y) {
  const int64_t row = n.channels * n.inner;
#pragma omp parallel for if (n.rows * row >= kParallelElements) schedule(static)
  for (int64_t r = 0; r < n.rows; ++r) {
    const float* from = x + r * row;
    float* to = y + r * row;
    const double mean = SumOf(from, row) / static_cast<double>(row);
    const double variance = SquaredDeviations(from, row, mean) / static_cast<double>(row);
    const float m = static_cast<float>(mean);
    const float inverse = static_cast<float>(1.0 / std::sqrt(variance + n.epsilon));
    const int64_t first = r % n.row_groups * n.scales_per_row;
    const float* own_scale = scale + first;
    const float* own_shift = shift == nullptr ? nullptr : shift + first;
    if (n.inner == 1 && n.scales_per_row == n.channels) {
      AffineEach(from, m, inverse, own_scale, own_shift, to, n.channels);
      continue;
    }
    for (int64_t c = 0; c < n.channels; ++c) {
      const int64_t at = n.scales_per_row == 1 ? 0 : c;
      Affine(from + c * n.inner, m, inverse * own_scale[at],
             own_shift == nullptr ? 0.0f : own_shift[at], to + c * n.inner, n.inner);
    }
  }
}

void NormalizeRowsQuantized(const RowNormalization& n, const float* x, const float* scale,
                            const float* shift, float* y, const QuantizedView& to, void* q) {
  if (to.type == DataType::kU8) {
    NormalizeRowsTo(n, x, scale, shift, y, to, static_cast<uint8_t*>(q));
  } else {
    NormalizeRowsTo(n, x, scale, shift, y, to, static_cast<int8_t*>(q));
  }
}

}  // namespace halftone
