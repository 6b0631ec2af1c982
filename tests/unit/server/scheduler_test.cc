#include "server/scheduler.h"

#include <gmock/gmock.h>

#include <atomic>
#include <set>

#include "absl/synchronization/notification.h"
#include "server/status_mapping.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using enum absl::StatusCode;

// A plan that is only an identity; nothing looks into it.
std::shared_ptr<const Plan> FakePlan() {
  auto identity = std::make_shared<int64_t>(0);
  const auto* address = reinterpret_cast<const Plan*>(identity.get());
  return {std::move(identity), address};
}

// Contexts that wait for `gate` if there is one and then give their input back.
struct Fakes {
  std::atomic<int> made{0};
  std::atomic<int> alive{0};
  std::atomic<int> runs{0};
  absl::Notification* gate = nullptr;
  absl::Notification* entered = nullptr;

  class Echo final : public RunContext {
   public:
    explicit Echo(Fakes& fakes) : fakes_(fakes) { ++fakes_.alive; }
    ~Echo() override { --fakes_.alive; }
    absl::StatusOr<std::vector<Tensor>> Run(absl::Span<const Tensor> inputs, int,
                                            const std::function<absl::Status()>& stop) override {
      ++fakes_.runs;
      if (fakes_.entered != nullptr && !fakes_.entered->HasBeenNotified()) {
        fakes_.entered->Notify();
      }
      if (fakes_.gate != nullptr) fakes_.gate->WaitForNotification();
      if (absl::Status s = stop(); !s.ok()) return s;
      return std::vector<Tensor>(inputs.begin(), inputs.end());
    }
    int64_t arena_bytes() const override { return 100; }

   private:
    Fakes& fakes_;
  };

  MakeRunContext Maker() {
    return [this](const std::shared_ptr<const Plan>&) {
      ++made;
      return std::make_unique<Echo>(*this);
    };
  }
};

// Submits and waits.
WorkResult RunNow(Scheduler& scheduler, std::shared_ptr<const Plan> plan,
                  std::vector<Tensor> inputs = {}) {
  absl::Notification finished;
  WorkResult result;
  scheduler.Submit({.plan = std::move(plan),
                    .variant_id = "v",
                    .inputs = std::move(inputs),
                    .done = [&](WorkResult r) {
                      result = std::move(r);
                      finished.Notify();
                    }});
  finished.WaitForNotification();
  return result;
}

TEST(Scheduler, GivesBackWhatTheContextComputed) {
  Fakes fakes;
  Scheduler scheduler({}, fakes.Maker());
  const WorkResult result = RunNow(scheduler, FakePlan(), {Tensor::Of<float>({2}, {1, 2})});
  ASSERT_THAT(result.outputs, IsOk());
  EXPECT_THAT((*result.outputs)[0].data<float>(), ElementsAre(1, 2));
}

TEST(Scheduler, KeepsOneContextPerPlanAndWorker) {
  Fakes fakes;
  Scheduler scheduler({.workers = 1}, fakes.Maker());
  const auto a = FakePlan(), b = FakePlan();
  for (int i = 0; i < 3; ++i) {
    RunNow(scheduler, a);
    RunNow(scheduler, b);
  }
  EXPECT_EQ(fakes.made, 2);
  EXPECT_EQ(scheduler.ArenaBytes()["v"], 200);
}

TEST(Scheduler, DropsTheLeastRecentlyUsedContext) {
  Fakes fakes;
  Scheduler scheduler({.workers = 1, .max_contexts_per_worker = 2}, fakes.Maker());
  const auto a = FakePlan(), b = FakePlan(), c = FakePlan();
  for (const auto& plan : {a, b, a, c}) RunNow(scheduler, plan);  // c pushes b out
  EXPECT_EQ(fakes.made, 3);
  RunNow(scheduler, a);
  EXPECT_EQ(fakes.made, 3);
  RunNow(scheduler, b);
  EXPECT_EQ(fakes.made, 4);
  EXPECT_EQ(fakes.alive, 2);
}

TEST(Scheduler, DoesNotKeepPlansAlive) {
  Fakes fakes;
  Scheduler scheduler({.workers = 1}, fakes.Maker());
  auto plan = FakePlan();
  const std::weak_ptr<const Plan> watch = plan;
  RunNow(scheduler, plan);
  plan.reset();
  EXPECT_TRUE(watch.expired());
  RunNow(scheduler, FakePlan());  // a new context makes the worker drop the dead plan's
  EXPECT_EQ(fakes.alive, 1);
}

// One worker, held inside a run; what comes next waits in the queue.
class BusyScheduler : public testing::Test {
 protected:
  void SetUp() override {
    fakes_.gate = &gate_;
    fakes_.entered = &entered_;
    Submit({});
    entered_.WaitForNotification();
  }
  void TearDown() override {
    if (!gate_.HasBeenNotified()) gate_.Notify();
  }
  // Returns the index of the result.
  size_t Submit(Work work) {
    work.plan = plan_;
    absl::MutexLock lock(&mu_);
    const size_t index = results_.size();
    results_.emplace_back();
    work.done = [this, index](WorkResult r) {
      absl::MutexLock l(&mu_);
      results_[index] = std::move(r);
    };
    mu_.Unlock();
    scheduler_.Submit(std::move(work));
    mu_.Lock();
    return index;
  }
  WorkResult Wait(size_t index) {
    absl::MutexLock lock(&mu_);
    const auto there = [&] { return results_[index].has_value(); };
    mu_.Await(absl::Condition(&there));
    return *results_[index];
  }
  bool Answered(size_t index) {
    absl::MutexLock lock(&mu_);
    return results_[index].has_value();
  }

  FakeClock clock_;
  Fakes fakes_;
  absl::Notification gate_, entered_;
  std::shared_ptr<const Plan> plan_ = FakePlan();
  absl::Mutex mu_;
  std::deque<std::optional<WorkResult>> results_ ABSL_GUARDED_BY(mu_);
  Scheduler scheduler_{{.workers = 1, .max_queued = 2, .clock = &clock_}, fakes_.Maker()};
};

TEST_F(BusyScheduler, RefusesWhatTheQueueCannotHoldWithARetryHint) {
  Submit({});
  Submit({});
  EXPECT_EQ(scheduler_.queued(), 2);
  const WorkResult refused = Wait(Submit({}));
  EXPECT_THAT(refused.outputs, StatusIs(kResourceExhausted, HasSubstr("at most 2")));
  EXPECT_TRUE(RetryAfter(refused.outputs.status()).has_value());
}

TEST_F(BusyScheduler, ExpiresQueuedWorkExactlyAtItsDeadline) {
  const size_t late = Submit({.deadline = clock_.Now() + absl::Milliseconds(5)});
  const size_t in_time = Submit({.deadline = clock_.Now() + absl::Milliseconds(6)});
  clock_.Advance(absl::Milliseconds(5));
  gate_.Notify();
  const WorkResult expired = Wait(late);
  EXPECT_THAT(expired.outputs, StatusIs(kDeadlineExceeded, HasSubstr("5ms")));
  EXPECT_EQ(expired.queue, absl::Milliseconds(5));
  EXPECT_THAT(Wait(in_time).outputs, IsOk());
  EXPECT_EQ(fakes_.runs, 2);  // the blocker and the one in time
}

TEST_F(BusyScheduler, DropsCancelledWorkBeforeRunningIt) {
  std::atomic<bool> cancelled{false};
  const size_t index = Submit({.cancelled = [&] { return cancelled.load(); }});
  cancelled = true;
  gate_.Notify();
  EXPECT_THAT(Wait(index).outputs, StatusIs(kCancelled));
  EXPECT_EQ(fakes_.runs, 1);
}

TEST(RunningWork, EndsBetweenStepsAtItsDeadline) {
  FakeClock clock;
  Fakes fakes;
  absl::Notification gate, entered, done;
  fakes.gate = &gate;
  fakes.entered = &entered;
  Scheduler scheduler({.workers = 1, .clock = &clock}, fakes.Maker());
  WorkResult result;
  scheduler.Submit({.plan = FakePlan(),
                    .deadline = clock.Now() + absl::Milliseconds(5),
                    .done = [&](WorkResult r) {
                      result = std::move(r);
                      done.Notify();
                    }});
  entered.WaitForNotification();
  clock.Advance(absl::Milliseconds(5));
  gate.Notify();
  done.WaitForNotification();
  EXPECT_THAT(result.outputs, StatusIs(kDeadlineExceeded, HasSubstr("while it ran")));
}

TEST_F(BusyScheduler, MakesRoomByDroppingDeadWork) {
  const size_t dead = Submit({.deadline = clock_.Now() + absl::Milliseconds(1)});
  const size_t alive = Submit({});
  clock_.Advance(absl::Milliseconds(1));
  const size_t next = Submit({});
  EXPECT_THAT(Wait(dead).outputs, StatusIs(kDeadlineExceeded));
  EXPECT_FALSE(Answered(next));
  gate_.Notify();
  EXPECT_THAT(Wait(alive).outputs, IsOk());
  EXPECT_THAT(Wait(next).outputs, IsOk());
}

TEST(SchedulerShutdown, AnswersWhatIsQueuedWithUnavailable) {
  Fakes fakes;
  absl::Notification gate, entered;
  fakes.gate = &gate;
  fakes.entered = &entered;
  absl::StatusOr<std::vector<Tensor>> queued;
  {
    Scheduler scheduler({.workers = 1}, fakes.Maker());
    const auto plan = FakePlan();
    scheduler.Submit({.plan = plan, .done = [](WorkResult) {}});
    entered.WaitForNotification();
    scheduler.Submit({.plan = plan, .done = [&](WorkResult r) {
                        queued = std::move(r.outputs);
                        gate.Notify();  // answered while the first one still runs
                      }});
  }
  EXPECT_THAT(queued, StatusIs(kUnavailable));
  EXPECT_EQ(fakes.alive, 0);
}

}  // namespace
}  // namespace halftone
