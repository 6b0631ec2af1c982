#include "core/base/format.h"

#include <gmock/gmock.h>

namespace halftone {
namespace {

TEST(Format, KeepsThreeDigitsAndPicksTheUnit) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(999), "999 B");
  EXPECT_EQ(FormatBytes(1000), "1.00 kB");
  EXPECT_EQ(FormatBytes(999'499), "999 kB");
  EXPECT_EQ(FormatBytes(999'999), "1.00 MB");
  EXPECT_EQ(FormatBytes(4'934'152), "4.93 MB");
  EXPECT_EQ(FormatSeconds(87e-6), "87 us");
  EXPECT_EQ(FormatSeconds(1.239e-3), "1.24 ms");
  EXPECT_EQ(FormatSeconds(12.34), "12.3 s");
  EXPECT_EQ(FormatDecibels(41.26), "41.3 dB");
  EXPECT_EQ(FormatDecibels(999), "exact");
  EXPECT_EQ(FormatPercent(0.9925), "99.25 %");
  EXPECT_EQ(FormatRatio(2.414), "2.41x");
}

}  // namespace
}  // namespace halftone
