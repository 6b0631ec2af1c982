#include "server/task_pool.h"

#include <utility>

#include "absl/time/time.h"
#include "server/status_mapping.h"

namespace halftone {

TaskPool::~TaskPool() {
  std::vector<std::thread> threads;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
}

bool TaskPool::Submit(Task task) {
  absl::MutexLock lock(&mu_);
  const bool can_grow = threads_.size() < static_cast<size_t>(options_.max_threads);
  if (stopping_ || (!can_grow && queue_.size() >= static_cast<size_t>(options_.max_queued))) {
    return false;
  }
  queue_.push_back(std::move(task));
  if (can_grow && static_cast<size_t>(idle_) < queue_.size()) {
    threads_.emplace_back([this] { Loop(); });
  }
  return true;
}

void TaskPool::Loop() {
  while (true) {
    Task task;
    {
      absl::MutexLock lock(&mu_);
      ++idle_;
      const auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
        return stopping_ || !queue_.empty();
      };
      mu_.Await(absl::Condition(&ready));
      --idle_;
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    task();
  }
}

absl::Status TaskPoolFull() {
  return WithRetryAfter(
      absl::ResourceExhaustedError("too many calls wait for the server's files or builds"),
      absl::Seconds(1));
}

}  // namespace halftone
