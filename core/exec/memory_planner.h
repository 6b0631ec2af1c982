// Places buffers with known lifetimes into one arena.
#ifndef HALFTONE_CORE_EXEC_MEMORY_PLANNER_H_
#define HALFTONE_CORE_EXEC_MEMORY_PLANNER_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace halftone {

// A buffer that must exist from step `first` to step `last`, both inclusive.
// Steps count plan steps from 0. A buffer of size 0 takes no room.
struct BufferInterval {
  int first = 0;
  int last = 0;
  int64_t size_bytes = 0;
};

struct MemoryPlan {
  std::vector<int64_t> offsets;  // parallel to the input, multiples of kArenaAlignment
  int64_t arena_bytes = 0;       // never more than the sum of all aligned sizes
};

// One cache line; also what AVX-512 loads want.
inline constexpr int64_t kArenaAlignment = 64;

// Returns offsets such that buffers alive at the same step never overlap:
//
//   bytes ^  CCCC        A{0,1} and B{2,3} share bytes; C{1,2} meets both
//         |AAAABBBB      and lies above them. A step is two columns wide.
//         +--------> step
//
// Greedy by size, ties by index: equal inputs give equal plans on every machine.
// O(n²), once per specialisation. Requires: 0 <= first <= last and size_bytes >= 0.
MemoryPlan PlanMemory(absl::Span<const BufferInterval> intervals);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_MEMORY_PLANNER_H_
