#include "core/exec/kernels/depthwise/float_depthwise.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "core/tensor/float16.h"
#include "tests/unit/exec/depthwise_util.h"

namespace halftone {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <typename T>
constexpr DataType kTypeOf = std::is_same_v<T, float> ? DataType::kF32 : DataType::kBF16;

double Sigmoid(double y) { return 1 / (1 + std::exp(-y)); }

double Activate(double y, const FloatDepthwiseArithmetic& a) {
  switch (a.activation) {
    case DepthwiseActivation::kClip:
      return std::min<double>(std::max<double>(y, a.alpha), a.beta);
    case DepthwiseActivation::kHardSwish:
      return y * std::clamp(a.alpha * y + a.beta, 0.0, 1.0);
    case DepthwiseActivation::kSigmoid:
      return Sigmoid(y);
    case DepthwiseActivation::kSwish:
      return y * Sigmoid(y);
  }
  return y;
}

template <typename T>
struct Case {
  DepthwiseShape shape;
  FloatDepthwiseArithmetic arithmetic;
  std::vector<T> source;
  std::vector<float> weights;  // that T holds
};

template <typename T>
Case<T> RandomCase(std::mt19937& rng, const DepthwiseShape& s, DepthwiseActivation activation) {
  std::uniform_real_distribution<float> any(-1.0f, 1.0f);
  Case<T> c{s, {.type = kTypeOf<T>, .activation = activation}, {}, {}};
  c.source.resize(static_cast<size_t>(s.batch * s.height * s.width * s.channels));
  c.weights.resize(static_cast<size_t>(s.channels * s.kernel_height * s.kernel_width));
  c.arithmetic.bias.resize(static_cast<size_t>(s.channels));
  for (T& x : c.source) x = T(3 * any(rng));
  for (float& w : c.weights) w = static_cast<float>(T(any(rng)));
  for (float& b : c.arithmetic.bias) b = any(rng);
  if (activation == DepthwiseActivation::kHardSwish) {
    c.arithmetic.alpha = 1.0f / 6.0f;
    c.arithmetic.beta = 0.5f;
  } else if (activation == DepthwiseActivation::kClip && Draw(rng, 0, 1) == 0) {
    c.arithmetic.alpha = 0.0f;
    c.arithmetic.beta = 1.5f;
  }
  return c;
}

// The convolution by its definition, and what its terms add up to in absolute terms.
template <typename T>
std::pair<double, double> Definition(const Case<T>& c, int64_t at) {
  const DepthwiseShape& s = c.shape;
  const int64_t channel = at % s.channels, ox = at / s.channels % s.out_width;
  const int64_t oy = at / s.channels / s.out_width % s.out_height;
  const int64_t n = at / s.channels / s.out_width / s.out_height;
  double sum = c.arithmetic.bias[channel], size = std::abs(sum);
  for (int64_t tap = 0; tap < s.kernel_height * s.kernel_width; ++tap) {
    const int64_t y = oy * s.stride_height - s.pad_top + tap / s.kernel_width;
    const int64_t x = ox * s.stride_width - s.pad_left + tap % s.kernel_width;
    if (y < 0 || y >= s.height || x < 0 || x >= s.width) continue;
    const auto value = static_cast<double>(static_cast<float>(
                           c.source[((n * s.height + y) * s.width + x) * s.channels + channel])) *
                       c.weights[channel * s.kernel_height * s.kernel_width + tap];
    sum += value;
    size += std::abs(value);
  }
  return {Activate(sum, c.arithmetic), size};
}

template <typename T>
std::vector<T> RunCase(const Case<T>& c) {
  const DepthwiseShape& s = c.shape;
  const auto weights =
      PackFloatDepthwise(kTypeOf<T>, c.weights, s.channels, s.kernel_height, s.kernel_width);
  EXPECT_NE(weights, nullptr);
  // One exact allocation, so that sanitizers see an element too many.
  std::vector<T> out(static_cast<size_t>(s.batch * s.out_height * s.out_width * s.channels),
                     T(kNan));
  FloatDepthwise(s, weights, c.arithmetic).Run(c.source.data(), out.data());
  return out;
}

class FloatDepthwiseOf : public testing::TestWithParam<std::tuple<DataType, DepthwiseActivation>> {
};

template <typename T>
void ExpectDefinition(DepthwiseActivation activation) {
  const double half_step = kTypeOf<T> == DataType::kF32 ? 0x1p-24 : 0x1p-8;
  std::mt19937 rng(static_cast<uint32_t>(activation) + 21);
  int taken = 0;
  for (int i = 0; i < 300; ++i) {
    DepthwiseShape shape = RandomShape(rng);
    // Some images are too large for a near cache, and are cut in another way.
    if (i % 50 == 0) shape.height += (int64_t{1} << 19) / (shape.width * shape.channels);
    if (!HasFloatDepthwise(DetectCpuFeatures(), kTypeOf<T>, shape.channels)) continue;
    ++taken;
    const Case<T> c = RandomCase<T>(rng, shape, activation);
    const std::vector<T> got = RunCase(c);
    for (size_t k = 0; k < got.size(); ++k) {
      const auto [want, size] = Definition(c, static_cast<int64_t>(k));
      const double error = std::abs(static_cast<double>(static_cast<float>(got[k])) - want);
      // Rounding of sums, of the function (2^-12 for bf16) and of the result.
      ASSERT_LE(error, 8e-6 * (size + 1) + 1.1 * half_step * std::abs(want))
          << DescribeShape(shape) << " output " << k << " is " << static_cast<float>(got[k]);
    }
  }
  EXPECT_GT(taken, 100);
}

TEST_P(FloatDepthwiseOf, IsTheDefinition) {
  const auto [type, activation] = GetParam();
  if (!HasFloatDepthwise(DetectCpuFeatures(), type, 32)) GTEST_SKIP() << "no kernel for this CPU";
  if (type == DataType::kF32) return ExpectDefinition<float>(activation);
  ExpectDefinition<BFloat16>(activation);
}

std::string NameOf(const testing::TestParamInfo<FloatDepthwiseOf::ParamType>& info) {
  constexpr absl::string_view kNames[] = {"Clip", "HardSwish", "Sigmoid", "Swish"};
  return absl::StrCat(Name(std::get<0>(info.param)), "_",
                      kNames[static_cast<int>(std::get<1>(info.param))]);
}

INSTANTIATE_TEST_SUITE_P(
    Types, FloatDepthwiseOf,
    testing::Combine(testing::Values(DataType::kF32, DataType::kBF16),
                     testing::Values(DepthwiseActivation::kClip, DepthwiseActivation::kHardSwish,
                                     DepthwiseActivation::kSigmoid, DepthwiseActivation::kSwish)),
    NameOf);

TEST(FloatDepthwise, NumbersDoNotDependOnTheThreads) {
  if (!HasFloatDepthwise(DetectCpuFeatures(), DataType::kF32, 40)) GTEST_SKIP() << "no AVX-512";
  std::mt19937 rng(6);
  for (const int64_t side : {12, 90}) {  // near, and far
    const DepthwiseShape s{.batch = 2,
                           .channels = 40,
                           .height = side,
                           .width = side,
                           .out_height = side,
                           .out_width = side,
                           .kernel_height = 3,
                           .kernel_width = 3,
                           .pad_top = 1,
                           .pad_left = 1};
    const Case<float> c = RandomCase<float>(rng, s, DepthwiseActivation::kSwish);
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    const std::vector<float> one = RunCase(c);
    omp_set_num_threads(3);
    EXPECT_EQ(RunCase(c), one) << side;
    omp_set_num_threads(threads);
  }
}

TEST(FloatDepthwise, ANaNStaysOne) {
  if (!HasFloatDepthwise(DetectCpuFeatures(), DataType::kF32, 32)) GTEST_SKIP() << "no AVX-512";
  const DepthwiseShape s{.channels = 32,
                         .height = 1,
                         .width = 1,
                         .out_height = 1,
                         .out_width = 1,
                         .kernel_height = 1,
                         .kernel_width = 1};
  for (const auto activation : {DepthwiseActivation::kClip, DepthwiseActivation::kHardSwish,
                                DepthwiseActivation::kSigmoid, DepthwiseActivation::kSwish}) {
    Case<float> c{s,
                  {.bias = std::vector<float>(32, 0.0f), .activation = activation},
                  std::vector<float>(32, 1.0f),
                  std::vector<float>(32, 1.0f)};
    c.source[3] = kNan;
    const std::vector<float> y = RunCase(c);
    EXPECT_TRUE(std::isnan(y[3])) << static_cast<int>(activation);
    EXPECT_FALSE(std::isnan(y[2])) << static_cast<int>(activation);
  }
}

}  // namespace
}  // namespace halftone
