#include "core/exec/kernels/panels.h"

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "core/base/checked_math.h"
#include "core/exec/cpu_features.h"
#include "core/tensor/float16.h"

namespace halftone {
namespace {

constexpr int64_t kParallelProducts = 1 << 18;  // multiply-adds that are worth a team
constexpr int64_t kMaxRows = 6;                 // that one pass over a panel takes

// One panel: out[0..m)[0..64) += x[0..m)[0..k) · w[0..k)[0..64), for m <= kMaxRows.
using PanelFn = void (*)(const float* x, int64_t x_stride, int64_t m, int64_t k, const void* panel,
                         float* out, int64_t out_stride);

// How an element of each type lies in a panel, and becomes f32: one, 8, 16.
struct F32Element {
  using Stored = float;
  static float Load(const float* w) { return *w; }
  __attribute__((target("avx2,fma,f16c"))) static __m256 Load8(const float* w) {
    return _mm256_loadu_ps(w);
  }
  __attribute__((target("avx512f"))) static __m512 Load16(const float* w) {
    return _mm512_loadu_ps(w);
  }
};
struct F16Element {
  using Stored = uint16_t;
  static float Load(const uint16_t* w) { return Float16::ToFloat(*w); }
  __attribute__((target("avx2,fma,f16c"))) static __m256 Load8(const uint16_t* w) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
  }
  __attribute__((target("avx512f"))) static __m512 Load16(const uint16_t* w) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)));
  }
};
struct BF16Element {
  using Stored = uint16_t;
  static float Load(const uint16_t* w) { return BFloat16::ToFloat(*w); }
  __attribute__((target("avx2,fma,f16c"))) static __m256 Load8(const uint16_t* w) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(w));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  __attribute__((target("avx512f"))) static __m512 Load16(const uint16_t* w) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
};

template <typename Element>
void PanelPortable(const float* x, int64_t x_stride, int64_t m, int64_t k, const void* panel,
                   float* out, int64_t out_stride) {
  const auto* w = static_cast<const typename Element::Stored*>(panel);
  for (int64_t row = 0; row < m; ++row) {
    float acc[kPanelColumns];
    std::copy_n(out + row * out_stride, kPanelColumns, acc);
    for (int64_t i = 0; i < k; ++i) {
      const float v = x[row * x_stride + i];
      for (int64_t c = 0; c < kPanelColumns; ++c) {
        acc[c] += v * Element::Load(w + i * kPanelColumns + c);
      }
    }
    std::copy_n(acc, kPanelColumns, out + row * out_stride);
  }
}

template <typename Element>
__attribute__((target("avx2,fma,f16c"))) void PanelAvx2(const float* x, int64_t x_stride, int64_t m,
                                                        int64_t k, const void* panel, float* out,
                                                        int64_t out_stride) {
  const auto* w = static_cast<const typename Element::Stored*>(panel);
  constexpr int kVectors = kPanelColumns / 8;
  for (int64_t row = 0; row < m; ++row) {
    __m256 acc[kVectors];
    for (int v = 0; v < kVectors; ++v) acc[v] = _mm256_loadu_ps(out + row * out_stride + 8 * v);
    for (int64_t i = 0; i < k; ++i) {
      const __m256 s = _mm256_set1_ps(x[row * x_stride + i]);
      for (int v = 0; v < kVectors; ++v) {
        acc[v] = _mm256_fmadd_ps(s, Element::Load8(w + i * kPanelColumns + 8 * v), acc[v]);
      }
    }
    for (int v = 0; v < kVectors; ++v) _mm256_storeu_ps(out + row * out_stride + 8 * v, acc[v]);
  }
}

template <typename Element, int kRows>
__attribute__((target("avx512f"))) void PanelRows512(const float* x, int64_t x_stride, int64_t k,
                                                     const typename Element::Stored* w, float* out,
                                                     int64_t out_stride) {
  constexpr int kVectors = kPanelColumns / 16;
  __m512 acc[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) acc[r][v] = _mm512_loadu_ps(out + r * out_stride + 16 * v);
  }
  for (int64_t i = 0; i < k; ++i) {
    __m512 column[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      column[v] = Element::Load16(w + i * kPanelColumns + 16 * v);
    }
    for (int r = 0; r < kRows; ++r) {
      const __m512 s = _mm512_set1_ps(x[r * x_stride + i]);
      for (int v = 0; v < kVectors; ++v) acc[r][v] = _mm512_fmadd_ps(s, column[v], acc[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(out + r * out_stride + 16 * v, acc[r][v]);
  }
}

template <typename Element>
void PanelAvx512(const float* x, int64_t x_stride, int64_t m, int64_t k, const void* panel,
                 float* out, int64_t out_stride) {
  static constexpr auto kRows = []<int... kMinus1>(std::integer_sequence<int, kMinus1...>) {
    return std::array{PanelRows512<Element, kMinus1 + 1>...};
  }(std::make_integer_sequence<int, kMaxRows>());
  kRows[m - 1](x, x_stride, k, static_cast<const typename Element::Stored*>(panel), out,
               out_stride);
}

// The three round differently, so ONEDNN_MAX_CPU_ISA holds here, too.
template <typename Element>
PanelFn ChoosePanel() {
  const CpuFeatures features = DetectCpuFeatures();
  if (features.avx512) return PanelAvx512<Element>;
  if (features.avx2 && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
    return PanelAvx2<Element>;
  }
  return PanelPortable<Element>;
}

PanelFn PanelFor(DataType type) {
  static const PanelFn kF32 = ChoosePanel<F32Element>(), kF16 = ChoosePanel<F16Element>(),
                       kBF16 = ChoosePanel<BF16Element>();
  return type == DataType::kF16 ? kF16 : type == DataType::kBF16 ? kBF16 : kF32;
}

}  // namespace

int64_t PaddedColumns(int64_t n) { return AlignUp(n, kPanelColumns); }

namespace {

// Calls run(panel, its first column, first row, rows) for all panels and passes over the rows.
template <typename F>
void ForPasses(int64_t m, int64_t k, const Panels& panels, int64_t n, F run) {
  const int64_t columns = PaddedColumns(n), count = columns / kPanelColumns;
  const int64_t panel_bytes = kPanelColumns * k * BitWidth(panels.type) / 8;
  const int64_t passes = (m + kMaxRows - 1) / kMaxRows;
#pragma omp parallel for if (m * k * columns >= kParallelProducts) schedule(static)
  for (int64_t p = 0; p < count; ++p) {
    for (int64_t pass = 0; pass < passes; ++pass) {
      const int64_t row = m * pass / passes, end = m * (pass + 1) / passes;
      run(static_cast<const std::byte*>(panels.data) + p * panel_bytes, p * kPanelColumns, row,
          end - row);
    }
  }
}

}  // namespace

void MultiplyPanels(const float* x, int64_t x_stride, int64_t m, int64_t k, const Panels& panels,
                    int64_t n, float* out) {
  const PanelFn multiply = PanelFor(panels.type);
  const int64_t columns = PaddedColumns(n);
  ForPasses(m, k, panels, n, [&](const void* panel, int64_t column, int64_t row, int64_t rows) {
    multiply(x + row * x_stride, x_stride, rows, k, panel, out + row * columns + column, columns);
  });
}

void MultiplyPanels(const float* x, int64_t m, int64_t k, const Panels& panels, int64_t n,
                    const float* bias, bool relu, float* y) {
  const PanelFn multiply = PanelFor(panels.type);
  ForPasses(m, k, panels, n, [&](const void* panel, int64_t column, int64_t row, int64_t rows) {
    const int64_t used = std::min(kPanelColumns, n - column);
    float sums[kMaxRows * kPanelColumns] = {};
    for (int64_t r = 0; bias != nullptr && r < rows; ++r) {
      std::copy_n(bias + column, used, sums + r * kPanelColumns);
    }
    multiply(x + row * k, k, rows, k, panel, sums, kPanelColumns);
    for (int64_t r = 0; r < rows; ++r) {
      const float* from = sums + r * kPanelColumns;
      float* to = y + (row + r) * n + column;
      for (int64_t c = 0; c < used; ++c) to[c] = relu && from[c] < 0.0f ? 0.0f : from[c];
    }
  });
}

}  // namespace halftone
