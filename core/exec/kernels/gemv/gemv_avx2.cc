// AVX2: 8 codes at a time, shifted and masked; sums of a group join the total with its scale.
#include <immintrin.h>

#include <algorithm>

#include "core/exec/kernels/gemv/gemv_isa.h"

#define HT_AVX2 __attribute__((target("avx2,fma")))
#define HT_AVX2_INLINE HT_AVX2 __attribute__((always_inline)) inline

namespace halftone {
namespace {

constexpr int64_t kField = 16;

// Half a field (8 columns) as floats. `half` is 0 or 1.
template <int kBits>
HT_AVX2_INLINE __m256 LoadHalf(const uint8_t* row, int64_t field, int half) {
  if constexpr (kBits == 8) {
    const auto* q = reinterpret_cast<const __m128i*>(row + InRow(field * kField) + half * 8);
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(q)));
  } else if constexpr (kBits == 16) {
    const auto* q = reinterpret_cast<const __m128i*>(row + InRow(field * kField * 2) + half * 16);
    return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128(q)));
  } else if constexpr (kBits == 4) {
    const auto* pairs = reinterpret_cast<const __m128i*>(row + InRow(field / 8 * 64) +
                                                         field % 4 * kField + half * 8);
    const __m128i shift = _mm_cvtsi32_si128(field % 8 < 4 ? 0 : 4);
    const __m256i q = _mm256_srl_epi32(_mm256_cvtepu8_epi32(_mm_loadl_epi64(pairs)), shift);
    return _mm256_cvtepi32_ps(_mm256_and_si256(q, _mm256_set1_epi32(15)));
  } else {
    constexpr int kFields = 32 / kBits;
    const auto* words =
        reinterpret_cast<const __m256i*>(row + InRow(field / kFields * 64) + half * 32);
    const __m128i shift = _mm_cvtsi32_si128(static_cast<int>(field % kFields) * kBits);
    const __m256i q = _mm256_srl_epi32(_mm256_loadu_si256(words), shift);
    return _mm256_cvtepi32_ps(_mm256_and_si256(q, _mm256_set1_epi32((1 << kBits) - 1)));
  }
}

HT_AVX2_INLINE float Sum(__m256 v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

template <int kBits, int kM>
HT_AVX2 void Row(const GemvTask& task, int64_t r) {
  const PackedRows& w = task.w;
  const uint8_t* row = w.row(r);
  const int64_t fields = (w.cols() + kField - 1) / kField;
  const int64_t per_group = w.groups() == 1 ? fields : w.group() / kField;
  __m256 sums[kM][2];
  for (auto& s : sums) s[0] = s[1] = _mm256_setzero_ps();
  for (int64_t g = 0, f = 0; f < fields; ++g) {
    const GemvParams p = ParamsOf(w, r, g);
    const __m256 zero = _mm256_set1_ps(p.zero), scale = _mm256_set1_ps(p.scale);
    __m256 part[kM][2];
    for (auto& s : part) s[0] = s[1] = _mm256_setzero_ps();
    for (const int64_t end = std::min(fields, f + per_group); f < end; ++f) {
      for (int half = 0; half < 2; ++half) {
        const __m256 q = _mm256_sub_ps(LoadHalf<kBits>(row, f, half), zero);
        for (int i = 0; i < kM; ++i) {
          const float* x = task.x + i * task.stride + f * kField + half * 8;
          part[i][half] = _mm256_fmadd_ps(q, _mm256_loadu_ps(x), part[i][half]);
        }
      }
    }
    for (int i = 0; i < kM; ++i) {
      for (int half = 0; half < 2; ++half) {
        sums[i][half] = _mm256_fmadd_ps(part[i][half], scale, sums[i][half]);
      }
    }
  }
  for (int i = 0; i < kM; ++i) {
    const float sum = Sum(_mm256_add_ps(sums[i][0], sums[i][1]));
    task.y[i * w.rows() + r] = sum + (task.bias == nullptr ? 0.0f : task.bias[r]);
  }
}

template <int kBits>
void Rows(const GemvTask& task, int64_t first, int64_t last) {
  for (int64_t r = first; r < last; ++r) {
    switch (task.m) {
      case 1:
        Row<kBits, 1>(task, r);
        break;
      case 2:
        Row<kBits, 2>(task, r);
        break;
      case 3:
        Row<kBits, 3>(task, r);
        break;
      default:
        Row<kBits, 4>(task, r);
    }
  }
}

}  // namespace

void GemvAvx2(const GemvTask& task, int64_t first, int64_t last) {
  switch (task.w.bits()) {
    case 1:
      return Rows<1>(task, first, last);
    case 2:
      return Rows<2>(task, first, last);
    case 4:
      return Rows<4>(task, first, last);
    case 8:
      return Rows<8>(task, first, last);
    default:
      return Rows<16>(task, first, last);
  }
}

}  // namespace halftone
