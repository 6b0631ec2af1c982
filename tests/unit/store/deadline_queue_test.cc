#include "core/store/deadline_queue.h"

#include <gmock/gmock.h>

#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "tests/testing/fake_clock.h"

namespace halftone {
namespace {

TEST(DeadlineQueue, CallsInTheOrderOfDeadlinesWhenTheirTimeComes) {
  FakeClock clock;
  std::vector<int> calls;
  absl::BlockingCounter done(3);
  DeadlineQueue queue(clock);
  const absl::Time start = clock.Now();
  const auto note = [&](int i) {
    return [&, i] {
      calls.push_back(i);
      done.DecrementCount();
    };
  };
  queue.Add(start + absl::Seconds(3), note(3));
  queue.Add(start + absl::Seconds(1), note(1));
  queue.Add(start + absl::Seconds(2), note(2));
  clock.Advance(absl::Seconds(3));
  done.Wait();
  EXPECT_THAT(calls, ::testing::ElementsAre(1, 2, 3));
}

TEST(DeadlineQueue, DoesNotCallBeforeTheDeadlineNorWhatWasCancelled) {
  FakeClock clock;
  absl::Notification late;
  bool early = false;
  bool cancelled = false;
  {
    DeadlineQueue queue(clock);
    const absl::Time start = clock.Now();
    queue.Add(start + absl::Milliseconds(6), [&] { early = true; });
    queue.Cancel(queue.Add(start + absl::Milliseconds(5), [&] { cancelled = true; }));
    queue.Add(absl::InfiniteFuture(), [&] { early = true; });
    queue.Add(start + absl::Milliseconds(5), [&] { late.Notify(); });
    clock.Advance(absl::Milliseconds(5));
    late.WaitForNotification();
  }
  EXPECT_FALSE(early);
  EXPECT_FALSE(cancelled);
}

TEST(DeadlineQueue, CallsAtOnceWhenTheDeadlineIsPast) {
  FakeClock clock;
  absl::Notification called;
  DeadlineQueue queue(clock);
  queue.Add(absl::InfinitePast(), [&] { called.Notify(); });
  called.WaitForNotification();
}

TEST(DeadlineQueue, FunctionsMayUseTheQueue) {
  FakeClock clock;
  absl::Notification second;
  DeadlineQueue queue(clock);
  queue.Add(clock.Now(), [&] { queue.Add(clock.Now(), [&] { second.Notify(); }); });
  second.WaitForNotification();
}

}  // namespace
}  // namespace halftone
