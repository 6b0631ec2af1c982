#include "client/latency.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace halftone {

LatencySummary Summarize(std::vector<double> seconds) {
  if (seconds.empty()) return {};
  std::sort(seconds.begin(), seconds.end());
  const double count = static_cast<double>(seconds.size());
  const auto percentile = [&](int percent) {
    // Whole numbers first: 0.99 · 100 is not 99 in floating point.
    const double rank = std::ceil(count * percent / 100);
    return seconds[static_cast<size_t>(std::max(rank, 1.0)) - 1];
  };
  return {.count = static_cast<int64_t>(seconds.size()),
          .mean = std::accumulate(seconds.begin(), seconds.end(), 0.0) / count,
          .min = seconds.front(),
          .p50 = percentile(50),
          .p90 = percentile(90),
          .p99 = percentile(99),
          .max = seconds.back()};
}

}  // namespace halftone
