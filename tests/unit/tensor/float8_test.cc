#include "core/tensor/float8.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/tensor/tensor.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Format {
  DataType type;
  float smallest, one_step_above_one, largest;
  uint8_t largest_bits, nan;
  int beyond;  // what infinity becomes without saturation
};
const std::vector<Format> kFormats = {
    {DataType::kF8E4M3FN, 0x1p-9f, 1.125f, 448, 0x7e, 0x7f, 0x7f},
    {DataType::kF8E4M3FNUZ, 0x1p-10f, 1.125f, 240, 0x7f, 0x80, 0x80},
    {DataType::kF8E5M2, 0x1p-16f, 1.25f, 57344, 0x7b, 0x7f, 0x7c},
    {DataType::kF8E5M2FNUZ, 0x1p-17f, 1.25f, 57344, 0x7f, 0x80, 0x80},
};
bool UnsignedZero(const Format& f) { return f.nan == 0x80; }

TEST(Float8, HasTheRangeOfItsFormat) {
  for (const Format& f : kFormats) {
    SCOPED_TRACE(Name(f.type));
    EXPECT_EQ(DecodeFloat8(f.type, 0), 0);
    EXPECT_EQ(DecodeFloat8(f.type, 1), f.smallest);
    EXPECT_EQ(DecodeFloat8(f.type, f.largest_bits), f.largest);
    EXPECT_EQ(DecodeFloat8(f.type, static_cast<uint8_t>(EncodeFloat8(f.type, 1, true) + 1)),
              f.one_step_above_one);
    EXPECT_TRUE(std::isnan(DecodeFloat8(f.type, f.nan)));
    EXPECT_EQ(std::signbit(DecodeFloat8(f.type, 0x80)), !UnsignedZero(f));
  }
  EXPECT_EQ(DecodeFloat8(DataType::kF8E5M2, 0xfc), -kInf);
}

TEST(Float8, EveryPatternRoundTrips) {
  for (const Format& f : kFormats) {
    for (int bits = 0; bits < 256; ++bits) {
      const float x = DecodeFloat8(f.type, static_cast<uint8_t>(bits));
      if (std::isnan(x)) continue;
      EXPECT_EQ(EncodeFloat8(f.type, x, false), bits) << Name(f.type) << " " << x;
    }
  }
}

TEST(Float8, RoundsToNearestEvenBetweenAllNeighbours) {
  for (const Format& f : kFormats) {
    for (int low = 0; low < f.largest_bits; ++low) {
      const float a = DecodeFloat8(f.type, static_cast<uint8_t>(low));
      const float b = DecodeFloat8(f.type, static_cast<uint8_t>(low + 1));
      const float middle = (a + b) / 2;
      const int even = low % 2 == 0 ? low : low + 1;
      EXPECT_EQ(EncodeFloat8(f.type, middle, true), even) << Name(f.type) << " " << middle;
      EXPECT_EQ(EncodeFloat8(f.type, std::nextafter(middle, a), true), low);
      EXPECT_EQ(EncodeFloat8(f.type, std::nextafter(middle, b), true), low + 1);
      const int negative = even == 0 && UnsignedZero(f) ? 0 : 0x80 | even;
      EXPECT_EQ(EncodeFloat8(f.type, -middle, true), negative);
    }
  }
}

TEST(Float8, OverflowSaturatesOrNot) {
  for (const Format& f : kFormats) {
    SCOPED_TRACE(Name(f.type));
    for (const float x : {f.largest * 1.2f, 1e30f, kInf}) {
      EXPECT_EQ(EncodeFloat8(f.type, x, true), f.largest_bits);
      EXPECT_EQ(EncodeFloat8(f.type, -x, true), 0x80 | f.largest_bits);
      EXPECT_EQ(EncodeFloat8(f.type, x, false), f.beyond);
      EXPECT_EQ(EncodeFloat8(f.type, -x, false), 0x80 | f.beyond);
    }
  }
}

TEST(Float8, ZeroAndNanKeepTheirSignWhereTheFormatHasOne) {
  for (const Format& f : kFormats) {
    EXPECT_EQ(EncodeFloat8(f.type, -0.0, true), UnsignedZero(f) ? 0 : 0x80);
    EXPECT_EQ(EncodeFloat8(f.type, -1e-30, true), UnsignedZero(f) ? 0 : 0x80);
    EXPECT_EQ(EncodeFloat8(f.type, kNan, true), f.nan);
    EXPECT_EQ(EncodeFloat8(f.type, -kNan, false), 0x80 | f.nan);
  }
}

TEST(Float8, TensorsConvertFromAndToTheOtherTypes) {
  HT_ASSERT_OK_AND_ASSIGN(const Tensor narrow,
                          Convert(Tensor::Of<int32_t>({3}, {1, -3, 1000}), DataType::kF8E4M3FN));
  EXPECT_EQ(narrow.num_bytes(), 3);
  HT_ASSERT_OK_AND_ASSIGN(const Tensor wide, Convert(narrow, DataType::kF32));
  EXPECT_THAT(wide.data<float>(), ElementsAre(1, -3, 448));
  HT_ASSERT_OK_AND_ASSIGN(const Tensor other, Convert(narrow, DataType::kF8E5M2));
  HT_ASSERT_OK_AND_ASSIGN(const Tensor integers, Convert(other, DataType::kI64));
  EXPECT_THAT(integers.data<int64_t>(), ElementsAre(1, -3, 448));
  HT_ASSERT_OK_AND_ASSIGN(const Tensor infinite, Convert(Tensor::Scalar<float>(1e9f),
                                                         DataType::kF8E5M2, /*saturate=*/false));
  HT_ASSERT_OK_AND_ASSIGN(const Tensor back, Convert(infinite, DataType::kF16));
  EXPECT_EQ(static_cast<float>(back.data<Float16>()[0]), kInf);
}

}  // namespace
}  // namespace halftone
