// Summary of measured latencies.
#ifndef HALFTONE_CLIENT_LATENCY_H_
#define HALFTONE_CLIENT_LATENCY_H_

#include <cstdint>
#include <vector>

namespace halftone {

// Seconds; all zero when nothing was measured.
struct LatencySummary {
  int64_t count = 0;
  double mean = 0;
  double min = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double max = 0;
};

// Percentiles by nearest rank: each is one of the measured values.
LatencySummary Summarize(std::vector<double> seconds);

}  // namespace halftone

#endif  // HALFTONE_CLIENT_LATENCY_H_
