#include "core/quant/error_stats.h"

#include <gmock/gmock.h>

#include <limits>
#include <vector>

namespace halftone {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(ErrorStats, SqnrIsTheRatioOfSumsInDecibel) {
  ErrorStats s;
  s.Add({20, 0}, {20, 0});
  s.Add({0, 0}, {2, 0});
  EXPECT_DOUBLE_EQ(s.sqnr_db(), 20);  // 400 / 4
  EXPECT_EQ(s.max_abs_error(), 2);
  EXPECT_EQ(s.count(), 4);
}
TEST(ErrorStats, EqualStreamsHaveNoError) {
  ErrorStats s;
  s.Add({1, kNaN, kInfinity}, {1, kNaN, kInfinity});
  EXPECT_EQ(s.sqnr_db(), kMaxSqnrDb);
  EXPECT_EQ(s.max_abs_error(), 0);
}
TEST(ErrorStats, ANewNanOrInfinityLeavesNothing) {
  for (const float bad : {kNaN, kInfinity}) {
    ErrorStats s;
    s.Add({1, 2}, {1, bad});
    EXPECT_EQ(s.sqnr_db(), kMinSqnrDb);
    EXPECT_EQ(s.max_abs_error(), std::numeric_limits<double>::infinity());
  }
}
TEST(ErrorStats, NoiseWithoutSignalLeavesNothing) {
  ErrorStats s;
  s.Add({0}, {1});
  EXPECT_EQ(s.sqnr_db(), kMinSqnrDb);
}

TEST(Top1Agreement, CountsRowsWithTheSameLargestElement) {
  Top1Agreement t;
  t.Add({1, 2, 5, 4}, {0, 9, 1, 2}, 2);
  EXPECT_EQ(t.rows(), 2);
  EXPECT_DOUBLE_EQ(t.agreement(), 0.5);
  EXPECT_FALSE(t.degenerate());
}
TEST(Top1Agreement, IsDegenerateWhenEveryRowWantsOneClass) {
  Top1Agreement t;
  t.Add({1, 2}, {1, 2}, 2);
  EXPECT_FALSE(t.degenerate());
  t.Add({3, 4}, {3, 4}, 2);
  EXPECT_TRUE(t.degenerate());
}
TEST(ArgMax, PrefersTheFirstOfEqualsAndAnythingToNan) {
  EXPECT_EQ(ArgMax({1, 3, 3}), 1);
  EXPECT_EQ(ArgMax({kNaN, -1}), 1);
  EXPECT_EQ(ArgMax({kNaN, kNaN}), 0);
}

}  // namespace
}  // namespace halftone
