#include "core/exec/kernels/swish.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "core/tensor/float16.h"

namespace halftone {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

template <typename T>
constexpr DataType kTypeOf = std::is_same_v<T, float> ? DataType::kF32 : DataType::kBF16;

template <typename T>
void ExpectSwish(double tolerance) {
  if (!HasSwish(DetectCpuFeatures(), kTypeOf<T>)) return;
  std::vector<T> x;
  for (float v = -30.0f; v < 30.0f; v += 0.00137f) x.push_back(T(v));
  for (const float v : {0.0f, -79.0f, -200.0f, 200.0f, 3e38f, kInf, kNan}) x.push_back(T(v));
  // Lengths around registers, and past the point where a team takes over.
  for (const size_t n : {size_t{1}, size_t{15}, size_t{16}, size_t{8209}, x.size()}) {
    std::vector<T> y(x.end() - static_cast<std::ptrdiff_t>(n), x.end());
    RunSwish(kTypeOf<T>, y.data(), static_cast<int64_t>(n));
    for (size_t i = 0; i < n; ++i) {
      const auto v = static_cast<double>(static_cast<float>(x[x.size() - n + i]));
      const double want = v / (1 + std::exp(-v));
      const auto got = static_cast<double>(static_cast<float>(y[i]));
      if (std::isnan(want) || std::isinf(want)) {
        ASSERT_EQ(std::isnan(got), std::isnan(want)) << v;
        ASSERT_EQ(std::isinf(got), std::isinf(want)) << v;
        continue;
      }
      ASSERT_LE(std::abs(got - want), tolerance * std::abs(want) + 1e-32) << v;
    }
  }
}

TEST(RunSwish, IsWithinItsErrorBounds) {
  if (!HasSwish(DetectCpuFeatures(), DataType::kF32)) GTEST_SKIP() << "no AVX-512";
  ExpectSwish<float>(2e-6);
  ExpectSwish<BFloat16>(0x1p-8 + 0x1p-12);
}

}  // namespace
}  // namespace halftone
