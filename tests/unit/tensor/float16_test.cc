#include "core/tensor/float16.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace halftone {
namespace {

uint32_t Bits(float f) { return std::bit_cast<uint32_t>(f); }

// Every finite value of a half type, ascending, computed from its definition.
template <typename Half>
std::vector<float> AscendingPositives(int count) {
  std::vector<float> out;
  for (int bits = 0; bits < count; ++bits) out.push_back(Half::ToFloat(bits));
  return out;
}
constexpr int kPositiveF16 = 0x7c00;  // patterns below +infinity
constexpr int kPositiveBF16 = 0x7f80;

TEST(Float16, EveryPatternMeansWhatIeeeSays) {
  for (int bits = 0; bits <= 0xffff; ++bits) {
    const int exponent = (bits >> 10) & 0x1f;
    const int mantissa = bits & 0x3ff;
    const float got = Float16::ToFloat(static_cast<uint16_t>(bits));
    EXPECT_EQ(std::signbit(got), bits >= 0x8000) << bits;
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(got), mantissa != 0) << bits;
      EXPECT_EQ(std::isinf(got), mantissa == 0) << bits;
      continue;
    }
    const double want =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    EXPECT_EQ(std::fabs(static_cast<double>(got)), want) << bits;
  }
}

TEST(Float16, EveryPatternRoundTrips) {
  for (int bits = 0; bits <= 0xffff; ++bits) {
    const uint16_t pattern = static_cast<uint16_t>(bits);
    const float f = Float16::ToFloat(pattern);
    const uint16_t back = Float16::FromFloat(f);
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(Float16::ToFloat(back))) << bits;
      EXPECT_EQ(back & 0x8000, bits & 0x8000) << bits;
    } else {
      EXPECT_EQ(back, pattern) << bits;
    }
  }
}

TEST(BFloat16, EveryPatternIsTheUpperHalfAndRoundTrips) {
  for (int bits = 0; bits <= 0xffff; ++bits) {
    const uint16_t pattern = static_cast<uint16_t>(bits);
    const float f = BFloat16::ToFloat(pattern);
    EXPECT_EQ(Bits(f), static_cast<uint32_t>(bits) << 16);
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(BFloat16::ToFloat(BFloat16::FromFloat(f)))) << bits;
    } else {
      EXPECT_EQ(BFloat16::FromFloat(f), pattern) << bits;
    }
  }
}

// Between each two neighbours: just below the middle goes down, just above it up, the middle to the
// even pattern.
template <typename Half>
void CheckRoundingBetweenNeighbours(int count) {
  const std::vector<float> values = AscendingPositives<Half>(count);
  for (int low = 0; low + 1 < count; ++low) {
    const double middle = (static_cast<double>(values[low]) + values[low + 1]) / 2;
    const float tie = static_cast<float>(middle);
    ASSERT_EQ(static_cast<double>(tie), middle) << low;
    const uint16_t even = static_cast<uint16_t>(low % 2 == 0 ? low : low + 1);
    ASSERT_EQ(Half::FromFloat(tie), even) << low;
    ASSERT_EQ(Half::FromFloat(-tie), even | 0x8000) << low;
    ASSERT_EQ(Half::FromFloat(std::nextafter(tie, 0.0f)), low) << low;
    ASSERT_EQ(Half::FromFloat(std::nextafter(tie, INFINITY)), low + 1) << low;
  }
}

TEST(Float16, RoundsToNearestEvenBetweenAllNeighbours) {
  CheckRoundingBetweenNeighbours<Float16>(kPositiveF16);
}

TEST(BFloat16, RoundsToNearestEvenBetweenAllNeighbours) {
  // The middle between two of the smallest bf16 values is an f32 subnormal: exact all the same.
  CheckRoundingBetweenNeighbours<BFloat16>(kPositiveBF16);
}

TEST(Float16, OverflowsToInfinityFromHalfAStepBeyondTheLargest) {
  EXPECT_EQ(Float16::FromFloat(65504.0f), 0x7bff);
  EXPECT_EQ(Float16::FromFloat(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(Float16::FromFloat(65520.0f), 0x7c00);
  EXPECT_EQ(Float16::FromFloat(std::numeric_limits<float>::max()), 0x7c00);
  EXPECT_EQ(Float16::FromFloat(-INFINITY), 0xfc00);
  EXPECT_EQ(BFloat16::FromFloat(std::numeric_limits<float>::max()), 0x7f80);
}

TEST(Float16, UnderflowsToSignedZero) {
  EXPECT_EQ(Float16::FromFloat(0x1p-25f), 0x0000) << "a tie, zero is even";
  EXPECT_EQ(Float16::FromFloat(std::nextafter(0x1p-25f, 1.0f)), 0x0001);
  EXPECT_EQ(Float16::FromFloat(-0x1p-30f), 0x8000);
  EXPECT_EQ(Float16::FromFloat(-0.0f), 0x8000);
}

TEST(Float16, NanStaysNanWhateverItsPayload) {
  for (const uint32_t bits : {0x7f800001u, 0xff800001u, 0x7fc00000u, 0x7fffffffu, 0xffffffffu}) {
    const float nan = std::bit_cast<float>(bits);
    EXPECT_TRUE(std::isnan(Float16::ToFloat(Float16::FromFloat(nan)))) << bits;
    EXPECT_TRUE(std::isnan(BFloat16::ToFloat(BFloat16::FromFloat(nan)))) << bits;
  }
}

#if defined(__x86_64__)
__attribute__((target("f16c"))) uint16_t HardwareFromFloat(float f) {
  return static_cast<uint16_t>(_cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT));
}
__attribute__((target("f16c"))) float HardwareToFloat(uint16_t h) { return _cvtsh_ss(h); }

TEST(Float16, AgreesWithTheHardware) {
  if (!__builtin_cpu_supports("f16c")) GTEST_SKIP() << "this CPU has no F16C";
  for (int bits = 0; bits <= 0xffff; ++bits) {
    const float got = Float16::ToFloat(static_cast<uint16_t>(bits));
    const float want = HardwareToFloat(static_cast<uint16_t>(bits));
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(got)) << bits;
    } else {
      ASSERT_EQ(Bits(got), Bits(want)) << bits;
    }
  }
  std::mt19937 random(7);
  for (int i = 0; i < 2'000'000; ++i) {
    const float f = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (std::isnan(f)) continue;
    ASSERT_EQ(Float16::FromFloat(f), HardwareFromFloat(f)) << Bits(f);
  }
}
#endif

}  // namespace
}  // namespace halftone
