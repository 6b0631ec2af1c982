#include "core/exec/kernels/depthwise/depthwise.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/exec/kernels/depthwise/depthwise_isa.h"
#include "core/exec/kernels/depthwise/exp.h"
#include "tests/unit/exec/depthwise_util.h"

namespace halftone {
namespace {

std::vector<const DepthwiseIsa*> IsasOfThisCpu() {
  std::vector<const DepthwiseIsa*> out;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    out.push_back(&DepthwiseAvx2());
  }
  if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    out.push_back(&DepthwiseAvx512());
  }
  return out;
}

using Bytes = std::vector<uint8_t>;

Bytes RandomBytes(std::mt19937& rng, int64_t n) {
  Bytes out(static_cast<size_t>(n));
  for (uint8_t& b : out) b = static_cast<uint8_t>(rng());
  return out;
}

DepthwiseArithmetic RandomArithmetic(std::mt19937& rng, const DepthwiseShape& s,
                                     DepthwiseActivation activation, DataType destination) {
  DepthwiseArithmetic a{.source = Draw(rng, 0, 1) == 0 ? DataType::kU8 : DataType::kI8,
                        .activation = activation,
                        .destination = destination};
  const auto zero = [&](DataType t) {
    const int64_t z = Draw(rng, 0, 255);
    return static_cast<int32_t>(t == DataType::kI8 ? z - 128 : z);
  };
  a.source_zero = zero(a.source);
  a.scales.resize(static_cast<size_t>(s.channels));
  a.bias.resize(a.scales.size());
  for (float& x : a.scales) x = static_cast<float>(Draw(rng, 1, 1000)) * 1e-6f;
  for (float& x : a.bias) x = static_cast<float>(Draw(rng, -1000, 1000)) * 1e-3f;
  if (activation == DepthwiseActivation::kHardSwish) {
    a.alpha = 1.0f / 6.0f;
    a.beta = 0.5f;
  } else if (activation == DepthwiseActivation::kClip && Draw(rng, 0, 1) == 0) {
    a.alpha = Draw(rng, 0, 1) == 0 ? 0.0f : -3.5f;
    if (Draw(rng, 0, 1) == 0) a.beta = 6.0f;
  }
  if (destination != DataType::kF32) {
    // Small ones saturate most results.
    a.destination_scale = Draw(rng, 0, 2) == 0 ? 0.003f : 0.07f;
    a.destination_zero = zero(destination);
  }
  return a;
}

std::string Describe(const DepthwiseShape& s, const DepthwiseArithmetic& a) {
  return absl::StrCat(DescribeShape(s), " ", Name(a.source), " zero ", a.source_zero,
                      " activation ", static_cast<int>(a.activation), " to ", Name(a.destination));
}

struct Case {
  DepthwiseShape shape;
  DepthwiseArithmetic arithmetic;
  Bytes source, weights;

  int64_t out_elements() const {
    return shape.batch * shape.out_height * shape.out_width * shape.channels;
  }
  int64_t out_bytes() const { return out_elements() * BitWidth(arithmetic.destination) / 8; }
  const int8_t* w() const { return reinterpret_cast<const int8_t*>(weights.data()); }
};

Case RandomCase(std::mt19937& rng, const DepthwiseShape& s, DepthwiseActivation activation,
                DataType destination) {
  return {s, RandomArithmetic(rng, s, activation, destination),
          RandomBytes(rng, s.batch * s.height * s.width * s.channels),
          RandomBytes(rng, s.channels * s.kernel_height * s.kernel_width)};
}

// One exact allocation for the result, so that sanitizers see a byte too many.
Bytes Reference(const Case& c) {
  Bytes out(static_cast<size_t>(c.out_bytes()), 0xee);
  DepthwiseReference(c.shape, c.w(), c.arithmetic, c.source.data(), out.data());
  return out;
}

Bytes RunOn(const DepthwiseIsa& isa, const Case& c) {
  const DepthwiseShape& s = c.shape;
  const auto packed =
      DepthwiseWeights::Pack(isa, c.w(), s.channels, s.kernel_height, s.kernel_width);
  EXPECT_NE(packed, nullptr);
  Bytes out(static_cast<size_t>(c.out_bytes()), 0xdd);
  Depthwise(s, packed, c.arithmetic).Run(c.source.data(), out.data());
  return out;
}

class DepthwiseOn
    : public testing::TestWithParam<std::tuple<const DepthwiseIsa*, DepthwiseActivation>> {};

TEST_P(DepthwiseOn, GivesTheBytesOfTheDefinition) {
  const auto [isa, activation] = GetParam();
  std::mt19937 rng(static_cast<uint32_t>(activation) + 11);
  for (int i = 0; i < 250; ++i) {
    const DepthwiseShape shape = RandomShape(rng);
    for (const DataType to : {DataType::kU8, DataType::kI8, DataType::kF32}) {
      const Case c = RandomCase(rng, shape, activation, to);
      ASSERT_TRUE(DepthwiseStaysInRange(shape, c.arithmetic));
      ASSERT_EQ(RunOn(*isa, c), Reference(c)) << Describe(shape, c.arithmetic);
    }
  }
}

std::string NameOf(const testing::TestParamInfo<DepthwiseOn::ParamType>& info) {
  constexpr absl::string_view kNames[] = {"Clip", "HardSwish", "Sigmoid", "Swish"};
  return absl::StrCat(Name(*std::get<0>(info.param)), "_",
                      kNames[static_cast<int>(std::get<1>(info.param))]);
}

INSTANTIATE_TEST_SUITE_P(
    Isas, DepthwiseOn,
    testing::Combine(testing::ValuesIn(IsasOfThisCpu()),
                     testing::Values(DepthwiseActivation::kClip, DepthwiseActivation::kHardSwish,
                                     DepthwiseActivation::kSigmoid, DepthwiseActivation::kSwish)),
    NameOf);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DepthwiseOn);

// By hand, 3 x 3 ones over 1 .. 9 with a border of padding: sums of neighbours.
TEST(Depthwise, TheDefinitionAddsNeighboursAndIgnoresPadding) {
  const DepthwiseShape s{.channels = 1,
                         .height = 3,
                         .width = 3,
                         .out_height = 3,
                         .out_width = 3,
                         .kernel_height = 3,
                         .kernel_width = 3,
                         .pad_top = 1,
                         .pad_left = 1};
  DepthwiseArithmetic a{.source_zero = 10, .scales = {1.0f}, .bias = {0.5f}};
  const Bytes x = {11, 12, 13, 14, 15, 16, 17, 18, 19};
  const std::vector<int8_t> w(9, 1);
  std::vector<float> y(9);
  DepthwiseReference(s, w.data(), a, x.data(), y.data());
  EXPECT_EQ(y, (std::vector<float>{12.5, 21.5, 16.5, 27.5, 45.5, 33.5, 24.5, 39.5, 28.5}));
  // 12.5 / 2 + 1, 21.5 / 2 + 1, … to the nearest, at most what 40 is.
  a.destination = DataType::kU8;
  a.destination_scale = 2;
  a.destination_zero = 1;
  a.beta = 40;
  Bytes q(9);
  DepthwiseReference(s, w.data(), a, x.data(), q.data());
  EXPECT_EQ(q, (Bytes{7, 12, 9, 15, 21, 18, 13, 21, 15}));
}

TEST(Depthwise, TheLargestSumsAreExact) {
  for (const DepthwiseIsa* isa : IsasOfThisCpu()) {
    for (const int8_t weight : {int8_t{127}, int8_t{-128}}) {
      const DepthwiseShape s{.channels = 40,
                             .height = 9,
                             .width = 9,
                             .out_height = 3,
                             .out_width = 3,
                             .kernel_height = 7,
                             .kernel_width = 7};
      Case c{s,
             {.scales = std::vector<float>(40, 1.0f), .bias = std::vector<float>(40, 0.0f)},
             Bytes(9 * 9 * 40, 255),
             Bytes(7 * 7 * 40, static_cast<uint8_t>(weight))};
      const Bytes got = RunOn(*isa, c);
      float y;
      for (size_t i = 0; i < got.size(); i += sizeof(y)) {
        std::memcpy(&y, &got[i], sizeof(y));
        ASSERT_EQ(y, 255.0f * 49 * static_cast<float>(weight)) << Name(*isa);
      }
    }
  }
}

TEST(Depthwise, NumbersDoNotDependOnTheThreads) {
  std::mt19937 rng(6);
  const DepthwiseShape s{.channels = 200,
                         .height = 30,
                         .width = 30,
                         .out_height = 30,
                         .out_width = 30,
                         .kernel_height = 5,
                         .kernel_width = 5,
                         .pad_top = 2,
                         .pad_left = 2};
  const Case c = RandomCase(rng, s, DepthwiseActivation::kSwish, DataType::kU8);
  const int threads = omp_get_max_threads();
  for (const DepthwiseIsa* isa : IsasOfThisCpu()) {
    omp_set_num_threads(1);
    const Bytes one = RunOn(*isa, c);
    omp_set_num_threads(3);
    EXPECT_EQ(RunOn(*isa, c), one) << Name(*isa);
    omp_set_num_threads(threads);
  }
}

TEST(ExpOfMinus, IsWithinItsErrorBounds) {
  const auto worst = [](float limit) {
    double worst = 0;
    for (float y = -limit; y <= limit; y += limit / 50021) {
      worst = std::max(worst, std::abs(ExpOfMinus(y) * std::exp(static_cast<double>(y)) - 1));
    }
    return worst;
  };
  EXPECT_LE(worst(16.0f), 4e-7);
  EXPECT_LE(worst(87.0f), 2e-6);
  EXPECT_EQ(ExpOfMinus(0.0f), 1.0f);
  EXPECT_EQ(ExpOfMinus(1e9f), ExpOfMinus(87.0f));
  EXPECT_EQ(ExpOfMinus(-1e9f), ExpOfMinus(-87.0f));
}

TEST(Depthwise, WhatLeaves32BitsIsNotTaken) {
  const DepthwiseShape s{.channels = 1, .kernel_height = 3, .kernel_width = 3};
  DepthwiseArithmetic a{.scales = {1e-3f}, .bias = {0.0f}, .destination = DataType::kU8};
  EXPECT_TRUE(DepthwiseStaysInRange(s, a));
  for (const float scale : {1e4f, 1e38f, INFINITY, NAN}) {
    DepthwiseArithmetic large = a;
    large.scales = {scale};
    EXPECT_FALSE(DepthwiseStaysInRange(s, large)) << scale;
    large = a;
    large.bias = {scale * 1e6f};
    EXPECT_FALSE(DepthwiseStaysInRange(s, large)) << scale;
  }
  a.destination_scale = 1e-30f;
  EXPECT_FALSE(DepthwiseStaysInRange(s, a));
}

TEST(Depthwise, WeightsStayNarrow) {
  const Bytes w(static_cast<size_t>(960 * 9), 1);
  const auto packed = DepthwiseWeights::Pack(DepthwiseAvx512(),
                                             reinterpret_cast<const int8_t*>(w.data()), 960, 3, 3);
  EXPECT_LE(packed->bytes(), 960 * (12 + 4));  // three columns of four, and the sum
}

}  // namespace
}  // namespace halftone
