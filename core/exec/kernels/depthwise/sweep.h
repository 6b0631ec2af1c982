// The loops of depthwise_*.cc over registers of any width. Before including this, each of them
// defines HT_TARGET, the attribute of its instruction set; everything here is local to it.
//
// V is a set of operations on registers of V::kWidth bytes: see Ymm below. In four registers it
// holds one dword per channel of a block, see depthwise_isa.h.
#ifndef HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_SWEEP_H_
#define HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_SWEEP_H_

#include <immintrin.h>

#include <cstddef>
#include <cstring>

#include "core/exec/kernels/depthwise/depthwise_isa.h"
#include "core/exec/kernels/depthwise/exp.h"
#include "core/exec/kernels/depthwise/unroll.h"

namespace halftone {
namespace {

// memcpy of fewer than 64 bytes. Masked stores, and calls, would take longer than all the rest.
inline void CopyFew(const void* from, int64_t count, void* to) {
  const auto* f = static_cast<const std::byte*>(from);
  auto* t = static_cast<std::byte*>(to);
#define HT_COPY(n)          \
  if ((count & (n)) != 0) { \
    std::memcpy(t, f, n);   \
    f += (n), t += (n);     \
  }
  HT_COPY(32) HT_COPY(16) HT_COPY(8) HT_COPY(4) HT_COPY(2) HT_COPY(1)
#undef HT_COPY
}

// What 256-bit registers have in common, with and without VNNI.
struct YmmBase {
  using I = __m256i;
  using F = __m256;
  static constexpr int kWidth = 32;

  HT_INLINE static I Zero() { return _mm256_setzero_si256(); }
  HT_INLINE static I Bytes(uint8_t b) { return _mm256_set1_epi8(static_cast<char>(b)); }
  HT_INLINE static I Words(int32_t w) { return _mm256_set1_epi16(static_cast<int16_t>(w)); }
  HT_INLINE static I Xor(I a, I b) { return _mm256_xor_si256(a, b); }
  HT_INLINE static I Low8(I a, I b) { return _mm256_unpacklo_epi8(a, b); }
  HT_INLINE static I High8(I a, I b) { return _mm256_unpackhi_epi8(a, b); }
  HT_INLINE static I Low16(I a, I b) { return _mm256_unpacklo_epi16(a, b); }
  HT_INLINE static I High16(I a, I b) { return _mm256_unpackhi_epi16(a, b); }
  HT_INLINE static I Load(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }
  HT_INLINE static void Store(void* p, I v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

  HT_INLINE static F Floats(float f) { return _mm256_set1_ps(f); }
  HT_INLINE static F LoadFloats(const float* p) { return _mm256_loadu_ps(p); }
  HT_INLINE static void StoreFloats(float* p, F v) { _mm256_storeu_ps(p, v); }
  HT_INLINE static F ToFloats(I v) { return _mm256_cvtepi32_ps(v); }
  HT_INLINE static I ToInts(F v) { return _mm256_cvtps_epi32(v); }
  HT_INLINE static F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  HT_INLINE static F FmaSub(F a, F b, F c) { return _mm256_fmsub_ps(a, b, c); }
  HT_INLINE static F Sub(F a, F b) { return _mm256_sub_ps(a, b); }
  HT_INLINE static F Mul(F a, F b) { return _mm256_mul_ps(a, b); }
  HT_INLINE static F Div(F a, F b) { return _mm256_div_ps(a, b); }
  HT_INLINE static F Min(F a, F b) { return _mm256_min_ps(a, b); }
  HT_INLINE static F Max(F a, F b) { return _mm256_max_ps(a, b); }
  // p * 2^n, where n are the low bits of `bits`.
  HT_INLINE static F ScaleByLowBits(F p, F bits) {
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(bits), 23)));
  }
  HT_INLINE static I PackWords(I a, I b) { return _mm256_packs_epi32(a, b); }
  HT_INLINE static I AddWords(I a, I b) { return _mm256_adds_epi16(a, b); }
  template <bool kSigned>
  HT_INLINE static I PackBytes(I a, I b) {
    return kSigned ? _mm256_packs_epi16(a, b) : _mm256_packus_epi16(a, b);
  }
  template <bool kSigned>
  HT_INLINE static I Clamp(I v, I low, I high) {
    return kSigned ? _mm256_min_epi8(_mm256_max_epi8(v, low), high)
                   : _mm256_min_epu8(_mm256_max_epu8(v, low), high);
  }
};

// One sweep over columns. Each column is read and interleaved once, and added to all outputs whose
// window it is in; these are accumulated in turns, output i in slot i % kSlots.
template <class V, int kSize, int kStride>
class Sweep {
 public:
  HT_INLINE explicit Sweep(const DepthwiseSweep& task)
      : loads_(task.count),
        flip_(V::Bytes(task.flip)),
        padding_(task.padding),
        start_(task.start),
        weights_(task.weights),
        // Outputs before the first are made of columns that it does not begin with; they land in
        // the spare part.
        out_(task.sums - (kSize - 1) / kStride * V::kWidth),
        left_((task.outputs - 1) * kStride + kSize),
        column_(task.first_column),
        width_(task.width) {
    Unroll<kSize>([&](auto k) HT_LAMBDA {
      rows_[k] = task.rows[k];
      steps_[k] = task.steps[k];
    });
    Unroll<kSlots * 4>([&](auto i) HT_LAMBDA { sums_[i] = Start(i % 4); });
    if constexpr (kKeepsWeights) {
      Unroll<kWeights>([&](auto i) HT_LAMBDA { kept_[i] = Weights(i); });
    }
  }

  HT_INLINE void Run() {
    while (Phases(std::make_integer_sequence<int, kPhases>())) {
    }
    // Nobody reads these. But sums that were dead here would be computed behind the test for the
    // end, from weights that have to wait on the stack.
    Unroll<kSlots * 4>([&](auto i) HT_LAMBDA { V::Store(out_ + i * kLanes, sums_[i]); });
  }

 private:
  static constexpr int kLanes = V::kWidth / 4;
  static constexpr int kQuads = (kSize + 3) / 4;  // of kernel rows
  static constexpr int kSlots = (kSize + kStride - 1) / kStride;
  static constexpr int kPhases = kSlots * kStride;  // columns after which slots repeat
  static constexpr int kWeights = kSize * kQuads * 4;
  static constexpr bool kKeepsWeights = V::kManyRegisters && kWeights <= 12;
  using I = typename V::I;
  using Taps = typename V::Taps;

  template <int... kPhase>
  HT_INLINE bool Phases(std::integer_sequence<int, kPhase...>) {
    return (Phase<kPhase>() && ...);
  }

  // False after the last column.
  template <int kPhase>
  HT_INLINE bool Phase() {
    Forget(weights_);
    Forget(start_);
    const bool inside = column_ >= 0 && column_ < width_;
    Unroll<kQuads>([&](auto q) HT_LAMBDA { AddQuad<kPhase, q>(inside); });
    constexpr int kDone = kPhase - (kSize - 1);
    if constexpr (kDone % kStride == 0) {
      Unroll<4>([&](auto v) HT_LAMBDA {
        I& sum = sums_[SlotOf(kDone) * 4 + v];
        V::Store(out_ + v * kLanes, sum);
        sum = Start(v);
      });
      out_ += V::kWidth;
    }
    ++column_;
    return --left_ != 0;
  }

  // Four kernel rows of this column.
  template <int kPhase, int kQuad>
  HT_INLINE void AddQuad(bool inside) {
    const I r0 = Row<kQuad * 4>(inside), r1 = Row<kQuad * 4 + 1>(inside);
    const I r2 = Row<kQuad * 4 + 2>(inside), r3 = Row<kQuad * 4 + 3>(inside);
    const I low01 = V::Low8(r0, r1), high01 = V::High8(r0, r1);
    const I low23 = V::Low8(r2, r3), high23 = V::High8(r2, r3);
    AddTaps<kPhase, kQuad * 4>(V::Split(V::Low16(low01, low23)));
    AddTaps<kPhase, kQuad * 4 + 1>(V::Split(V::High16(low01, low23)));
    AddTaps<kPhase, kQuad * 4 + 2>(V::Split(V::Low16(high01, high23)));
    AddTaps<kPhase, kQuad * 4 + 3>(V::Split(V::High16(high01, high23)));
  }

  template <int kRow>
  HT_INLINE I Row(bool inside) const {
    if constexpr (kRow >= kSize) {
      return V::Zero();
    } else {
      const uint8_t* from = inside ? rows_[kRow] + column_ * steps_[kRow] : padding_;
      Forget(from);  // one path for both
      return V::Xor(loads_.Read(from), flip_);
    }
  }

  // One register of taps, to all outputs that it is in.
  template <int kPhase, int kRegister>
  HT_INLINE void AddTaps(const Taps& taps) {
    Unroll<kSize>([&](auto tap) HT_LAMBDA {
      if constexpr ((kPhase - tap) % kStride == 0) {
        I& sum = sums_[SlotOf(kPhase - tap) * 4 + kRegister % 4];
        constexpr int kAt = tap * kQuads * 4 + kRegister;
        if constexpr (kKeepsWeights) {
          sum = V::Dot(sum, taps, kept_[kAt]);
        } else {
          sum = V::Dot(sum, taps, Weights(kAt));
        }
      }
    });
  }

  static constexpr int SlotOf(int position) {
    return (position + kSize * kPhases) / kStride % kSlots;
  }
  HT_INLINE I Start(int v) const { return V::Load(start_ + v * kLanes); }
  HT_INLINE Taps Weights(int i) const { return V::LoadTaps(weights_ + i * V::kTapBytes); }

  const typename V::Partial loads_;
  const I flip_;
  const uint8_t* const padding_;
  const int32_t* start_;
  const std::byte* weights_;
  const uint8_t* rows_[kSize];
  int64_t steps_[kSize];
  I sums_[kSlots * 4];
  Taps kept_[kKeepsWeights ? kWeights : 1];
  int32_t* out_;
  int64_t left_, column_;
  const int64_t width_;
};

template <class V, int kSize, int kStride>
HT_TARGET void RunSweep(const DepthwiseSweep& task) {
  Sweep<V, kSize, kStride>(task).Run();
}

// exp(-y), see ExpOfMinus.
template <class V>
HT_INLINE typename V::F ExpOfMinus(typename V::F y) {
  using C = ExpConstants;
  const auto x = V::Min(V::Max(y, V::Floats(-C::kLimit)), V::Floats(C::kLimit));
  const auto shifted = V::Fma(x, V::Floats(-C::kLog2E), V::Floats(C::kShift));
  const auto n = V::Sub(shifted, V::Floats(C::kShift));
  const auto rest = V::FmaSub(x, V::Floats(-C::kLog2E), n);
  auto p = V::Floats(C::kPower[0]);
  Unroll<C::kTerms - 1>([&](auto i)
                            HT_LAMBDA { p = V::Fma(p, rest, V::Floats(C::kPower[i + 1])); });
  return V::ScaleByLowBits(p, shifted);
}

// activation(y) in steps of the destination.
template <class V, DepthwiseActivation kActivation>
HT_INLINE typename V::F Activate(typename V::F y, const DepthwiseFinish& t) {
  const auto scale = V::Floats(t.scale), one = V::Floats(1.0f);
  switch (kActivation) {
    case DepthwiseActivation::kClip:
      return V::Min(V::Max(y, V::Floats(t.alpha)), V::Floats(t.beta));
    case DepthwiseActivation::kHardSwish: {
      const auto gate = V::Fma(y, V::Floats(t.alpha), V::Floats(t.beta));
      return V::Mul(V::Mul(y, V::Min(V::Max(gate, V::Floats(0.0f)), one)),
                    V::Floats(t.inverse_scale));
    }
    case DepthwiseActivation::kSigmoid:
      return V::Div(one, V::Fma(ExpOfMinus<V>(y), scale, scale));
    case DepthwiseActivation::kSwish:
      return V::Div(y, V::Fma(ExpOfMinus<V>(y), scale, scale));
  }
  return y;
}

// Four registers to floats in the order of channels.
template <class V>
HT_INLINE void StoreFloats(const typename V::F* y, int64_t count, float* out) {
  alignas(64) float numbers[V::kWidth], channels[V::kWidth];
  for (int v = 0; v < 4; ++v) V::StoreFloats(numbers + v * (V::kWidth / 4), y[v]);
  for (int i = 0; i < V::kWidth; i += 4) {
    std::memcpy(channels + ChannelInBlock(i, V::kWidth), numbers + i, 4 * sizeof(float));
  }
  std::memcpy(out, channels, static_cast<size_t>(count) * sizeof(float));
}

template <class V, DepthwiseActivation kActivation, DepthwiseDestination kTo>
HT_TARGET void RunFinish(const DepthwiseFinish& t) {
  constexpr int kLanes = V::kWidth / 4;
  // Of rounded numbers the bounds are bytes.
  constexpr bool kClamps = kActivation == DepthwiseActivation::kClip && kTo != kToF32;
  const typename V::Partial stores(t.count);
  const auto zero = V::Words(t.zero_point);
  const auto low = V::Bytes(static_cast<uint8_t>(t.low));
  const auto high = V::Bytes(static_cast<uint8_t>(t.high));
  typename V::F scales[4], bias[4];
  Unroll<4>([&](auto v) HT_LAMBDA {
    scales[v] = V::LoadFloats(t.scales + v * kLanes);
    bias[v] = V::LoadFloats(t.bias + v * kLanes);
  });
  for (int64_t i = 0; i < t.outputs; ++i) {
    typename V::F y[4];
    Unroll<4>([&](auto v) HT_LAMBDA {
      y[v] = V::Fma(V::ToFloats(V::Load(t.sums + i * V::kWidth + v * kLanes)), scales[v], bias[v]);
      if constexpr (!kClamps) y[v] = Activate<V, kActivation>(y[v], t);
    });
    if constexpr (kTo == kToF32) {
      StoreFloats<V>(y, t.count, reinterpret_cast<float*>(t.out) + i * t.step);
    } else {
      constexpr bool kSigned = kTo == kToI8;
      const auto first = V::PackWords(V::ToInts(y[0]), V::ToInts(y[1]));
      const auto second = V::PackWords(V::ToInts(y[2]), V::ToInts(y[3]));
      auto bytes =
          V::template PackBytes<kSigned>(V::AddWords(first, zero), V::AddWords(second, zero));
      if constexpr (kClamps) bytes = V::template Clamp<kSigned>(bytes, low, high);
      stores.Write(reinterpret_cast<uint8_t*>(t.out) + i * t.step, bytes);
    }
  }
}

template <class V, DepthwiseActivation kActivation>
constexpr void SetFinish(DepthwiseKernels& k) {
  auto& row = k.finish[static_cast<int>(kActivation)];
  row[kToU8] = RunFinish<V, kActivation, kToU8>;
  row[kToI8] = RunFinish<V, kActivation, kToI8>;
  row[kToF32] = RunFinish<V, kActivation, kToF32>;
}

template <class V>
constexpr DepthwiseKernels KernelsOf() {
  DepthwiseKernels k{{{RunSweep<V, 3, 1>, RunSweep<V, 3, 2>},
                      {RunSweep<V, 5, 1>, RunSweep<V, 5, 2>},
                      {RunSweep<V, 7, 1>, RunSweep<V, 7, 2>}},
                     {}};
  SetFinish<V, DepthwiseActivation::kClip>(k);
  SetFinish<V, DepthwiseActivation::kHardSwish>(k);
  SetFinish<V, DepthwiseActivation::kSigmoid>(k);
  SetFinish<V, DepthwiseActivation::kSwish>(k);
  return k;
}

}  // namespace
}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_SWEEP_H_
