#include "core/quant/observer.h"

#include <gmock/gmock.h>

#include <limits>
#include <random>
#include <vector>

namespace halftone {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(MinMaxObserver, IsEmptyUntilAFiniteValueComes) {
  MinMaxObserver o;
  o.Observe({});
  o.Observe({kNaN, kInfinity, -kInfinity});
  EXPECT_TRUE(o.range().empty());
  EXPECT_EQ(o.non_finite(), 3);
}

TEST(MinMaxObserver, IgnoresButCountsWhatIsNotFinite) {
  MinMaxObserver o;
  o.Observe({1, kNaN, -2, kInfinity});
  EXPECT_EQ(o.range(), (ValueRange{-2, 1}));
  EXPECT_EQ(o.non_finite(), 2);
}

TEST(MinMaxObserver, AnySplitOfTheDataGivesTheSameRange) {
  std::mt19937 rng(5);
  std::normal_distribution<float> normal;
  std::vector<float> x(1000);
  for (float& v : x) v = normal(rng);
  MinMaxObserver whole;
  whole.Observe(x);
  for (int round = 0; round < 20; ++round) {
    MinMaxObserver merged;
    for (size_t i = 0; i < x.size();) {
      const size_t n = std::min<size_t>(rng() % 100, x.size() - i);
      MinMaxObserver part;
      part.Observe(absl::MakeConstSpan(x).subspan(i, n));
      merged.Merge(part);
      i += n;
    }
    EXPECT_EQ(merged.range(), whole.range());
  }
}

TEST(MinMaxObserver, FindsTheExtremesWhereverTheyStand) {
  for (size_t at = 0; at < 40; ++at) {
    std::vector<float> x(41, 0.0f);
    x[at] = 7;
    x[40 - at == at ? 0 : 40 - at] = -7;
    MinMaxObserver o;
    o.Observe(x);
    EXPECT_EQ(o.range(), (ValueRange{-7, 7})) << at;
  }
}

TEST(ChannelObserver, SeparatesChannelsOfAnyAxis) {
  ChannelObserver o(2);
  // Shape [2, 2, 3], channels along axis 1.
  o.Observe({0, 1, 2, 10, 11, 12, -1, 0, 0, 20, 0, 5}, 3);
  EXPECT_EQ(o.channels()[0].range(), (ValueRange{-1, 2}));
  EXPECT_EQ(o.channels()[1].range(), (ValueRange{0, 20}));
  ChannelObserver other(2);
  other.Observe({-8, 30}, 1);
  o.Merge(other);
  EXPECT_EQ(o.channels()[0].range(), (ValueRange{-8, 2}));
  EXPECT_EQ(o.channels()[1].range(), (ValueRange{0, 30}));
}

}  // namespace
}  // namespace halftone
