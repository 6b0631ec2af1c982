#include "core/quant/affine.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace halftone {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct RoundCase {
  std::string name;
  float x;
  QParams params;
  int want;
};
class QuantizeU8 : public ::testing::TestWithParam<RoundCase> {};
class QuantizeS8 : public ::testing::TestWithParam<RoundCase> {};
const auto kCaseName = [](const auto& info) { return info.param.name; };

TEST_P(QuantizeU8, RoundsHalfEvenAndSaturates) {
  uint8_t q = 99;
  Quantize({GetParam().x}, GetParam().params, absl::MakeSpan(&q, 1));
  EXPECT_EQ(q, GetParam().want);
}
INSTANTIATE_TEST_SUITE_P(Cases, QuantizeU8,
                         ::testing::Values(RoundCase{"TieDown", 2.5f, {1, 0}, 2},
                                           RoundCase{"TieUp", 3.5f, {1, 0}, 4},
                                           // Rounding comes before the zero point: -2.5 + 7.
                                           RoundCase{"TieThenZeroPoint", -2.5f, {1, 7}, 5},
                                           RoundCase{"Above", 1e30f, {1, 3}, 255},
                                           RoundCase{"Below", -1e30f, {1, 3}, 0},
                                           RoundCase{"PlusInfinity", kInfinity, {1, 3}, 255},
                                           RoundCase{"MinusInfinity", -kInfinity, {1, 3}, 0},
                                           RoundCase{"NanIsZeroPoint", kNaN, {1, 3}, 3},
                                           RoundCase{"Divides", 1.0f, {0.25f, 0}, 4}),
                         kCaseName);

TEST_P(QuantizeS8, RoundsHalfEvenAndSaturates) {
  int8_t q = 99;
  Quantize({GetParam().x}, GetParam().params, absl::MakeSpan(&q, 1));
  EXPECT_EQ(q, GetParam().want);
}
INSTANTIATE_TEST_SUITE_P(Cases, QuantizeS8,
                         ::testing::Values(RoundCase{"Above", 200, {1, 0}, 127},
                                           RoundCase{"Below", -200, {1, 0}, -128},
                                           RoundCase{"NegativeTie", -0.5f, {1, 0}, 0},
                                           RoundCase{"NanIsZeroPoint", kNaN, {1, -4}, -4}),
                         kCaseName);

TEST(Quantize, AgreesWithTheDefinitionOnRandomValues) {
  std::mt19937 rng(3);
  std::normal_distribution<float> values(0, 40);
  for (int round = 0; round < 50; ++round) {
    const QParams p{.scale = std::exp2(static_cast<float>(round % 7) - 3) * 1.01f,
                    .zero_point = static_cast<int32_t>(rng() % 256)};
    std::vector<float> x(1 + rng() % 70);
    for (float& v : x) v = values(rng);
    std::vector<uint8_t> q(x.size());
    Quantize(x, p, absl::MakeSpan(q));
    for (size_t i = 0; i < x.size(); ++i) {
      const float r = std::nearbyint(x[i] / p.scale) + static_cast<float>(p.zero_point);
      EXPECT_EQ(q[i], static_cast<uint8_t>(std::clamp(r, 0.0f, 255.0f))) << x[i];
    }
  }
}

TEST(QuantizeSymmetric, StaysWithinItsLimit) {
  std::vector<int8_t> q(3);
  QuantizeSymmetric({-9.0f, 1.5f, 9.0f}, 0.125f, 63, absl::MakeSpan(q));
  EXPECT_THAT(q, ::testing::ElementsAre(-63, 12, 63));
}

TEST(Dequantize, IsScaleTimesDifference) {
  std::vector<float> x(3);
  Dequantize(std::vector<uint8_t>{0, 128, 255}, {.scale = 0.5f, .zero_point = 128},
             absl::MakeSpan(x));
  EXPECT_THAT(x, ::testing::ElementsAre(-64, 0, 63.5));
}

TEST(Dequantize, DoesNotOverflowInInt32) {
  std::vector<float> x(1);
  Dequantize(std::vector<int32_t>{std::numeric_limits<int32_t>::min()},
             {.scale = 1, .zero_point = 1}, absl::MakeSpan(x));
  EXPECT_EQ(x[0], -2147483648.0f);
}

TEST(Quantize, EveryCodeSurvivesARoundTrip) {
  std::vector<uint8_t> all(256), back(256);
  for (int i = 0; i < 256; ++i) all[i] = static_cast<uint8_t>(i);
  const QParams p = AffineU8({-1.3f, 2.9f});
  std::vector<float> x(256);
  Dequantize(all, p, absl::MakeSpan(x));
  Quantize(x, p, absl::MakeSpan(back));
  EXPECT_EQ(back, all);
}

// What any quantizer owes: order is kept, nothing in the range moves by more than half a step, and
// what is on the grid stays there.
TEST(Quantize, IsMonotoneIdempotentAndAtMostHalfAStepOff) {
  std::mt19937 rng(5);
  std::uniform_real_distribution<float> exponent(-6, 6), unit(0, 1);
  for (int round = 0; round < 200; ++round) {
    const float size = std::pow(10.0f, exponent(rng));
    const ValueRange range = {-size * unit(rng), size * unit(rng)};
    const QParams p = AffineU8(range);
    std::vector<float> x(300);
    for (float& v : x) v = range.min + (range.max - range.min) * unit(rng);
    std::sort(x.begin(), x.end());
    std::vector<uint8_t> codes(x.size()), again(x.size());
    std::vector<float> back(x.size());
    Quantize(x, p, absl::MakeSpan(codes));
    Dequantize(codes, p, absl::MakeSpan(back));
    Quantize(back, p, absl::MakeSpan(again));
    EXPECT_EQ(again, codes);
    EXPECT_TRUE(std::is_sorted(codes.begin(), codes.end()));
    for (size_t i = 0; i < x.size(); ++i) {
      // The ends of the range may lie half a step beyond the outermost codes.
      ASSERT_LE(std::abs(back[i] - x[i]), p.scale * 1.001f) << x[i];
      const bool inside = codes[i] != 0 && codes[i] != 255;
      if (inside) {
        ASSERT_LE(std::abs(back[i] - x[i]), p.scale * 0.5001f) << x[i];
      }
    }
  }
}

TEST(AffineU8, MapsTheRangeOntoEveryCode) {
  EXPECT_EQ(AffineU8({-1, 1.55f}), (QParams{.scale = 2.55f / 255, .zero_point = 100}));
}
TEST(AffineU8, WidensTheRangeToContainZero) {
  EXPECT_EQ(AffineU8({51, 102}), (QParams{.scale = 0.4f, .zero_point = 0}));
  EXPECT_EQ(AffineU8({-102, -51}), (QParams{.scale = 0.4f, .zero_point = 255}));
}
TEST(AffineU8, AllZeroHasScaleOne) { EXPECT_EQ(AffineU8({0, 0}), (QParams{1, 0})); }
TEST(AffineS8, CentresASymmetricRangeAtZeroOrBesideIt) {
  EXPECT_EQ(AffineS8({0, 255}), (QParams{.scale = 1, .zero_point = -128}));
}
TEST(QParams, ScalesAreNeverSubnormalNorInfinite) {
  EXPECT_EQ(SymmetricQParams(1e-44f, 127).scale, std::numeric_limits<float>::min());
  EXPECT_EQ(AffineU8({-1e-44f, 1e-44f}).scale, std::numeric_limits<float>::min());
  constexpr float kMax = std::numeric_limits<float>::max();
  EXPECT_TRUE(std::isfinite(AffineU8({-kMax, kMax}).scale));
}
TEST(SymmetricQParams, AllZeroHasScaleOne) { EXPECT_EQ(SymmetricQParams(0, 127), (QParams{1, 0})); }

}  // namespace
}  // namespace halftone
