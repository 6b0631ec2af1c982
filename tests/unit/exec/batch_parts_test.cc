#include "core/exec/batch_parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/exec/lowering_util.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr BatchLimit kLimit = {.cached_bytes = 1000, .memory_bytes = 4000};

TEST(CutBatch, OneThreadCutsWhatIsTooLarge) {
  EXPECT_THAT(CutBatch({.rows = 8, .arena_bytes = 100}, kLimit, 1), IsEmpty());
  EXPECT_THAT(CutBatch({.rows = 8, .arena_bytes = 300}, kLimit, 1), ElementsAre(2, 3, 3));
  // Weights that no cache keeps are read again for each part: only memory counts.
  EXPECT_THAT(CutBatch({.rows = 8, .arena_bytes = 300, .weight_bytes = 2000}, kLimit, 1),
              IsEmpty());
  EXPECT_THAT(CutBatch({.rows = 8, .arena_bytes = 900, .weight_bytes = 2000}, kLimit, 1),
              ElementsAre(4, 4));
  EXPECT_THAT(CutBatch({.rows = 3, .arena_bytes = 9999}, kLimit, 1), ElementsAre(1, 1, 1));
}

TEST(CutBatch, EachThreadGetsAsManyPartsWhereItPays) {
  const BatchCost cost{.rows = 8, .arena_bytes = 100, .traffic_bytes = 500, .weight_bytes = 900};
  EXPECT_THAT(CutBatch(cost, kLimit, 2), ElementsAre(4, 4));
  EXPECT_THAT(CutBatch(cost, kLimit, 4), ElementsAre(2, 2, 2, 2));
  // Together they fit what one would.
  BatchCost large = cost;
  large.arena_bytes = 300;
  EXPECT_THAT(CutBatch(large, kLimit, 2), ElementsAre(1, 1, 1, 1, 1, 1, 1, 1));
  // Fewer rows than threads, or one thread would have many more.
  EXPECT_THAT(CutBatch(cost, kLimit, 16), IsEmpty());
  BatchCost odd = cost;
  odd.rows = 5;
  EXPECT_THAT(CutBatch(odd, kLimit, 2), IsEmpty());
  odd.rows = 9;
  EXPECT_THAT(CutBatch(odd, kLimit, 2), ElementsAre(4, 5));
  // It is the weights that take the time.
  BatchCost heavy = cost;
  heavy.traffic_bytes = 50;
  EXPECT_THAT(CutBatch(heavy, kLimit, 2), IsEmpty());
}

TEST(LanesFor, AreAllThreadsOrOne) {
  EXPECT_EQ(LanesFor({4, 4}, 2), 2);
  EXPECT_EQ(LanesFor({4, 4}, 1), 1);
  EXPECT_EQ(LanesFor({2, 3, 3}, 2), 1);
  EXPECT_EQ(LanesFor({2, 2, 2, 2}, 2), 2);
  EXPECT_EQ(LanesFor({2, 2}, 3), 1);
  EXPECT_EQ(LanesFor({}, 2), 1);
}

// y = Conv(x) + MaxPool, with more activations than weights.
Graph Net() {
  Graph g = NewGraph(21);
  Value* x = g.AddInput("x", F32({Dim("batch"), 4, 32, 32}));
  Value* w = g.AddConstant("w", RandomF32({32, 4, 3, 3}, 3));
  Value* y = Apply(g, "Relu", {Apply(g, "Conv", {x, w})});
  g.AddOutput(Apply(g, "MaxPool", {y}, {{"kernel_shape", std::vector<int64_t>{2, 2}}}));
  g.AddOutput(Apply(g, "GlobalAveragePool", {y}));
  EXPECT_THAT(InferShapes(g), IsOk());
  return g;
}

std::string FirstStep(const Plan& plan, int64_t batch) {
  const auto steps = plan.Describe({Shape{batch, 4, 32, 32}});
  EXPECT_THAT(steps, IsOk());
  return steps.ok() ? (*steps)[0].implementation : "";
}

TEST(BatchOfATeam, EachThreadComputesRowsOfItsOwn) {
  HT_ASSERT_OK_AND_ASSIGN(const auto one, Plan::Create(Net(), {}));
  HT_ASSERT_OK_AND_ASSIGN(const auto team, Plan::Create(Net(), {.threads = 2}));
  EXPECT_EQ(FirstStep(*team, 8), "2 x 4 rows, one per thread");
  EXPECT_EQ(FirstStep(*team, 9), "2 x 5 rows, one per thread");
  EXPECT_THAT(FirstStep(*team, 3), testing::Not(testing::HasSubstr("rows")));
  EXPECT_THAT(FirstStep(*one, 8), testing::Not(testing::HasSubstr("rows")));
  Context alone(one), context(team);
  for (const int64_t batch : {8, 3, 9, 1, 8}) {
    const Tensor x = RandomF32({batch, 4, 32, 32}, static_cast<uint32_t>(batch));
    HT_ASSERT_OK_AND_ASSIGN(const auto want, alone.Run({x}));
    HT_ASSERT_OK_AND_ASSIGN(const auto got, context.Run({x}));
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_LE(Disagreement(got[i], want[i], kAccumulate), 1) << "output " << i;
    }
  }
}

TEST(BatchOfATeam, GivesTheMemoryOfItsThreadsBack) {
  HT_ASSERT_OK_AND_ASSIGN(const auto plan, Plan::Create(Net(), {.threads = 2}));
  Context context(plan);
  const Tensor row = RandomF32({1, 4, 32, 32}, 1), batch = RandomF32({2, 4, 32, 32}, 1);
  HT_ASSERT_OK(context.Run({row}));
  const int64_t alone = context.arena_bytes();
  HT_ASSERT_OK(context.Run({batch}));
  EXPECT_GT(context.arena_bytes(), alone * 3 / 2) << "the other thread has an arena, too";
  for (int i = 0; i < 200; ++i) HT_ASSERT_OK(context.Run({row}));
  EXPECT_EQ(context.arena_bytes(), alone);
}

// Only the calling thread asks, and everybody stops.
TEST(BatchOfATeam, StopsWhenTheCallerSaysSo) {
  HT_ASSERT_OK_AND_ASSIGN(const auto plan, Plan::Create(Net(), {.threads = 2}));
  Context context(plan);
  const Tensor x = RandomF32({8, 4, 32, 32}, 1);
  const auto caller = std::this_thread::get_id();
  std::atomic<int> asked = 0, elsewhere = 0;
  const auto stop = [&] {
    elsewhere += std::this_thread::get_id() != caller;
    return ++asked == 2 ? absl::DeadlineExceededError("enough") : absl::OkStatus();
  };
  EXPECT_EQ(context.Run({x}, stop).status(), absl::DeadlineExceededError("enough"));
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(elsewhere, 0);
  HT_EXPECT_OK(context.Run({x}).status());
}

}  // namespace
}  // namespace halftone
