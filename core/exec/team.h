// The OpenMP team of one thread: how many threads it has, where they run, and when they end.
//
//   Team team(DivideCpus(UsableCpus(), 4));   // once, on the thread that will compute
//   team.Use(4);                              // from here on, regions of four threads start at
//   once … team.End();                               // nothing spins any more
//
// Without places a thread that wakes up is often put behind the one that woke it, which spins: on
// virtual machines, where a halted CPU does not count as idle, a region then takes a time slice (4
// to 8 ms) instead of microseconds. libgomp's threads spin for milliseconds after a region; who
// lets others have the cores ends the team first. Thread-compatible: belongs to its thread.
#ifndef HALFTONE_CORE_EXEC_TEAM_H_
#define HALFTONE_CORE_EXEC_TEAM_H_

#include <functional>
#include <vector>

#include "absl/types/span.h"

namespace halftone {

// CPUs of the calling thread's affinity mask, ascending.
std::vector<int> UsableCpus();

// Neighbouring CPUs for each of `threads` threads; sizes differ by at most one. Empty: there are
// fewer CPUs than threads, or only one thread, and no place is better than another.
std::vector<std::vector<int>> DivideCpus(absl::Span<const int> cpus, int threads);

class Team {
 public:
  // `places[k]`: CPUs of thread k, where 0 is the calling thread, which only starts there and may
  // move. More threads than places run anywhere.
  explicit Team(std::vector<std::vector<int>> places = {});
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team() { End(); }

  // Makes the team of `threads` threads if it is not there. One thread: ends it.
  void Use(int threads);
  // Joins its threads, about 100 µs. The next region makes a new one.
  void End();
  bool exists() const { return size_ > 1; }

 private:
  void Create(int threads);

  const std::vector<std::vector<int>> places_;
  const std::vector<int> home_;
  int size_ = 1;
};

// Calls `f` with each of 0 … threads - 1, on that thread of the calling thread's team.
void OnEachThread(int threads, const std::function<void(int)>& f);

// Ends whatever team the calling thread has, for threads that compute once in a while.
void EndTeamOfThisThread();

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_TEAM_H_
