// Threads for work that may block: files, imports, waiting for a build. Started when needed.
//
//   TaskPool pool({.max_threads = 4, .max_queued = 64});
//   if (!pool.Submit([…] { … })) …refuse…
//
// Thread-safe. The destructor runs what is queued and waits.
#ifndef HALFTONE_SERVER_TASK_POOL_H_
#define HALFTONE_SERVER_TASK_POOL_H_

#include <deque>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace halftone {

struct TaskPoolOptions {
  int max_threads = 4;
  int max_queued = 64;  // waiting for a thread
};

class TaskPool {
 public:
  using Task = absl::AnyInvocable<void()>;

  explicit TaskPool(TaskPoolOptions options) : options_(options) {}
  ~TaskPool();

  // False, and `task` is destroyed unrun, when the queue is full.
  bool Submit(Task task);

 private:
  void Loop();

  const TaskPoolOptions options_;
  absl::Mutex mu_;
  std::deque<Task> queue_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mu_);
  int idle_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
};

// What to answer when Submit says no.
absl::Status TaskPoolFull();

}  // namespace halftone

#endif  // HALFTONE_SERVER_TASK_POOL_H_
