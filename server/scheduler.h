// Runs requests: W workers, each with its own contexts, behind one bounded queue.
//
//   Scheduler scheduler({.workers = 4}, PlanContexts());
//   scheduler.Submit({.plan = plan, .inputs = …, .deadline = …, .done = [](WorkResult r) { … }});
//
// A request for which it pays runs *wide* when it is alone: on the first worker, with a team as
// large as all workers together. What arrives meanwhile waits for it, which is shorter than a run
// of its own, and then runs as ever: one wide run follows another only when nobody came in between.
// So the teams of all workers never want more cores than there are. Nothing is wide while a run is
// under way or another request waits.
//
// Idle work runs on one worker, wide or not, when it has nothing else to do, and ends between two
// steps when a request waits.
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
#include <optional>
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
#include "core/exec/team.h"

namespace halftone {

// One worker's way to run one plan. Thread-compatible.
class RunContext {
 public:
  virtual ~RunContext() = default;
  // As Context::Run, with a team of so many threads.
  virtual absl::StatusOr<std::vector<Tensor>> Run(absl::Span<const Tensor> inputs, int threads,
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
  int wide_threads = 1;             // of a wide run; not more than intra_op_threads: there is none
  int max_queued = 256;             // waiting, not running
  int max_contexts_per_worker = 8;  // least recently used ones go first
  const Clock* clock = &RealClock();
};

struct WorkResult {
  absl::StatusOr<std::vector<Tensor>> outputs;
  absl::Duration queue;    // until a worker took it, or it was dropped
  absl::Duration compute;  // zero if it never ran
  bool wide = false;       // ran with wide_threads
};

struct Work {
  std::shared_ptr<const Plan> plan;
  std::string variant_id;  // for ArenaBytes
  std::vector<Tensor> inputs;
  bool wide_pays = false;  // its plan has a program for wide_threads, and that is faster
  // DEADLINE_EXCEEDED when it is reached, in the queue or between two steps of the run.
  absl::Time deadline = absl::InfiniteFuture();
  std::function<bool()> cancelled;  // CANCELLED when true, likewise; may be empty
  absl::AnyInvocable<void(WorkResult)> done;
};

struct IdleWork {
  std::weak_ptr<const Plan> plan;  // may leave memory meanwhile: CANCELLED
  std::string variant_id;
  std::vector<Tensor> inputs;  // own their bytes
  int worker = 0;
  bool wide = false;                // on worker 0
  std::function<bool()> cancelled;  // as of Work; first asked when a worker takes it
  // CANCELLED, too, when a request came; RESOURCE_EXHAUSTED when the worker keeps as many contexts
  // as it may and none of this plan.
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
  // Requires: 0 <= work.worker < workers.
  void SubmitIdle(IdleWork work);

  // Destroys the contexts of plans that do not exist any more: soon, on the workers' threads, and
  // within seconds even when nobody calls this.
  void DropUnusedContexts();

  int queued() const;
  int running() const;
  // Nothing runs or waits, but for idle work that waits.
  bool idle() const;
  // Requests that ran wide.
  int64_t wide_runs() const;
  const SchedulerOptions& options() const { return options_; }
  // Arena and scratch bytes by variant id, over all workers.
  absl::flat_hash_map<std::string, int64_t> ArenaBytes() const;

 private:
  struct Queued {
    Work work;
    absl::Time since;
    bool alone = false;  // may run wide unless another one comes before it begins
  };
  enum class Turn : uint8_t { kNone, kRequest, kWideRequest, kIdle, kWideIdle };
  static bool IsWide(Turn turn) { return turn == Turn::kWideRequest || turn == Turn::kWideIdle; }
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
    std::unique_ptr<Team> team;
    absl::flat_hash_map<std::string, int64_t> arena_bytes;  // guarded by mu_
    std::deque<IdleWork> idle;                              // guarded by mu_
  };

  void WorkerLoop(int index);
  // What the worker may begin now.
  Turn TurnOf(int index) const ABSL_SHARED_LOCKS_REQUIRED(mu_);
  bool busy() const ABSL_SHARED_LOCKS_REQUIRED(mu_) { return running_ + idle_running_ > 0; }
  bool has_wide() const { return options_.wide_threads > options_.intra_op_threads; }
  // Waits for a turn and takes it. kNone: looked for dead contexts, or for a team that idles.
  Turn TakeTurn(int index, uint64_t& seen_generation, std::optional<Queued>& request,
                std::optional<IdleWork>& idle);
  void RunOne(Worker& worker, Queued queued, Turn turn);
  void RunIdle(Worker& worker, IdleWork work, Turn turn);
  // The run's time includes what its team takes to form.
  WorkResult Compute(Worker& worker, RunContext& context, absl::Span<const Tensor> inputs,
                     Turn turn, const std::function<absl::Status()>& stop);
  // The run is over: others may begin.
  void EndTurn(Worker& worker, Turn turn);
  // The worker's context for the plan, made if need be. Null: there are as many as there may be and
  // `may_evict` is false.
  RunContext* ContextFor(Worker& worker, const std::shared_ptr<const Plan>& plan,
                         const std::string& variant_id, bool may_evict);
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
  int idle_running_ ABSL_GUARDED_BY(mu_) = 0;
  bool wide_running_ ABSL_GUARDED_BY(mu_) = false;  // one of the above, which has all cores
  int64_t wide_runs_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t drop_generation_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Duration mean_compute_ ABSL_GUARDED_BY(mu_) = absl::ZeroDuration();
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::thread> threads_;
};

}  // namespace halftone

#endif  // HALFTONE_SERVER_SCHEDULER_H_
