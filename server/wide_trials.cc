#include "server/wide_trials.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/log/log.h"
#include "core/base/status_macros.h"
#include "core/base/thread_priority.h"
#include "core/exec/team.h"

namespace halftone {
namespace {

constexpr double kEnough = 1.2;
constexpr int kMinRounds = 3, kMaxRounds = 7;
constexpr absl::Duration kEnoughTime = absl::Milliseconds(500);
constexpr int kMaxInterruptions = 20;
constexpr absl::Duration kPause = absl::Seconds(1);
constexpr absl::Duration kTryAgainAtMost = absl::Minutes(10);
// Of one plan. More shapes than it keeps programs would push each other out.
constexpr size_t kMaxShapes = 64;

std::vector<Shape> ShapesOf(absl::Span<const Tensor> inputs) {
  std::vector<Shape> shapes;
  for (const Tensor& t : inputs) shapes.push_back(t.shape());
  return shapes;
}

// Tensors of these types and shapes, full of zeros.
absl::StatusOr<std::vector<Tensor>> Zeros(absl::Span<const Tensor> like) {
  std::vector<Tensor> zeros;
  for (const Tensor& t : like) {
    HT_ASSIGN_OR_RETURN(zeros.emplace_back(), Tensor::Create(t.type(), t.shape()));
    if (t.num_bytes() > 0) {
      std::memset(zeros.back().mutable_raw(), 0, static_cast<size_t>(t.num_bytes()));
    }
  }
  return zeros;
}

absl::Duration Least(absl::Span<const absl::Duration> times) {
  return *std::min_element(times.begin(), times.end());
}

}  // namespace

bool PaysWide(const TrialTimes& times) {
  return Least(times.wide) * kEnough <= Least(times.narrow);
}

WideTrials::WideTrials(Scheduler& scheduler)
    : scheduler_(scheduler),
      clock_(*scheduler.options().clock),
      enabled_(scheduler.options().wide_threads > scheduler.options().intra_op_threads) {
  if (enabled_) thread_ = std::thread([this] { Run(); });
}

WideTrials::~WideTrials() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

void WideTrials::Try(const std::string& variant_id, const std::shared_ptr<const Plan>& plan,
                     std::vector<Tensor> inputs) {
  if (!enabled_) return;
  Shapes shapes = ShapesOf(inputs);
  absl::MutexLock lock(&mu_);
  Known& known = KnownOf(plan);
  Enqueue(known, {variant_id, plan, plan.get(), std::move(inputs), std::move(shapes)});
}

absl::Duration WideTrials::NarrowTime(const std::string& variant_id,
                                      const std::shared_ptr<const Plan>& plan,
                                      absl::Span<const Tensor> inputs) {
  constexpr absl::Duration kNone = absl::ZeroDuration();
  if (!enabled_) return kNone;
  const absl::Time now = clock_.Now();
  Shapes shapes = ShapesOf(inputs);
  {
    absl::MutexLock lock(&mu_);
    Known& known = KnownOf(plan);
    const auto [it, is_new] = known.by_shapes.try_emplace(shapes);
    if (is_new) {
      if (known.by_shapes.size() > kMaxShapes) known.by_shapes.erase(it);
      return kNone;
    }
    Verdict& verdict = it->second;
    if (verdict.state == State::kNarrow && now >= verdict.since + verdict.wait) {
      verdict = {.wait = std::min(2 * verdict.wait, kTryAgainAtMost)};
    }
    if (verdict.state == State::kWide && now >= paused_until_) return verdict.narrow_time;
    if (verdict.state != State::kSeen) return kNone;
  }
  if (!scheduler_.idle()) return kNone;
  absl::StatusOr<std::vector<Tensor>> zeros = Zeros(inputs);
  if (!zeros.ok()) return kNone;
  absl::MutexLock lock(&mu_);
  Enqueue(KnownOf(plan), {variant_id, plan, plan.get(), *std::move(zeros), std::move(shapes)});
  return kNone;
}

void WideTrials::Observe(absl::Duration narrow, absl::Duration wide) {
  if (wide <= narrow) return;
  absl::MutexLock lock(&mu_);
  paused_until_ = clock_.Now() + kPause;
}

WideTrials::Known& WideTrials::KnownOf(const std::shared_ptr<const Plan>& plan) {
  const auto it = known_.find(plan.get());
  if (it != known_.end() && !it->second.plan.expired()) return it->second;
  absl::erase_if(known_, [](const auto& entry) { return entry.second.plan.expired(); });
  Known& known = known_[plan.get()];
  known.plan = plan;
  return known;
}

void WideTrials::Enqueue(Known& known, Trial trial) {
  Verdict& verdict = known.by_shapes.try_emplace(trial.shapes).first->second;
  if (verdict.state != State::kSeen) return;
  int used = 0;
  for (const auto& [shapes, v] : known.by_shapes) {
    used += v.state == State::kTrying || v.state == State::kWide;
  }
  const std::shared_ptr<const Plan> plan = trial.plan.lock();
  if (plan == nullptr || used >= plan->options().max_specializations) return;
  verdict.state = State::kTrying;
  queue_.push_back(std::move(trial));
}

bool WideTrials::stopping() const {
  absl::MutexLock lock(&mu_);
  return stopping_;
}

void WideTrials::AwaitQuiet() {
  absl::MutexLock lock(&mu_);
  const auto quiet = [this]()
                         ABSL_SHARED_LOCKS_REQUIRED(mu_) { return queue_.empty() && !working_; };
  mu_.Await(absl::Condition(&quiet));
}

void WideTrials::Run() {
  LowerPriorityOfThisThread();
  while (true) {
    Trial trial;
    {
      absl::MutexLock lock(&mu_);
      working_ = false;
      const auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
        return stopping_ || !queue_.empty();
      };
      mu_.Await(absl::Condition(&ready));
      if (stopping_) return;
      trial = std::move(queue_.front());
      queue_.pop_front();
      working_ = true;
    }
    const Verdict verdict = Measure(trial);
    absl::MutexLock lock(&mu_);
    const auto known = known_.find(trial.key);
    if (known == known_.end() || known->second.plan.expired()) continue;
    Verdict& kept = known->second.by_shapes[trial.shapes];
    kept = {verdict.state, verdict.narrow_time, verdict.since, kept.wait};
  }
}

absl::Status WideTrials::Prepare(const Trial& trial) {
  const std::shared_ptr<const Plan> plan = trial.plan.lock();
  if (plan == nullptr) return absl::CancelledError("the plan is gone");
  const absl::Status status = plan->Prepare(trial.shapes, scheduler_.options().wide_threads);
  EndTeamOfThisThread();  // which packed weights
  return status;
}

absl::StatusOr<TrialTimes> WideTrials::Time(const Trial& trial) {
  TrialTimes times;
  absl::Duration total;
  for (int round = 0; round <= kMaxRounds; ++round) {
    if (round > kMinRounds && total > kEnoughTime) break;
    HT_ASSIGN_OR_RETURN(const absl::Duration narrow, RunOnce(trial, false));
    HT_ASSIGN_OR_RETURN(const absl::Duration wide, RunOnce(trial, true));
    if (round == 0) continue;  // touches memory
    times.narrow.push_back(narrow);
    times.wide.push_back(wide);
    total += narrow + wide;
  }
  return times;
}

WideTrials::Verdict WideTrials::Measure(const Trial& trial) {
  // The first run waits for a moment without requests: only then is there something to build.
  absl::Status status = RunOnce(trial, false).status();
  if (status.ok()) status = Prepare(trial);
  absl::StatusOr<TrialTimes> times =
      status.ok() ? Time(trial) : absl::StatusOr<TrialTimes>(std::move(status));
  if (times.ok()) {
    LOG(INFO) << "wide runs: variant " << trial.variant_id << ": narrow " << Least(times->narrow)
              << ", wide " << Least(times->wide);
    if (PaysWide(*times)) return {.state = State::kWide, .narrow_time = Least(times->narrow)};
  }
  if (const std::shared_ptr<const Plan> plan = trial.plan.lock()) {
    plan->Drop(trial.shapes, scheduler_.options().wide_threads);
  }
  // So that the worker's context gives it up, too.
  RunOnce(trial, false).IgnoreError();
  const absl::Status& why = times.status();
  if (absl::IsUnavailable(why) || absl::IsCancelled(why)) return {};
  if (!why.ok()) LOG(INFO) << "wide runs: variant " << trial.variant_id << ": " << why;
  return {.state = State::kNarrow, .since = clock_.Now()};
}

absl::StatusOr<absl::Duration> WideTrials::RunOnce(const Trial& trial, bool wide) {
  // Shared with the worker, which may still have it when this thread has left.
  struct Outcome {
    absl::Mutex mu;
    std::optional<absl::StatusOr<absl::Duration>> time ABSL_GUARDED_BY(mu);
    bool left ABSL_GUARDED_BY(mu) = false;
  };
  absl::Status last;
  for (int i = 0; i < kMaxInterruptions; ++i) {
    const auto outcome = std::make_shared<Outcome>();
    scheduler_.SubmitIdle({.plan = trial.plan,
                           .variant_id = trial.variant_id,
                           .inputs = trial.inputs,
                           .wide = wide,
                           .cancelled =
                               [outcome] {
                                 absl::MutexLock lock(&outcome->mu);
                                 return outcome->left;
                               },
                           .done =
                               [outcome](WorkResult r) {
                                 absl::MutexLock lock(&outcome->mu);
                                 outcome->time =
                                     r.outputs.ok()
                                         ? absl::StatusOr<absl::Duration>(r.compute)
                                         : absl::StatusOr<absl::Duration>(r.outputs.status());
                               }});
    absl::MutexLock lock(&outcome->mu);
    const auto there = [&]() ABSL_SHARED_LOCKS_REQUIRED(outcome->mu) {
      return outcome->time.has_value();
    };
    while (!outcome->mu.AwaitWithTimeout(absl::Condition(&there), absl::Milliseconds(100))) {
      if (!stopping()) continue;
      outcome->left = true;
      return absl::UnavailableError("the server is shutting down");
    }
    if (outcome->time->ok() || !absl::IsCancelled(outcome->time->status())) return *outcome->time;
    last = outcome->time->status();
    if (trial.plan.expired()) break;
  }
  return last;
}

}  // namespace halftone
