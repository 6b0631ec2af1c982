#include "core/quant/low_bit.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;

std::vector<float> Bell(int n, unsigned seed) {
  std::mt19937 rng(seed);
  std::vector<float> w(static_cast<size_t>(n));
  for (float& v : w) {
    v = 0;
    for (int i = 0; i < 4; ++i) v += static_cast<float>(rng() % 65536) / 65536.0f - 0.5f;
  }
  return w;
}

double SquaredError(absl::Span<const float> w, absl::Span<const int8_t> q, double scale) {
  double sum = 0;
  for (size_t i = 0; i < w.size(); ++i) sum += std::pow(w[i] - scale * q[i], 2);
  return sum;
}

TEST(Ternary, SmallWeightsBecomeZero) {
  const std::vector<float> w = {4, -6, 0.5f, 5, -0.25f};
  EXPECT_EQ(TernaryScale(w), 5);
  std::vector<int8_t> t(w.size());
  QuantizeTernary(w, 5, absl::MakeSpan(t));
  EXPECT_THAT(t, ElementsAre(1, -1, 0, 1, 0));
}

TEST(Ternary, TheFirstThresholdIsNotTheLast) {
  // 0.7 · mean|w| = 0.7 · 2.2 keeps 2; but 2 is nearer to 0 than to the mean 5.25 of what is kept.
  const std::vector<float> w = {10, 2, 0, 0, 0};
  EXPECT_EQ(TernaryScale({10, 2, 0, 0, 0}), 10);
  std::vector<int8_t> t(w.size());
  QuantizeTernary(w, 10, absl::MakeSpan(t));
  EXPECT_THAT(t, ElementsAre(1, 0, 0, 0, 0));
}

TEST(Ternary, NothingNearbyIsBetter) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    const std::vector<float> w = Bell(301, seed);
    const float scale = TernaryScale(w);
    std::vector<int8_t> t(w.size());
    QuantizeTernary(w, scale, absl::MakeSpan(t));
    const double error = SquaredError(w, t, scale);
    EXPECT_LE(error, SquaredError(w, t, scale * 1.01) + 1e-9);
    EXPECT_LE(error, SquaredError(w, t, scale * 0.99) + 1e-9);
    // The threshold of the paper, without the alternation.
    double mean = 0;
    for (const float v : w) mean += std::abs(v) / static_cast<double>(w.size());
    double sum = 0, count = 0;
    for (const float v : w) {
      if (std::abs(v) > 0.7 * mean) sum += std::abs(v), ++count;
    }
    std::vector<int8_t> first(w.size());
    for (size_t i = 0; i < w.size(); ++i) {
      first[i] = static_cast<int8_t>(std::abs(w[i]) > 0.7 * mean ? (w[i] > 0 ? 1 : -1) : 0);
    }
    EXPECT_LE(error, SquaredError(w, first, sum / count) + 1e-9) << seed;
  }
}

TEST(Binary, TheMeanMagnitudeIsTheBestScale) {
  const std::vector<float> w = {1, -2, 3, 0};
  EXPECT_EQ(BinaryScale(w), 1.5f);
  std::vector<int8_t> b(w.size());
  QuantizeBinary(w, absl::MakeSpan(b));
  EXPECT_THAT(b, ElementsAre(1, -1, 1, 1));
  for (const double other : {1.4, 1.6}) {
    EXPECT_LT(SquaredError(w, b, 1.5), SquaredError(w, b, other));
  }
}

TEST(LowBit, ZerosHaveScaleOne) {
  const std::vector<float> zeros(5, 0.0f);
  EXPECT_EQ(TernaryScale(zeros), 1);
  EXPECT_EQ(BinaryScale(zeros), 1);
  EXPECT_EQ(TernaryScale({}), 1);
  EXPECT_EQ(BinaryScale({}), 1);
}

TEST(LowBit, ScalesAreNeverSubnormal) {
  const std::vector<float> tiny(4, std::numeric_limits<float>::denorm_min());
  EXPECT_GE(TernaryScale(tiny), std::numeric_limits<float>::min());
  EXPECT_GE(BinaryScale(tiny), std::numeric_limits<float>::min());
}

// What was quantized is its own quantization.
TEST(LowBit, QuantizingTwiceChangesNothing) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    const std::vector<float> w = Bell(64, seed);
    std::vector<int8_t> once(w.size()), twice(w.size());
    const float scale = TernaryScale(w);
    QuantizeTernary(w, scale, absl::MakeSpan(once));
    std::vector<float> wide(w.size());
    for (size_t i = 0; i < w.size(); ++i) wide[i] = scale * once[i];
    EXPECT_FLOAT_EQ(TernaryScale(wide), scale);
    QuantizeTernary(wide, TernaryScale(wide), absl::MakeSpan(twice));
    EXPECT_EQ(once, twice);
    const float binary_scale = BinaryScale(w);
    QuantizeBinary(w, absl::MakeSpan(once));
    for (size_t i = 0; i < w.size(); ++i) wide[i] = binary_scale * once[i];
    EXPECT_FLOAT_EQ(BinaryScale(wide), binary_scale);
    QuantizeBinary(wide, absl::MakeSpan(twice));
    EXPECT_EQ(once, twice);
  }
}

}  // namespace
}  // namespace halftone
