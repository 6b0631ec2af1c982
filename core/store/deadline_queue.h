// Calls functions when their time has come, from its own thread and without locks held.
#ifndef HALFTONE_CORE_STORE_DEADLINE_QUEUE_H_
#define HALFTONE_CORE_STORE_DEADLINE_QUEUE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "core/base/clock.h"

namespace halftone {

// Thread-safe. Functions must not block; they run in the order of their deadlines.
class DeadlineQueue {
 public:
  using Ticket = std::pair<absl::Time, uint64_t>;

  explicit DeadlineQueue(const Clock& clock);
  ~DeadlineQueue();  // functions whose time has not come are dropped

  // An infinite deadline never comes and costs nothing.
  Ticket Add(absl::Time deadline, std::function<void()> function) ABSL_LOCKS_EXCLUDED(mu_);
  // Afterwards the function will not start any more; it may be running.
  void Cancel(const Ticket& ticket) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mu_);

  const Clock& clock_;
  absl::Mutex mu_;
  std::map<Ticket, std::function<void()>> queue_ ABSL_GUARDED_BY(mu_);
  uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  bool changed_ ABSL_GUARDED_BY(mu_) = false;  // the earliest deadline may be another one
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace halftone

#endif  // HALFTONE_CORE_STORE_DEADLINE_QUEUE_H_
