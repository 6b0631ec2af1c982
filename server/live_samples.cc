#include "server/live_samples.h"

#include "absl/strings/str_cat.h"

namespace halftone {

absl::Status LiveSamples::Start(const std::string& model, int version, const Limits& limits) {
  if (limits.max_samples < 1 || limits.max_bytes < 1) {
    return absl::InvalidArgumentError(absl::StrCat("live samples of '", model, "': got ",
                                                   limits.max_samples, " samples of ",
                                                   limits.max_bytes, " bytes, want at least 1"));
  }
  auto sampled = std::make_shared<Sampled>(Sampled{.version = version, .limits = limits});
  sampled->reservoir = std::make_unique<Reservoir>(ReservoirOptions{
      .max_samples = limits.max_samples, .max_bytes = limits.max_bytes, .seed = SeedFor(model)});
  absl::MutexLock lock(&mu_);
  int64_t reserved = 0;
  for (const auto& [name, other] : models_) {
    if (name != model) reserved += other->limits.max_bytes;
  }
  if (limits.max_bytes > max_bytes_ - reserved) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "live samples of '", model, "': got ", limits.max_bytes, " bytes, want at most ",
        max_bytes_ - reserved, " (setting max_live_sample_bytes, less what other models hold)"));
  }
  models_[model] = std::move(sampled);
  any_ = true;
  return absl::OkStatus();
}

std::shared_ptr<const LiveSamples::Sampled> LiveSamples::Find(const std::string& model) const {
  absl::ReaderMutexLock lock(&mu_);
  const auto it = models_.find(model);
  return it == models_.end() ? nullptr : it->second;
}

void LiveSamples::Wipe(const std::string& model) {
  if (const auto sampled = Find(model)) sampled->reservoir->Wipe();
}

void LiveSamples::Stop(const std::string& model) {
  std::shared_ptr<const Sampled> gone;  // destroyed outside the lock
  absl::MutexLock lock(&mu_);
  if (const auto it = models_.find(model); it != models_.end()) {
    gone = std::move(it->second);
    models_.erase(it);
  }
  any_ = !models_.empty();
}

LiveSamples::State LiveSamples::StateOf(const Sampled& sampled) {
  return {.on = true,
          .version = sampled.version,
          .max_samples = sampled.limits.max_samples,
          .seen = sampled.reservoir->seen(),
          .held = sampled.reservoir->held(),
          .bytes = sampled.reservoir->bytes()};
}

LiveSamples::State LiveSamples::StateOf(const std::string& model) const {
  const auto sampled = Find(model);
  return sampled == nullptr ? State{} : StateOf(*sampled);
}

std::map<std::string, LiveSamples::State> LiveSamples::States() const {
  absl::ReaderMutexLock lock(&mu_);
  std::map<std::string, State> out;
  for (const auto& [model, sampled] : models_) out[model] = StateOf(*sampled);
  return out;
}

std::vector<std::vector<Tensor>> LiveSamples::Snapshot(const std::string& model) const {
  const auto sampled = Find(model);
  return sampled == nullptr ? std::vector<std::vector<Tensor>>{} : sampled->reservoir->Snapshot();
}

void LiveSamples::Offer(const std::string& model, int version, absl::Span<const Tensor> inputs) {
  if (!any_) return;
  const auto sampled = Find(model);
  if (sampled != nullptr && sampled->version == version) sampled->reservoir->Offer(inputs);
}

}  // namespace halftone
