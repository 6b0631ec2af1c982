#include "core/base/clock.h"

#include "absl/time/clock.h"

namespace halftone {
namespace {

class SystemClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
  bool AwaitUntil(absl::Mutex& mu, const absl::Condition& ready,
                  absl::Time deadline) const override {
    return mu.AwaitWithDeadline(ready, deadline);
  }
};

}  // namespace

const Clock& RealClock() {
  static const SystemClock clock;
  return clock;
}

}  // namespace halftone
