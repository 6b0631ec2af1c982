#include "core/exec/memory_planner.h"

#include <algorithm>
#include <numeric>

#include "core/base/checked_math.h"

namespace halftone {

MemoryPlan PlanMemory(absl::Span<const BufferInterval> intervals) {
  std::vector<int> order(intervals.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return intervals[a].size_bytes > intervals[b].size_bytes; });
  MemoryPlan plan{std::vector<int64_t>(intervals.size(), 0), 0};
  std::vector<int> placed;  // by offset
  for (int i : order) {
    const BufferInterval& want = intervals[i];
    const int64_t size = AlignUp(want.size_bytes, kArenaAlignment);
    if (size == 0) continue;
    int64_t offset = 0;
    for (int j : placed) {  // the first gap below a neighbour that lives at the same time
      const BufferInterval& other = intervals[j];
      if (other.last < want.first || want.last < other.first) continue;
      if (plan.offsets[j] >= offset + size) break;
      offset = std::max(offset, plan.offsets[j] + AlignUp(other.size_bytes, kArenaAlignment));
    }
    plan.offsets[i] = offset;
    plan.arena_bytes = std::max(plan.arena_bytes, offset + size);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), i,
                                   [&](int a, int b) { return plan.offsets[a] < plan.offsets[b]; }),
                  i);
  }
  return plan;
}

}  // namespace halftone
