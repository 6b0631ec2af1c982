#include "server/wide_trials.h"

#include <gmock/gmock.h>

#include <atomic>

#include "absl/synchronization/notification.h"
#include "core/ops/evaluate.h"
#include "server/warm_up.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/random_tensor.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

constexpr int kWide = 2;
constexpr absl::Duration kMs = absl::Milliseconds(1);

TEST(PaysWide, WantsTheFastestRunsToBeAFifthFaster) {
  EXPECT_TRUE(PaysWide({.narrow = {12 * kMs}, .wide = {10 * kMs}}));
  EXPECT_FALSE(PaysWide({.narrow = {12 * kMs - absl::Nanoseconds(1)}, .wide = {10 * kMs}}));
  // One slow run says nothing about a program.
  EXPECT_TRUE(PaysWide({.narrow = {90 * kMs, 12 * kMs}, .wide = {10 * kMs, 80 * kMs}}));
  EXPECT_FALSE(PaysWide({.narrow = {90 * kMs, 11 * kMs}, .wide = {10 * kMs, 80 * kMs}}));
}

// x f32[batch,32] → y f32[batch,16]
std::shared_ptr<const Plan> SmallPlan() {
  Graph g("net");
  g.opsets()[""] = 17;
  Value* x = g.AddInput("x", {DataType::kF32, Dims{Dim("batch"), 32}});
  Value* w = g.AddConstant("w", RandomF32({32, 16}, 1));
  g.AddOutput(g.AddNode({.op = "MatMul", .inputs = {x, w}, .outputs = {"y"}})->output(0));
  EXPECT_THAT(InferShapes(g), IsOk());
  return Plan::Create(std::move(g), {}).value();
}

// Runs that take as long as the test says, by its clock.
struct TimedRuns {
  FakeClock clock;
  absl::Duration narrow = 10 * kMs, wide = 10 * kMs;
  std::atomic<int> narrow_runs{0}, wide_runs{0};
  std::atomic<int64_t> arena{100};

  class Timed final : public RunContext {
   public:
    Timed(TimedRuns& runs, const std::shared_ptr<const Plan>& plan) : runs_(runs), real_(plan) {}
    absl::StatusOr<std::vector<Tensor>> Run(absl::Span<const Tensor> inputs, int threads,
                                            const std::function<absl::Status()>& stop) override {
      ++(threads == kWide ? runs_.wide_runs : runs_.narrow_runs);
      runs_.clock.Advance(threads == kWide ? runs_.wide : runs_.narrow);
      real_.SetThreads(threads);
      return real_.Run(inputs, stop);
    }
    int64_t arena_bytes() const override { return runs_.arena; }

   private:
    TimedRuns& runs_;
    Context real_;
  };
  MakeRunContext Maker() {
    return [this](const std::shared_ptr<const Plan>& plan) {
      return std::make_unique<Timed>(*this, plan);
    };
  }
};

class Trials : public testing::Test {
 protected:
  std::vector<Tensor> Row(int64_t batch = 1) { return {RandomF32({batch, 32}, 5)}; }
  bool Pays(int64_t batch = 1) {
    return trials_.NarrowTime("v", plan_, Row(batch)) > absl::ZeroDuration();
  }

  TimedRuns runs_;
  std::shared_ptr<const Plan> plan_ = SmallPlan();
  Scheduler scheduler_{{.workers = 2, .wide_threads = kWide, .clock = &runs_.clock}, runs_.Maker()};
  WideTrials trials_{scheduler_};
};

TEST_F(Trials, WhatIsFasterWideRunsWide) {
  runs_.wide = 6 * kMs;
  trials_.Try("v", plan_, Row());
  trials_.AwaitQuiet();
  EXPECT_EQ(trials_.NarrowTime("v", plan_, Row()), 10 * kMs);
  EXPECT_GE(runs_.wide_runs, 4);  // the first does not count
  EXPECT_EQ(scheduler_.wide_runs(), 0);
}

TEST_F(Trials, WhatIsNotFasterByEnoughDoesNot) {
  runs_.wide = 9 * kMs;
  trials_.Try("v", plan_, Row());
  trials_.AwaitQuiet();
  const int runs = runs_.wide_runs;
  EXPECT_GE(runs, 4);
  EXPECT_FALSE(Pays());
  // And is not tried again.
  trials_.Try("v", plan_, Row());
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(Pays());
  trials_.AwaitQuiet();
  EXPECT_EQ(runs_.wide_runs, runs);
}

TEST_F(Trials, WhatDidNotPayIsTriedAgainLaterAndLater) {
  trials_.Try("v", plan_, Row());
  trials_.AwaitQuiet();
  for (const int seconds : {30, 60, 120, 240, 480, 600, 600}) {
    const int runs = runs_.wide_runs;
    runs_.clock.Advance(absl::Seconds(seconds - 1));
    EXPECT_FALSE(Pays());
    trials_.AwaitQuiet();
    EXPECT_EQ(runs_.wide_runs, runs) << seconds;
    runs_.clock.Advance(absl::Seconds(1));
    EXPECT_FALSE(Pays());
    trials_.AwaitQuiet();
    EXPECT_GT(runs_.wide_runs, runs) << seconds;
  }
  runs_.wide = 5 * kMs;
  runs_.clock.Advance(absl::Minutes(10));
  EXPECT_FALSE(Pays());
  trials_.AwaitQuiet();
  EXPECT_TRUE(Pays());
}

TEST_F(Trials, AWideRunSlowerThanANarrowOneStopsThemForASecond) {
  runs_.wide = 5 * kMs;
  trials_.Try("v", plan_, Row());
  trials_.AwaitQuiet();
  trials_.Observe(10 * kMs, 10 * kMs);
  EXPECT_TRUE(Pays());
  trials_.Observe(10 * kMs, 11 * kMs);
  EXPECT_FALSE(Pays());
  runs_.clock.Advance(absl::Milliseconds(999));
  EXPECT_FALSE(Pays());
  runs_.clock.Advance(kMs);
  EXPECT_TRUE(Pays());
}

TEST_F(Trials, WhatDoesNotPayLeavesNoWeightsBehind) {
  const absl::Status ready = plan_->Prepare({Shape{1, 32}});
  const int64_t packed = plan_->memory().packed_bytes;
  trials_.Try("v", plan_, Row());
  trials_.AwaitQuiet();
  EXPECT_THAT(ready, IsOk());
  EXPECT_EQ(plan_->memory().packed_bytes, packed);
}

TEST_F(Trials, ShapesThatComeTwiceAreTriedOnTheirOwn) {
  runs_.wide = 5 * kMs;
  trials_.Try("v", plan_, Row());
  trials_.AwaitQuiet();
  const int runs = runs_.wide_runs;
  EXPECT_FALSE(Pays(3));
  trials_.AwaitQuiet();
  EXPECT_EQ(runs_.wide_runs, runs);
  EXPECT_FALSE(Pays(3));
  trials_.AwaitQuiet();
  EXPECT_GT(runs_.wide_runs, runs);
  EXPECT_TRUE(Pays(3));
  EXPECT_TRUE(Pays(1));
}

TEST_F(Trials, APlanHasNoMoreWideShapesThanProgramsThatItKeeps) {
  runs_.wide = 5 * kMs;
  const int limit = plan_->options().max_specializations;
  for (int64_t batch = 1; batch <= limit + 2; ++batch) trials_.Try("v", plan_, Row(batch));
  trials_.AwaitQuiet();
  int wide = 0;
  for (int64_t batch = 1; batch <= limit + 2; ++batch) wide += Pays(batch);
  EXPECT_EQ(wide, limit);
}

TEST_F(Trials, APlanThatIsGoneIsForgotten) {
  runs_.wide = 5 * kMs;
  trials_.Try("v", plan_, Row());
  trials_.AwaitQuiet();
  plan_.reset();
  plan_ = SmallPlan();
  EXPECT_FALSE(Pays());
}

TEST_F(Trials, AWarmUpMakesEveryWorkersContext) {
  EXPECT_EQ(WarmUpWorkers(scheduler_, "v", plan_, Row(), {.arena_bytes = 1 << 20}), 2);
  EXPECT_EQ(runs_.narrow_runs, 2);
  EXPECT_EQ(scheduler_.ArenaBytes()["v"], 200);
}

TEST_F(Trials, AWarmUpMakesNoMoreContextsThanFit) {
  EXPECT_EQ(WarmUpWorkers(scheduler_, "v", plan_, Row(), {.arena_bytes = 150}), 1);
  EXPECT_EQ(scheduler_.ArenaBytes()["v"], 100);
  EXPECT_EQ(WarmUpWorkers(scheduler_, "v", plan_, Row(), {.arena_bytes = 100}), 0);
}

TEST(WarmUp, DoesNotWaitForABusyServer) {
  TimedRuns runs;
  absl::Notification entered, gate;
  const auto plan = SmallPlan();
  Scheduler scheduler({.workers = 1}, runs.Maker());
  scheduler.Submit({.plan = plan, .inputs = {}, .done = [&](WorkResult) {
                      entered.Notify();
                      gate.WaitForNotification();  // the worker is held in here
                    }});
  entered.WaitForNotification();
  EXPECT_EQ(WarmUpWorkers(scheduler, "v", plan, {RandomF32({1, 32}, 5)},
                          {.arena_bytes = 1 << 20,
                           .start = absl::Milliseconds(5),
                           .finish = absl::InfiniteDuration()}),
            0);
  gate.Notify();
}

TEST(WideTrials, DoNothingWithoutAWideTeam) {
  TimedRuns runs;
  runs.wide = kMs;
  const auto plan = SmallPlan();
  Scheduler scheduler({.workers = 2, .clock = &runs.clock}, runs.Maker());
  WideTrials trials(scheduler);
  trials.Try("v", plan, {RandomF32({1, 32}, 5)});
  trials.AwaitQuiet();
  EXPECT_EQ(trials.NarrowTime("v", plan, {RandomF32({1, 32}, 5)}), absl::ZeroDuration());
  EXPECT_EQ(runs.wide_runs, 0);
}

}  // namespace
}  // namespace halftone
