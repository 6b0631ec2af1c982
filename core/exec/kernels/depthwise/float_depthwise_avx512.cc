#include "core/exec/kernels/avx512_math.h"
#include "core/exec/kernels/depthwise/float_depthwise_isa.h"

// Everything here may use bf16; what the f32 kernels compile to does not.
#define HT_TARGET HT_AVX512_BF16
#include "core/exec/kernels/depthwise/unroll.h"

namespace halftone {
namespace {

// An operand of kVectors registers per term; sums are f32.
template <int kCount>
struct F32 {
  static constexpr int kVectors = kCount, kRowsPerTerm = 1, kPixelBytes = kCount * 64;
  static constexpr SwishPrecision kPrecision = SwishPrecision::kF32;
  struct Term {
    __m512 v[kVectors];
  };
  using Weight = __m512;

  // Of one kernel row.
  HT_INLINE static Term Load(const std::byte* row, const std::byte* /*next*/) {
    Term t;
    Unroll<kVectors>([&](auto v) HT_LAMBDA { t.v[v] = _mm512_loadu_ps(row + v * 64); });
    return t;
  }
  HT_INLINE static Weight LoadWeight(const std::byte* p) { return _mm512_loadu_ps(p); }
  HT_INLINE static __m512 MultiplyAdd(__m512 sum, __m512 x, Weight w) {
    return _mm512_fmadd_ps(x, w, sum);
  }
  HT_INLINE static void Store(std::byte* out, const __m512* y) {
    Unroll<kVectors>([&](auto v) HT_LAMBDA { _mm512_storeu_ps(out + v * 64, y[v]); });
  }
};

struct BF16 {
  static constexpr int kVectors = 2, kRowsPerTerm = 2, kPixelBytes = 64;
  static constexpr SwishPrecision kPrecision = SwishPrecision::kBF16;
  struct Term {
    __m512bh v[kVectors];
  };
  using Weight = __m512bh;

  // Of two kernel rows; null: there is no second one.
  HT_INLINE static Term Load(const std::byte* row, const std::byte* next) {
    const __m512i a = _mm512_loadu_si512(row);
    const __m512i b = next == nullptr ? _mm512_setzero_si512() : _mm512_loadu_si512(next);
    return {{reinterpret_cast<__m512bh>(_mm512_unpacklo_epi16(a, b)),
             reinterpret_cast<__m512bh>(_mm512_unpackhi_epi16(a, b))}};
  }
  HT_INLINE static Weight LoadWeight(const std::byte* p) {
    return reinterpret_cast<__m512bh>(_mm512_loadu_si512(p));
  }
  HT_INLINE static __m512 MultiplyAdd(__m512 sum, __m512bh x, Weight w) {
    return _mm512_dpbf16_ps(sum, x, w);
  }
  // Undoes FloatChannelInBlock.
  HT_INLINE static void Store(std::byte* out, const __m512* y) {
    const __m512i fours = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(y[1], y[0]));
    const __m512i order = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);
    _mm512_storeu_si512(out, _mm512_permutexvar_epi64(order, fours));
  }
};

template <DepthwiseActivation kActivation, SwishPrecision kPrecision>
HT_INLINE __m512 Activate(__m512 y, __m512 alpha, __m512 beta) {
  switch (kActivation) {
    case DepthwiseActivation::kClip:
      return _mm512_min_ps(beta, _mm512_max_ps(alpha, y));  // of a NaN: the NaN
    case DepthwiseActivation::kHardSwish: {
      const __m512 gate = _mm512_fmadd_ps(alpha, y, beta);
      const __m512 low = _mm512_max_ps(_mm512_setzero_ps(), gate);
      return _mm512_mul_ps(y, _mm512_min_ps(_mm512_set1_ps(1.0f), low));
    }
    case DepthwiseActivation::kSigmoid:
      return Sigmoid16<kPrecision>(y);
    case DepthwiseActivation::kSwish:
      return Swish16<kPrecision>(y);
  }
  return y;
}

// Each column is read once and added to all outputs whose window it is in; these are accumulated in
// turns, output i in slot i % kSlots.
template <class V, int kSize, int kStride, DepthwiseActivation kActivation>
class FloatSweep {
 public:
  HT_INLINE explicit FloatSweep(const FloatDepthwiseRow& task)
      : task_(task),
        alpha_(_mm512_set1_ps(task.alpha)),
        beta_(_mm512_set1_ps(task.beta)),
        weights_(task.weights),
        out_(task.out),
        early_((kSize - 1) / kStride),
        left_((task.outputs - 1) * kStride + kSize),
        column_(task.first_column) {
    Unroll<kSlots * kVectors>([&](auto i) HT_LAMBDA { sums_[i] = Bias(i % kVectors); });
    if constexpr (kKeepsWeights) {
      Unroll<kWeights>([&](auto i) HT_LAMBDA { kept_[i] = V::LoadWeight(weights_ + i * 64); });
    }
  }

  HT_INLINE void Run() {
    while (Phases(std::make_integer_sequence<int, kPhases>())) {
    }
  }

 private:
  static constexpr int kAhead = 8;  // columns
  static constexpr int kVectors = V::kVectors;
  static constexpr int kTerms = (kSize + V::kRowsPerTerm - 1) / V::kRowsPerTerm;
  static constexpr int kSlots = (kSize + kStride - 1) / kStride;
  static constexpr int kPhases = kSlots * kStride;  // columns after which slots repeat
  static constexpr int kWeights = kSize * kTerms * kVectors;
  static constexpr bool kKeepsWeights = kWeights + kSlots * kVectors <= 30;

  template <int... kPhase>
  HT_INLINE bool Phases(std::integer_sequence<int, kPhase...>) {
    return (Phase<kPhase>() && ...);
  }

  // False after the last column.
  template <int kPhase>
  HT_INLINE bool Phase() {
    if constexpr (!kKeepsWeights) Forget(weights_);
    const bool inside = column_ >= 0 && column_ < task_.width;
    Unroll<kTerms>([&](auto t) HT_LAMBDA { AddTerm<kPhase, t>(inside); });
    // Else sums that the branches below do not need are computed behind them, from operands that
    // have to wait on the stack.
    Unroll<kSlots * kVectors>([&](auto i) HT_LAMBDA { asm volatile("" : "+v"(sums_[i])); });
    constexpr int kDone = kPhase - (kSize - 1);
    if constexpr (kDone % kStride == 0) {
      __m512* sums = sums_ + SlotOf(kDone) * kVectors;
      // Outputs before the first are made of columns that it does not begin with.
      if (--early_ < 0) {
        __m512 y[kVectors];
        Unroll<kVectors>([&](auto v) HT_LAMBDA {
          y[v] = Activate<kActivation, V::kPrecision>(sums[v], alpha_, beta_);
        });
        V::Store(out_, y);
        out_ += task_.out_step;
      }
      Unroll<kVectors>([&](auto v) HT_LAMBDA { sums[v] = Bias(v); });
    }
    ++column_;
    return --left_ != 0;
  }

  template <int kPhase, int kTerm>
  HT_INLINE void AddTerm(bool inside) {
    constexpr int kRow = kTerm * V::kRowsPerTerm;
    const std::byte* next = nullptr;
    if constexpr (V::kRowsPerTerm == 2 && kRow + 1 < kSize) next = Column<kRow + 1>(inside);
    const auto x = V::Load(Column<kRow>(inside), next);
    Unroll<kSize>([&](auto tap) HT_LAMBDA {
      if constexpr ((kPhase - tap) % kStride == 0) {
        Unroll<kVectors>([&](auto v) HT_LAMBDA {
          __m512& sum = sums_[SlotOf(kPhase - tap) * kVectors + v];
          constexpr int kAt = (tap * kTerms + kTerm) * kVectors + v;
          if constexpr (kKeepsWeights) {
            sum = V::MultiplyAdd(sum, x.v[v], kept_[kAt]);
          } else {
            sum = V::MultiplyAdd(sum, x.v[v], V::LoadWeight(weights_ + kAt * 64));
          }
        });
      }
    });
  }

  template <int kRow>
  HT_INLINE const std::byte* Column(bool inside) const {
    const std::byte* from = inside ? task_.rows[kRow] + column_ * task_.steps[kRow] : task_.padding;
    Forget(from);  // one path for both
    // Of the rows that no output before has read: what lies in a far cache comes too late else.
    if constexpr (kRow >= kSize - kStride) {
      for (int line = 0; line < V::kPixelBytes; line += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(from + kAhead * task_.steps[kRow] + line),
                     _MM_HINT_T0);
      }
    }
    return from;
  }

  static constexpr int SlotOf(int position) {
    return (position + kSize * kPhases) / kStride % kSlots;
  }
  HT_INLINE __m512 Bias(int v) const { return _mm512_loadu_ps(task_.bias + v * 16); }

  const FloatDepthwiseRow& task_;
  const __m512 alpha_, beta_;
  const std::byte* weights_;
  std::byte* out_;
  __m512 sums_[kSlots * kVectors];
  typename V::Weight kept_[kKeepsWeights ? kWeights : 1];
  int64_t early_, left_, column_;
};

template <class V, int kSize, int kStride, DepthwiseActivation kActivation>
HT_TARGET void RunSweep(const FloatDepthwiseRow& task) {
  FloatSweep<V, kSize, kStride, kActivation>(task).Run();
}

template <class V, int kSize, int kStride>
FloatDepthwiseFn ForActivation(DepthwiseActivation activation) {
  switch (activation) {
    case DepthwiseActivation::kClip:
      return RunSweep<V, kSize, kStride, DepthwiseActivation::kClip>;
    case DepthwiseActivation::kHardSwish:
      return RunSweep<V, kSize, kStride, DepthwiseActivation::kHardSwish>;
    case DepthwiseActivation::kSigmoid:
      return RunSweep<V, kSize, kStride, DepthwiseActivation::kSigmoid>;
    case DepthwiseActivation::kSwish:
      return RunSweep<V, kSize, kStride, DepthwiseActivation::kSwish>;
  }
  return nullptr;
}

template <class V, int kSize>
FloatDepthwiseFn ForStride(int64_t stride, DepthwiseActivation activation) {
  return stride == 1 ? ForActivation<V, kSize, 1>(activation)
                     : ForActivation<V, kSize, 2>(activation);
}

template <class V>
FloatDepthwiseFn ForKernel(int64_t kernel, int64_t stride, DepthwiseActivation activation) {
  if (kernel == 3) return ForStride<V, 3>(stride, activation);
  if (kernel == 5) return ForStride<V, 5>(stride, activation);
  return ForStride<V, 7>(stride, activation);
}

}  // namespace

FloatDepthwiseFn FloatDepthwiseKernel(DataType type, int64_t block, int64_t kernel, int64_t stride,
                                      DepthwiseActivation activation) {
  if (type == DataType::kBF16) return ForKernel<BF16>(kernel, stride, activation);
  return block == 32 ? ForKernel<F32<2>>(kernel, stride, activation)
                     : ForKernel<F32<1>>(kernel, stride, activation);
}

}  // namespace halftone
