#include "server/scheduler.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/status_mapping.h"

namespace halftone {
namespace {

// How often an idle worker looks for contexts of dead plans.
constexpr absl::Duration kIdleDropInterval = absl::Seconds(5);
// How long a team waits, spinning, for the next run: a client's next request comes sooner. To form
// it again takes little more than to wake it.
constexpr absl::Duration kTeamLinger = absl::Milliseconds(2);

// Where the threads of a worker's team run: each worker has its own cores, a wide run those of all.
std::vector<std::vector<int>> PlacesOf(int worker, const SchedulerOptions& options) {
  const int cores = std::max(options.workers * options.intra_op_threads, options.wide_threads);
  std::vector<std::vector<int>> places = DivideCpus(UsableCpus(), cores);
  if (places.empty()) return places;
  const int first = worker * options.intra_op_threads;
  const int count = worker == 0 ? cores : options.intra_op_threads;
  return {places.begin() + first, places.begin() + first + count};
}

class PlanContext final : public RunContext {
 public:
  explicit PlanContext(std::shared_ptr<const Plan> plan) : context_(std::move(plan)) {}
  absl::StatusOr<std::vector<Tensor>> Run(absl::Span<const Tensor> inputs, int threads,
                                          const std::function<absl::Status()>& stop) override {
    context_.SetThreads(threads);
    return context_.Run(inputs, stop);
  }
  int64_t arena_bytes() const override { return context_.arena_bytes(); }

 private:
  Context context_;
};

SchedulerOptions AtLeastOne(SchedulerOptions options) {
  options.workers = std::max(options.workers, 1);
  options.intra_op_threads = std::max(options.intra_op_threads, 1);
  return options;
}

}  // namespace

MakeRunContext PlanContexts() {
  return [](const std::shared_ptr<const Plan>& plan) -> std::unique_ptr<RunContext> {
    return std::make_unique<PlanContext>(plan);
  };
}

Scheduler::Scheduler(SchedulerOptions options, MakeRunContext make_context)
    : options_(AtLeastOne(options)), make_context_(std::move(make_context)) {
  const int workers = options_.workers;
  for (int i = 0; i < workers; ++i) workers_.push_back(std::make_unique<Worker>());
  for (int i = 0; i < workers; ++i) threads_.emplace_back([this, i] { WorkerLoop(i); });
}

Scheduler::~Scheduler() {
  std::deque<Queued> left;
  std::vector<IdleWork> idle;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    left.swap(queue_);
    for (const std::unique_ptr<Worker>& worker : workers_) {
      std::move(worker->idle.begin(), worker->idle.end(), std::back_inserter(idle));
      worker->idle.clear();
    }
  }
  for (IdleWork& work : idle) {
    work.done({.outputs = absl::UnavailableError("the server is shutting down")});
  }
  for (Queued& queued : left) {
    Finish(std::move(queued), absl::UnavailableError("the server is shutting down"));
  }
  for (std::thread& thread : threads_) thread.join();
}

void Scheduler::Submit(Work work) {
  Queued queued{.work = std::move(work), .since = options_.clock->Now()};
  std::vector<Queued> dead;
  absl::Status refused;
  {
    absl::MutexLock lock(&mu_);
    const auto limit = static_cast<size_t>(options_.max_queued);
    if (!stopping_ && queue_.size() >= limit) dead = TakeDead();
    if (stopping_) {
      refused = absl::UnavailableError("the server is shutting down");
    } else if (queue_.size() >= limit) {
      refused = WithRetryAfter(absl::ResourceExhaustedError(absl::StrCat(
                                   "the request queue is full: ", queue_.size(),
                                   " requests wait, want at most ", options_.max_queued)),
                               RetryHint());
    } else {
      queued.alone = has_wide() && queued.work.wide_pays && queue_.empty() && !busy();
      queue_.push_back(std::move(queued));
    }
  }
  for (Queued& d : dead) {
    const absl::Status why = WhyDead(d);
    Finish(std::move(d), why);
  }
  if (!refused.ok()) Finish(std::move(queued), refused);
}

void Scheduler::SubmitIdle(IdleWork work) {
  {
    absl::MutexLock lock(&mu_);
    if (!stopping_) return workers_[work.worker]->idle.push_back(std::move(work));
  }
  work.done({.outputs = absl::UnavailableError("the server is shutting down")});
}

void Scheduler::DropUnusedContexts() {
  absl::MutexLock lock(&mu_);
  ++drop_generation_;
}

int Scheduler::queued() const {
  absl::MutexLock lock(&mu_);
  return static_cast<int>(queue_.size());
}

int Scheduler::running() const {
  absl::MutexLock lock(&mu_);
  return running_;
}

bool Scheduler::idle() const {
  absl::MutexLock lock(&mu_);
  return queue_.empty() && !busy();
}

int64_t Scheduler::wide_runs() const {
  absl::MutexLock lock(&mu_);
  return wide_runs_;
}

absl::flat_hash_map<std::string, int64_t> Scheduler::ArenaBytes() const {
  absl::flat_hash_map<std::string, int64_t> total;
  absl::MutexLock lock(&mu_);
  for (const std::unique_ptr<Worker>& worker : workers_) {
    for (const auto& [id, bytes] : worker->arena_bytes) total[id] += bytes;
  }
  return total;
}

Scheduler::Turn Scheduler::TurnOf(int index) const {
  if (wide_running_) return Turn::kNone;
  if (!queue_.empty()) {
    if (!queue_.front().alone || queue_.size() > 1) return Turn::kRequest;
    return index == 0 ? Turn::kWideRequest : Turn::kNone;
  }
  const std::deque<IdleWork>& idle = workers_[index]->idle;
  if (idle.empty()) return Turn::kNone;
  if (!idle.front().wide) return Turn::kIdle;
  return busy() ? Turn::kNone : Turn::kWideIdle;
}

Scheduler::Turn Scheduler::TakeTurn(int index, uint64_t& seen_generation,
                                    std::optional<Queued>& request, std::optional<IdleWork>& idle) {
  Worker& worker = *workers_[index];
  Turn turn = Turn::kNone;
  bool woken = false, drop = false;
  {
    absl::MutexLock lock(&mu_);
    const auto ready = [this, index, &seen_generation]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
      return stopping_ || TurnOf(index) != Turn::kNone || drop_generation_ != seen_generation;
    };
    const bool team = worker.team->exists();
    woken = mu_.AwaitWithTimeout(absl::Condition(&ready), team ? kTeamLinger : kIdleDropInterval);
    if (stopping_) return Turn::kNone;
    drop = drop_generation_ != seen_generation || (!woken && !team);
    seen_generation = drop_generation_;
    turn = TurnOf(index);
    if (turn == Turn::kRequest || turn == Turn::kWideRequest) {
      request = std::move(queue_.front());
      queue_.pop_front();
      ++running_;
    } else if (turn != Turn::kNone) {
      idle = std::move(worker.idle.front());
      worker.idle.pop_front();
      ++idle_running_;
    }
    wide_running_ = IsWide(turn) || wide_running_;
  }
  if (!woken) worker.team->End();
  if (drop) DropUnused(worker);
  return turn;
}

void Scheduler::WorkerLoop(int index) {
  Worker& worker = *workers_[index];
  worker.team = std::make_unique<Team>(PlacesOf(index, options_));
  uint64_t seen_generation = 0;
  while (true) {
    std::optional<Queued> request;
    std::optional<IdleWork> idle;
    const Turn turn = TakeTurn(index, seen_generation, request, idle);
    if (request) {
      RunOne(worker, *std::move(request), turn);
    } else if (idle) {
      RunIdle(worker, *std::move(idle), turn);
    }
    absl::MutexLock lock(&mu_);
    if (stopping_) break;
  }
  worker.team->End();
}

WorkResult Scheduler::Compute(Worker& worker, RunContext& context, absl::Span<const Tensor> inputs,
                              Turn turn, const std::function<absl::Status()>& stop) {
  const int threads = IsWide(turn) ? options_.wide_threads : options_.intra_op_threads;
  const absl::Time start = options_.clock->Now();
  worker.team->Use(threads);
  WorkResult result{.outputs = context.Run(inputs, threads, stop), .wide = IsWide(turn)};
  result.compute = options_.clock->Now() - start;
  PublishArenas(worker);
  return result;
}

void Scheduler::EndTurn(Worker& worker, Turn turn) {
  const bool wide = IsWide(turn);
  bool waited_for = false;
  {
    absl::MutexLock lock(&mu_);
    waited_for = !queue_.empty();
  }
  // Its threads would spin on cores that the others want now.
  if (wide && waited_for) worker.team->End();
  absl::MutexLock lock(&mu_);
  --(turn == Turn::kIdle || turn == Turn::kWideIdle ? idle_running_ : running_);
  if (wide) wide_running_ = false;
}

void Scheduler::RunOne(Worker& worker, Queued queued, Turn turn) {
  const absl::Status dead = WhyDead(queued);
  if (!dead.ok()) {
    EndTurn(worker, turn);
    return Finish(std::move(queued), dead);
  }
  RunContext& context =
      *ContextFor(worker, queued.work.plan, queued.work.variant_id, /*may_evict=*/true);
  const absl::Duration waited = options_.clock->Now() - queued.since;
  const auto stop = [&] { return WhyDead(queued, "while it ran"); };
  WorkResult result = Compute(worker, context, queued.work.inputs, turn, stop);
  result.queue = waited;
  {
    absl::MutexLock lock(&mu_);
    // An exponential mean over about eight runs; only the retry hint uses it.
    mean_compute_ += (result.compute - mean_compute_) / 8;
    if (IsWide(turn)) ++wide_runs_;
  }
  // Before the answer: who asks again at once is alone again.
  EndTurn(worker, turn);
  auto done = std::move(queued.work.done);
  // The handle that keeps the variant in memory may live in `done`: inputs and plan go first.
  queued = {};
  done(std::move(result));
}

void Scheduler::RunIdle(Worker& worker, IdleWork work, Turn turn) {
  const auto stop = [&]() -> absl::Status {
    if (work.cancelled && work.cancelled()) return absl::CancelledError("idle work: not wanted");
    absl::MutexLock lock(&mu_);
    if (stopping_) return absl::UnavailableError("the server is shutting down");
    if (queue_.empty()) return absl::OkStatus();
    return absl::CancelledError("idle work: a request waits");
  };
  const std::shared_ptr<const Plan> plan = work.plan.lock();
  WorkResult result;
  if (absl::Status status = stop(); !status.ok()) {
    result.outputs = std::move(status);
  } else if (plan == nullptr) {
    result.outputs = absl::CancelledError("idle work: its plan is gone");
  } else if (RunContext* c = ContextFor(worker, plan, work.variant_id, /*may_evict=*/false)) {
    result = Compute(worker, *c, work.inputs, turn, stop);
  } else {
    result.outputs = absl::ResourceExhaustedError("idle work: the worker's contexts are in use");
  }
  EndTurn(worker, turn);
  work.done(std::move(result));
}

RunContext* Scheduler::ContextFor(Worker& worker, const std::shared_ptr<const Plan>& plan,
                                  const std::string& variant_id, bool may_evict) {
  std::list<CachedContext>& contexts = worker.contexts;
  const auto found = std::find_if(contexts.begin(), contexts.end(),
                                  [&](const CachedContext& c) { return c.plan.lock() == plan; });
  if (found != contexts.end()) {
    // Idle work is no use that would make it stay.
    if (may_evict) contexts.splice(contexts.begin(), contexts, found);
    return found->context.get();
  }
  DropUnused(worker);
  const auto limit = static_cast<size_t>(std::max(options_.max_contexts_per_worker, 1));
  if (contexts.size() >= limit && !may_evict) return nullptr;
  while (contexts.size() >= limit) contexts.pop_back();
  // Refers to the plan without owning it, see CachedContext.
  const std::shared_ptr<const Plan> unowned(std::shared_ptr<void>(), plan.get());
  contexts.push_front({.plan = plan, .variant_id = variant_id, .context = make_context_(unowned)});
  return contexts.front().context.get();
}

void Scheduler::DropUnused(Worker& worker) {
  const size_t before = worker.contexts.size();
  worker.contexts.remove_if([](const CachedContext& cached) { return cached.plan.expired(); });
  if (worker.contexts.size() != before) PublishArenas(worker);
}

void Scheduler::PublishArenas(Worker& worker) {
  absl::flat_hash_map<std::string, int64_t> bytes;
  for (const CachedContext& cached : worker.contexts) {
    bytes[cached.variant_id] += cached.context->arena_bytes();
  }
  absl::MutexLock lock(&mu_);
  worker.arena_bytes = std::move(bytes);
}

std::vector<Scheduler::Queued> Scheduler::TakeDead() {
  std::vector<Queued> dead;
  std::deque<Queued> alive;
  for (Queued& queued : queue_) {
    if (WhyDead(queued).ok()) {
      alive.push_back(std::move(queued));
    } else {
      dead.push_back(std::move(queued));
    }
  }
  queue_ = std::move(alive);
  return dead;
}

absl::Status Scheduler::WhyDead(const Queued& queued, absl::string_view where) const {
  const absl::Time now = options_.clock->Now();
  if (now >= queued.work.deadline) {
    return absl::DeadlineExceededError(absl::StrCat("the request's deadline passed ", where,
                                                    ", after ",
                                                    absl::FormatDuration(now - queued.since)));
  }
  // After the deadline: gRPC reports an expired deadline as a cancellation too.
  if (queued.work.cancelled && queued.work.cancelled()) {
    return absl::CancelledError(absl::StrCat("the client cancelled the request ", where));
  }
  return absl::OkStatus();
}

absl::Duration Scheduler::RetryHint() const {
  const absl::Duration wait = mean_compute_ * static_cast<double>(queue_.size()) / threads_.size();
  return std::clamp(wait / 2, absl::Milliseconds(1), absl::Seconds(5));
}

void Scheduler::Finish(Queued queued, absl::Status status) {
  const absl::Duration waited = options_.clock->Now() - queued.since;
  auto done = std::move(queued.work.done);
  queued = {};
  done({.outputs = std::move(status), .queue = waited});
}

}  // namespace halftone
