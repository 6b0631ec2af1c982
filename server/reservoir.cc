#include "server/reservoir.h"

#include <utility>

namespace halftone {

uint32_t SeedFor(absl::string_view model) {
  uint32_t hash = 2166136261u;  // FNV-1a
  for (const char c : model) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
  return hash;
}

Reservoir::Reservoir(ReservoirOptions options) : options_(options), rng_(options.seed) {}

bool Reservoir::Offer(absl::Span<const Tensor> inputs) {
  int64_t size = 0;
  for (const Tensor& t : inputs) size += t.num_bytes();
  size_t place = 0;
  int64_t number = 0, wipes = 0;
  {
    absl::MutexLock lock(&mu_);
    number = seen_++;
    wipes = wipes_;
    full_ |= samples_.size() >= static_cast<size_t>(options_.max_samples);
    // Without a first sample there is nothing that a smaller request could replace.
    if (!full_ && bytes_ + size > options_.max_bytes) full_ = !samples_.empty();
    if (full_) {
      // A modulo of 64 random bits: its bias is far below anything that could be measured.
      const uint64_t draw = rng_() % static_cast<uint64_t>(seen_);
      if (draw >= samples_.size()) return false;
      place = static_cast<size_t>(draw);
      if (bytes_ - samples_[place].bytes + size > options_.max_bytes) return false;
    } else {
      if (size > options_.max_bytes) return false;
      place = samples_.size();
      samples_.emplace_back();
    }
    // The bytes are reserved now, so that several copies under way keep to the limit together.
    bytes_ += size - samples_[place].bytes;
    samples_[place] = {.bytes = size, .number = number};
  }
  std::vector<Tensor> copies;
  for (const Tensor& t : inputs) {
    absl::StatusOr<Tensor> copy = t.Clone();
    if (!copy.ok()) return false;  // memory is short: the place stays empty
    copies.push_back(*std::move(copy));
  }
  absl::MutexLock lock(&mu_);
  if (wipes != wipes_ || samples_[place].number != number) return false;
  samples_[place].inputs = std::move(copies);
  return true;
}

std::vector<std::vector<Tensor>> Reservoir::Snapshot() const {
  absl::MutexLock lock(&mu_);
  std::vector<std::vector<Tensor>> out;
  for (const Sample& s : samples_) {
    if (!s.inputs.empty()) out.push_back(s.inputs);  // others are still being copied
  }
  return out;
}

void Reservoir::Wipe() {
  std::vector<Sample> forgotten;  // destroyed outside the lock
  absl::MutexLock lock(&mu_);
  forgotten.swap(samples_);
  rng_.seed(options_.seed);
  bytes_ = seen_ = 0;
  full_ = false;
  ++wipes_;
}

int64_t Reservoir::seen() const {
  absl::MutexLock lock(&mu_);
  return seen_;
}

int64_t Reservoir::bytes() const {
  absl::MutexLock lock(&mu_);
  return bytes_;
}

int Reservoir::held() const {
  absl::MutexLock lock(&mu_);
  return static_cast<int>(samples_.size());
}

}  // namespace halftone
