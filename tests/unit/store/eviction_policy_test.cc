#include "core/store/eviction_policy.h"

#include <gmock/gmock.h>

#include <random>
#include <vector>

namespace halftone {
namespace {

ResidentSnapshot Loaded(int64_t bytes, uint64_t last_used, bool in_use = false) {
  return {.loaded = true, .in_use = in_use, .bytes = bytes, .last_used = last_used};
}
ResidentSnapshot Wanted(int64_t bytes, uint64_t since) {
  return {.wanted = true, .bytes = bytes, .last_used = since};
}
constexpr uint64_t kOld = 1, kMiddle = 2, kNew = 3;

TEST(NextAction, DoesNothingWhenNothingIsWanted) {
  EXPECT_FALSE(NextAction({}, 100));
  EXPECT_FALSE(NextAction({Loaded(100, kOld)}, 100));
}

TEST(NextAction, LoadsWhatFitsFirstWantedFirst) {
  const auto action = NextAction({Wanted(10, kNew), Wanted(10, kOld), Loaded(80, kOld)}, 100);
  ASSERT_TRUE(action);
  EXPECT_EQ(action->kind, ResidentActionKind::kLoad);
  EXPECT_EQ(action->index, 1u);
}

TEST(NextAction, LoadsWhatFillsTheBudgetExactly) {
  EXPECT_EQ(NextAction({Wanted(20, kNew), Loaded(80, kOld)}, 100)->kind, ResidentActionKind::kLoad);
  EXPECT_EQ(NextAction({Wanted(21, kNew), Loaded(80, kOld)}, 100)->kind,
            ResidentActionKind::kEvict);
}

TEST(NextAction, EvictsTheLeastRecentlyUsedThatNobodyHolds) {
  const auto action = NextAction(
      {Loaded(40, kOld, /*in_use=*/true), Loaded(30, kNew), Loaded(30, kMiddle), Wanted(10, kNew)},
      100);
  ASSERT_TRUE(action);
  EXPECT_EQ(action->kind, ResidentActionKind::kEvict);
  EXPECT_EQ(action->index, 2u);
}

TEST(NextAction, RefusesWhatIsLargerThanTheBudgetWithoutEvicting) {
  const auto action = NextAction({Loaded(50, kOld), Wanted(101, kNew)}, 100);
  ASSERT_TRUE(action);
  EXPECT_EQ(action->kind, ResidentActionKind::kRefuse);
  EXPECT_EQ(action->index, 1u);
  EXPECT_EQ(action->bytes_needed, 101);
  EXPECT_EQ(action->bytes_available, 100);
}

TEST(NextAction, RefusesWhatDoesNotFitBesideWhatIsInUse) {
  const auto action =
      NextAction({Loaded(60, kOld, /*in_use=*/true), Loaded(30, kNew), Wanted(41, kNew)}, 100);
  ASSERT_TRUE(action);
  EXPECT_EQ(action->kind, ResidentActionKind::kRefuse);
  EXPECT_EQ(action->bytes_available, 40);
}

TEST(NextAction, EvictsWhenPlansGrewBeyondTheBudget) {
  const auto action = NextAction({Loaded(70, kNew), Loaded(70, kOld)}, 100);
  ASSERT_TRUE(action);
  EXPECT_EQ(action->kind, ResidentActionKind::kEvict);
  EXPECT_EQ(action->index, 1u);
  EXPECT_FALSE(NextAction({Loaded(170, kNew, /*in_use=*/true)}, 100));
}

// Acting on the answers until there is none ends, within budget, with every wanted one decided.
TEST(NextAction, ReachesAFixedPointFromAnySnapshot) {
  std::mt19937 random(20240607);
  for (int round = 0; round < 2000; ++round) {
    std::vector<ResidentSnapshot> all(random() % 8);
    for (ResidentSnapshot& v : all) {
      v.bytes = random() % 60;
      v.last_used = random() % 5;
      v.loaded = random() % 2 != 0;
      v.in_use = v.loaded && random() % 3 == 0;
      v.wanted = !v.loaded && random() % 2 != 0;
    }
    const std::vector<ResidentSnapshot> before = all;
    int steps = 0;
    while (const auto action = NextAction(all, 100)) {
      ResidentSnapshot& v = all[action->index];
      if (action->kind == ResidentActionKind::kEvict) {
        ASSERT_TRUE(v.loaded && !v.in_use);
        v.loaded = false;
      } else {
        ASSERT_TRUE(v.wanted && !v.loaded);
        v.wanted = false;
        v.loaded = action->kind == ResidentActionKind::kLoad;
        v.in_use = v.loaded;
      }
      ASSERT_LE(++steps, 20) << "round " << round;
    }
    int64_t loaded = 0;
    int64_t pinned = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      EXPECT_FALSE(all[i].wanted);
      if (all[i].loaded) loaded += all[i].bytes;
      if (before[i].in_use) pinned += before[i].bytes;
    }
    EXPECT_LE(loaded, std::max<int64_t>(100, pinned)) << "round " << round;
  }
}

TEST(NextDrop, TakesTheLeastRecentlyUsedDroppable) {
  EXPECT_FALSE(NextDrop({}));
  EXPECT_FALSE(NextDrop({{.droppable = false, .last_used = 1}}));
  EXPECT_EQ(NextDrop({{.droppable = true, .last_used = 7},
                      {.droppable = false, .last_used = 1},
                      {.droppable = true, .last_used = 3}}),
            2u);
}

}  // namespace
}  // namespace halftone
