// AVX-512 with VNNI, for 4 and 8 bits. x becomes integers of 24 bits with a scale per 128 columns,
// and those become three signed digits of 8 bits. An instruction multiplies 64 digits by codes and
// sums in integers, exactly; so the error is that of x, up to 2^-24 of the largest |x| among 128,
// and of the few sums in f32 behind it.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "core/exec/kernels/gemv/gemv_isa.h"

#define HT_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")))
#define HT_VNNI_INLINE HT_VNNI __attribute__((always_inline)) inline

namespace halftone {
namespace {

constexpr int64_t kBlock = 128;  // columns that share a scale of x: two vectors of codes
constexpr int kDigits = 3;
// The hardware's prefetcher alone reaches two thirds of the speed. To L2, because L1 has too few
// misses under way at once for memory's bandwidth.
constexpr int64_t kPrefetchBytes = 16384;
constexpr int64_t kTile = PackedRows::kTile;
constexpr int64_t kChunkStep = kTile * PackedRows::kChunkBytes;
static_assert(kTile == 4 && PackedRows::kChunkBytes == 64);
// Below 127 * (65536 + 256 + 1), so that rounding up leaves the highest digit in range. In a lane
// lie eight products with codes of 4 bits, or twice that where zero points move: 8 * 30 * this fits
// 32 bits.
constexpr float kLargest = 8355000.0f;
// Smaller blocks would have a denormal scale; what they lose is below 2^-124.
constexpr float kSmallest = 0x1p-100f;

// Scale groups as the kernel sees them: a lane of 32 bits is 4 columns, a vector 16 lanes.
constexpr int kWholeBlocks = 32;  // lanes per group: groups of whole blocks
constexpr int Parts(int lanes) { return lanes == kWholeBlocks ? 1 : 2; }

// A block of prepared x: two vectors of each digit, and per sum of a group's products the sums of
// x that zero points multiply: one for 4 bits, two for 8 (see Tile).
constexpr int64_t Corrections(int bits, int lanes) { return Parts(lanes) * (bits == 8 ? 2 : 1); }
constexpr int64_t BlockBytes(int bits, int lanes) {
  return 64 * (2 * kDigits + Corrections(bits, lanes));
}

int LanesPerGroup(const PackedRows& w) {
  return w.groups() == 1 || w.group() >= kBlock ? kWholeBlocks : static_cast<int>(w.group() / 4);
}

// The zero point that codes have in products. Where they differ from group to group, codes of 4
// bits become code + 15 - zero first.
constexpr int kMovedZero = 15;
int32_t ProductZero(const PackedRows& w) {
  return w.zeros(0) != nullptr ? kMovedZero : static_cast<int32_t>(w.zero() + w.bias());
}

// Where the scales of prepared x lie, in bytes from its beginning.
int64_t ScalesAt(const PackedRows& w) {
  return w.padded_cols() / kBlock * BlockBytes(w.bits(), LanesPerGroup(w));
}

// Writes the digits of 128 numbers and returns their scale. Beside a NaN or an infinity, which is
// the scale then, all digits are 0: of 0 times it, and of what a conversion that fails returns.
HT_VNNI_INLINE float WriteDigits(const float* x, uint8_t* digits) {
  __m512i largest = _mm512_setzero_si512();  // bit patterns: an infinity is above, a NaN higher
  __m512 values[8];
  for (int f = 0; f < 8; ++f) {
    values[f] = _mm512_loadu_ps(x + 16 * f);
    largest = _mm512_max_epu32(largest, _mm512_castps_si512(_mm512_abs_ps(values[f])));
  }
  const auto bits = static_cast<uint32_t>(_mm512_reduce_max_epu32(largest));
  float max = 0;
  std::memcpy(&max, &bits, sizeof(max));
  max = std::max(max, kSmallest);
  const __m512 inverse = _mm512_set1_ps(kLargest / max);
  for (int f = 0; f < 8; ++f) {
    __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(values[f], inverse));
    uint8_t* to = digits + f / 4 * kDigits * 64 + f % 4 * 16;
    for (int d = kDigits; d-- > 0;) {
      const __m128i digit = _mm512_cvtepi32_epi8(q);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + d * 64), digit);
      q = _mm512_srai_epi32(_mm512_sub_epi32(q, _mm512_cvtepi8_epi32(digit)), 8);
    }
  }
  return max / kLargest;
}

// The sums of x per lane, times -zero, in the order that Tile reads.
HT_VNNI_INLINE void WriteCorrections(int bits, int lanes, int32_t zero, const uint8_t* digits,
                                     uint8_t* out) {
  const __m512i ones = _mm512_set1_epi8(1), factor = _mm512_set1_epi32(-zero);
  __m512i sums[2][2];  // by vector: of the upper digits and of the last one, or all in the first
  for (int v = 0; v < 2; ++v) {
    __m512i d[kDigits];
    for (int i = 0; i < kDigits; ++i) {
      d[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), ones,
                                 _mm512_loadu_si512(digits + (v * kDigits + i) * 64));
    }
    const __m512i upper = _mm512_add_epi32(_mm512_slli_epi32(d[0], 8), d[1]);
    sums[v][0] = bits == 8 ? upper : _mm512_add_epi32(_mm512_slli_epi32(upper, 8), d[2]);
    sums[v][1] = d[2];
  }
  const int kinds = bits == 8 ? 2 : 1;
  for (int kind = 0; kind < kinds; ++kind) {
    if (Parts(lanes) == 1) {
      const __m512i both = _mm512_add_epi32(sums[0][kind], sums[1][kind]);
      _mm512_storeu_si512(out + kind * 64, _mm512_mullo_epi32(both, factor));
      continue;
    }
    for (int v = 0; v < 2; ++v) {
      _mm512_storeu_si512(out + (v * kinds + kind) * 64, _mm512_mullo_epi32(sums[v][kind], factor));
    }
  }
}

// Vector v of a row's codes in a block, which begins at `chunk`.
template <int kBits>
HT_VNNI_INLINE __m512i LoadCodes(const uint8_t* chunk, int v) {
  if constexpr (kBits == 4) {
    const __m512i both = _mm512_loadu_si512(chunk);
    return _mm512_and_si512(v == 0 ? both : _mm512_srli_epi16(both, 4), _mm512_set1_epi8(15));
  } else {
    return _mm512_xor_si512(_mm512_loadu_si512(chunk + v * kChunkStep), _mm512_set1_epi8(-128));
  }
}

// For a tile, the scales or zero points that a vector of codes meets: those of the rows for the
// first group, then for the next one.
template <int kLanes>
HT_VNNI_INLINE __m512 LoadScales(const float* p) {
  if constexpr (kLanes == 4) return _mm512_loadu_ps(p);
  if constexpr (kLanes == 8) return _mm512_castps256_ps512(_mm256_loadu_ps(p));
  return _mm512_castps128_ps512(_mm_loadu_ps(p));
}
// What moves codes to the common zero, in each byte of a lane.
template <int kLanes>
HT_VNNI_INLINE __m512i LoadMoves(const uint16_t* zeros) {
  const auto* q = reinterpret_cast<const __m128i*>(zeros);
  const __m512i wide =
      kLanes == 4 ? _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(q)))
                  : _mm512_cvtepu16_epi32(_mm256_castsi128_si256(kLanes == 8 ? _mm_loadu_si128(q)
                                                                             : _mm_loadl_epi64(q)));
  const __m512i lowest =
      _mm512_broadcast_i32x4(_mm_set_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0));
  return _mm512_shuffle_epi8(_mm512_sub_epi32(_mm512_set1_epi32(kMovedZero), wide), lowest);
}

// Where each lane of row k finds its own among them.
template <int kLanes>
HT_VNNI_INLINE __m512i LaneIndexes(int k) {
  const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  constexpr int kShift = kLanes == 4 ? 2 : kLanes == 8 ? 3 : 4;
  const __m512i group = _mm512_srli_epi32(lanes, kShift);
  return _mm512_add_epi32(_mm512_slli_epi32(group, 2), _mm512_set1_epi32(k));
}

// The sum of (codes - zero) * x per lane, over kVectors vectors, in units of the scale of x.
// `corrections` is what WriteCorrections wrote for them. 8 bits do not leave room for all digits in
// 32 bits: the last one is summed apart.
template <int kBits, int kVectors>
HT_VNNI_INLINE __m512 BlockSum(const __m512i* codes, const uint8_t* digits,
                               const uint8_t* corrections) {
  const auto add_digit = [&](__m512i sum,
                             int d) __attribute__((always_inline, target("avx512f,avx512vnni"))) {
    for (int v = 0; v < kVectors; ++v) {
      sum = _mm512_dpbusd_epi32(sum, codes[v], _mm512_loadu_si512(digits + (v * kDigits + d) * 64));
    }
    return sum;
  };
  const auto correct = [&](__m512i sum,
                           int kind) __attribute__((always_inline, target("avx512f"))) {
    return _mm512_add_epi32(sum, _mm512_loadu_si512(corrections + kind * 64));
  };
  __m512i upper = add_digit(_mm512_setzero_si512(), 0);
  upper = add_digit(_mm512_slli_epi32(upper, 8), 1);
  if constexpr (kBits == 4) {
    const __m512i all = add_digit(_mm512_slli_epi32(upper, 8), 2);
    return _mm512_cvtepi32_ps(correct(all, 0));
  } else {
    const __m512i last = correct(add_digit(_mm512_setzero_si512(), 2), 1);
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(correct(upper, 0)), _mm512_set1_ps(256.0f),
                           _mm512_cvtepi32_ps(last));
  }
}

template <int64_t kBytes>
HT_VNNI_INLINE void Prefetch(const uint8_t* codes) {
  for (int64_t line = 0; line < kBytes; line += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(codes + kPrefetchBytes + line), _MM_HINT_T1);
  }
}

HT_VNNI_INLINE void Finish(const GemvTask& task, int64_t r, const __m512* sums) {
  const float bias = task.bias == nullptr ? 0.0f : task.bias[r];
  for (int64_t i = 0; i < task.m; ++i) {
    task.y[i * task.w.rows() + r] = _mm512_reduce_add_ps(sums[i]) + bias;
  }
}

// The rows of weights of a tile, from row r on, times `kM` rows of x.
template <int kBits, int kLanes, bool kZeros, int kM>
HT_VNNI void Tile(const GemvTask& task, int64_t r) {
  constexpr int kParts = Parts(kLanes);
  constexpr int64_t kBlockBytes = BlockBytes(kBits, kLanes);
  constexpr int64_t kKinds = Corrections(kBits, kLanes) / kParts;
  constexpr int64_t kParams = kLanes >= 16 ? kTile : 16 / kLanes * kTile;  // per part
  const PackedRows& w = task.w;
  const int64_t blocks = w.padded_cols() / kBlock;
  const int64_t blocks_per_group = w.groups() == 1 ? blocks : w.group() / kBlock;
  const int64_t scales_at = ScalesAt(w);
  const float* scales = w.scales(r);
  const uint16_t* zeros = w.zeros(r);
  const uint8_t* codes = w.row(r);
  __m512 scale[kTile], sums[kTile][kM];
  __m512i moves[kTile];
  for (int k = 0; k < kTile; ++k) {
    moves[k] = _mm512_setzero_si512();
    for (__m512& s : sums[k]) s = _mm512_setzero_ps();
  }
  for (int64_t b = 0, next = 0; b < blocks; ++b) {
    const bool new_group = kParts > 1 || b == next;
    if (kParts == 1 && new_group) next += blocks_per_group;
    Prefetch<kBits / 4 * kChunkStep>(codes);
#pragma GCC unroll 2
    for (int p = 0; p < kParts; ++p) {
      if (new_group) {
        const __m512 all_scales = LoadScales<kLanes>(scales);
        const __m512i all_moves = kZeros ? LoadMoves<kLanes>(zeros) : _mm512_setzero_si512();
        for (int k = 0; k < kTile; ++k) {
          const __m512i lanes = LaneIndexes<kLanes>(k);
          scale[k] = _mm512_permutexvar_ps(lanes, all_scales);
          if constexpr (kZeros) moves[k] = _mm512_permutexvar_epi32(lanes, all_moves);
        }
        scales += kParams;
        if constexpr (kZeros) zeros += kParams;
      }
      constexpr int kVectors = 2 / kParts;
      __m512i q[kTile][kVectors];
      for (int k = 0; k < kTile; ++k) {
        for (int v = 0; v < kVectors; ++v) {
          q[k][v] = LoadCodes<kBits>(codes + k * PackedRows::kChunkBytes, p + v);
          if constexpr (kZeros) q[k][v] = _mm512_add_epi8(q[k][v], moves[k]);
        }
      }
      for (int i = 0; i < kM; ++i) {
        const auto* x = reinterpret_cast<const uint8_t*>(task.x + i * task.stride);
        const uint8_t* block = x + b * kBlockBytes;
        float x_scale = 0;
        std::memcpy(&x_scale, x + scales_at + b * sizeof(float), sizeof(float));
        for (int k = 0; k < kTile; ++k) {
          const __m512 sum = BlockSum<kBits, kVectors>(q[k], block + p * kDigits * 64,
                                                       block + (2 * kDigits + p * kKinds) * 64);
          const __m512 unit = _mm512_mul_ps(scale[k], _mm512_set1_ps(x_scale));
          sums[k][i] = _mm512_fmadd_ps(sum, unit, sums[k][i]);
        }
      }
    }
    codes += kBits / 4 * kChunkStep;
  }
  for (int k = 0; k < kTile && r + k < w.rows(); ++k) Finish(task, r + k, sums[k]);
}

template <int kBits, int kLanes, bool kZeros, int kM>
void AllRows(const GemvTask& task, int64_t first, int64_t last) {
  for (int64_t r = first; r < last; r += kTile) Tile<kBits, kLanes, kZeros, kM>(task, r);
}

template <int kBits, int kLanes, bool kZeros>
void WithRowsOfX(const GemvTask& task, int64_t first, int64_t last) {
  switch (task.m) {
    case 1:
      return AllRows<kBits, kLanes, kZeros, 1>(task, first, last);
    case 2:
      return AllRows<kBits, kLanes, kZeros, 2>(task, first, last);
    case 3:
      return AllRows<kBits, kLanes, kZeros, 3>(task, first, last);
    default:
      return AllRows<kBits, kLanes, kZeros, 4>(task, first, last);
  }
}

template <int kBits, bool kZeros, int kLanes = 4>
void WithLanes(const GemvTask& task, int64_t first, int64_t last) {
  if constexpr (kLanes < kWholeBlocks) {
    if (LanesPerGroup(task.w) > kLanes)
      return WithLanes<kBits, kZeros, kLanes * 2>(task, first, last);
  }
  return WithRowsOfX<kBits, kLanes, kZeros>(task, first, last);
}

}  // namespace

bool VnniTakes(const PackedRows& w) {
  return (w.bits() == 4 || (w.bits() == 8 && w.zeros(0) == nullptr)) && w.zeros_are_codes();
}

int64_t VnniScratchFloats(const PackedRows& w) {
  return (ScalesAt(w) / 4 + w.padded_cols() / kBlock + 15) / 16 * 16;
}

HT_VNNI void PrepareVnni(const PackedRows& w, const float* x, float* out) {
  const int lanes = LanesPerGroup(w);
  const int64_t block_bytes = BlockBytes(w.bits(), lanes);
  auto* block = reinterpret_cast<uint8_t*>(out);
  float* scales = out + ScalesAt(w) / 4;
  for (int64_t c = 0; c < w.cols(); c += kBlock, block += block_bytes) {
    const float* from = x + c;
    float padded[kBlock];
    if (c + kBlock > w.cols()) {
      std::fill(std::copy(from, x + w.cols(), padded), padded + kBlock, 0.0f);
      from = padded;
    }
    *scales++ = WriteDigits(from, block);
    WriteCorrections(w.bits(), lanes, ProductZero(w), block, block + 2 * kDigits * 64);
  }
}

void GemvVnni(const GemvTask& task, int64_t first, int64_t last) {
  if (task.w.bits() == 8) return WithLanes<8, false>(task, first, last);
  if (task.w.zeros(0) == nullptr) return WithLanes<4, false>(task, first, last);
  return WithLanes<4, true>(task, first, last);
}

}  // namespace halftone
