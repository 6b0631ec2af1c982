// All metrics of one server: what Prometheus scrapes.
//
// Names: see docs/operations.md. Label values are bounded: `model` and `variant` name what exists
// (anything else is counted under ""), and their series go when the model or variant goes.
// Thread-safe.
#ifndef HALFTONE_SERVER_METRICS_H_
#define HALFTONE_SERVER_METRICS_H_

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "core/store/model_store.h"

namespace halftone {

struct RequestTimes {
  absl::Duration total;
  absl::Duration queue;
  absl::Duration compute;
};

enum class RejectReason : uint8_t { kQueueFull, kDeadline, kCancelled, kUnavailable, kMemory };

class Metrics {
 public:
  Metrics(absl::string_view version, absl::string_view isa);

  // One finished call of any kind. `model` and `variant` must exist or be empty.
  void CountRequest(absl::string_view method, const std::string& model, const std::string& variant,
                    absl::StatusCode code);
  // One answered inference.
  void ObserveInference(const std::string& model, const std::string& variant,
                        const RequestTimes& times);
  void CountRejected(RejectReason reason);
  void CountCacheEvent(CacheEvent event);
  // `spec` is shortened to its bounded part: no overrides, no calibration set name.
  void ObserveBuild(const std::string& spec, const absl::Status& status, absl::Duration duration);
  void AddInflight(int delta);
  void SetWorkers(int workers, int intra_op_threads, int wide_threads, int cores);

  // Removes every series of a model, or of one of its variants.
  void ForgetModel(const std::string& model);
  void ForgetVariant(const std::string& model, const std::string& variant);

  const std::shared_ptr<prometheus::Registry>& registry() const { return registry_; }

 private:
  // Series of one model and variant; removed together.
  struct VariantSeries {
    prometheus::Histogram* total = nullptr;
    prometheus::Histogram* queue = nullptr;
    prometheus::Histogram* compute = nullptr;
    std::map<std::pair<std::string, absl::StatusCode>, prometheus::Counter*> requests;
  };
  using VariantKey = std::pair<std::string, std::string>;  // model, variant

  void Remove(VariantSeries& series) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::shared_ptr<prometheus::Registry> registry_;
  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Histogram>& total_seconds_;
  prometheus::Family<prometheus::Histogram>& queue_seconds_;
  prometheus::Family<prometheus::Histogram>& compute_seconds_;
  prometheus::Family<prometheus::Counter>& rejected_;
  prometheus::Family<prometheus::Counter>& cache_events_;
  prometheus::Family<prometheus::Histogram>& quantize_seconds_;
  prometheus::Family<prometheus::Counter>& quantize_;
  prometheus::Gauge& inflight_;

  absl::Mutex mu_;
  std::map<VariantKey, VariantSeries> series_ ABSL_GUARDED_BY(mu_);
};

// A family of gauges (or counters) that a scrape makes.
class GaugeFamily {
 public:
  GaugeFamily(absl::string_view name, absl::string_view help,
              prometheus::MetricType type = prometheus::MetricType::Gauge);
  GaugeFamily& Add(double value, std::vector<prometheus::ClientMetric::Label> labels = {});
  prometheus::MetricFamily Take() && { return std::move(family_); }

 private:
  prometheus::MetricFamily family_;
};

// The process_* set, from /proc/self.
std::vector<prometheus::MetricFamily> ProcessMetrics();

}  // namespace halftone

#endif  // HALFTONE_SERVER_METRICS_H_
