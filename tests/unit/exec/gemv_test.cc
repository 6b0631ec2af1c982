#include "core/exec/kernels/gemv/gemv.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "core/exec/kernels/gemv/gemv_isa.h"

namespace halftone {
namespace {

struct Size {
  int64_t rows, cols, group;
};

CodeMatrix RandomCodes(int bits, const Size& size, bool zeros, uint32_t seed) {
  std::mt19937 rng(seed);
  CodeMatrix m{.rows = size.rows, .cols = size.cols, .bits = bits, .group = size.group};
  m.codes.resize(static_cast<size_t>(m.rows * m.cols));
  for (uint16_t& c : m.codes) c = static_cast<uint16_t>(rng() % (1u << bits));
  m.scales.resize(static_cast<size_t>(m.rows * m.groups()));
  for (float& s : m.scales) s = 0.01f + static_cast<float>(rng() % 1000) / 1000;
  m.zeros = {bits == 1 ? 0.5f : std::ldexp(1.0f, bits - 1)};
  if (zeros) {
    m.zeros.resize(m.scales.size());
    for (float& z : m.zeros) z = static_cast<float>(rng() % (1u << bits));
  }
  return m;
}

std::vector<float> RandomX(int64_t n, uint32_t seed) {
  std::mt19937 rng(seed);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = static_cast<float>(rng() % 2001) / 1000 - 1;
  return x;
}

// Relative to the sum of magnitudes: what f32 can promise whatever the order.
void ExpectProduct(const CodeMatrix& m, const std::vector<float>& x, int64_t rows_of_x,
                   const std::vector<float>& bias, const std::vector<float>& y,
                   const std::string& what) {
  double worst = 0;
  for (int64_t i = 0; i < rows_of_x; ++i) {
    for (int64_t r = 0; r < m.rows; ++r) {
      double want = bias[r], magnitude = std::abs(bias[r]);
      for (int64_t c = 0; c < m.cols; ++c) {
        const double term = static_cast<double>(m.At(r, c)) * x[i * m.cols + c];
        want += term;
        magnitude += std::abs(term);
      }
      const double error = std::abs(y[i * m.rows + r] - want) / (magnitude + 1e-20);
      if (!(error <= worst)) worst = error;  // NaN, too
    }
  }
  EXPECT_LE(worst, 1e-6) << what;
}

const std::vector<Size> kSizes = {{1, 1, 1},      {3, 9, 9},      {5, 16, 16},     {7, 70, 70},
                                  {6, 200, 16},   {9, 300, 32},   {4, 520, 64},    {5, 1030, 128},
                                  {8, 1024, 256}, {3, 1100, 512}, {2, 2100, 1024}, {67, 130, 32},
                                  {33, 515, 515}, {130, 640, 128}};

// Those that Multiply takes only where nothing better is supported.
struct Kernel {
  std::string name;
  void (*run)(const GemvTask&, int64_t, int64_t);
};
std::vector<Kernel> SupportedKernels() {
  std::vector<Kernel> kernels;
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return kernels;
  kernels.push_back({"avx2", GemvAvx2});
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    kernels.push_back({"avx512", GemvAvx512});
  }
  return kernels;
}

class Gemv : public testing::TestWithParam<int> {};

TEST_P(Gemv, AgreesWithTheDefinition) {
  for (const Size& size : kSizes) {
    for (const bool zeros : {false, true}) {
      const CodeMatrix m = RandomCodes(GetParam(), size, zeros, 1);
      const auto packed = PackedRows::Pack(m);
      ASSERT_NE(packed, nullptr);
      ASSERT_TRUE(packed->multiplies());
      const std::vector<float> bias = RandomX(m.rows, 3);
      for (int64_t n = 1; n <= PackedRows::kMaxRows; ++n) {
        const std::vector<float> x = RandomX(n * m.cols, 2);
        std::vector<float> scratch(static_cast<size_t>(packed->ScratchFloats(n)), NAN);
        std::vector<float> y(static_cast<size_t>(n * m.rows), NAN);
        const std::string what = std::to_string(m.rows) + "x" + std::to_string(m.cols) + " g" +
                                 std::to_string(m.group) + " m" + std::to_string(n);
        packed->Multiply(x.data(), n, bias.data(), y.data(), scratch.data());
        ExpectProduct(m, x, n, bias, y, what);
        packed->MultiplyPortable(x.data(), n, bias.data(), y.data(), scratch.data());
        ExpectProduct(m, x, n, bias, y, what + " portable");
        const int64_t stride = packed->padded_cols();
        std::vector<float> padded(static_cast<size_t>(n * stride), 0.0f);
        for (int64_t i = 0; i < n; ++i) {
          std::copy(x.begin() + i * m.cols, x.begin() + (i + 1) * m.cols,
                    padded.begin() + i * stride);
        }
        const GemvTask task{*packed, padded.data(), stride, n, bias.data(), y.data()};
        for (const Kernel& kernel : SupportedKernels()) {
          std::fill(y.begin(), y.end(), NAN);
          kernel.run(task, 0, m.rows);
          ExpectProduct(m, x, n, bias, y, what + " " + kernel.name);
        }
      }
    }
  }
}

TEST_P(Gemv, IsExactEnoughWhateverTheMagnitudesOfX) {
  CodeMatrix m = RandomCodes(GetParam(), {6, 512, 64}, false, 1);
  m.zeros = {0.0f};  // each code but 0 counts
  const std::vector<float> scales = m.scales, bias(static_cast<size_t>(m.rows), 0.0f);
  for (const float unit : {1e-29f, 1e-10f, 1.0f, 1e10f, 1e29f}) {
    for (size_t i = 0; i < scales.size(); ++i) m.scales[i] = scales[i] / unit;
    const auto packed = PackedRows::Pack(m);
    std::vector<float> scratch(static_cast<size_t>(packed->ScratchFloats(1)));
    std::vector<float> y(static_cast<size_t>(m.rows));
    for (const float step : {1.0f, 10.0f, 1e3f}) {  // from one column to the next, of four
      std::vector<float> x = RandomX(m.cols, 2);
      for (int64_t c = 0; c < m.cols; ++c) {
        x[c] *= unit * std::pow(step, -static_cast<float>(c % 4));
      }
      packed->Multiply(x.data(), 1, bias.data(), y.data(), scratch.data());
      ExpectProduct(m, x, 1, bias, y, std::to_string(unit) + " / " + std::to_string(step));
    }
  }
}

TEST_P(Gemv, SmallestNumbersLoseNoMoreThanTheirLastBits) {
  CodeMatrix m = RandomCodes(GetParam(), {6, 512, 64}, false, 1);
  for (float& s : m.scales) s *= 1e30f;
  const auto packed = PackedRows::Pack(m);
  std::vector<float> scratch(static_cast<size_t>(packed->ScratchFloats(1)));
  std::vector<float> y(static_cast<size_t>(m.rows));
  for (const float unit : {1e-30f, 1e-32f, 1e-34f, 1e-38f}) {
    std::vector<float> x = RandomX(m.cols, 2);
    for (float& v : x) v *= unit;
    packed->Multiply(x.data(), 1, nullptr, y.data(), scratch.data());
    for (int64_t r = 0; r < m.rows; ++r) {
      double want = 0, allowed = 0;
      for (int64_t c = 0; c < m.cols; ++c) {
        const double w = m.At(r, c);
        want += w * x[c];
        allowed += std::abs(w) * (0x1p-124 + 1e-6 * std::abs(x[c]));
      }
      EXPECT_NEAR(y[r], want, allowed) << unit;
    }
  }
}

TEST_P(Gemv, ZeroesCancelExactly) {
  CodeMatrix m = RandomCodes(GetParam(), {9, 256, 32}, true, 1);
  for (float& z : m.zeros) z = 1;
  std::fill(m.codes.begin(), m.codes.end(), uint16_t{1});
  const auto packed = PackedRows::Pack(m);
  const std::vector<float> x = RandomX(m.cols, 2);
  std::vector<float> scratch(static_cast<size_t>(packed->ScratchFloats(1)));
  std::vector<float> y(static_cast<size_t>(m.rows), NAN);
  packed->Multiply(x.data(), 1, nullptr, y.data(), scratch.data());
  EXPECT_EQ(y, std::vector<float>(y.size(), 0.0f));
}

TEST_P(Gemv, WhatIsNotFiniteStaysSo) {
  const CodeMatrix m = RandomCodes(GetParam(), {5, 256, 256}, false, 1);
  const auto packed = PackedRows::Pack(m);
  std::vector<float> scratch(static_cast<size_t>(packed->ScratchFloats(1)));
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> x = RandomX(m.cols, 2), y(static_cast<size_t>(m.rows));
    x[130] = bad;
    packed->Multiply(x.data(), 1, nullptr, y.data(), scratch.data());
    for (int64_t r = 0; r < m.rows; ++r) {
      EXPECT_TRUE(std::isnan(y[r]) || y[r] == bad * m.At(r, 130)) << bad << " " << y[r];
    }
  }
}

TEST_P(Gemv, WidensToTheDefinition) {
  std::vector<Size> sizes = kSizes;
  sizes.insert(sizes.end(), {{5, 70, 7}, {3, 90, 24}, {4, 33, 1}});
  for (const Size& size : sizes) {
    CodeMatrix m = RandomCodes(GetParam(), size, true, 4);
    for (const bool columns : {false, true}) {
      if (columns) {
        m.column_scales = RandomX(m.cols, 5);
        m.column_zeros = RandomX(m.cols, 6);
      }
      const auto packed = PackedRows::Pack(m);
      ASSERT_NE(packed, nullptr);
      std::vector<float> wide(static_cast<size_t>(m.rows * m.cols), NAN);
      packed->Widen(0, m.rows, wide.data());
      for (int64_t i = 0; i < m.rows * m.cols; ++i) {
        ASSERT_FLOAT_EQ(wide[i], m.At(i / m.cols, i % m.cols)) << size.cols << " " << i;
      }
    }
  }
}

TEST_P(Gemv, KeepsItsBits) {
  const CodeMatrix m = RandomCodes(GetParam(), {64, 4096, 4096}, false, 7);
  EXPECT_LE(PackedRows::Pack(m)->bytes(), 64 * (4096 * GetParam() / 8 + 4));
}

TEST_P(Gemv, NumbersDoNotDependOnTheThreads) {
  const CodeMatrix m = RandomCodes(GetParam(), {1000, 768, 32}, true, 8);
  const auto packed = PackedRows::Pack(m);
  const std::vector<float> x = RandomX(m.cols, 9);
  std::vector<float> scratch(static_cast<size_t>(packed->ScratchFloats(1)));
  std::vector<float> one(1000), four(1000);
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  packed->Multiply(x.data(), 1, nullptr, one.data(), scratch.data());
  omp_set_num_threads(4);
  packed->Multiply(x.data(), 1, nullptr, four.data(), scratch.data());
  omp_set_num_threads(threads);
  EXPECT_EQ(one, four);
}

INSTANTIATE_TEST_SUITE_P(Bits, Gemv, testing::Values(1, 2, 4, 8, 16));

TEST(PackedRows, GroupsThatDoNotFitFieldsAreNotMultiplied) {
  EXPECT_FALSE(PackedRows::Pack(RandomCodes(4, {2, 96, 24}, false, 1))->multiplies());
  EXPECT_FALSE(PackedRows::Pack(RandomCodes(4, {2, 96, 48}, false, 1))->multiplies());
  EXPECT_TRUE(PackedRows::Pack(RandomCodes(4, {2, 96, 32}, false, 1))->multiplies());
}

}  // namespace
}  // namespace halftone
