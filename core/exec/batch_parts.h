// How a batch of independent rows is cut: into parts that fit the caches, and for a team into as
// many for each thread. Threads that run different rows wait for each other once, not after every
// step, and each finds what it wrote in its own caches.
#ifndef HALFTONE_CORE_EXEC_BATCH_PARTS_H_
#define HALFTONE_CORE_EXEC_BATCH_PARTS_H_

#include <cstdint>
#include <vector>

namespace halftone {

// How much the parts that run at once may need.
struct BatchLimit {
  int64_t cached_bytes;  // where weights stay in the caches beside it
  int64_t memory_bytes;  // where they do not
};

struct BatchCost {
  int64_t rows = 0;
  int64_t arena_bytes = 0;    // of one row
  int64_t traffic_bytes = 0;  // what the steps of one row read and write, weights apart
  int64_t weight_bytes = 0;
};

// The rows of each part, as even as they can be; none: it runs as a whole. `threads` is of the team
// that will run it.
std::vector<int64_t> CutBatch(const BatchCost& cost, const BatchLimit& limit, int threads);

// The parts of one thread out of `lanes`, neighbours: [first, end).
struct Lane {
  int64_t first = 0, end = 0;
};
constexpr Lane LaneOf(int64_t lane, int64_t lanes, int64_t parts) {
  return {parts * lane / lanes, parts * (lane + 1) / lanes};
}

// How many threads of a team have parts of their own, which they compute alone: all, or 1, where
// some would wait for long: then the team computes one part after the other.
int LanesFor(const std::vector<int64_t>& parts, int threads);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_BATCH_PARTS_H_
