#include "core/base/checked_math.h"

#include <gmock/gmock.h>

#include <limits>

#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::HasSubstr;
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

TEST(NumElements, MultipliesDimensions) {
  EXPECT_EQ(*NumElements({}), 1);
  EXPECT_EQ(*NumElements({2, 3, 4}), 24);
  EXPECT_EQ(*NumElements({2, 0, 4}), 0);
  EXPECT_EQ(*NumElements({kMax, 1}), kMax);
}

TEST(NumElements, RejectsNegativeDimensions) {
  EXPECT_THAT(NumElements({2, -1}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("[2,-1]")));
}

TEST(NumElements, RejectsOverflowEvenBesideAZero) {
  EXPECT_THAT(NumElements({kMax, 2}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(NumElements({0, kMax, 2}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(NumElements({int64_t{1} << 32, int64_t{1} << 31}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(PackedBytes, RoundsUpToWholeBytes) {
  EXPECT_EQ(*PackedBytes(0, 4), 0);
  EXPECT_EQ(*PackedBytes(3, 4), 2);
  EXPECT_EQ(*PackedBytes(4, 4), 2);
  EXPECT_EQ(*PackedBytes(5, 32), 20);
}

TEST(PackedBytes, RejectsOverflowAndNegativeCounts) {
  EXPECT_THAT(PackedBytes(-1, 8), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(PackedBytes(kMax / 8, 32), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(PackedBytes(kMax, 1), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(AlignUp, GivesTheNextMultiple) {
  static_assert(AlignUp(0, 64) == 0 && AlignUp(1, 64) == 64 && AlignUp(64, 64) == 64);
  static_assert(CeilDiv(0, 3) == 0 && CeilDiv(7, 3) == 3 && CeilDiv(9, 3) == 3);
}

}  // namespace
}  // namespace halftone
