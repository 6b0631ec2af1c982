// What kernels for AVX-512 share: sigmoid(y) and y * sigmoid(y) of 16 floats, bf16 in and out.
#ifndef HALFTONE_CORE_EXEC_KERNELS_AVX512_MATH_H_
#define HALFTONE_CORE_EXEC_KERNELS_AVX512_MATH_H_

#include <immintrin.h>

#define HT_AVX512_TARGET "avx512f,avx512bw,avx512vl,avx512dq,fma"
#define HT_AVX512 __attribute__((target(HT_AVX512_TARGET)))
#define HT_AVX512_BF16 __attribute__((target(HT_AVX512_TARGET ",avx512bf16")))
#define HT_AVX512_INLINE HT_AVX512 __attribute__((always_inline)) inline
#define HT_AVX512_BF16_INLINE HT_AVX512_BF16 __attribute__((always_inline)) inline

namespace halftone {

// What the result is rounded to.
enum class SwishPrecision {
  kF32,   // relative error below 5e-7 for y >= -16, 2e-6 for y >= -80
  kBF16,  // below 2^-12
};

// 1 / (1 + exp(-y)). exp(-y) = 2^n * 2^rest, where 2^rest is a polynomial on [-0.5, 0.5]: minimax
// fits of degree 5 (relative error 7.5e-8) and 3 (7.5e-5). Beyond 80, y
// counts as 80.
template <SwishPrecision kPrecision>
HT_AVX512_INLINE __m512 Sigmoid16(__m512 y) {
  constexpr float kLog2E = 1.44269504f;
  const __m512 one = _mm512_set1_ps(1.0f);
  // Of a NaN: the NaN.
  const __m512 x = _mm512_min_ps(_mm512_set1_ps(80.0f), _mm512_max_ps(_mm512_set1_ps(-80.0f), y));
  const __m512 t = _mm512_mul_ps(x, _mm512_set1_ps(-kLog2E));
  const __m512 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  if constexpr (kPrecision == SwishPrecision::kBF16) {
    const __m512 rest = _mm512_sub_ps(t, n);
    __m512 p = _mm512_set1_ps(0.0551716685f);
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(0.242611125f));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(0.693260968f));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(0.999928057f));
    return _mm512_rcp14_ps(_mm512_add_ps(_mm512_scalef_ps(p, n), one));
  }
  // Not t - n: t is rounded.
  const __m512 rest = _mm512_fmsub_ps(x, _mm512_set1_ps(-kLog2E), n);
  __m512 p = _mm512_set1_ps(0.00132764725f);
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(0.00967554096f));
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(0.0555071309f));
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(0.240221202f));
  p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(0.693146944f));
  p = _mm512_fmadd_ps(p, rest, one);
  const __m512 d = _mm512_add_ps(_mm512_scalef_ps(p, n), one);
  // One step of Newton's method doubles the 14 bits.
  const __m512 r = _mm512_rcp14_ps(d);
  return _mm512_fmadd_ps(r, _mm512_fnmadd_ps(d, r, one), r);
}

// 16 bf16 values; rounding makes zeros of what is below 2^-126.
HT_AVX512_INLINE __m512 LoadBF16(const void* p) {
  const __m256i bits = _mm256_loadu_si256(static_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
HT_AVX512_BF16_INLINE void StoreBF16(void* p, __m512 y) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(y)));
}

template <SwishPrecision kPrecision>
HT_AVX512_INLINE __m512 Swish16(__m512 y) {
  return _mm512_mul_ps(y, Sigmoid16<kPrecision>(y));
}

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_AVX512_MATH_H_
