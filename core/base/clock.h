// Time comes in through the door: code that waits or compares takes a Clock, tests pass a fake one
// (tests/testing/fake_clock.h) and never sleep.
#ifndef HALFTONE_CORE_BASE_CLOCK_H_
#define HALFTONE_CORE_BASE_CLOCK_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace halftone {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
  // Blocks until `ready` holds or Now() >= deadline; true: `ready` holds. `mu` guards what `ready`
  // reads; it is released while waiting and held on return.
  virtual bool AwaitUntil(absl::Mutex& mu, const absl::Condition& ready, absl::Time deadline) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) = 0;
};

// The system's clock. Lives as long as the process.
const Clock& RealClock();

}  // namespace halftone

#endif  // HALFTONE_CORE_BASE_CLOCK_H_
