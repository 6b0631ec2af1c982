#include "core/exec/kernels/elementwise.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "core/exec/kernels/avx512_math.h"
#include "core/tensor/float16.h"

namespace halftone {
namespace {

constexpr int64_t kParallelElements = 1 << 15;

const bool kHasAvx2 = __builtin_cpu_supports("avx2");
const bool kHasBF16 = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512bf16");
const bool kHasVbmi = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi");

#define HT_VECTORIZED __attribute__((target_clones("default", "avx2", "avx512f")))
#define HT_WIDE __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))

template <typename A, typename B, typename Q>
HT_VECTORIZED void AddChunk(const A* a, float sa, int32_t za, const B* b, float sb, int32_t zb,
                            float low, float inverse_scale, int32_t zero_point, Q* out, int64_t n) {
  constexpr float kLow = std::numeric_limits<Q>::min(), kHigh = std::numeric_limits<Q>::max();
  const float zp = static_cast<float>(zero_point);
  for (int64_t i = 0; i < n; ++i) {
    float x = sa * static_cast<float>(static_cast<int32_t>(a[i]) - za) +
              sb * static_cast<float>(static_cast<int32_t>(b[i]) - zb);
    x = std::max(x, low);
    // Adding and subtracting 1.5·2^23 rounds to nearest even; the sum was clamped well below it.
    float y = std::min(std::max(x * inverse_scale, kLow - zp), kHigh - zp);
    y = (y + 12582912.0f) - 12582912.0f;
    out[i] = static_cast<Q>(static_cast<int32_t>(y) + zero_point);
  }
}

// Where dequantized values, multiplied by what makes them steps of the output, are rounded.
template <typename Q>
struct Rounding {
  float low, high;
  int32_t zero_point;
  explicit Rounding(int32_t z)
      : low(std::numeric_limits<Q>::min() - static_cast<float>(z)),
        high(std::numeric_limits<Q>::max() - static_cast<float>(z)),
        zero_point(z) {}
  Q operator()(float steps) const {
    const float y = (std::min(std::max(steps, low), high) + 12582912.0f) - 12582912.0f;
    return static_cast<Q>(static_cast<int32_t>(y) + zero_point);
  }
};

// Eight values of A, as integers.
template <typename A>
__attribute__((target("avx2"))) inline __m256i Widen8(__m128i bytes) {
  return std::is_signed_v<A> ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes);
}

// Eight rounded steps; what is too low for 32 bits becomes their lowest, and saturates below.
__attribute__((target("avx2"))) inline __m256i Steps8(__m256i q, __m256i zx, const float* factors) {
  const __m256 y =
      _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(q, zx)), _mm256_loadu_ps(factors));
  return _mm256_cvtps_epi32(_mm256_min_ps(y, _mm256_set1_ps(32767.0f)));
}

// The same as below for multiples of 8: saturating packs do what Rounding does. Returns how many.
template <typename A, typename Q>
__attribute__((target("avx2"))) int64_t ScaleRowAvx2(const A* x, int32_t zx, const float* factors,
                                                     int32_t zero_point, Q* out, int64_t n) {
  const __m256i zeros = _mm256_set1_epi32(zx);
  const __m128i zp = _mm_set1_epi16(static_cast<int16_t>(zero_point));
  const auto words = [&](__m256i steps) __attribute__((target("avx2"))) {
    return _mm_adds_epi16(
        _mm_packs_epi32(_mm256_castsi256_si128(steps), _mm256_extracti128_si256(steps, 1)), zp);
  };
  const auto bytes = [](__m128i low, __m128i high) __attribute__((target("avx2"))) {
    return std::is_signed_v<Q> ? _mm_packs_epi16(low, high) : _mm_packus_epi16(low, high);
  };
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m128i q = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i));
    const __m128i low = words(Steps8(Widen8<A>(q), zeros, factors + i));
    const __m128i high = words(Steps8(Widen8<A>(_mm_srli_si128(q, 8)), zeros, factors + i + 8));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), bytes(low, high));
  }
  for (; i + 8 <= n; i += 8) {
    const __m128i q = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(x + i));
    const __m128i low = words(Steps8(Widen8<A>(q), zeros, factors + i));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + i), bytes(low, low));
  }
  return i;
}

// Rows of `n` elements, each by its own factor.
template <typename A, typename Q>
void ScaleChannelsLast(const A* x, int32_t zx, const float* factors, Rounding<Q> round, Q* out,
                       int64_t rows, int64_t n) {
  for (int64_t r = 0; r < rows; ++r, x += n, out += n) {
    int64_t i = kHasAvx2 ? ScaleRowAvx2(x, zx, factors, round.zero_point, out, n) : 0;
    for (; i < n; ++i) {
      out[i] = round(static_cast<float>(static_cast<int32_t>(x[i]) - zx) * factors[i]);
    }
  }
}

// Rows of `n` elements, one factor for each row.
template <typename A, typename Q>
HT_VECTORIZED void ScalePlain(const A* __restrict x, int32_t zx, const float* __restrict factors,
                              Rounding<Q> round, Q* __restrict out, int64_t rows, int64_t n) {
  for (int64_t r = 0; r < rows; ++r, x += n, out += n) {
    for (int64_t i = 0; i < n; ++i) {
      out[i] = round(static_cast<float>(static_cast<int32_t>(x[i]) - zx) * factors[r]);
    }
  }
}

// `rows` rows of n elements. In channels-last order gain has one number for each element of a row,
// else one for each row.
template <typename T>
HT_WIDE void GainRows(const T* x, const float* gain, bool channels_last, T* out, int64_t rows,
                      int64_t n) {
  for (int64_t r = 0; r < rows; ++r, x += n, out += n) {
    if (channels_last) {
      for (int64_t i = 0; i < n; ++i) out[i] = T(static_cast<float>(x[i]) * gain[i]);
    } else {
      for (int64_t i = 0; i < n; ++i) out[i] = T(static_cast<float>(x[i]) * gain[r]);
    }
  }
}

// The same in channels-last order where one instruction rounds, half of the time; it makes zeros of
// what is below 2^-126.
HT_AVX512_BF16 void GainRowsNative(const BFloat16* x, const float* gain, BFloat16* out,
                                   int64_t rows, int64_t n) {
  for (int64_t r = 0; r < rows; ++r, x += n, out += n) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      StoreBF16(out + i, _mm512_mul_ps(LoadBF16(x + i), _mm512_loadu_ps(gain + i)));
    }
    for (; i < n; ++i) out[i] = BFloat16(static_cast<float>(x[i]) * gain[i]);
  }
}

// Some rows of one image: of channels, or of one channel.
struct ScaledRows {
  int64_t at = 0;  // the first element
  int64_t rows = 0, length = 0;
  int64_t gain = 0;  // the first factor
};
// Splits all rows over the calling thread's team.
template <typename F>
void ForScaledRows(const ScaledShape& s, F f) {
  const int64_t rows = s.channels_last ? s.positions : s.channels;
  const int64_t length = s.channels_last ? s.channels : s.positions;
  const int64_t piece = std::max<int64_t>((int64_t{1} << 13) / length, 1);
  const int64_t pieces = (rows + piece - 1) / piece;
#pragma omp parallel for if (s.batch * rows * length >= kParallelElements) schedule(static)
  for (int64_t i = 0; i < s.batch * pieces; ++i) {
    const int64_t n = i / pieces, first = i % pieces * piece;
    f(ScaledRows{.at = (n * rows + first) * length,
                 .rows = std::min(piece, rows - first),
                 .length = length,
                 .gain = (s.gain_per_batch ? n * s.channels : 0) + (s.channels_last ? 0 : first)});
  }
}

// x_scale · gain / out_scale, finite.
std::vector<float> ScaleFactors(float x_scale, const float* gain, int64_t n, float out_scale) {
  constexpr float kMax = std::numeric_limits<float>::max();
  std::vector<float> factors(n);
  for (int64_t i = 0; i < n; ++i) {
    const float f = x_scale * gain[i] / out_scale;
    factors[i] = std::isnan(f) ? 0.0f : std::min(std::max(f, -kMax), kMax);
  }
  return factors;
}

// The sums of `n` columns, kColumns at most, over rows that lie `stride` elements apart: in 16 bits
// for as many rows as these hold, and in registers where all columns are there.
constexpr int64_t kColumns = 64;
constexpr int64_t kNarrowRows = 128;
template <typename Q>
HT_VECTORIZED void SumColumns(const Q* src, int64_t rows, int64_t stride, int64_t n,
                              int32_t* sums) {
  using Narrow = std::conditional_t<std::is_signed_v<Q>, int16_t, uint16_t>;
  std::fill_n(sums, n, 0);
  for (int64_t first = 0; first < rows; first += kNarrowRows) {
    const int64_t last = std::min(first + kNarrowRows, rows);
    Narrow part[kColumns] = {};
    if (n == kColumns) {
      for (int64_t r = first; r < last; ++r) {
        for (int64_t c = 0; c < kColumns; ++c) part[c] += src[r * stride + c];
      }
    } else {
      for (int64_t r = first; r < last; ++r) {
        for (int64_t c = 0; c < n; ++c) part[c] += src[r * stride + c];
      }
    }
    for (int64_t c = 0; c < n; ++c) sums[c] += part[c];
  }
}

// A vector of 64 at a time: two lookups of 128 entries each, of which the highest bit chooses.
__attribute__((target("avx512f,avx512bw,avx512vbmi"))) int64_t LookUpVbmi(const uint8_t* table,
                                                                          const uint8_t* src,
                                                                          uint8_t* out, int64_t n) {
  const __m512i t0 = _mm512_loadu_si512(table), t1 = _mm512_loadu_si512(table + 64),
                t2 = _mm512_loadu_si512(table + 128), t3 = _mm512_loadu_si512(table + 192);
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    const __m512i x = _mm512_loadu_si512(src + i);
    const __m512i low = _mm512_permutex2var_epi8(t0, x, t1);
    const __m512i high = _mm512_permutex2var_epi8(t2, x, t3);
    _mm512_storeu_si512(out + i, _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high));
  }
  return i;
}

void LookUp(const uint8_t* table, const uint8_t* src, uint8_t* out, int64_t n) {
  int64_t i = kHasVbmi ? LookUpVbmi(table, src, out, n) : 0;
  for (; i < n; ++i) out[i] = table[src[i]];
}

// Calls f(u8 or i8 pointer) for the type of the view.
template <typename F>
void WithPointer(const QuantizedView& view, const void* p, F f) {
  if (view.type == DataType::kU8) {
    f(static_cast<const uint8_t*>(p));
  } else {
    f(static_cast<const int8_t*>(p));
  }
}

}  // namespace

void RunQuantizedAdd(const QuantizedView& a_view, const void* a, const QuantizedView& b_view,
                     const void* b, bool relu, const QuantizedView& out_view, void* out,
                     int64_t n) {
  const float low = relu ? 0.0f : std::numeric_limits<float>::lowest();
  const float inverse = 1.0f / out_view.scale;
  constexpr int64_t kPiece = 1 << 13;
#pragma omp parallel for if (n >= kParallelElements) schedule(static)
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t count = std::min(kPiece, n - begin);
    WithPointer(a_view, a, [&](auto* pa) {
      WithPointer(b_view, b, [&](auto* pb) {
        const auto run = [&](auto* po) {
          AddChunk(pa + begin, a_view.scale, a_view.zero_point, pb + begin, b_view.scale,
                   b_view.zero_point, low, inverse, out_view.zero_point, po + begin, count);
        };
        if (out_view.type == DataType::kU8) {
          run(static_cast<uint8_t*>(out));
        } else {
          run(static_cast<int8_t*>(out));
        }
      });
    });
  }
}

void RunQuantizedScale(const QuantizedView& x_view, const void* x, const float* gain,
                       const QuantizedView& out_view, void* out, const ScaledShape& s) {
  const std::vector<float> factors = ScaleFactors(
      x_view.scale, gain, (s.gain_per_batch ? s.batch : 1) * s.channels, out_view.scale);
  WithPointer(x_view, x, [&](auto* from) {
    const auto run = [&](auto* to) {
      using Q = std::remove_pointer_t<decltype(to)>;
      const Rounding<Q> round(out_view.zero_point);
      ForScaledRows(s, [&](const ScaledRows& r) {
        const float* row = factors.data() + r.gain;
        if (s.channels_last) {
          ScaleChannelsLast(from + r.at, x_view.zero_point, row, round, to + r.at, r.rows,
                            r.length);
        } else {
          ScalePlain(from + r.at, x_view.zero_point, row, round, to + r.at, r.rows, r.length);
        }
      });
    };
    if (out_view.type == DataType::kU8) {
      run(static_cast<uint8_t*>(out));
    } else {
      run(static_cast<int8_t*>(out));
    }
  });
}

void RunChannelScale(DataType type, const void* x, const float* gain, void* out,
                     const ScaledShape& s) {
  const auto run = [&](auto* from) {
    auto* to = static_cast<std::remove_const_t<std::remove_pointer_t<decltype(from)>>*>(out);
    ForScaledRows(s, [&](const ScaledRows& r) {
      if constexpr (std::is_same_v<decltype(from), const BFloat16*>) {
        if (kHasBF16 && s.channels_last) {
          return GainRowsNative(from + r.at, gain + r.gain, to + r.at, r.rows, r.length);
        }
      }
      GainRows(from + r.at, gain + r.gain, s.channels_last, to + r.at, r.rows, r.length);
    });
  };
  if (type == DataType::kBF16) {
    run(static_cast<const BFloat16*>(x));
  } else {
    run(static_cast<const float*>(x));
  }
}

void RunByteTable(const uint8_t* table, const uint8_t* src, uint8_t* out, int64_t n) {
  constexpr int64_t kPiece = 1 << 14;
#pragma omp parallel for if (n >= kParallelElements) schedule(static)
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    LookUp(table, src + begin, out + begin, std::min(kPiece, n - begin));
  }
}

void RunQuantizedMean(const QuantizedView& view, const void* src, int64_t batch, int64_t spatial,
                      int64_t channels, float* out) {
  const int64_t blocks = (channels + kColumns - 1) / kColumns;
#pragma omp parallel for if (batch * spatial * channels >= kParallelElements) schedule(static)
  for (int64_t i = 0; i < batch * blocks; ++i) {
    const int64_t n = i / blocks, first = i % blocks * kColumns;
    const int64_t count = std::min(kColumns, channels - first);
    int32_t sums[kColumns];
    WithPointer(view, src, [&](auto* p) {
      SumColumns(p + n * spatial * channels + first, spatial, channels, count, sums);
    });
    for (int64_t c = 0; c < count; ++c) {
      const double mean = static_cast<double>(sums[c]) / static_cast<double>(spatial);
      out[n * channels + first + c] = static_cast<float>((mean - view.zero_point) * view.scale);
    }
  }
}

}  // namespace halftone
