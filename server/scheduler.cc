#include "server/scheduler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/status_mapping.h"

namespace halftone {
namespace {

// How often an idle worker looks for contexts of dead plans.
constexpr absl::Duration kIdleDropInterval = absl::Seconds(5);

class PlanContext final : public RunContext {
 public:
  explicit PlanContext(std::shared_ptr<const Plan> plan) : context_(std::move(plan)) {}
  absl::StatusOr<std::vector<Tensor>> Run(absl::Span<const Tensor> inputs,
                                          const std::function<absl::Status()>& stop) override {
    return context_.Run(inputs, stop);
  }
  int64_t arena_bytes() const override { return context_.arena_bytes(); }

 private:
  Context context_;
};

}  // namespace

MakeRunContext PlanContexts() {
  return [](const std::shared_ptr<const Plan>& plan) -> std::unique_ptr<RunContext> {
    return std::make_unique<PlanContext>(plan);
  };
}

Scheduler::Scheduler(SchedulerOptions options, MakeRunContext make_context)
    : options_(options), make_context_(std::move(make_context)) {
  const int workers = std::max(options_.workers, 1);
  for (int i = 0; i < workers; ++i) workers_.push_back(std::make_unique<Worker>());
  for (int i = 0; i < workers; ++i) threads_.emplace_back([this, i] { WorkerLoop(i); });
}

Scheduler::~Scheduler() {
  std::deque<Queued> left;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    left.swap(queue_);
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
      queue_.push_back(std::move(queued));
    }
  }
  for (Queued& d : dead) {
    const absl::Status why = WhyDead(d);
    Finish(std::move(d), why);
  }
  if (!refused.ok()) Finish(std::move(queued), refused);
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

absl::flat_hash_map<std::string, int64_t> Scheduler::ArenaBytes() const {
  absl::flat_hash_map<std::string, int64_t> total;
  absl::MutexLock lock(&mu_);
  for (const std::unique_ptr<Worker>& worker : workers_) {
    for (const auto& [id, bytes] : worker->arena_bytes) total[id] += bytes;
  }
  return total;
}

void Scheduler::WorkerLoop(int index) {
  SetIntraOpThreads(options_.intra_op_threads);
  Worker& worker = *workers_[index];
  uint64_t seen_generation = 0;
  while (true) {
    std::optional<Queued> next;
    bool drop = false;
    {
      absl::MutexLock lock(&mu_);
      const auto ready = [this, &seen_generation]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
        return stopping_ || !queue_.empty() || drop_generation_ != seen_generation;
      };
      const bool woken = mu_.AwaitWithTimeout(absl::Condition(&ready), kIdleDropInterval);
      if (stopping_) return;
      drop = !woken || drop_generation_ != seen_generation;
      seen_generation = drop_generation_;
      if (!queue_.empty()) {
        next = std::move(queue_.front());
        queue_.pop_front();
        ++running_;
      }
    }
    if (drop) DropUnused(worker);
    if (!next) continue;
    RunOne(worker, *std::move(next));
    absl::MutexLock lock(&mu_);
    --running_;
  }
}

void Scheduler::RunOne(Worker& worker, Queued queued) {
  const absl::Status dead = WhyDead(queued);
  if (!dead.ok()) return Finish(std::move(queued), dead);
  RunContext& context = ContextFor(worker, queued.work);
  const absl::Time start = options_.clock->Now();
  const auto stop = [&] { return WhyDead(queued, "while it ran"); };
  WorkResult result{.outputs = context.Run(queued.work.inputs, stop),
                    .queue = start - queued.since};
  result.compute = options_.clock->Now() - start;
  PublishArenas(worker);
  {
    absl::MutexLock lock(&mu_);
    // An exponential mean over about eight runs; only the retry hint uses it.
    mean_compute_ += (result.compute - mean_compute_) / 8;
  }
  auto done = std::move(queued.work.done);
  // The handle that keeps the variant in memory may live in `done`: inputs and plan go first.
  queued = {};
  done(std::move(result));
}

RunContext& Scheduler::ContextFor(Worker& worker, const Work& work) {
  std::list<CachedContext>& contexts = worker.contexts;
  const auto found = std::find_if(contexts.begin(), contexts.end(), [&](const CachedContext& c) {
    return c.plan.lock() == work.plan;
  });
  if (found != contexts.end()) {
    contexts.splice(contexts.begin(), contexts, found);
    return *contexts.front().context;
  }
  DropUnused(worker);
  while (contexts.size() >= static_cast<size_t>(std::max(options_.max_contexts_per_worker, 1))) {
    contexts.pop_back();
  }
  // Refers to the plan without owning it, see CachedContext.
  const std::shared_ptr<const Plan> plan(std::shared_ptr<void>(), work.plan.get());
  contexts.push_front(
      {.plan = work.plan, .variant_id = work.variant_id, .context = make_context_(plan)});
  return *contexts.front().context;
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
