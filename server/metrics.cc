#include "server/metrics.h"

#include <algorithm>
#include <array>

#include "server/status_mapping.h"

namespace halftone {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::Histogram;

const Histogram::BucketBoundaries& LatencyBuckets() {
  static const auto* const buckets =
      new Histogram::BucketBoundaries{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                      0.05,   0.1,     0.25,   0.5,   1,      2.5,   5,    10};
  return *buckets;
}

const Histogram::BucketBoundaries& BuildBuckets() {
  static const auto* const buckets =
      new Histogram::BucketBoundaries{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600};
  return *buckets;
}

constexpr std::array<const char*, 5> kCacheEventNames = {"hit", "miss", "load", "evict", "build"};
constexpr std::array<const char*, 5> kRejectNames = {"queue_full", "deadline", "cancelled",
                                                     "unavailable", "memory"};

// Overrides and set names are free text: a label must not carry them.
std::string BoundedSpec(absl::string_view spec) {
  spec = spec.substr(0, std::min(spec.find(';'), spec.find("/calib=")));
  return std::string(spec);
}

double Seconds(absl::Duration d) { return absl::ToDoubleSeconds(d); }

}  // namespace

Metrics::Metrics(absl::string_view version, absl::string_view isa)
    : registry_(std::make_shared<prometheus::Registry>()),
      requests_(BuildCounter()
                    .Name("halftone_requests_total")
                    .Help("Finished calls by method, model, variant and gRPC code.")
                    .Register(*registry_)),
      total_seconds_(BuildHistogram()
                         .Name("halftone_request_duration_seconds")
                         .Help("Answered inferences, from decoding to the response.")
                         .Register(*registry_)),
      queue_seconds_(BuildHistogram()
                         .Name("halftone_queue_duration_seconds")
                         .Help("Time that answered inferences waited for a worker.")
                         .Register(*registry_)),
      compute_seconds_(BuildHistogram()
                           .Name("halftone_compute_duration_seconds")
                           .Help("Time that answered inferences were computed.")
                           .Register(*registry_)),
      rejected_(BuildCounter()
                    .Name("halftone_rejected_total")
                    .Help("Inferences that were not computed, by reason.")
                    .Register(*registry_)),
      cache_events_(BuildCounter()
                        .Name("halftone_cache_events_total")
                        .Help("What happened in the variant cache: hit, miss, load from disk, "
                              "evict from memory, build.")
                        .Register(*registry_)),
      quantize_seconds_(BuildHistogram()
                            .Name("halftone_quantize_duration_seconds")
                            .Help("Duration of builds, successful or not, by spec.")
                            .Register(*registry_)),
      quantize_(BuildCounter()
                    .Name("halftone_quantize_total")
                    .Help("Builds by spec and result (ok, cancelled, error).")
                    .Register(*registry_)),
      inflight_(BuildGauge()
                    .Name("halftone_inflight_requests")
                    .Help("Inferences that have arrived and are not answered.")
                    .Register(*registry_)
                    .Add({})) {
  BuildGauge()
      .Name("halftone_build_info")
      .Help("Version of the server and instruction set that it uses; always 1.")
      .Register(*registry_)
      .Add({{"version", std::string(version)}, {"isa", std::string(isa)}})
      .Set(1);
  for (const char* event : kCacheEventNames) cache_events_.Add({{"event", event}});
  for (const char* reason : kRejectNames) rejected_.Add({{"reason", reason}});
}

void Metrics::CountRequest(absl::string_view method, const std::string& model,
                           const std::string& variant, absl::StatusCode code) {
  absl::MutexLock lock(&mu_);
  prometheus::Counter*& counter = series_[{model, variant}].requests[{std::string(method), code}];
  if (counter == nullptr) {
    counter = &requests_.Add({{"method", std::string(method)},
                              {"model", model},
                              {"variant", variant},
                              {"code", CodeName(code)}});
  }
  counter->Increment();
}

void Metrics::ObserveInference(const std::string& model, const std::string& variant,
                               const RequestTimes& times) {
  absl::MutexLock lock(&mu_);
  VariantSeries& series = series_[{model, variant}];
  if (series.total == nullptr) {
    const prometheus::Labels labels = {{"model", model}, {"variant", variant}};
    series.total = &total_seconds_.Add(labels, LatencyBuckets());
    series.queue = &queue_seconds_.Add(labels, LatencyBuckets());
    series.compute = &compute_seconds_.Add(labels, LatencyBuckets());
  }
  series.total->Observe(Seconds(times.total));
  series.queue->Observe(Seconds(times.queue));
  series.compute->Observe(Seconds(times.compute));
}

void Metrics::CountRejected(RejectReason reason) {
  rejected_.Add({{"reason", kRejectNames[static_cast<size_t>(reason)]}}).Increment();
}

void Metrics::CountCacheEvent(CacheEvent event) {
  cache_events_.Add({{"event", kCacheEventNames[static_cast<size_t>(event)]}}).Increment();
}

void Metrics::ObserveBuild(const std::string& spec, const absl::Status& status,
                           absl::Duration duration) {
  const std::string label = BoundedSpec(spec);
  const char* result = status.ok() ? "ok" : absl::IsCancelled(status) ? "cancelled" : "error";
  quantize_.Add({{"spec", label}, {"result", result}}).Increment();
  quantize_seconds_.Add({{"spec", label}}, BuildBuckets()).Observe(Seconds(duration));
}

void Metrics::AddInflight(int delta) { inflight_.Increment(delta); }

void Metrics::SetWorkers(int workers, int intra_op_threads, int wide_threads, int cores) {
  struct Row {
    const char* name;
    const char* help;
    int value;
  };
  for (const Row& row :
       {Row{"halftone_worker_threads", "Workers that run inferences.", workers},
        Row{"halftone_intra_op_threads", "Threads that one worker uses.", intra_op_threads},
        Row{"halftone_wide_threads", "Threads of a request that is alone, where that pays.",
            std::max(wide_threads, intra_op_threads)},
        Row{"halftone_core_budget", "Cores that this process may use.", cores}}) {
    BuildGauge().Name(row.name).Help(row.help).Register(*registry_).Add({}).Set(row.value);
  }
}

void Metrics::ForgetModel(const std::string& model) {
  absl::MutexLock lock(&mu_);
  for (auto it = series_.begin(); it != series_.end();) {
    if (it->first.first != model) {
      ++it;
      continue;
    }
    Remove(it->second);
    it = series_.erase(it);
  }
}

void Metrics::ForgetVariant(const std::string& model, const std::string& variant) {
  absl::MutexLock lock(&mu_);
  const auto it = series_.find({model, variant});
  if (it == series_.end()) return;
  Remove(it->second);
  series_.erase(it);
}

void Metrics::Remove(VariantSeries& series) {
  if (series.total != nullptr) {
    total_seconds_.Remove(series.total);
    queue_seconds_.Remove(series.queue);
    compute_seconds_.Remove(series.compute);
  }
  for (const auto& [key, counter] : series.requests) requests_.Remove(counter);
}

GaugeFamily::GaugeFamily(absl::string_view name, absl::string_view help,
                         prometheus::MetricType type) {
  family_.name = std::string(name);
  family_.help = std::string(help);
  family_.type = type;
}

GaugeFamily& GaugeFamily::Add(double value, std::vector<prometheus::ClientMetric::Label> labels) {
  prometheus::ClientMetric metric;
  metric.label = std::move(labels);
  metric.gauge.value = value;
  metric.counter.value = value;
  family_.metric.push_back(std::move(metric));
  return *this;
}

}  // namespace halftone
