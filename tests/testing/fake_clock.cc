#include "tests/testing/fake_clock.h"

namespace halftone {

// Looks at the time again and again instead of being woken: Advance would have to know every
// waiter's mutex, which may die while it is being poked.
bool FakeClock::AwaitUntil(absl::Mutex& mu, const absl::Condition& ready,
                           absl::Time deadline) const {
  while (!mu.AwaitWithTimeout(ready, absl::Milliseconds(1))) {
    if (Now() >= deadline) return ready.Eval();
  }
  return true;
}

}  // namespace halftone
