#include "core/exec/kernels/resample.h"

#include <algorithm>

namespace halftone {
namespace {

constexpr int64_t kParallelElements = 1 << 15;

#define HT_VECTORIZED __attribute__((target_clones("default", "avx2", "avx512f")))

HT_VECTORIZED void Scale(const float* x, float w, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = w * x[i];
}
HT_VECTORIZED void Blend(const float* a, float wa, const float* b, float wb, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = wa * a[i] + wb * b[i];
}
HT_VECTORIZED void Accumulate(const float* x, float w, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += w * x[i];
}

// One element per position: the sums themselves are the loop.
void ResampleRow(const AxisTaps& taps, const float* src, float* dst) {
  for (size_t i = 0; i < taps.positions.size(); ++i) {
    float sum = 0;
    for (const AxisTaps::Tap& t : taps.positions[i]) sum += t.weight * src[t.at];
    dst[i] = sum;
  }
}

}  // namespace

void ResampleAxis(const AxisTaps& taps, int64_t outer, int64_t inner, const float* src,
                  float* dst) {
  const int64_t out = static_cast<int64_t>(taps.positions.size());
  const bool parallel = outer * out * inner >= kParallelElements;
  if (inner == 1) {
#pragma omp parallel for if (parallel) schedule(static)
    for (int64_t o = 0; o < outer; ++o) ResampleRow(taps, src + o * taps.in, dst + o * out);
    return;
  }
#pragma omp parallel for if (parallel) schedule(static)
  for (int64_t task = 0; task < outer * out; ++task) {
    const auto& list = taps.positions[task % out];
    const float* from = src + task / out * taps.in * inner;
    float* to = dst + task * inner;
    if (list.size() == 2) {
      Blend(from + list[0].at * inner, list[0].weight, from + list[1].at * inner, list[1].weight,
            to, inner);
      continue;
    }
    if (list.empty()) std::fill_n(to, inner, 0.0f);
    for (size_t t = 0; t < list.size(); ++t) {
      (t == 0 ? Scale : Accumulate)(from + list[t].at * inner, list[t].weight, to, inner);
    }
  }
}

}  // namespace halftone
