#include "core/exec/kernels/normalize.h"

#include <algorithm>
#include <cmath>

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

}  // namespace halftone
