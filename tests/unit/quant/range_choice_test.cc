#include "core/quant/range_choice.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "core/quant/affine.h"

namespace halftone {
namespace {

HistogramObserver Of(absl::Span<const float> values) {
  HistogramObserver h;
  h.Observe(values);
  return h;
}

std::vector<float> Normal(size_t n, float deviation, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> x(n);
  for (float& v : x) v = normal(rng);
  return x;
}

std::vector<float> Relu(std::vector<float> x) {
  for (float& v : x) v = std::max(v, 0.0f);
  return x;
}

std::vector<float> With(std::vector<float> x, float more) {
  x.push_back(more);
  return x;
}

// The mean squared error of really quantizing and dequantizing.
double MeasuredError(const std::vector<float>& x, ValueRange clip) {
  const QParams p = AffineU8(clip);
  std::vector<uint8_t> q(x.size());
  std::vector<float> back(x.size());
  Quantize(x, p, absl::MakeSpan(q));
  Dequantize(q, p, absl::MakeSpan(back));
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    sum += (static_cast<double>(x[i]) - back[i]) * (static_cast<double>(x[i]) - back[i]);
  }
  return sum / static_cast<double>(x.size());
}

TEST(RangeChoice, NothingObservedHasNoRangeAndZerosHaveTheirs) {
  for (const auto& choose : {+[](const HistogramObserver& h) { return PercentileRange(h, 99.9); },
                             +[](const HistogramObserver& h) { return EntropyRange(h); },
                             +[](const HistogramObserver& h) { return MseRange(h); }}) {
    EXPECT_TRUE(choose({}).empty());
    EXPECT_EQ(choose(Of({0, 0})), (ValueRange{0, 0}));
    EXPECT_EQ(choose(Of({5, 5, 5})), (ValueRange{5, 5}));
  }
}

TEST(PercentileRange, AllOfThemIsTheExactRange) {
  const std::vector<float> x = Normal(1000, 3, 1);
  const auto [lo, hi] = std::minmax_element(x.begin(), x.end());
  EXPECT_EQ(PercentileRange(Of(x), 100), (ValueRange{*lo, *hi}));
}

TEST(PercentileRange, LeavesAtMostHalfOfTheRestBeyondEachEnd) {
  for (const bool relu : {false, true}) {
    std::vector<float> x = Normal(20000, 2, 2);
    if (relu) x = Relu(x);
    const HistogramObserver h = Of(x);
    std::sort(x.begin(), x.end());
    for (const double percentile : {50.0, 90.0, 99.0, 99.9, 99.99}) {
      const ValueRange r = PercentileRange(h, percentile);
      const auto tail = static_cast<size_t>(x.size() * (100 - percentile) / 200 + 1e-6);
      // The sorted values themselves, rounded outwards to the edge of a bin.
      EXPECT_LE(r.min, x[tail]) << percentile;
      EXPECT_GE(r.min, x[tail] - h.width()) << percentile;
      EXPECT_GE(r.max, x[x.size() - 1 - tail]) << percentile;
      EXPECT_LE(r.max, x[x.size() - 1 - tail] + h.width()) << percentile;
    }
  }
}

TEST(PercentileRange, OneValueAmongAMillionZerosIsNotCutAway) {
  std::vector<float> x(1'000'000);
  x[77] = 3;
  EXPECT_EQ(PercentileRange(Of(x), 99.9), (ValueRange{0, 3}));
}

TEST(EntropyRange, KeepsAUniformDistributionWhole) {
  std::mt19937 rng(3);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> x(200000);
  for (float& v : x) v = uniform(rng);
  const ValueRange r = EntropyRange(Of(x));
  EXPECT_LT(r.min, -0.97f);
  EXPECT_GT(r.max, 0.97f);
}

TEST(EntropyRange, CutsAnOutlierOff) {
  for (const float outlier : {30.0f, -30.0f}) {
    const ValueRange r = EntropyRange(Of(With(Normal(200000, 1, 4), outlier)));
    EXPECT_LT(r.max, 8);
    EXPECT_GT(r.max, 2);
    EXPECT_GT(r.min, -8);
    EXPECT_LT(r.min, -2);
  }
}

TEST(EntropyRange, DoesNotDependOnZeros) {
  const std::vector<float> x = Normal(100000, 1, 5);
  HistogramObserver h = Of(With(x, 20));
  const ValueRange without = EntropyRange(h);
  h.Observe(std::vector<float>(5'000'000));
  EXPECT_EQ(EntropyRange(h), without);
}

TEST(EntropyRange, ReachesEquallyFarOnBothSidesWithinTheRange) {
  // Like Swish: a short side below, a long one above.
  std::vector<float> x = Normal(100000, 1, 6);
  for (float& v : x) v = std::max(v, -0.25f);
  const ValueRange r = EntropyRange(Of(With(x, 25)));
  EXPECT_EQ(r.min, -0.25f);
  EXPECT_LT(r.max, 8);
}

// The published procedure, array by array, for a histogram without a negative side.
double PublishedDivergence(const std::vector<double>& bins, size_t reach) {
  std::vector<double> p(bins.begin(), bins.begin() + reach), q(reach);
  for (size_t i = reach; i < bins.size(); ++i) p[reach - 1] += bins[i];
  for (size_t level = 0; level < 256; ++level) {
    double sum = 0, filled = 0;
    for (size_t i = level * reach / 256; i < (level + 1) * reach / 256; ++i) {
      sum += bins[i];
      filled += bins[i] > 0 ? 1 : 0;
    }
    for (size_t i = level * reach / 256; i < (level + 1) * reach / 256; ++i) {
      if (bins[i] > 0) q[i] = sum / filled;
    }
  }
  const double p_sum = std::accumulate(p.begin(), p.end(), 0.0);
  const double q_sum = std::accumulate(q.begin(), q.end(), 0.0);
  double divergence = 0;
  for (size_t i = 0; i < reach; ++i) {
    if (p[i] > 0) divergence += p[i] / p_sum * std::log(p[i] / p_sum / (q[i] / q_sum));
  }
  return divergence;
}

TEST(EntropyRange, HasTheLeastDivergenceByThePublishedProcedure) {
  std::mt19937 rng(12);
  for (int round = 0; round < 5; ++round) {
    // Heavy tails, and something in every bin: then the procedure has no division by zero.
    std::vector<float> x = Normal(300000, 0.3f, rng());
    for (float& v : x) v = std::exp(v) + static_cast<float>(round + 1) * v * v;
    HistogramObserver h = Of(x);
    std::vector<float> floor;
    for (int i = HistogramObserver::kBins; h.edge(i) < h.range().max; ++i) {
      floor.push_back(static_cast<float>(h.edge(i) + h.width() * 0.25));
    }
    h.Observe(floor);
    std::vector<double> bins;
    for (size_t i = 0; i < floor.size(); ++i) {
      bins.push_back(static_cast<double>(h.counts()[HistogramObserver::kBins + i]));
    }
    const ValueRange chosen = EntropyRange(h);
    const auto reach = static_cast<size_t>(std::ceil(chosen.max / h.width()));
    const double least = PublishedDivergence(bins, reach);
    for (size_t other = bins.size(); other >= 256; other -= bins.size() / 128) {
      EXPECT_GE(PublishedDivergence(bins, other), least * (1 - 1e-9)) << other << ", " << reach;
    }
    EXPECT_LT(least, PublishedDivergence(bins, bins.size()));
  }
}

TEST(ExpectedSquaredError, IsWhatQuantizingCosts) {
  std::mt19937 rng(8);
  for (int round = 0; round < 20; ++round) {
    // At the centres of bins, where the histogram is exact.
    std::vector<float> x = With(Normal(2000, 1, rng()), 6);
    const double width = Of(x).width();
    for (float& v : x) {
      v = static_cast<float>((std::floor(v / width) + 0.5) * width);
    }
    const HistogramObserver h = Of(x);
    ASSERT_EQ(h.width(), width);
    std::uniform_real_distribution<float> end(0.1f, 7);
    const ValueRange clip{-end(rng), end(rng)};
    EXPECT_NEAR(ExpectedSquaredError(h, clip) / MeasuredError(x, clip), 1, 1e-4);
  }
}

TEST(MseRange, IsBetterThanAnyOtherOfAGrid) {
  for (const bool relu : {false, true}) {
    std::vector<float> x = With(Normal(400000, 1, 9), 12);
    if (relu) x = Relu(x);
    const HistogramObserver h = Of(x);
    const double least = MeasuredError(x, MseRange(h));
    for (float lo = -6; lo <= 0; lo += 0.73f) {
      for (float hi = 0.5f; hi <= 12; hi += 0.73f) {
        // Both the steps of the search and the bins cost a little.
        EXPECT_GT(MeasuredError(x, {lo, hi}), 0.97 * least) << lo << " to " << hi;
      }
    }
    EXPECT_GT(MeasuredError(x, h.range()), 1.2 * least);
  }
}

TEST(MseRange, CutsEachEndOnItsOwn) {
  const ValueRange r = MseRange(Of(With(Normal(400000, 1, 10), -12)));
  EXPECT_GT(r.min, -9);
  EXPECT_LT(r.min, -4.5);
  EXPECT_GT(r.max, 3.5);
  EXPECT_LT(r.max, 5);
}

}  // namespace
}  // namespace halftone
