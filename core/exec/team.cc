#include "core/exec/team.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <utility>

#include "absl/log/log.h"
#include "core/exec/plan.h"

namespace halftone {
namespace {

// More than any machine has; the system call wants the size of its own mask at least.
constexpr int kMaxCpus = 8192;

// A mask of any size.
class CpuMask {
 public:
  CpuMask() : set_(CPU_ALLOC(kMaxCpus)) { CPU_ZERO_S(bytes(), set_); }
  CpuMask(const CpuMask&) = delete;
  CpuMask& operator=(const CpuMask&) = delete;
  ~CpuMask() { CPU_FREE(set_); }

  static size_t bytes() { return CPU_ALLOC_SIZE(kMaxCpus); }
  cpu_set_t* get() { return set_; }

 private:
  cpu_set_t* const set_;
};

// Moves the calling thread there. What is refused (the cgroup's CPUs changed) changes nothing.
void RunOn(absl::Span<const int> cpus) {
  if (cpus.empty()) return;
  CpuMask mask;
  for (const int cpu : cpus) CPU_SET_S(cpu, CpuMask::bytes(), mask.get());
  sched_setaffinity(0, CpuMask::bytes(), mask.get());
}

}  // namespace

std::vector<int> UsableCpus() {
  std::vector<int> cpus;
  CpuMask mask;
  if (sched_getaffinity(0, CpuMask::bytes(), mask.get()) != 0) return cpus;
  for (int cpu = 0; cpu < kMaxCpus; ++cpu) {
    if (CPU_ISSET_S(cpu, CpuMask::bytes(), mask.get())) cpus.push_back(cpu);
  }
  return cpus;
}

std::vector<std::vector<int>> DivideCpus(absl::Span<const int> cpus, int threads) {
  std::vector<std::vector<int>> places;
  if (threads < 2 || cpus.size() < static_cast<size_t>(threads)) return places;
  for (size_t k = 0; k < static_cast<size_t>(threads); ++k) {
    const size_t first = cpus.size() * k / threads, end = cpus.size() * (k + 1) / threads;
    places.emplace_back(cpus.begin() + first, cpus.begin() + end);
  }
  return places;
}

Team::Team(std::vector<std::vector<int>> places)
    : places_(std::move(places)), home_(places_.empty() ? std::vector<int>() : UsableCpus()) {}

void Team::Use(int threads) {
  if (threads == size_ && size_ > 1) {
    // The others have their own places; this thread must not be in the way of one.
    if (!places_.empty() &&
        !std::binary_search(places_[0].begin(), places_[0].end(), sched_getcpu())) {
      RunOn(places_[0]);
      RunOn(home_);
    }
    return;
  }
  End();
  if (threads > 1) Create(threads);
}

void Team::Create(int threads) {
  size_ = threads;
  const bool placed = static_cast<size_t>(threads) <= places_.size();
  if (placed) {
    // New threads begin where this one may run: it leaves these CPUs at once, they do not wait.
    std::vector<int> others;
    for (int k = 1; k < threads; ++k) {
      others.insert(others.end(), places_[k].begin(), places_[k].end());
    }
    RunOn(others);
  }
  OnEachThread(threads, [&](int k) {
    if (placed) RunOn(places_[k]);
  });
  if (placed) RunOn(home_);
}

void Team::End() {
  if (!exists()) return;
  size_ = 1;
  EndTeamOfThisThread();
}

void OnEachThread([[maybe_unused]] int threads, const std::function<void(int)>& f) {
#pragma omp parallel num_threads(threads)
  f(omp_get_thread_num());
}

void EndTeamOfThisThread() {
  if (omp_pause_resource(omp_pause_soft, omp_get_initial_device()) != 0) {
    LOG(WARNING) << "exec: a team of threads did not end";
  }
}

}  // namespace halftone
