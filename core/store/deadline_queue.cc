#include "core/store/deadline_queue.h"

namespace halftone {

DeadlineQueue::DeadlineQueue(const Clock& clock) : clock_(clock), thread_([this] { Run(); }) {}

DeadlineQueue::~DeadlineQueue() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    changed_ = true;
  }
  thread_.join();
}

DeadlineQueue::Ticket DeadlineQueue::Add(absl::Time deadline, std::function<void()> function) {
  absl::MutexLock lock(&mu_);
  const Ticket ticket{deadline, next_id_++};
  if (deadline == absl::InfiniteFuture()) return ticket;
  queue_.emplace(ticket, std::move(function));
  if (queue_.begin()->first == ticket) changed_ = true;
  return ticket;
}

void DeadlineQueue::Cancel(const Ticket& ticket) {
  absl::MutexLock lock(&mu_);
  queue_.erase(ticket);
}

void DeadlineQueue::Run() {
  while (true) {
    std::function<void()> function;
    {
      absl::MutexLock lock(&mu_);
      const absl::Time next = queue_.empty() ? absl::InfiniteFuture() : queue_.begin()->first.first;
      clock_.AwaitUntil(mu_, absl::Condition(&changed_), next);
      changed_ = false;
      if (stopping_) return;
      if (queue_.empty() || queue_.begin()->first.first > clock_.Now()) continue;
      function = std::move(queue_.begin()->second);
      queue_.erase(queue_.begin());
    }
    function();
  }
}

}  // namespace halftone
