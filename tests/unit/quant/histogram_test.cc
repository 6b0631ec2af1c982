#include "core/quant/histogram.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int kBins = HistogramObserver::kBins;

HistogramObserver Of(absl::Span<const float> values) {
  HistogramObserver h;
  h.Observe(values);
  return h;
}

// Magnitudes from 1e-40 to 1e30, zeros and what is not finite among them.
std::vector<float> WildValues(std::mt19937& rng, size_t n) {
  std::vector<float> x(n);
  std::normal_distribution<double> exponent(-1, 6);
  for (float& v : x) {
    switch (rng() % 16) {
      case 0:
        v = 0;
        break;
      case 1:
        v = rng() % 8 == 0 ? (rng() % 2 == 0 ? kNaN : -kInfinity) : -0.0f;
        break;
      case 2:
        v = std::ldexp(1.0f, static_cast<int>(rng() % 200) - 140);
        break;  // on an edge
      default:
        v = static_cast<float>((rng() % 2 == 0 ? 1 : -1) * std::pow(10.0, exponent(rng)));
        v = std::isfinite(v) ? v : 1e30f;
    }
  }
  return x;
}

std::string StateOf(const HistogramObserver& h) {
  std::string bytes;
  StateWriter writer(bytes);
  h.Write(writer);
  return bytes;
}

TEST(Histogram, EveryFiniteValueLiesInItsSlot) {
  std::mt19937 rng(1);
  for (int round = 0; round < 10; ++round) {
    const std::vector<float> x = WildValues(rng, 3000);
    const HistogramObserver h = Of(x);
    std::vector<int64_t> want(2 * kBins);
    int64_t zeros = 0, lost = 0;
    for (const float v : x) {
      if (!std::isfinite(v)) {
        ++lost;
      } else if (v == 0) {
        ++zeros;
      } else {
        // Bins close on the side of 0.
        const double place = std::trunc(std::abs(static_cast<double>(v)) / h.width());
        ++want[v < 0 ? kBins - 1 - static_cast<int>(place) : kBins + static_cast<int>(place)];
      }
    }
    EXPECT_THAT(h.counts(), testing::ElementsAreArray(want));
    EXPECT_EQ(h.zeros(), zeros);
    EXPECT_EQ(h.non_finite(), lost);
    EXPECT_EQ(h.total() + lost, static_cast<int64_t>(x.size()));
  }
}

TEST(Histogram, TheLargestMagnitudeUsesMoreThanHalfOfItsSide) {
  for (const float v : {1.0f, 0.9999f, 3e38f, -7.5f, 1e-30f}) {
    const HistogramObserver h = Of({v});
    const auto it = std::find(h.counts().begin(), h.counts().end(), 1);
    const auto slot = static_cast<int>(it - h.counts().begin());
    const int place = v < 0 ? kBins - 1 - slot : slot - kBins;
    EXPECT_GE(place, kBins / 2) << v;
    EXPECT_LT(place, kBins) << v;
  }
}

TEST(Histogram, AnyOrderSplitAndMergeGivesTheSameCounts) {
  std::mt19937 rng(7);
  for (int round = 0; round < 50; ++round) {
    std::vector<float> x = WildValues(rng, 1 + rng() % 5000);
    const HistogramObserver whole = Of(x);
    std::shuffle(x.begin(), x.end(), rng);
    std::vector<HistogramObserver> parts(1 + rng() % 6);
    for (size_t i = 0; i < x.size();) {
      const size_t n = std::min<size_t>(rng() % 700, x.size() - i);
      parts[rng() % parts.size()].Observe(absl::MakeConstSpan(x).subspan(i, n));
      i += n;
    }
    std::shuffle(parts.begin(), parts.end(), rng);
    while (parts.size() > 1) {  // a random tree of merges
      const size_t into = rng() % (parts.size() - 1);
      parts[into].Merge(parts.back());
      parts.pop_back();
    }
    EXPECT_TRUE(parts[0] == whole) << "round " << round;
  }
}

TEST(Histogram, GoesOnFromItsWrittenState) {
  std::mt19937 rng(3);
  for (int round = 0; round < 10; ++round) {
    const std::vector<float> x = WildValues(rng, 2000);
    const size_t cut = rng() % x.size();
    const std::string bytes = StateOf(Of(absl::MakeConstSpan(x).first(cut)));
    StateReader reader(bytes);
    HT_ASSERT_OK_AND_ASSIGN(HistogramObserver resumed, HistogramObserver::Read(reader));
    EXPECT_TRUE(reader.at_end());
    resumed.Observe(absl::MakeConstSpan(x).subspan(cut));
    EXPECT_TRUE(resumed == Of(x));
  }
}

TEST(Histogram, AnyDamageOfTheStateIsAnErrorOrAnotherHistogram) {
  std::mt19937 rng(11);
  const std::string intact = StateOf(Of(WildValues(rng, 500)));
  for (size_t n = 0; n < intact.size(); ++n) {
    StateReader reader(absl::string_view(intact).substr(0, n));
    EXPECT_THAT(HistogramObserver::Read(reader), StatusIs(absl::StatusCode::kDataLoss)) << n;
  }
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = intact;
    for (int i = 0; i < 3; ++i) bytes[rng() % bytes.size()] = static_cast<char>(rng());
    StateReader reader(bytes);
    auto h = HistogramObserver::Read(reader);
    if (!h.ok()) continue;
    const auto& counts = h->counts();
    EXPECT_TRUE(std::all_of(counts.begin(), counts.end(), [](int64_t n) { return n >= 0; }));
    h->Observe({1, -2, 3});
  }
}

}  // namespace
}  // namespace halftone
