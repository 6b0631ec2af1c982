// A clock that moves only when the test says so.
#ifndef HALFTONE_TESTS_TESTING_FAKE_CLOCK_H_
#define HALFTONE_TESTS_TESTING_FAKE_CLOCK_H_

#include <atomic>
#include <cstdint>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "core/base/clock.h"

namespace halftone {

// Thread-safe.
class FakeClock final : public Clock {
 public:
  explicit FakeClock(absl::Time start = absl::FromUnixSeconds(1'700'000'000))
      : now_nanos_(absl::ToUnixNanos(start)) {}

  absl::Time Now() const override { return absl::FromUnixNanos(now_nanos_); }
  bool AwaitUntil(absl::Mutex& mu, const absl::Condition& ready, absl::Time deadline) const override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // Waiters whose deadline is reached notice within a millisecond.
  void Advance(absl::Duration by) { now_nanos_ += absl::ToInt64Nanoseconds(by); }

 private:
  std::atomic<int64_t> now_nanos_;
};

}  // namespace halftone

#endif  // HALFTONE_TESTS_TESTING_FAKE_CLOCK_H_
