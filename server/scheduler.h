// Runs requests: W workers, each with its own contexts, behind one bounded queue.
//
//   Scheduler scheduler({.workers = 4}, PlanContexts());
//   scheduler.Submit({.plan = plan, .inputs = …, .deadline = …, .done = [](WorkResult r) { … }});
//
// `done` is called exactly once per accepted or refused piece of work: from a worker, or from the
// caller's thread when the queue is full. Thread-safe.
#ifndef HALFTONE_SERVER_SCHEDULER_H_
#define HALFTONE_SERVER_SCHEDULER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/base/clock.h"
#include "core/exec/plan.h"

namespace halftone {

// One worker's way to run one plan. Thread-compatible.
class RunContext {
 public:
  virtual ~RunContext() = default;
  // As Context::Run.
  virtual absl::StatusOr<std::vector<Tensor>> Run(absl::Span<const Tensor> inputs,
                                                  const std::function<absl::Status()>& stop) = 0;
  virtual int64_t arena_bytes() const = 0;
};

using MakeRunContext =
    std::function<std::unique_ptr<RunContext>(const std::shared_ptr<const Plan>&)>;
// Contexts of core/exec.
MakeRunContext PlanContexts();

struct SchedulerOptions {
  int workers = 1;
  int intra_op_threads = 1;         // of each worker
  int max_queued = 256;             // waiting, not running
  int max_contexts_per_worker = 8;  // least recently used ones go first
  const Clock* clock = &RealClock();
};

struct WorkResult {
  absl::StatusOr<std::vector<Tensor>> outputs;
  absl::Duration queue;    // until a worker took it, or it was dropped
  absl::Duration compute;  // zero if it never ran
};

struct Work {
  std::shared_ptr<const Plan> plan;
  std::string variant_id;  // for ArenaBytes
  std::vector<Tensor> inputs;
  // DEADLINE_EXCEEDED when it is reached, in the queue or between two steps of the run.
  absl::Time deadline = absl::InfiniteFuture();
  std::function<bool()> cancelled;  // CANCELLED when true, likewise; may be empty
  absl::AnyInvocable<void(WorkResult)> done;
};

class Scheduler {
 public:
  Scheduler(SchedulerOptions options, MakeRunContext make_context);
  // Answers what is queued with UNAVAILABLE and waits for what runs.
  ~Scheduler();

  // RESOURCE_EXHAUSTED with a retry hint, through `done`, when the queue is full even without the
  // expired and cancelled work in it.
  void Submit(Work work);

  // Destroys the contexts of plans that do not exist any more: soon, on the workers' threads, and
  // within seconds even when nobody calls this.
  void DropUnusedContexts();

  int queued() const;
  int running() const;
  // Arena and scratch bytes by variant id, over all workers.
  absl::flat_hash_map<std::string, int64_t> ArenaBytes() const;

 private:
  struct Queued {
    Work work;
    absl::Time since;
  };
  // Does not keep its plan alive, because the store only lets go of plans that nobody holds. Runs
  // happen while the request holds the plan; a context of a dead plan is only destroyed.
  struct CachedContext {
    std::weak_ptr<const Plan> plan;
    std::string variant_id;
    std::unique_ptr<RunContext> context;
  };
  // Most recently used first. Belongs to its worker alone; `arena_bytes` is what others may see.
  struct Worker {
    std::list<CachedContext> contexts;
    absl::flat_hash_map<std::string, int64_t> arena_bytes;  // guarded by mu_
  };

  void WorkerLoop(int index);
  void RunOne(Worker& worker, Queued queued);
  RunContext& ContextFor(Worker& worker, const Work& work);
  void DropUnused(Worker& worker);
  void PublishArenas(Worker& worker);
  // Removes work that need not run any more.
  std::vector<Queued> TakeDead() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status WhyDead(const Queued& queued, absl::string_view where = "in the queue") const;
  absl::Duration RetryHint() const ABSL_SHARED_LOCKS_REQUIRED(mu_);
  void Finish(Queued queued, absl::Status status);

  const SchedulerOptions options_;
  const MakeRunContext make_context_;

  mutable absl::Mutex mu_;
  std::deque<Queued> queue_ ABSL_GUARDED_BY(mu_);
  int running_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t drop_generation_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Duration mean_compute_ ABSL_GUARDED_BY(mu_) = absl::ZeroDuration();
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::thread> threads_;
};

}  // namespace halftone

#endif  // HALFTONE_SERVER_SCHEDULER_H_
