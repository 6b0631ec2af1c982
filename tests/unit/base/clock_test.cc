#include "core/base/clock.h"

#include <gmock/gmock.h>

#include <thread>

#include "absl/time/clock.h"
#include "tests/testing/fake_clock.h"

namespace halftone {
namespace {

struct Gate {
  absl::Mutex mu;
  bool open ABSL_GUARDED_BY(mu) = false;
};

bool Await(const Clock& clock, Gate& gate, absl::Time deadline) {
  absl::MutexLock lock(&gate.mu);
  return clock.AwaitUntil(gate.mu, absl::Condition(&gate.open), deadline);
}

TEST(RealClock, Advances) {
  const absl::Time before = absl::Now();
  EXPECT_GE(RealClock().Now(), before);
}

TEST(RealClock, GivesUpAtThePastDeadlineAndSeesTheCondition) {
  Gate gate;
  EXPECT_FALSE(Await(RealClock(), gate, absl::InfinitePast()));
  gate.open = true;
  EXPECT_TRUE(Await(RealClock(), gate, absl::InfinitePast()));
}

TEST(FakeClock, MovesOnlyWhenAdvanced) {
  FakeClock clock;
  const absl::Time start = clock.Now();
  EXPECT_EQ(clock.Now(), start);
  clock.Advance(absl::Milliseconds(3));
  EXPECT_EQ(clock.Now(), start + absl::Milliseconds(3));
}

TEST(FakeClock, WakesAWaiterExactlyAtItsDeadline) {
  FakeClock clock;
  Gate gate;
  const absl::Time deadline = clock.Now() + absl::Milliseconds(5);
  bool result = true;
  std::thread waiter([&] { result = Await(clock, gate, deadline); });
  clock.Advance(absl::Milliseconds(4));
  clock.Advance(absl::Milliseconds(1));
  waiter.join();
  EXPECT_FALSE(result);
}

TEST(FakeClock, WakesAWaiterWhoseConditionComesTrue) {
  FakeClock clock;
  Gate gate;
  bool result = false;
  std::thread waiter([&] { result = Await(clock, gate, absl::InfiniteFuture()); });
  {
    absl::MutexLock lock(&gate.mu);
    gate.open = true;
  }
  waiter.join();
  EXPECT_TRUE(result);
}

}  // namespace
}  // namespace halftone
