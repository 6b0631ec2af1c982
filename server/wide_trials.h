// For which plans and input shapes it pays to run wide (see scheduler.h): measured, on the worker
// and the team that would do it, while the server is idle.
//
//   WideTrials trials(scheduler);
//   const absl::Duration narrow = trials.NarrowTime(id, plan, inputs);
//   scheduler.Submit({…, .wide_pays = narrow > absl::ZeroDuration(), .done = [&](WorkResult r) {
//     if (r.wide) trials.Observe(narrow, r.compute);
//   }});
//
// A trial builds the plan's program for the wide team on a thread of its own, at low priority, then
// alternates narrow and wide runs and keeps the program if it is faster by enough. A request never
// waits for one, except for the step of a run that just goes on. What did not pay is tried again
// after half a minute, then a minute, … at last ten, if requests still come, because the machine
// may have been busy. And a machine that became busy, where a team waits for its slowest thread,
// shows in the times of wide runs: after one that took longer than a narrow one, none is wide for a
// second. Thread-safe.
#ifndef HALFTONE_SERVER_WIDE_TRIALS_H_
#define HALFTONE_SERVER_WIDE_TRIALS_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/base/clock.h"
#include "core/exec/plan.h"
#include "core/tensor/tensor.h"
#include "server/scheduler.h"

namespace halftone {

// What one program took, repeatedly. Never empty.
struct TrialTimes {
  std::vector<absl::Duration> narrow, wide;
};
// Wide runs hold all workers, so they must be worth it: at least 1.2 times as fast, by the minima.
bool PaysWide(const TrialTimes& times);

class WideTrials {
 public:
  // Without a wide team in `scheduler`'s options it does nothing. The scheduler lives longer.
  explicit WideTrials(Scheduler& scheduler);
  // Gives up what it does, between two runs.
  ~WideTrials();

  // Queues the trial for these inputs' shapes, which own their bytes. Once per plan and shapes.
  void Try(const std::string& variant_id, const std::shared_ptr<const Plan>& plan,
           std::vector<Tensor> inputs);
  // What a narrow run takes where a wide one pays now, else zero. The second request for shapes
  // that nobody tried, while the server is idle, queues their trial: with zeros for inputs. Cheap.
  absl::Duration NarrowTime(const std::string& variant_id, const std::shared_ptr<const Plan>& plan,
                            absl::Span<const Tensor> inputs);
  // After each wide run.
  void Observe(absl::Duration narrow, absl::Duration wide);
  // Waits until no trial is queued or under way; for tests.
  void AwaitQuiet();

 private:
  enum class State : uint8_t { kSeen, kTrying, kNarrow, kWide };
  struct Verdict {
    State state = State::kSeen;
    absl::Duration narrow_time;               // kWide
    absl::Time since;                         // kNarrow
    absl::Duration wait = absl::Seconds(30);  // kNarrow: until the next trial
  };
  using Shapes = std::vector<Shape>;
  struct Known {
    std::weak_ptr<const Plan> plan;
    absl::flat_hash_map<Shapes, Verdict> by_shapes;
  };
  struct Trial {
    std::string variant_id;
    std::weak_ptr<const Plan> plan;
    const Plan* key = nullptr;
    std::vector<Tensor> inputs;
    Shapes shapes;
  };

  void Run();
  // kSeen: not to be found out now.
  Verdict Measure(const Trial& trial);
  // Builds what is to be measured.
  absl::Status Prepare(const Trial& trial);
  absl::StatusOr<TrialTimes> Time(const Trial& trial);
  // One run, repeated when a request ended it. Fails when that happens often, and at the end.
  absl::StatusOr<absl::Duration> RunOnce(const Trial& trial, bool wide);
  Known& KnownOf(const std::shared_ptr<const Plan>& plan) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Enqueue(Known& known, Trial trial) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool stopping() const;

  Scheduler& scheduler_;
  const Clock& clock_;
  const bool enabled_;

  mutable absl::Mutex mu_;
  absl::flat_hash_map<const Plan*, Known> known_ ABSL_GUARDED_BY(mu_);
  absl::Time paused_until_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
  std::deque<Trial> queue_ ABSL_GUARDED_BY(mu_);
  bool working_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace halftone

#endif  // HALFTONE_SERVER_WIDE_TRIALS_H_
