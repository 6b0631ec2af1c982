#include "server/store_metrics.h"

#include <utility>

namespace halftone {
namespace {

std::vector<prometheus::ClientMetric::Label> LabelsOf(const VariantInfo& info,
                                                      const char* kind = nullptr) {
  std::vector<prometheus::ClientMetric::Label> labels = {{"model", info.model},
                                                         {"variant", info.spec}};
  if (kind != nullptr) labels.push_back({"kind", kind});
  return labels;
}

}  // namespace

std::vector<prometheus::MetricFamily> StoreMetrics::Collect() {
  std::vector<prometheus::MetricFamily> families = ProcessMetrics();
  families.push_back(
      std::move(GaugeFamily("halftone_pending_requests", "Inferences that wait for a worker.")
                    .Add(scheduler_.queued()))
          .Take());
  families.push_back(
      std::move(GaugeFamily("halftone_running_requests", "Inferences that are computed.")
                    .Add(scheduler_.running()))
          .Take());
  families.push_back(
      std::move(GaugeFamily("halftone_wide_runs_total",
                            "Inferences that were alone and computed by all workers' threads.",
                            prometheus::MetricType::Counter)
                    .Add(static_cast<double>(scheduler_.wide_runs())))
          .Take());
  families.push_back(std::move(GaugeFamily("halftone_models", "Models and versions in the store.")
                                   .Add(static_cast<double>(store_.ListModels().size())))
                         .Take());
  AddMemory(families);
  AddLiveSamples(families);
  AddQuality(families);
  return families;
}

void StoreMetrics::AddMemory(std::vector<prometheus::MetricFamily>& families) const {
  const auto arenas = scheduler_.ArenaBytes();
  GaugeFamily memory("halftone_variant_memory_bytes",
                     "Resident bytes of loaded variants: weights, packed weights, arenas of all "
                     "workers.");
  // Two versions of a model may have a variant of the same name: one series, added up.
  std::map<std::pair<std::string, std::string>, std::pair<VariantInfo, int64_t>> by_name;
  for (const VariantInfo& info : store_.LoadedVariants()) {
    const auto arena = arenas.find(info.id);
    const int64_t arena_bytes = arena == arenas.end() ? 0 : arena->second;
    const auto [it, is_new] =
        by_name.try_emplace({info.model, info.spec}, std::pair(info, arena_bytes));
    if (is_new) continue;
    it->second.first.memory.weight_bytes += info.memory.weight_bytes;
    it->second.first.memory.packed_bytes += info.memory.packed_bytes;
    it->second.second += arena_bytes;
  }
  for (const auto& [name, sums] : by_name) {
    const auto& [info, arena_bytes] = sums;
    memory.Add(static_cast<double>(info.memory.weight_bytes), LabelsOf(info, "weights"));
    memory.Add(static_cast<double>(info.memory.packed_bytes), LabelsOf(info, "packed"));
    memory.Add(static_cast<double>(arena_bytes), LabelsOf(info, "arena"));
  }
  families.push_back(std::move(memory).Take());
}

void StoreMetrics::AddLiveSamples(std::vector<prometheus::MetricFamily>& families) const {
  GaugeFamily bytes("halftone_live_sample_bytes",
                    "Requests kept for calibration, of models for which a client asked for it.");
  for (const auto& [model, state] : live_samples_.States()) {
    bytes.Add(static_cast<double>(state.bytes), {{"model", model}});
  }
  families.push_back(std::move(bytes).Take());
}

void StoreMetrics::AddQuality(std::vector<prometheus::MetricFamily>& families) {
  GaugeFamily sqnr("halftone_variant_output_sqnr_db",
                   "Signal to quantization noise of the outputs against fp32; 999: bit-equal.");
  GaugeFamily top1("halftone_variant_top1_agreement_ratio",
                   "Share of samples with the same top class as fp32.");
  GaugeFamily speedup("halftone_variant_speedup_ratio",
                      "Latency of fp32 over that of the variant, measured when it was built.");
  std::map<std::string, std::optional<VariantReport>> current;
  std::map<std::pair<std::string, std::string>, VariantInfo> newest;
  for (const VariantInfo& info : store_.ListVariants()) {
    const bool stored = info.state == VariantState::kStored || info.state == VariantState::kLoaded;
    if (!stored || info.spec == "fp32") continue;
    const auto [it, is_new] = newest.try_emplace({info.model, info.spec}, info);
    if (!is_new && info.version > it->second.version) it->second = info;
  }
  absl::MutexLock lock(&mu_);
  for (const auto& [name, info] : newest) {
    const auto known = reports_.find(info.id);
    std::optional<VariantReport>& report = current[info.id];
    if (known != reports_.end()) {
      report = known->second;
    } else if (absl::StatusOr<VariantReport> read = store_.GetReport(info.model, info.id);
               read.ok()) {
      report = *std::move(read);
    }
    if (!report) continue;
    sqnr.Add(report->sqnr_db, LabelsOf(info));
    speedup.Add(report->speedup, LabelsOf(info));
    if (report->top1_agreement >= 0) top1.Add(report->top1_agreement, LabelsOf(info));
  }
  reports_ = std::move(current);
  families.push_back(std::move(sqnr).Take());
  families.push_back(std::move(top1).Take());
  families.push_back(std::move(speedup).Take());
}

}  // namespace halftone
