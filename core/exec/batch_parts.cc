#include "core/exec/batch_parts.h"

#include <algorithm>
#include <numeric>

#include "core/base/checked_math.h"

namespace halftone {
namespace {

// Whether the thread with the most rows is not busy for much longer than the average.
bool IsBalanced(int64_t most_rows, int64_t lanes, int64_t rows) {
  return most_rows * lanes * 100 <= rows * 115;
}

// Each thread reads all weights for its rows: a team would read them once for the whole batch,
// which matters where little else is read. A quarter as much costs less than its waits do.
bool IsWorthLanes(const BatchCost& cost, int64_t lanes) {
  if (lanes < 2 || cost.rows < lanes) return false;
  const int64_t most_rows = (cost.rows + lanes - 1) / lanes;
  return IsBalanced(most_rows, lanes, cost.rows) &&
         most_rows * cost.traffic_bytes >= cost.weight_bytes / 4;
}

}  // namespace

std::vector<int64_t> CutBatch(const BatchCost& cost, const BatchLimit& limit, int threads) {
  // Each part reads the weights again: only those that stay in the caches cost nothing.
  const bool cached = cost.weight_bytes <= limit.cached_bytes;
  const int64_t lanes = IsWorthLanes(cost, threads) ? threads : 1;
  const int64_t bytes = (cached ? limit.cached_bytes : limit.memory_bytes) / lanes;
  const int64_t most = std::max<int64_t>(bytes / std::max<int64_t>(cost.arena_bytes, 1), 1);
  const int64_t needed = AlignUp((cost.rows + most - 1) / most, lanes);
  const int64_t parts = std::min(needed, cost.rows);
  std::vector<int64_t> rows;
  if (parts < 2) return rows;
  for (int64_t i = 0; i < parts; ++i) {
    rows.push_back(cost.rows * (i + 1) / parts - cost.rows * i / parts);
  }
  return rows;
}

int LanesFor(const std::vector<int64_t>& parts, int threads) {
  const auto count = static_cast<int64_t>(parts.size());
  if (threads < 2 || count < threads) return 1;
  int64_t most_rows = 0;
  for (int64_t lane = 0; lane < threads; ++lane) {
    const auto [first, end] = LaneOf(lane, threads, count);
    most_rows = std::max(most_rows,
                         std::accumulate(parts.begin() + first, parts.begin() + end, int64_t{0}));
  }
  const int64_t rows = std::accumulate(parts.begin(), parts.end(), int64_t{0});
  return IsBalanced(most_rows, threads, rows) ? threads : 1;
}

}  // namespace halftone
