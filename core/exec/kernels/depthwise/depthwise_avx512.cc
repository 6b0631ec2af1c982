// AVX-512 with VNNI: four products and their sum in one instruction.
#define HT_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")))
#include "core/exec/kernels/depthwise/sweep.h"

namespace halftone {
namespace {

struct Zmm {
  using I = __m512i;
  using F = __m512;
  using Taps = __m512i;
  static constexpr int kWidth = 64, kTapBytes = 64;
  static constexpr bool kManyRegisters = true;

  HT_INLINE static I Zero() { return _mm512_setzero_si512(); }
  HT_INLINE static I Bytes(uint8_t b) { return _mm512_set1_epi8(static_cast<char>(b)); }
  HT_INLINE static I Words(int32_t w) { return _mm512_set1_epi16(static_cast<int16_t>(w)); }
  HT_INLINE static I Xor(I a, I b) { return _mm512_xor_si512(a, b); }
  HT_INLINE static I Low8(I a, I b) { return _mm512_unpacklo_epi8(a, b); }
  HT_INLINE static I High8(I a, I b) { return _mm512_unpackhi_epi8(a, b); }
  HT_INLINE static I Low16(I a, I b) { return _mm512_unpacklo_epi16(a, b); }
  HT_INLINE static I High16(I a, I b) { return _mm512_unpackhi_epi16(a, b); }
  HT_INLINE static I Load(const void* p) { return _mm512_loadu_si512(p); }
  HT_INLINE static void Store(void* p, I v) { _mm512_storeu_si512(p, v); }

  HT_INLINE static Taps Split(I quads) { return quads; }
  HT_INLINE static Taps LoadTaps(const std::byte* p) { return Load(p); }
  HT_INLINE static I Dot(I sum, I x, I w) { return _mm512_dpbusd_epi32(sum, x, w); }

  HT_INLINE static F Floats(float f) { return _mm512_set1_ps(f); }
  HT_INLINE static F LoadFloats(const float* p) { return _mm512_loadu_ps(p); }
  HT_INLINE static void StoreFloats(float* p, F v) { _mm512_storeu_ps(p, v); }
  HT_INLINE static F ToFloats(I v) { return _mm512_cvtepi32_ps(v); }
  HT_INLINE static I ToInts(F v) { return _mm512_cvtps_epi32(v); }
  HT_INLINE static F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  HT_INLINE static F FmaSub(F a, F b, F c) { return _mm512_fmsub_ps(a, b, c); }
  HT_INLINE static F Sub(F a, F b) { return _mm512_sub_ps(a, b); }
  HT_INLINE static F Mul(F a, F b) { return _mm512_mul_ps(a, b); }
  HT_INLINE static F Div(F a, F b) { return _mm512_div_ps(a, b); }
  HT_INLINE static F Min(F a, F b) { return _mm512_min_ps(a, b); }
  HT_INLINE static F Max(F a, F b) { return _mm512_max_ps(a, b); }
  HT_INLINE static F ScaleByLowBits(F p, F bits) {
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(bits), 23)));
  }
  HT_INLINE static I PackWords(I a, I b) { return _mm512_packs_epi32(a, b); }
  HT_INLINE static I AddWords(I a, I b) { return _mm512_adds_epi16(a, b); }
  template <bool kSigned>
  HT_INLINE static I PackBytes(I a, I b) {
    return kSigned ? _mm512_packs_epi16(a, b) : _mm512_packus_epi16(a, b);
  }
  template <bool kSigned>
  HT_INLINE static I Clamp(I v, I low, I high) {
    return kSigned ? _mm512_min_epi8(_mm512_max_epi8(v, low), high)
                   : _mm512_min_epu8(_mm512_max_epu8(v, low), high);
  }

  class Partial {
   public:
    HT_INLINE explicit Partial(int64_t count)
        : count_(count), mask_(~uint64_t{0} >> (64 - count)) {}
    HT_INLINE I Read(const uint8_t* p) const { return _mm512_maskz_loadu_epi8(mask_, p); }
    HT_INLINE void Write(uint8_t* p, I v) const {
      if (count_ == kWidth) return Store(p, v);
      alignas(64) uint8_t bytes[kWidth];
      Store(bytes, v);
      CopyFew(bytes, count_, p);
    }

   private:
    int64_t count_;
    __mmask64 mask_;
  };
};

struct Ymm : YmmBase {
  using Taps = __m256i;
  static constexpr int kTapBytes = 32;
  static constexpr bool kManyRegisters = true;

  HT_INLINE static Taps Split(I quads) { return quads; }
  HT_INLINE static Taps LoadTaps(const std::byte* p) { return Load(p); }
  HT_INLINE static I Dot(I sum, I x, I w) { return _mm256_dpbusd_epi32(sum, x, w); }

  class Partial {
   public:
    HT_INLINE explicit Partial(int64_t count)
        : count_(count), mask_(static_cast<__mmask32>(~uint32_t{0} >> (32 - count))) {}
    HT_INLINE I Read(const uint8_t* p) const { return _mm256_maskz_loadu_epi8(mask_, p); }
    HT_INLINE void Write(uint8_t* p, I v) const {
      if (count_ == kWidth) return Store(p, v);
      alignas(32) uint8_t bytes[kWidth];
      Store(bytes, v);
      CopyFew(bytes, count_, p);
    }

   private:
    int64_t count_;
    __mmask32 mask_;
  };
};

}  // namespace

const DepthwiseIsa& DepthwiseAvx512() {
  static constexpr DepthwiseKernels kHalf = KernelsOf<Ymm>();
  static constexpr DepthwiseIsa kIsa{
      .name = "avx512_vnni", .width = Zmm::kWidth, .whole = KernelsOf<Zmm>(), .half = &kHalf};
  return kIsa;
}

}  // namespace halftone
