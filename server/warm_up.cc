#include "server/warm_up.h"

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

namespace halftone {
namespace {

// Shared with the workers: they may still have it when nobody waits any more.
struct Progress {
  absl::Mutex mu;
  bool begun ABSL_GUARDED_BY(mu) = false;
  bool abandoned ABSL_GUARDED_BY(mu) = false;
  int left ABSL_GUARDED_BY(mu) = 0;
  int ran ABSL_GUARDED_BY(mu) = 0;
};

void SubmitOne(Scheduler& scheduler, int worker, const std::string& variant_id,
               const std::shared_ptr<const Plan>& plan, const std::vector<Tensor>& inputs,
               const std::shared_ptr<Progress>& progress) {
  {
    absl::MutexLock lock(&progress->mu);
    ++progress->left;
  }
  scheduler.SubmitIdle({.plan = plan,
                        .variant_id = variant_id,
                        .inputs = inputs,
                        .worker = worker,
                        .cancelled =
                            [progress] {
                              absl::MutexLock lock(&progress->mu);
                              progress->begun = true;
                              return progress->abandoned;
                            },
                        .done =
                            [progress](WorkResult result) {
                              absl::MutexLock lock(&progress->mu);
                              --progress->left;
                              if (result.outputs.ok()) ++progress->ran;
                            }});
}

// Abandons what is not done in time.
void Await(Progress& progress, absl::Time end, const WarmUpLimits& limits) {
  absl::MutexLock lock(&progress.mu);
  const auto begun = [&]() ABSL_SHARED_LOCKS_REQUIRED(progress.mu) {
    return progress.begun || progress.left == 0;
  };
  const auto done = [&]() ABSL_SHARED_LOCKS_REQUIRED(progress.mu) { return progress.left == 0; };
  if (!progress.mu.AwaitWithTimeout(absl::Condition(&begun), limits.start) ||
      !progress.mu.AwaitWithDeadline(absl::Condition(&done), end)) {
    progress.abandoned = true;
  }
}

int64_t ArenaBytes(const Scheduler& scheduler) {
  int64_t total = 0;
  for (const auto& [id, bytes] : scheduler.ArenaBytes()) total += bytes;
  return total;
}

}  // namespace

int WarmUpWorkers(Scheduler& scheduler, const std::string& variant_id,
                  const std::shared_ptr<const Plan>& plan, const std::vector<Tensor>& inputs,
                  const WarmUpLimits& limits) {
  const absl::Time end = absl::Now() + limits.finish;
  const auto progress = std::make_shared<Progress>();
  const int64_t before = ArenaBytes(scheduler);
  if (before >= limits.arena_bytes) return 0;
  // The first tells what a context takes, and how many more there may be.
  SubmitOne(scheduler, 0, variant_id, plan, inputs, progress);
  Await(*progress, end, limits);
  const int64_t each = std::max<int64_t>(ArenaBytes(scheduler) - before, 1);
  const int64_t more = (limits.arena_bytes - before) / each - 1;
  const int workers = scheduler.options().workers;
  for (int i = 1; i < workers && i <= more; ++i) {
    SubmitOne(scheduler, i, variant_id, plan, inputs, progress);
  }
  Await(*progress, end, limits);
  absl::MutexLock lock(&progress->mu);
  return progress->ran;
}

}  // namespace halftone
