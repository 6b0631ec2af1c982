// Metrics that are read from the store and the scheduler when somebody scrapes.
#ifndef HALFTONE_SERVER_STORE_METRICS_H_
#define HALFTONE_SERVER_STORE_METRICS_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "core/store/model_store.h"
#include "server/live_samples.h"
#include "server/metrics.h"
#include "server/scheduler.h"

namespace halftone {

// Thread-safe.
class StoreMetrics {
 public:
  StoreMetrics(const ModelStore& store, const Scheduler& scheduler, const LiveSamples& live_samples)
      : store_(store), scheduler_(scheduler), live_samples_(live_samples) {}

  std::vector<prometheus::MetricFamily> Collect();

 private:
  void AddMemory(std::vector<prometheus::MetricFamily>& families) const;
  void AddLiveSamples(std::vector<prometheus::MetricFamily>& families) const;
  void AddQuality(std::vector<prometheus::MetricFamily>& families);

  const ModelStore& store_;
  const Scheduler& scheduler_;
  const LiveSamples& live_samples_;
  absl::Mutex mu_;
  // By variant id: a report never changes, so each is read from disk once. Absent: it has none.
  std::map<std::string, std::optional<VariantReport>> reports_ ABSL_GUARDED_BY(mu_);
};

}  // namespace halftone

#endif  // HALFTONE_SERVER_STORE_METRICS_H_
