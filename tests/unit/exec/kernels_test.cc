#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "core/exec/kernels/convert.h"
#include "core/exec/kernels/copy.h"
#include "core/exec/kernels/elementwise.h"
#include "core/exec/kernels/indexed_copy.h"
#include "core/exec/kernels/map.h"
#include "core/exec/kernels/panels.h"
#include "core/exec/kernels/reduce.h"
#include "core/exec/kernels/row_quant.h"
#include "core/ops/evaluate.h"
#include "core/ops/row_quant.h"
#include "core/ops/unpack.h"
#include "core/tensor/float16.h"

namespace halftone {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

// Lengths around the vector width and past the point where a team of threads takes over.
const int64_t kLengths[] = {0, 1, 7, 8, 9, 31, 1000, 40000};

TEST(WidenToF32, EveryHalfPatternAgreesWithTheScalarConversion) {
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  std::vector<float> got(all.size());
  for (const DataType type : {DataType::kF16, DataType::kBF16}) {
    ASSERT_TRUE(WidenToF32(type, all.data(), got.data(), static_cast<int64_t>(all.size())));
    for (size_t i = 0; i < all.size(); ++i) {
      const float want =
          type == DataType::kF16 ? Float16::ToFloat(all[i]) : BFloat16::ToFloat(all[i]);
      if (std::isnan(want)) {
        EXPECT_TRUE(std::isnan(got[i])) << i;
      } else {
        ASSERT_EQ(got[i], want) << i;
      }
    }
  }
}

TEST(NarrowFromF32, RoundsToNearestEvenLikeTheScalarConversion) {
  std::mt19937 rng(7);
  std::vector<float> x(50001);
  for (float& v : x) v = std::ldexp(static_cast<float>(rng()) / 4e9f - 0.5f, int(rng() % 40) - 25);
  x[0] = 65519.0f;
  x[1] = 65520.0f;
  x[2] = 0x1p-25f;
  std::vector<uint16_t> got(x.size());
  ASSERT_TRUE(NarrowFromF32(DataType::kF16, x.data(), got.data(), x.size()));
  for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(got[i], Float16::FromFloat(x[i])) << x[i];
  ASSERT_TRUE(NarrowFromF32(DataType::kBF16, x.data(), got.data(), x.size()));
  for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(got[i], BFloat16::FromFloat(x[i])) << x[i];
}

TEST(QuantizeF32, FollowsOnnxAtEveryLength) {
  for (const int64_t n : kLengths) {
    std::mt19937 rng(static_cast<uint32_t>(n));
    std::vector<float> x(n);
    for (float& v : x) v = (static_cast<int>(rng() % 4001) - 2000) * 0.125f;  // many exact ties
    const std::vector<float> special = {kNan, kInf, -kInf, 1e30f, -1e30f};
    for (int64_t i = 0; i < std::min<int64_t>(n, 5); ++i) x[i] = special[i];
    std::vector<uint8_t> u(n);
    std::vector<int8_t> s(n);
    QuantizeF32(x.data(), 0.25f, 131, DataType::kU8, u.data(), n);
    QuantizeF32(x.data(), 0.25f, -7, DataType::kI8, s.data(), n);
    for (int64_t i = 0; i < n; ++i) {
      const double r = std::isnan(x[i]) ? 0 : std::nearbyint(double{x[i]} / 0.25);
      ASSERT_EQ(u[i], std::min(255.0, std::max(0.0, r + 131))) << x[i];
      ASSERT_EQ(s[i], std::min(127.0, std::max(-128.0, r - 7))) << x[i];
    }
  }
}

TEST(FindRange, ContainsZeroAndIgnoresNan) {
  for (const int64_t n : kLengths) {
    std::vector<float> x(n, 3.0f);
    if (n > 6) x[n - 1] = -2.5f, x[n / 2] = kNan, x[0] = 9.0f;
    const RangeF32 r = FindRange(x.data(), n);
    EXPECT_EQ(r.max, n == 0 ? 0.0f : n > 6 ? 9.0f : 3.0f);
    EXPECT_EQ(r.min, n > 6 ? -2.5f : 0.0f);
  }
}

TEST(QuantizeRows, IsWhatTheOperatorSays) {
  Graph g("rows");
  g.opsets()[""] = 13;
  g.opsets()[std::string(kHalftoneDomain)] = kHalftoneOpset;
  Value* in = g.AddInput("x", {DataType::kF32, Dims{Dim("r"), Dim("n")}});
  const Node* q = g.AddNode({.op = std::string(kDynamicQuantizeRows),
                             .domain = std::string(kHalftoneDomain),
                             .inputs = {in},
                             .outputs = {"q", "s", "z"}});
  for (Value* v : q->outputs()) g.AddOutput(v);
  for (const int64_t n : {1, 7, 64, 1000}) {
    const int64_t rows = 40;  // with 1000, enough for a team
    std::vector<float> x(rows * n);
    std::mt19937 rng(static_cast<uint32_t>(n));
    for (int64_t i = 0; i < rows * n; ++i) {
      x[i] = std::ldexp(static_cast<int>(rng() % 4001) - 1000, static_cast<int>(i / n) - 20);
    }
    std::fill_n(x.begin(), n, 0.0f);                // a row without a range
    for (int64_t i = n; i < 2 * n; ++i) x[i] = -1;  // all below zero
    x[2 * n] = kNan;
    x[3 * n] = kInf;
    x[4 * n] = std::numeric_limits<float>::max();
    x[5 * n - 1] = std::numeric_limits<float>::lowest();  // the range has no f32
    const auto want = EvaluateGraph(g, {Tensor::Of<float>({rows, n}, absl::MakeConstSpan(x))});
    ASSERT_TRUE(want.ok()) << want.status();
    std::vector<uint8_t> codes(x.size()), zero(rows);
    std::vector<float> scale(rows);
    QuantizeRows(x.data(), rows, n, codes.data(), scale.data(), zero.data());
    EXPECT_THAT(codes, testing::ElementsAreArray((*want)[0].data<uint8_t>())) << n;
    EXPECT_THAT(scale, testing::ElementsAreArray((*want)[1].data<float>())) << n;
    EXPECT_THAT(zero, testing::ElementsAreArray((*want)[2].data<uint8_t>())) << n;
  }
}

TEST(ScaleRows, GivesRowsTheirScaleInPlace) {
  for (const int64_t n : {1, 63, 64, 130, 4096}) {
    const int64_t rows = 9;
    std::mt19937 rng(static_cast<uint32_t>(n));
    std::vector<int32_t> acc(rows * n), sums(n);
    std::vector<float> scale(rows), weight_scale(n), bias(n), want(rows * n), got(rows * n);
    std::vector<uint8_t> zero(rows);
    for (int32_t& v : acc) v = static_cast<int32_t>(rng() % 2000001) - 1000000;
    for (int32_t& v : sums) v = static_cast<int32_t>(rng() % 20001) - 10000;
    for (float& v : scale) v = static_cast<float>(rng() % 100 + 1) / 1024;
    for (float& v : weight_scale) v = static_cast<float>(rng() % 100 + 1) / 512;
    for (float& v : bias) v = static_cast<float>(rng() % 100);
    for (uint8_t& v : zero) v = static_cast<uint8_t>(rng());
    for (int64_t i = 0; i < rows * n; ++i) {
      const int64_t r = i / n, c = i % n;
      want[i] = static_cast<float>(
          double{scale[r]} * weight_scale[c] * (acc[i] - zero[r] * sums[c]) + bias[c]);
    }
    std::memcpy(got.data(), acc.data(), acc.size() * sizeof(float));
    ScaleRows({rows, n, scale.data(), zero.data(), weight_scale.data(), sums.data(), bias.data()},
              reinterpret_cast<const int32_t*>(got.data()), got.data());
    for (int64_t i = 0; i < rows * n; ++i) {
      ASSERT_NEAR(got[i], want[i], 1e-6 * std::abs(want[i]) + 1e-4) << i;
    }
  }
}

TEST(ChooseDynamicParams, SurvivesDegenerateRanges) {
  EXPECT_EQ(ChooseDynamicParams({0, 0}).scale, 1.0f);
  EXPECT_EQ(ChooseDynamicParams({-128.0f, 127.0f}).zero_point, 128);
  EXPECT_EQ(ChooseDynamicParams({0.0f, 2.55f}).zero_point, 0);
  EXPECT_TRUE(std::isfinite(ChooseDynamicParams({-kInf, kInf}).scale));
}

TEST(RunStridedCopy, AnyPermutationOfAnyElementSize) {
  const Shape shape = {3, 70, 5, 33};
  for (const int bytes : {1, 2, 4, 8}) {
    std::vector<uint8_t> src(ElementCount(shape) * bytes);
    std::mt19937 rng(bytes);
    for (uint8_t& b : src) b = static_cast<uint8_t>(rng());
    std::vector<int> perm = {0, 1, 2, 3};
    do {
      Shape out, strides;
      for (int p : perm) {
        out.push_back(shape[p]);
        strides.push_back(RowMajorStrides(shape)[p]);
      }
      StridedCopy copy{out, strides, RowMajorStrides(out)};
      copy.element_bytes = bytes;
      std::vector<uint8_t> dst(src.size());
      RunStridedCopy(Simplify(copy), src.data(), dst.data());
      int64_t flat = 0;
      for (int64_t a = 0; a < out[0]; ++a)
        for (int64_t b = 0; b < out[1]; ++b)
          for (int64_t c = 0; c < out[2]; ++c)
            for (int64_t d = 0; d < out[3]; ++d, ++flat) {
              const int64_t from =
                  a * strides[0] + b * strides[1] + c * strides[2] + d * strides[3];
              ASSERT_EQ(0, std::memcmp(&dst[flat * bytes], &src[from * bytes], bytes));
            }
    } while (std::next_permutation(perm.begin(), perm.end()));
  }
}

TEST(RunStridedCopy, ImagesOfThreeChannels) {
  for (const int bytes : {1, 2, 4, 8}) {
    for (const int64_t pixels : {1, 15, 64, 67, 200}) {
      // Two images, planes to channels last.
      const StridedCopy copy{{2, pixels, 3}, {3 * pixels, 1, pixels}, {3 * pixels, 3, 1}, 0, 0,
                             bytes};
      std::vector<uint8_t> src(6 * pixels * bytes), dst(src.size()), want(src.size());
      std::mt19937 rng(bytes);
      for (uint8_t& b : src) b = static_cast<uint8_t>(rng());
      for (int64_t n = 0; n < 2; ++n)
        for (int64_t p = 0; p < pixels; ++p)
          for (int64_t c = 0; c < 3; ++c)
            std::memcpy(&want[((n * pixels + p) * 3 + c) * bytes],
                        &src[((n * 3 + c) * pixels + p) * bytes], bytes);
      RunStridedCopy(Simplify(copy), src.data(), dst.data());
      ASSERT_EQ(dst, want) << bytes << " bytes, " << pixels << " pixels";
    }
  }
}

// Rows of a step into rows with gaps: parts of images, channels last. Around the strips and
// vectors.
TEST(RunStridedCopy, AnyStepOfRowsOfAnyLength) {
  for (const int bytes : {1, 2, 4, 8}) {
    for (const int64_t step : {1, 2, 3, -1, 0}) {
      for (const int64_t n : {1, 2, 7, 24, 67, 600}) {
        const Shape shape = {2, 65, n};
        const int64_t row = n * std::max<int64_t>(std::abs(step), 1) + 1;
        const StridedCopy copy{
            shape, {65 * row, row, step}, {66 * (n + 3), n + 3, 1}, step < 0 ? n - 1 : 0, 2, bytes};
        std::vector<uint8_t> src(2 * 65 * row * bytes), dst(2 * 66 * (n + 3) * bytes, 0xA5);
        std::mt19937 rng(bytes);
        for (uint8_t& b : src) b = static_cast<uint8_t>(rng());
        std::vector<uint8_t> want = dst;
        for (int64_t a = 0; a < 2; ++a)
          for (int64_t b = 0; b < 65; ++b)
            for (int64_t c = 0; c < n; ++c) {
              const int64_t from = copy.src_offset + (a * 65 + b) * row + c * step;
              const int64_t to = 2 + (a * 66 + b) * (n + 3) + c;
              std::memcpy(&want[to * bytes], &src[from * bytes], bytes);
            }
        RunStridedCopy(Simplify(copy), src.data(), dst.data());
        ASSERT_EQ(dst, want) << bytes << " bytes, step " << step << ", rows of " << n;
      }
    }
  }
}

TEST(RunQuantizedAdd, MatchesTheFormulaForEveryTypeCombination) {
  const int64_t n = 70000;
  std::vector<uint8_t> a(n), b(n), got(n);
  std::mt19937 rng(3);
  for (int64_t i = 0; i < n; ++i) a[i] = rng(), b[i] = rng();
  for (const bool relu : {false, true}) {
    for (const DataType type : {DataType::kU8, DataType::kI8}) {
      // Powers of two: every intermediate result is exact.
      const QuantizedView va{type, 0.25f, 3}, vb{DataType::kU8, 0.5f, 100}, vo{type, 1.0f, 5};
      RunQuantizedAdd(va, a.data(), vb, b.data(), relu, vo, got.data(), n);
      for (int64_t i = 0; i < n; ++i) {
        const int qa = type == DataType::kU8 ? a[i] : static_cast<int8_t>(a[i]);
        double x = 0.25 * (qa - 3) + 0.5 * (b[i] - 100);
        if (relu) x = std::max(x, 0.0);
        const double low = type == DataType::kU8 ? 0 : -128, high = low + 255;
        const double want = std::min(high, std::max(low, std::nearbyint(x) + 5));
        const int g = type == DataType::kU8 ? got[i] : static_cast<int8_t>(got[i]);
        ASSERT_EQ(g, want) << "a " << qa << " b " << int{b[i]};
      }
    }
  }
}

TEST(RunQuantizedScale, MatchesTheFormulaInBothLayoutsAndEveryType) {
  const int64_t batch = 3, positions = 331, channels = 77;
  const int64_t n = batch * positions * channels;
  std::vector<uint8_t> x(n), got(n);
  std::mt19937 rng(3);
  for (uint8_t& v : x) v = static_cast<uint8_t>(rng());
  // Powers of two: every product is exact. NaN and infinities stand for a broken gate.
  std::vector<float> gain(batch * channels);
  for (float& g : gain) g = std::ldexp(1.0f, static_cast<int>(rng() % 5) - 3);
  gain[1] = kNan, gain[2] = std::numeric_limits<float>::infinity();
  for (const DataType type : {DataType::kU8, DataType::kI8}) {
    for (const DataType out : {DataType::kU8, DataType::kI8}) {
      for (const bool last : {true, false}) {
        for (const bool per_batch : {true, false}) {
          const QuantizedView from{type, 0.25f, 3}, to{out, 0.5f, 7};
          RunQuantizedScale(from, x.data(), gain.data(), to, got.data(),
                            {batch, positions, channels, last, per_batch});
          for (int64_t i = 0; i < n; ++i) {
            const int64_t image = i / (positions * channels);
            const int64_t c = last ? i % channels : i / positions % channels;
            const double g = gain[(per_batch ? image * channels : 0) + c];
            const int q = type == DataType::kU8 ? x[i] : static_cast<int8_t>(x[i]);
            double y = 0.25 * (q - 3) * g / 0.5;
            if (std::isnan(y)) y = 0;  // 0 · ∞, too
            const double low = out == DataType::kU8 ? 0 : -128, high = low + 255;
            const double want = std::min(high, std::max(low, std::nearbyint(y) + 7));
            const int value = out == DataType::kU8 ? got[i] : static_cast<int8_t>(got[i]);
            ASSERT_EQ(value, want) << "q " << q << " gain " << g << " channel " << c;
          }
        }
      }
    }
  }
}

template <typename T>
void ExpectScaledChannels(DataType type) {
  const int64_t batch = 3, positions = 331, channels = 77;
  const int64_t n = batch * positions * channels;
  std::mt19937 rng(4);
  std::uniform_real_distribution<float> any(-3.0f, 3.0f);
  std::vector<T> x(n), in_place, got(n);
  for (T& v : x) v = T(any(rng));
  std::vector<float> gain(batch * channels);
  for (float& g : gain) g = any(rng);
  x[5] = T(kNan);
  for (const bool last : {true, false}) {
    for (const bool per_batch : {true, false}) {
      const ScaledShape shape{batch, positions, channels, last, per_batch};
      RunChannelScale(type, x.data(), gain.data(), got.data(), shape);
      in_place = x;
      RunChannelScale(type, in_place.data(), gain.data(), in_place.data(), shape);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t image = i / (positions * channels);
        const int64_t c = last ? i % channels : i / positions % channels;
        const float g = gain[(per_batch ? image * channels : 0) + c];
        const auto want = static_cast<float>(T(static_cast<float>(x[i]) * g));
        const auto value = static_cast<float>(got[i]);
        ASSERT_TRUE(value == want || (std::isnan(value) && std::isnan(want))) << i << " " << value;
        ASSERT_EQ(std::memcmp(&got[i], &in_place[i], sizeof(T)), 0) << "in place, " << i;
      }
    }
  }
}

TEST(RunChannelScale, MatchesTheFormulaInBothLayoutsAndTypes) {
  ExpectScaledChannels<float>(DataType::kF32);
  ExpectScaledChannels<BFloat16>(DataType::kBF16);
}

TEST(RunQuantizedMean, MatchesTheFormulaWithAnyNumberOfChannels) {
  const int64_t batch = 2, spatial = 300;
  for (const DataType type : {DataType::kU8, DataType::kI8}) {
    for (const int64_t channels : {1, 64, 150}) {
      std::vector<uint8_t> x(batch * spatial * channels);
      std::mt19937 rng(3);
      for (uint8_t& v : x) v = static_cast<uint8_t>(rng());
      for (int64_t i = 0; i < batch * spatial; ++i) {  // the first channel has the largest sum
        x[i * channels] = type == DataType::kU8 ? 255 : 128;
      }
      std::vector<float> got(batch * channels);
      RunQuantizedMean({type, 0.5f, 7}, x.data(), batch, spatial, channels, got.data());
      for (int64_t i = 0; i < batch * channels; ++i) {
        int64_t sum = 0;
        for (int64_t s = 0; s < spatial; ++s) {
          const uint8_t v = x[(i / channels * spatial + s) * channels + i % channels];
          sum += type == DataType::kU8 ? v : static_cast<int8_t>(v);
        }
        ASSERT_FLOAT_EQ(got[i], 0.5 * (static_cast<double>(sum) / spatial - 7)) << "output " << i;
      }
    }
  }
}

TEST(RunMap, MinAndMaxPropagateNan) {
  const std::vector<float> a = {1, kNan, 3, -0.5f}, b = {2, 2, kNan, -1};
  std::vector<float> out(4);
  const MapFunction* max = FindMap("Max", DataType::kF32, DataType::kF32);
  ASSERT_NE(max, nullptr);
  RunMap(*max, {{4}, {{1}, {1}}}, {a.data(), b.data()}, out.data());
  EXPECT_EQ(out[0], 2);
  EXPECT_TRUE(std::isnan(out[1]) && std::isnan(out[2]));
  EXPECT_EQ(out[3], -0.5f);
}

TEST(RunMap, IntegerDivisionNeverTraps) {
  const std::vector<int64_t> a = {7, std::numeric_limits<int64_t>::min(), 5}, b = {0, -1, -2};
  std::vector<int64_t> out(3);
  const MapFunction* div = FindMap("Div", DataType::kI64, DataType::kI64);
  ASSERT_NE(div, nullptr);
  RunMap(*div, {{3}, {{1}, {1}}}, {a.data(), b.data()}, out.data());
  EXPECT_EQ(out, (std::vector<int64_t>{0, std::numeric_limits<int64_t>::min(), -2}));
}

TEST(PreparedCopy, FillsOutsideAndCopiesRuns) {
  const std::vector<int32_t> src = {1, 2, 3, 4};
  std::vector<int32_t> dst(8);
  IndexedCopy copy{.offsets = {{2, 0}, {kFillOffset, 0, 1, 1}}, .fill = 9};
  PreparedCopy(copy).Run(src.data(), dst.data());
  EXPECT_EQ(dst, (std::vector<int32_t>{9, 3, 4, 4, 9, 1, 2, 2}));
}

TEST(MultiplyPanels, AgreesWithAPlainProduct) {
  const int64_t m = 22, k = 37, n = 70;  // passes of 5 and 6 rows
  std::mt19937 rng(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> x(m * k), w(n * k);
  for (float& v : x) v = uniform(rng);
  for (const DataType type : {DataType::kF32, DataType::kF16, DataType::kBF16}) {
    for (float& v : w) v = uniform(rng);
    std::vector<uint16_t> bits(w.size());
    if (type != DataType::kF32) {
      ASSERT_TRUE(NarrowFromF32(type, w.data(), bits.data(), n * k));
      ASSERT_TRUE(WidenToF32(type, bits.data(), w.data(), n * k));
    }
    const auto wide = PackPanels(w.data(), k, n, 1, k);
    const auto narrow = PackPanels(bits.data(), k, n, 1, k);
    const void* data = narrow.data();
    if (type == DataType::kF32) data = wide.data();
    std::vector<float> out(m * PaddedColumns(n), 1.0f);
    MultiplyPanels(x.data(), k, m, k, {data, type}, n, out.data());
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t c = 0; c < n; ++c) {
        double want = 1;
        for (int64_t i = 0; i < k; ++i) want += static_cast<double>(x[r * k + i]) * w[c * k + i];
        EXPECT_NEAR(out[r * PaddedColumns(n) + c], want, 1e-5) << Name(type) << r << " " << c;
      }
    }
    // Dense, from a bias of 1 on.
    const std::vector<float> bias(n, 1.0f);
    for (const bool relu : {false, true}) {
      std::vector<float> y(m * n);
      MultiplyPanels(x.data(), m, k, {data, type}, n, bias.data(), relu, y.data());
      for (int64_t i = 0; i < m * n; ++i) {
        const float want = out[i / n * PaddedColumns(n) + i % n];
        EXPECT_EQ(y[i], relu ? std::max(want, 0.0f) : want) << Name(type) << i;
      }
    }
  }
}

TEST(SimplifyReduction, MergesNeighboursOfOneKind) {
  const Reduction r = Simplify(Reduction{{2, 1, 3, 4, 5}, {false, true, true, true, false}});
  EXPECT_EQ(r.shape, (Shape{2, 12, 5}));
  EXPECT_EQ(r.reduced, (std::vector<bool>{false, true, false}));
}

}  // namespace
}  // namespace halftone
