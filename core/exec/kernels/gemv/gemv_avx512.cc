// AVX-512. Up to 4 bits a code is an index into a register of 16 values, (q - zero) * scale, made
// once per group: permute, shift, multiply-add for 16 weights.
#include <immintrin.h>

#include <algorithm>

#include "core/exec/kernels/gemv/gemv_isa.h"

#define HT_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma")))
#define HT_AVX512_INLINE HT_AVX512 __attribute__((always_inline)) inline

namespace halftone {
namespace {

constexpr int64_t kField = 16;

// What each code is; the 16 lanes repeat when there are fewer codes.
template <int kBits>
HT_AVX512_INLINE __m512 CodeValues() {
  const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  return _mm512_cvtepi32_ps(_mm512_and_si512(lanes, _mm512_set1_epi32((1 << kBits) - 1)));
}

// The codes of field f of a chunk in the lowest bits of lanes; permutations look at no others.
// `words`: the chunk without its earlier fields.
template <int kBits>
HT_AVX512_INLINE __m512i NextField(__m512i& words, const uint8_t* chunk, int f) {
  if constexpr (kBits == 4) {
    const auto* pairs = reinterpret_cast<const __m128i*>(chunk + f % 4 * kField);
    const __m512i q = _mm512_cvtepu8_epi32(_mm_loadu_si128(pairs));
    return f < 4 ? q : _mm512_srli_epi32(q, 4);
  } else {
    const __m512i q = words;
    words = _mm512_srli_epi32(words, kBits);
    return q;
  }
}

// `kRows` rows of weights from r on times `kM` rows of x. Scales change every kGroup fields, where
// that divides a chunk; kGroup = 0: at the beginning of chunks only. kZeros: zero points differ.
template <int kBits, int kGroup, bool kZeros, int kRows, int kM>
HT_AVX512 void SmallCodes(const GemvTask& task, int64_t r) {
  constexpr int kFields = 32 / kBits;
  const PackedRows& w = task.w;
  __m512 values = CodeValues<kBits>();
  if constexpr (!kZeros) values = _mm512_sub_ps(values, _mm512_set1_ps(w.zero()));
  const int64_t chunks = task.stride / (kFields * kField);
  const int64_t chunks_per_group =
      kGroup != 0 || w.groups() == 1 ? chunks : w.group() / (kFields * kField);
  const float* scales[kRows];
  const uint16_t* zeros[kRows];
  const uint8_t* codes[kRows];
  __m512 tables[kRows], sums[kRows][kM];
  for (int k = 0; k < kRows; ++k) {
    scales[k] = w.scales(r + k);
    zeros[k] = w.zeros(r + k);
    codes[k] = w.row(r + k);
    for (__m512& s : sums[k]) s = _mm512_setzero_ps();
  }
  // The next group's values of the codes.
  const auto next_tables = [&]() __attribute__((always_inline, target("avx512f"))) {
    for (int k = 0; k < kRows; ++k) {
      __m512 q = values;
      if constexpr (kZeros) {
        q = _mm512_sub_ps(q, _mm512_set1_ps(static_cast<float>(*zeros[k])));
        zeros[k] += PackedRows::kTile;
      }
      tables[k] = _mm512_mul_ps(q, _mm512_set1_ps(*scales[k]));
      scales[k] += PackedRows::kTile;
    }
  };
  const float* x = task.x;
  for (int64_t chunk = 0, next = 0; chunk < chunks; ++chunk) {
    if (kGroup == 0 && chunk == next) {
      next_tables();
      next += chunks_per_group;
    }
    __m512i words[kRows];
    for (int k = 0; k < kRows; ++k) words[k] = _mm512_loadu_si512(codes[k]);
#pragma GCC unroll 8
    for (int f = 0; f < kFields; ++f, x += kField) {
      if constexpr (kGroup != 0) {
        if (f % kGroup == 0) next_tables();
      }
      __m512 xs[kM];
      for (int i = 0; i < kM; ++i) xs[i] = _mm512_loadu_ps(x + i * task.stride);
      for (int k = 0; k < kRows; ++k) {
        const __m512 weights =
            _mm512_permutexvar_ps(NextField<kBits>(words[k], codes[k], f), tables[k]);
        for (int i = 0; i < kM; ++i) sums[k][i] = _mm512_fmadd_ps(weights, xs[i], sums[k][i]);
      }
    }
    for (const uint8_t*& c : codes) c += PackedRows::kTile * PackedRows::kChunkBytes;
  }
  for (int k = 0; k < kRows; ++k) {
    for (int i = 0; i < kM; ++i) {
      const float sum = _mm512_reduce_add_ps(sums[k][i]);
      task.y[i * w.rows() + r + k] = sum + (task.bias == nullptr ? 0.0f : task.bias[r + k]);
    }
  }
}

template <int kBits>
HT_AVX512_INLINE __m512 LoadField(const uint8_t* row, int64_t field) {
  if constexpr (kBits == 8) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + InRow(field * kField)))));
  } else {
    return _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + InRow(field * kField * 2)))));
  }
}

// The same for whole bytes: sums of a group, without scale, join the total behind each group.
template <int kBits, int kRows, int kM>
HT_AVX512 void LargeCodes(const GemvTask& task, int64_t r) {
  const PackedRows& w = task.w;
  const int64_t fields = task.stride / kField;
  const int64_t per_group = w.groups() == 1 ? fields : w.group() / kField;
  __m512 sums[kRows][kM];
  for (auto& row : sums) {
    for (__m512& s : row) s = _mm512_setzero_ps();
  }
  for (int64_t g = 0, f = 0; f < fields; ++g) {
    __m512 zeros[kRows], part[kRows][kM];
    for (int k = 0; k < kRows; ++k) {
      zeros[k] = _mm512_set1_ps(ParamsOf(w, r + k, g).zero);
      for (__m512& p : part[k]) p = _mm512_setzero_ps();
    }
    for (const int64_t end = std::min(fields, f + per_group); f < end; ++f) {
      __m512 xs[kM];
      for (int i = 0; i < kM; ++i) xs[i] = _mm512_loadu_ps(task.x + i * task.stride + f * kField);
      for (int k = 0; k < kRows; ++k) {
        const __m512 q = _mm512_sub_ps(LoadField<kBits>(w.row(r + k), f), zeros[k]);
        for (int i = 0; i < kM; ++i) part[k][i] = _mm512_fmadd_ps(q, xs[i], part[k][i]);
      }
    }
    for (int k = 0; k < kRows; ++k) {
      const __m512 scale = _mm512_set1_ps(ParamsOf(w, r + k, g).scale);
      for (int i = 0; i < kM; ++i) sums[k][i] = _mm512_fmadd_ps(part[k][i], scale, sums[k][i]);
    }
  }
  for (int k = 0; k < kRows; ++k) {
    for (int i = 0; i < kM; ++i) {
      const float sum = _mm512_reduce_add_ps(sums[k][i]);
      task.y[i * w.rows() + r + k] = sum + (task.bias == nullptr ? 0.0f : task.bias[r + k]);
    }
  }
}

template <int kBits, int kGroup, int kRows, int kM>
void Rows(const GemvTask& task, int64_t r) {
  if constexpr (kBits <= 4) {
    if (task.w.zeros(r) == nullptr) {
      SmallCodes<kBits, kGroup, false, kRows, kM>(task, r);
    } else {
      SmallCodes<kBits, kGroup, true, kRows, kM>(task, r);
    }
  } else {
    LargeCodes<kBits, kRows, kM>(task, r);
  }
}

// Tiles; LargeCodes would need more registers than there are for one times many rows of x.
template <int kBits, int kGroup, int kM>
void AllRows(const GemvTask& task, int64_t first, int64_t last) {
  constexpr int kRows = kBits <= 4 || kM <= 2 ? PackedRows::kTile : 2;
  int64_t r = first;
  for (; r + kRows <= last; r += kRows) Rows<kBits, kGroup, kRows, kM>(task, r);
  for (; r < last; ++r) Rows<kBits, kGroup, 1, kM>(task, r);
}

template <int kBits, int kGroup>
void WithRowsOfX(const GemvTask& task, int64_t first, int64_t last) {
  switch (task.m) {
    case 1:
      return AllRows<kBits, kGroup, 1>(task, first, last);
    case 2:
      return AllRows<kBits, kGroup, 2>(task, first, last);
    case 3:
      return AllRows<kBits, kGroup, 3>(task, first, last);
    default:
      return AllRows<kBits, kGroup, 4>(task, first, last);
  }
}

template <int kBits, int kGroup = 1>
void WithGroup(const GemvTask& task, int64_t first, int64_t last) {
  if constexpr (kBits > 4 || kGroup >= 32 / kBits) {
    return WithRowsOfX<kBits, 0>(task, first, last);
  } else {
    if (task.w.groups() > 1 && task.w.group() == kGroup * kField) {
      return WithRowsOfX<kBits, kGroup>(task, first, last);
    }
    return WithGroup<kBits, kGroup * 2>(task, first, last);
  }
}

}  // namespace

void GemvAvx512(const GemvTask& task, int64_t first, int64_t last) {
  switch (task.w.bits()) {
    case 1:
      return WithGroup<1>(task, first, last);
    case 2:
      return WithGroup<2>(task, first, last);
    case 4:
      return WithGroup<4>(task, first, last);
    case 8:
      return WithGroup<8>(task, first, last);
    default:
      return WithGroup<16>(task, first, last);
  }
}

}  // namespace halftone
