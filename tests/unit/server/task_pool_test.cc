#include "server/task_pool.h"

#include <gmock/gmock.h>

#include <atomic>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"

namespace halftone {
namespace {

TEST(TaskPool, RunsEverythingBeforeItEnds) {
  std::atomic<int> done{0};
  {
    TaskPool pool({.max_threads = 2, .max_queued = 100});
    for (int i = 0; i < 50; ++i) EXPECT_TRUE(pool.Submit([&] { ++done; }));
  }
  EXPECT_EQ(done, 50);
}

TEST(TaskPool, RefusesWhatItCannotHold) {
  absl::Notification gate;
  absl::BlockingCounter started(2);
  TaskPool pool({.max_threads = 2, .max_queued = 1});
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(pool.Submit([&] {
      started.DecrementCount();
      gate.WaitForNotification();
    }));
  }
  started.Wait();
  EXPECT_TRUE(pool.Submit([] {}));
  EXPECT_FALSE(pool.Submit([] {}));
  gate.Notify();
}

}  // namespace
}  // namespace halftone
