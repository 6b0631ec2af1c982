// Who runs when a request may have all workers' threads, and what idle work may do.
#include <gmock/gmock.h>

#include <atomic>
#include <deque>
#include <optional>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "server/scheduler.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;
using enum absl::StatusCode;

constexpr int kWide = 4;  // of the tests' schedulers, which have two workers of one thread

// A plan that is only an identity; nothing looks into it.
std::shared_ptr<const Plan> FakePlan() {
  auto identity = std::make_shared<int64_t>(0);
  const auto* address = reinterpret_cast<const Plan*>(identity.get());
  return {std::move(identity), address};
}

// Runs that take note of their threads and last until the test lets them end.
class HeldRuns {
 public:
  MakeRunContext Maker() {
    return [this](const std::shared_ptr<const Plan>&) { return std::make_unique<Held>(*this); };
  }
  // Threads of every run so far, as soon as there were `n`.
  std::vector<int> Begun(size_t n) {
    absl::MutexLock lock(&mu_);
    const auto there = [&]() ABSL_SHARED_LOCKS_REQUIRED(mu_) { return threads_.size() >= n; };
    mu_.Await(absl::Condition(&there));
    return threads_;
  }
  // The i-th run may end.
  void End(size_t i) {
    absl::MutexLock lock(&mu_);
    if (ended_.size() <= i) ended_.resize(i + 1);
    ended_[i] = true;
  }
  void EndAll() {
    absl::MutexLock lock(&mu_);
    all_ended_ = true;
  }

 private:
  class Held final : public RunContext {
   public:
    explicit Held(HeldRuns& runs) : runs_(runs) {}
    absl::StatusOr<std::vector<Tensor>> Run(absl::Span<const Tensor>, int threads,
                                            const std::function<absl::Status()>& stop) override {
      absl::MutexLock lock(&runs_.mu_);
      const size_t i = runs_.threads_.size();
      runs_.threads_.push_back(threads);
      absl::Status stopped;
      const auto over = [&]() ABSL_SHARED_LOCKS_REQUIRED(runs_.mu_) {
        return runs_.all_ended_ || (i < runs_.ended_.size() && runs_.ended_[i]);
      };
      // Steps of a millisecond.
      while (!runs_.mu_.AwaitWithTimeout(absl::Condition(&over), absl::Milliseconds(1))) {
        runs_.mu_.Unlock();
        stopped = stop();
        runs_.mu_.Lock();
        if (!stopped.ok()) return stopped;
      }
      return std::vector<Tensor>();
    }
    int64_t arena_bytes() const override { return 100; }

   private:
    HeldRuns& runs_;
  };

  absl::Mutex mu_;
  std::vector<int> threads_ ABSL_GUARDED_BY(mu_);
  std::vector<bool> ended_ ABSL_GUARDED_BY(mu_);
  bool all_ended_ ABSL_GUARDED_BY(mu_) = false;
};

class WideRuns : public testing::Test {
 protected:
  explicit WideRuns(SchedulerOptions options = {.workers = 2,
                                                .wide_threads = kWide,
                                                .max_contexts_per_worker = 1})
      : scheduler_(Timed(options, clock_), runs_.Maker()) {}
  ~WideRuns() override { runs_.EndAll(); }

  static SchedulerOptions Timed(SchedulerOptions options, const Clock& clock) {
    options.clock = &clock;
    return options;
  }
  // Returns the index of the result.
  size_t Submit(Work work = {.wide_pays = true}) {
    work.plan = plan_;
    work.variant_id = "v";
    const size_t index = NextResult();
    work.done = [this, index](WorkResult r) { Take(index, std::move(r)); };
    scheduler_.Submit(std::move(work));
    return index;
  }
  size_t SubmitIdle(IdleWork work = {}) {
    if (work.plan.expired()) work.plan = plan_;
    work.variant_id = "v";
    const size_t index = NextResult();
    work.done = [this, index](WorkResult r) { Take(index, std::move(r)); };
    scheduler_.SubmitIdle(std::move(work));
    return index;
  }
  WorkResult Wait(size_t index) {
    absl::MutexLock lock(&mu_);
    const auto there = [&]()
                           ABSL_SHARED_LOCKS_REQUIRED(mu_) { return results_[index].has_value(); };
    mu_.Await(absl::Condition(&there));
    return *results_[index];
  }
  bool Answered(size_t index) {
    absl::MutexLock lock(&mu_);
    return results_[index].has_value();
  }
  // The server is idle again.
  void Finish(size_t run, size_t index) {
    runs_.End(run);
    EXPECT_THAT(Wait(index).outputs, IsOk());
  }

 private:
  size_t NextResult() {
    absl::MutexLock lock(&mu_);
    results_.emplace_back();
    return results_.size() - 1;
  }
  void Take(size_t index, WorkResult result) {
    absl::MutexLock lock(&mu_);
    results_[index] = std::move(result);
  }

 protected:
  FakeClock clock_;
  HeldRuns runs_;
  std::shared_ptr<const Plan> plan_ = FakePlan();

 private:
  absl::Mutex mu_;
  std::deque<std::optional<WorkResult>> results_ ABSL_GUARDED_BY(mu_);

 protected:
  Scheduler scheduler_;
};

TEST_F(WideRuns, ARequestThatIsAloneHasAllThreads) {
  for (size_t i = 0; i < 3; ++i) {
    const size_t request = Submit();
    EXPECT_EQ(runs_.Begun(i + 1)[i], kWide);
    Finish(i, request);
  }
  EXPECT_EQ(scheduler_.wide_runs(), 3);
}

TEST_F(WideRuns, ARequestForWhichItDoesNotPayHasItsWorkersThreads) {
  const size_t request = Submit({.wide_pays = false});
  EXPECT_THAT(runs_.Begun(1), ElementsAre(1));
  Finish(0, request);
  EXPECT_EQ(scheduler_.wide_runs(), 0);
}

TEST_F(WideRuns, TwoAtOnceRunSideBySide) {
  const size_t blocker = Submit({.wide_pays = false});
  runs_.Begun(1);
  const size_t second = Submit();
  EXPECT_THAT(runs_.Begun(2), ElementsAre(1, 1));
  Finish(1, second);
  Finish(0, blocker);
  EXPECT_EQ(scheduler_.wide_runs(), 0);
}

TEST_F(WideRuns, WhatArrivesDuringAWideRunWaitsAndThenRunsAsEver) {
  const size_t wide = Submit();
  EXPECT_THAT(runs_.Begun(1), ElementsAre(kWide));
  const size_t second = Submit(), third = Submit();
  // The other worker is free, and must not begin.
  absl::SleepFor(absl::Milliseconds(20));
  EXPECT_THAT(runs_.Begun(1), SizeIs(1));
  EXPECT_EQ(scheduler_.queued(), 2);
  Finish(0, wide);
  EXPECT_THAT(runs_.Begun(3), ElementsAre(kWide, 1, 1));
  runs_.End(1);
  runs_.End(2);
  for (const size_t i : {second, third}) EXPECT_THAT(Wait(i).outputs, IsOk());
  // And the next one is alone again.
  const size_t last = Submit();
  EXPECT_EQ(runs_.Begun(4)[3], kWide);
  Finish(3, last);
}

// A client in a loop must not keep the others waiting: what comes while something runs is not
// alone.
TEST_F(WideRuns, OneThatWaitedForAWideRunIsNotWideItself) {
  const size_t wide = Submit();
  runs_.Begun(1);
  const size_t second = Submit();
  Finish(0, wide);
  EXPECT_THAT(runs_.Begun(2), ElementsAre(kWide, 1));
  const size_t again = Submit();
  EXPECT_THAT(runs_.Begun(3), ElementsAre(kWide, 1, 1));
  Finish(1, second);
  Finish(2, again);
}

TEST_F(WideRuns, WhatExpiresOrIsCancelledWhileItWaitsNeverRuns) {
  const size_t wide = Submit();
  runs_.Begun(1);
  std::atomic<bool> gone{false};
  const size_t late = Submit({.wide_pays = true, .deadline = clock_.Now() + absl::Milliseconds(5)});
  const size_t left = Submit({.wide_pays = true, .cancelled = [&] { return gone.load(); }});
  gone = true;
  clock_.Advance(absl::Milliseconds(5));
  Finish(0, wide);
  EXPECT_THAT(Wait(late).outputs, StatusIs(kDeadlineExceeded));
  EXPECT_THAT(Wait(left).outputs, StatusIs(kCancelled));
  EXPECT_THAT(runs_.Begun(1), SizeIs(1));
  Finish(1, Submit());  // the slots are free
}

TEST_F(WideRuns, ADeadOneThatIsAloneGivesItsTurnBack) {
  const size_t dead = Submit({.wide_pays = true, .deadline = clock_.Now()});
  EXPECT_THAT(Wait(dead).outputs, StatusIs(kDeadlineExceeded));
  const size_t next = Submit();
  EXPECT_THAT(runs_.Begun(1), ElementsAre(kWide));
  Finish(0, next);
}

TEST(WideRunsShutdown, WaitsForTheWideRunAndRefusesWhatWaits) {
  HeldRuns runs;
  const auto plan = FakePlan();
  absl::Status waiting;
  {
    Scheduler scheduler({.workers = 2, .wide_threads = kWide}, runs.Maker());
    scheduler.Submit({.plan = plan, .wide_pays = true, .done = [](WorkResult) {}});
    EXPECT_THAT(runs.Begun(1), ElementsAre(kWide));
    scheduler.Submit({.plan = plan, .wide_pays = true, .done = [&](WorkResult r) {
                        waiting = r.outputs.status();
                        runs.EndAll();
                      }});
  }
  EXPECT_THAT(waiting, StatusIs(kUnavailable));
}

class NoWideRuns : public WideRuns {
 protected:
  NoWideRuns() : WideRuns({.workers = 2, .wide_threads = 1}) {}
};

TEST_F(NoWideRuns, WithoutAWideTeamNothingIsWide) {
  const size_t request = Submit();
  EXPECT_THAT(runs_.Begun(1), ElementsAre(1));
  Finish(0, request);
}

class OneWorker : public WideRuns {
 protected:
  OneWorker() : WideRuns({.workers = 1, .wide_threads = kWide}) {}
};

TEST_F(OneWorker, IdleWorkWaitsWhileRequestsDo) {
  const size_t running = Submit({});
  runs_.Begun(1);
  const size_t idle = SubmitIdle(), wide = SubmitIdle({.wide = true});
  const size_t queued = Submit({});
  Finish(0, running);
  runs_.Begun(2);
  EXPECT_FALSE(Answered(idle));
  Finish(1, queued);
  Finish(2, idle);
  Finish(3, wide);
  EXPECT_THAT(runs_.Begun(4), ElementsAre(1, 1, 1, kWide));
  EXPECT_EQ(scheduler_.wide_runs(), 0);  // no request was wide
}

TEST_F(WideRuns, WideIdleWorkWaitsForTheOtherWorkers) {
  const size_t request = Submit({});
  runs_.Begun(1);
  const size_t wide = SubmitIdle({.wide = true});
  absl::SleepFor(absl::Milliseconds(20));
  EXPECT_THAT(runs_.Begun(1), SizeIs(1));
  Finish(0, request);
  EXPECT_THAT(runs_.Begun(2), ElementsAre(1, kWide));
  Finish(1, wide);
}

TEST_F(OneWorker, IdleWorkGivesWayToARequest) {
  size_t runs = 0;
  for (const bool wide : {false, true}) {
    const size_t idle = SubmitIdle({.wide = wide});
    EXPECT_EQ(runs_.Begun(++runs).back(), wide ? kWide : 1);
    const size_t request = Submit();
    EXPECT_THAT(Wait(idle).outputs, StatusIs(kCancelled));
    EXPECT_EQ(runs_.Begun(++runs).back(), 1);
    Finish(runs - 1, request);
  }
}

TEST_F(WideRuns, IdleWorkOfADeadPlanIsCancelled) {
  Submit({});
  Submit({});
  runs_.Begun(2);
  auto plan = FakePlan();
  const size_t idle = SubmitIdle({.plan = plan});
  plan.reset();
  runs_.EndAll();
  EXPECT_THAT(Wait(idle).outputs, StatusIs(kCancelled));
  EXPECT_THAT(runs_.Begun(2), SizeIs(2));
}

TEST_F(WideRuns, IdleWorkPushesNoContextOut) {
  runs_.EndAll();
  const auto other = FakePlan();
  EXPECT_THAT(Wait(SubmitIdle({.worker = 1})).outputs, IsOk());
  EXPECT_THAT(Wait(SubmitIdle({.plan = other, .worker = 1})).outputs, StatusIs(kResourceExhausted));
  EXPECT_THAT(Wait(SubmitIdle({.worker = 1})).outputs, IsOk());
  EXPECT_EQ(scheduler_.ArenaBytes()["v"], 100);
}

TEST_F(WideRuns, AWideRunSharesItsWorkersContext) {
  runs_.EndAll();
  EXPECT_THAT(Wait(SubmitIdle({.worker = 0})).outputs, IsOk());
  EXPECT_THAT(Wait(Submit()).outputs, IsOk());
  EXPECT_THAT(runs_.Begun(2), ElementsAre(1, kWide));
  EXPECT_EQ(scheduler_.ArenaBytes()["v"], 100);
}

}  // namespace
}  // namespace halftone
