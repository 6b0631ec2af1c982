#include "core/exec/weight_store.h"

#include "core/base/status_macros.h"
#include "core/exec/kernels/depthwise/depthwise.h"

namespace halftone {

int64_t PackedWeights::bytes() const {
  return (buffer == nullptr ? 0 : static_cast<int64_t>(buffer->size())) +
         (rows == nullptr ? 0 : rows->bytes()) + (blocked == nullptr ? 0 : blocked->bytes()) +
         (depthwise == nullptr ? 0 : depthwise->bytes());
}

bool PackedWeights::unshared() const {
  return buffer.use_count() <= 1 && rows.use_count() <= 1 && blocked.use_count() <= 1 &&
         depthwise.use_count() <= 1;
}

absl::StatusOr<PackedWeights> WeightStore::GetOrMake(
    const std::string& key, const std::function<absl::StatusOr<PackedWeights>()>& make) {
  {
    absl::MutexLock lock(&mu_);
    if (const auto it = entries_.find(key); it != entries_.end()) {
      it->second.keep |= keep_;
      return it->second.weights;
    }
  }
  // Specialisations are built one at a time (see plan.cc), so nobody else makes this entry now.
  HT_ASSIGN_OR_RETURN(PackedWeights made, make());
  absl::MutexLock lock(&mu_);
  const auto [it, inserted] = entries_.try_emplace(key, Entry{std::move(made), keep_});
  if (inserted) total_bytes_ += it->second.weights.bytes();
  return it->second.weights;
}

int64_t WeightStore::total_bytes() const {
  absl::MutexLock lock(&mu_);
  Sweep();
  return total_bytes_;
}

void WeightStore::KeepUnused(bool keep) {
  absl::MutexLock lock(&mu_);
  keep_ = keep;
}

void WeightStore::Sweep() const {
  absl::erase_if(entries_, [this](const auto& entry) {
    if (entry.second.keep || !entry.second.weights.unshared()) return false;
    total_bytes_ -= entry.second.weights.bytes();
    return true;
  });
}

}  // namespace halftone
