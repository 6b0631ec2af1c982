// AVX2: u8 · i8 as products of 16-bit pairs, whose sums fit 32 bits (pairs of bytes would
// saturate).
#define HT_TARGET __attribute__((target("avx2,fma")))
#include "core/exec/kernels/depthwise/sweep.h"

namespace halftone {
namespace {

struct Avx2 : YmmBase {
  static constexpr bool kManyRegisters = false;
  static constexpr int kTapBytes = 64;
  // Taps 0 and 2, then 1 and 3, as i16.
  struct Taps {
    I even, odd;
  };

  HT_INLINE static Taps Split(I quads) {
    return {_mm256_and_si256(quads, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(quads, 8)};
  }
  HT_INLINE static Taps LoadTaps(const std::byte* p) { return {Load(p), Load(p + kWidth)}; }
  HT_INLINE static I Dot(I sum, const Taps& x, const Taps& w) {
    const I pairs =
        _mm256_add_epi32(_mm256_madd_epi16(x.even, w.even), _mm256_madd_epi16(x.odd, w.odd));
    return _mm256_add_epi32(sum, pairs);
  }

  // The channels of a block that exist.
  class Partial {
   public:
    HT_INLINE explicit Partial(int64_t count) : count_(count) {}
    HT_INLINE I Read(const uint8_t* p) const { return count_ == kWidth ? Load(p) : ReadFew(p); }
    HT_INLINE void Write(uint8_t* p, I v) const {
      if (count_ == kWidth) return Store(p, v);
      alignas(32) uint8_t bytes[kWidth];
      Store(bytes, v);
      CopyFew(bytes, count_, p);
    }

   private:
    // Not inline: there is one for every row of every phase of a sweep.
    HT_TARGET __attribute__((noinline)) I ReadFew(const uint8_t* p) const {
      alignas(32) uint8_t bytes[kWidth] = {};
      CopyFew(p, count_, bytes);
      return Load(bytes);
    }

    int64_t count_;
  };
};

}  // namespace

const DepthwiseIsa& DepthwiseAvx2() {
  static constexpr DepthwiseIsa kIsa{
      .name = "avx2", .width = Avx2::kWidth, .pairs = true, .whole = KernelsOf<Avx2>()};
  return kIsa;
}

}  // namespace halftone
