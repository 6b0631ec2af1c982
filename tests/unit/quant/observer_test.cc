#include "core/quant/observer.h"

#include <gmock/gmock.h>

#include <limits>
#include <random>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"

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

TEST(MinMaxObserver, GoesOnFromItsWrittenState) {
  MinMaxObserver o;
  o.Observe({1, kNaN, -2});
  std::string bytes;
  StateWriter writer(bytes);
  o.Write(writer);
  StateReader reader(bytes);
  HT_ASSERT_OK_AND_ASSIGN(MinMaxObserver read, MinMaxObserver::Read(reader));
  EXPECT_TRUE(read == o);
  EXPECT_TRUE(reader.at_end());
}

TEST(MovingAverageObserver, IsTheMeanOfTheFirstRequests) {
  MovingAverageObserver o;
  EXPECT_TRUE(o.range().empty());
  o.Observe({kNaN});  // tells nothing
  for (int i = 0; i < 100; ++i) o.Observe({static_cast<float>(i), static_cast<float>(-i)});
  EXPECT_EQ(o.count(), 100);
  EXPECT_NEAR(o.range().max, 49.5, 1e-5);
  EXPECT_NEAR(o.range().min, -49.5, 1e-5);
}

TEST(MovingAverageObserver, ThenEachRequestWeighsAHundredth) {
  MovingAverageObserver o;
  for (int i = 0; i < 500; ++i) o.Observe({0, 1});
  o.Observe({-100, 1});
  EXPECT_NEAR(o.range().min, -1, 1e-6);
  EXPECT_NEAR(o.range().max, 1, 1e-6);
}

TEST(MovingAverageObserver, MergesByCounts) {
  MovingAverageObserver a, b, none;
  for (int i = 0; i < 3; ++i) a.Observe({0, 4});
  b.Observe({-8, 8});
  a.Merge(b);
  a.Merge(none);
  EXPECT_EQ(a.count(), 4);
  EXPECT_EQ(a.range(), (ValueRange{-2, 5}));
  none.Merge(a);
  EXPECT_TRUE(none == a);
}

TEST(MovingAverageObserver, GoesOnFromItsWrittenState) {
  MovingAverageObserver whole, half;
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    const std::vector<float> x = {static_cast<float>(i % 7), -static_cast<float>(i % 11) / 3};
    whole.Observe(x);
    if (i == 150) {
      StateWriter writer(bytes);
      half.Write(writer);
      StateReader reader(bytes);
      HT_ASSERT_OK_AND_ASSIGN(half, MovingAverageObserver::Read(reader));
    }
    half.Observe(x);
  }
  EXPECT_TRUE(half == whole);
  StateReader reader(absl::string_view(bytes).substr(1));
  EXPECT_THAT(MovingAverageObserver::Read(reader), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace halftone
