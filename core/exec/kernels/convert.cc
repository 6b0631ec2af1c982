#include "core/exec/kernels/convert.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/tensor/float16.h"

namespace halftone {
namespace {

constexpr int64_t kChunk = 1 << 13;  // elements per task; a multiple of every vector width

const bool kHasAvx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c") &&
                      __builtin_cpu_supports("fma");

// Calls f(begin, count) over [0, n) in chunks.
template <typename F>
void ForChunks(int64_t n, F f) {
  if (n < kParallelConversion) {
    f(0, n);
    return;
  }
#pragma omp parallel for schedule(static)
  for (int64_t begin = 0; begin < n; begin += kChunk) f(begin, std::min(kChunk, n - begin));
}

__attribute__((target("avx2,f16c,fma"))) void WidenF16Avx2(const uint16_t* src, float* dst,
                                                           int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + i));
    _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(h));
  }
  for (; i < n; ++i) dst[i] = Float16::ToFloat(src[i]);
}

__attribute__((target("avx2,f16c,fma"))) void NarrowF16Avx2(const float* src, uint16_t* dst,
                                                            int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT));
  }
  for (; i < n; ++i) dst[i] = Float16::FromFloat(src[i]);
}

void WidenF16(const uint16_t* src, float* dst, int64_t n) {
  if (kHasAvx2) return WidenF16Avx2(src, dst, n);
  for (int64_t i = 0; i < n; ++i) dst[i] = Float16::ToFloat(src[i]);
}

#define HT_VECTORIZED __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))

HT_VECTORIZED void WidenBF16(const uint16_t* src, float* dst, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dst[i] = BFloat16::ToFloat(src[i]);
}

HT_VECTORIZED void NarrowBF16(const float* src, uint16_t* dst, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dst[i] = BFloat16::FromFloat(src[i]);
}

template <typename Q>
__attribute__((target("avx2,f16c,fma"))) void QuantizeAvx2(const float* src, float scale,
                                                           int32_t zero_point, Q* dst, int64_t n) {
  constexpr float kLow = std::numeric_limits<Q>::min();
  constexpr float kHigh = std::numeric_limits<Q>::max();
  // Clamping in float before the addition of zero_point keeps every conversion in range.
  const __m256 low = _mm256_set1_ps(kLow - static_cast<float>(zero_point));
  const __m256 high = _mm256_set1_ps(kHigh - static_cast<float>(zero_point));
  const __m256 s = _mm256_set1_ps(scale);
  const __m256i zp = _mm256_set1_epi32(zero_point);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 x = _mm256_loadu_ps(src + i);
    const __m256 ordered = _mm256_cmp_ps(x, x, _CMP_ORD_Q);
    __m256 y = _mm256_and_ps(_mm256_div_ps(x, s), ordered);  // NaN → 0 → zero_point
    y = _mm256_min_ps(_mm256_max_ps(y, low), high);
    const __m256i q = _mm256_add_epi32(_mm256_cvtps_epi32(y), zp);
    const __m128i lo = _mm256_castsi256_si128(q), hi = _mm256_extracti128_si256(q, 1);
    const __m128i words = _mm_packs_epi32(lo, hi);
    const __m128i bytes =
        std::is_signed_v<Q> ? _mm_packs_epi16(words, words) : _mm_packus_epi16(words, words);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(dst + i), bytes);
  }
  for (; i < n; ++i) {
    float y = src[i] / scale;
    y = std::isnan(y) ? 0.0f : std::min(std::max(y, kLow - zero_point), kHigh - zero_point);
    dst[i] = static_cast<Q>(static_cast<int32_t>(std::nearbyint(y)) + zero_point);
  }
}

template <typename Q>
void QuantizePortable(const float* src, float scale, int32_t zero_point, Q* dst, int64_t n) {
  const float low = std::numeric_limits<Q>::min() - static_cast<float>(zero_point);
  const float high = std::numeric_limits<Q>::max() - static_cast<float>(zero_point);
  for (int64_t i = 0; i < n; ++i) {
    const float y = src[i] / scale;
    const float clamped = std::isnan(y) ? 0.0f : std::min(std::max(y, low), high);
    dst[i] = static_cast<Q>(static_cast<int32_t>(std::nearbyint(clamped)) + zero_point);
  }
}

template <typename Q>
void QuantizeTo(const float* src, float scale, int32_t zero_point, Q* dst, int64_t n) {
  ForChunks(n, [&](int64_t begin, int64_t count) {
    if (kHasAvx2) {
      QuantizeAvx2<Q>(src + begin, scale, zero_point, dst + begin, count);
    } else {
      QuantizePortable<Q>(src + begin, scale, zero_point, dst + begin, count);
    }
  });
}

template <typename Q>
__attribute__((target_clones("default", "avx2"))) void DequantizeChunk(const Q* src, float scale,
                                                                       int32_t zero_point,
                                                                       float* dst, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    dst[i] = scale * static_cast<float>(static_cast<int32_t>(src[i]) - zero_point);
  }
}

__attribute__((target("avx2,f16c,fma"))) RangeF32 FindRangeAvx2(const float* src, int64_t n) {
  __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 x = _mm256_loadu_ps(src + i);
    low = _mm256_min_ps(x, low);  // a NaN in the first operand yields the second
    high = _mm256_max_ps(x, high);
  }
  alignas(32) float lows[8], highs[8];
  _mm256_store_ps(lows, low);
  _mm256_store_ps(highs, high);
  RangeF32 r;
  for (int k = 0; k < 8; ++k) {
    r.min = std::min(r.min, lows[k]);
    r.max = std::max(r.max, highs[k]);
  }
  for (; i < n; ++i) {
    if (src[i] < r.min) r.min = src[i];
    if (src[i] > r.max) r.max = src[i];
  }
  return r;
}

RangeF32 FindRangeChunk(const float* src, int64_t n) {
  if (kHasAvx2) return FindRangeAvx2(src, n);
  RangeF32 r;
  for (int64_t i = 0; i < n; ++i) {
    if (src[i] < r.min) r.min = src[i];
    if (src[i] > r.max) r.max = src[i];
  }
  return r;
}

}  // namespace

bool WidenToF32(DataType from, const void* src, float* dst, int64_t n) {
  switch (from) {
    case DataType::kF16:
      ForChunks(n, [&](int64_t b, int64_t c) {
        WidenF16(static_cast<const uint16_t*>(src) + b, dst + b, c);
      });
      return true;
    case DataType::kBF16:
      ForChunks(n, [&](int64_t b, int64_t c) {
        WidenBF16(static_cast<const uint16_t*>(src) + b, dst + b, c);
      });
      return true;
    case DataType::kI8:
    case DataType::kU8:
      DequantizeToF32(from, src, 1.0f, 0, dst, n);
      return true;
    default:
      return false;
  }
}

bool NarrowFromF32(DataType to, const float* src, void* dst, int64_t n) {
  auto* out = static_cast<uint16_t*>(dst);
  if (to == DataType::kF16) {
    ForChunks(n, [&](int64_t b, int64_t c) {
      if (kHasAvx2) return NarrowF16Avx2(src + b, out + b, c);
      for (int64_t i = b; i < b + c; ++i) out[i] = Float16::FromFloat(src[i]);
    });
    return true;
  }
  if (to == DataType::kBF16) {
    ForChunks(n, [&](int64_t b, int64_t c) { NarrowBF16(src + b, out + b, c); });
    return true;
  }
  return false;
}

void QuantizeF32(const float* src, float scale, int32_t zero_point, DataType to, void* dst,
                 int64_t n) {
  if (to == DataType::kU8) {
    QuantizeTo(src, scale, zero_point, static_cast<uint8_t*>(dst), n);
  } else {
    QuantizeTo(src, scale, zero_point, static_cast<int8_t*>(dst), n);
  }
}

void DequantizeToF32(DataType from, const void* src, float scale, int32_t zero_point, float* dst,
                     int64_t n) {
  ForChunks(n, [&](int64_t b, int64_t c) {
    if (from == DataType::kU8) {
      DequantizeChunk(static_cast<const uint8_t*>(src) + b, scale, zero_point, dst + b, c);
    } else {
      DequantizeChunk(static_cast<const int8_t*>(src) + b, scale, zero_point, dst + b, c);
    }
  });
}

RangeF32 FindRange(const float* src, int64_t n) {
  // Even a region of one thread costs more than a short row.
  if (n < kParallelConversion) return FindRangeChunk(src, n);
  float low = 0, high = 0;
  const int64_t chunks = (n + kChunk - 1) / kChunk;
#pragma omp parallel for reduction(min : low) reduction(max : high)
  for (int64_t k = 0; k < chunks; ++k) {
    const RangeF32 r = FindRangeChunk(src + k * kChunk, std::min(kChunk, n - k * kChunk));
    low = std::min(low, r.min);
    high = std::max(high, r.max);
  }
  return {low, high};
}

DynamicParams ChooseDynamicParams(RangeF32 range) {
  DynamicParams p;
  p.scale = (range.max - range.min) / 255.0f;
  // An all-zero tensor has no range; scale 1 keeps q = 0 exact. An infinite one cannot be helped:
  // the largest finite scale keeps the arithmetic defined.
  if (!(p.scale >= std::numeric_limits<float>::min())) p.scale = 1.0f;
  if (!std::isfinite(p.scale)) p.scale = std::numeric_limits<float>::max() / 256.0f;
  const float zp = std::nearbyint(std::min(std::max(-range.min / p.scale, 0.0f), 255.0f));
  p.zero_point = static_cast<uint8_t>(zp);
  return p;
}

}  // namespace halftone
