#include "core/exec/memory_planner.h"

#include <gtest/gtest.h>

#include <random>

namespace halftone {
namespace {

bool Overlap(const BufferInterval& a, int64_t at_a, const BufferInterval& b, int64_t at_b) {
  const bool in_time = a.first <= b.last && b.first <= a.last;
  return in_time && at_a < at_b + b.size_bytes && at_b < at_a + a.size_bytes;
}

TEST(PlanMemory, SharesBytesOfBuffersThatNeverMeet) {
  const MemoryPlan plan = PlanMemory({{0, 1, 256}, {2, 3, 256}, {1, 2, 128}});
  EXPECT_EQ(plan.offsets[0], plan.offsets[1]);
  EXPECT_EQ(plan.offsets[2], 256);
  EXPECT_EQ(plan.arena_bytes, 384);
}

TEST(PlanMemory, EmptyBuffersTakeNoRoom) {
  EXPECT_EQ(PlanMemory({{0, 5, 0}, {0, 5, 0}}).arena_bytes, 0);
  EXPECT_EQ(PlanMemory({}).arena_bytes, 0);
}

TEST(PlanMemory, FillsAGapBelowALaterBuffer) {
  // The small one fits where the first large one was.
  const MemoryPlan plan = PlanMemory({{0, 0, 1024}, {0, 2, 512}, {1, 2, 64}});
  EXPECT_EQ(plan.offsets[2], 0);
  EXPECT_EQ(plan.arena_bytes, 1536);
}

TEST(PlanMemory, RandomPlansNeverOverlapAndNeverExceedTheSum) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 rng(seed);
    std::vector<BufferInterval> intervals(1 + rng() % 40);
    int64_t sum = 0;
    for (BufferInterval& i : intervals) {
      i.first = static_cast<int>(rng() % 20);
      i.last = i.first + static_cast<int>(rng() % 6);
      i.size_bytes = rng() % 1000;
      sum += (i.size_bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
    }
    const MemoryPlan plan = PlanMemory(intervals);
    EXPECT_LE(plan.arena_bytes, sum) << "seed " << seed;
    for (size_t a = 0; a < intervals.size(); ++a) {
      EXPECT_EQ(plan.offsets[a] % kArenaAlignment, 0);
      EXPECT_LE(plan.offsets[a] + intervals[a].size_bytes, plan.arena_bytes);
      for (size_t b = 0; b < a; ++b) {
        EXPECT_FALSE(Overlap(intervals[a], plan.offsets[a], intervals[b], plan.offsets[b]))
            << "seed " << seed << ": " << a << " and " << b;
      }
    }
  }
}

}  // namespace
}  // namespace halftone
