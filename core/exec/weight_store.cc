#include "core/exec/weight_store.h"

#include "core/base/status_macros.h"
#include "core/exec/kernels/depthwise/depthwise.h"

namespace halftone {

int64_t PackedWeights::bytes() const {
  return (buffer == nullptr ? 0 : static_cast<int64_t>(buffer->size())) +
         (rows == nullptr ? 0 : rows->bytes()) + (blocked == nullptr ? 0 : blocked->bytes()) +
         (depthwise == nullptr ? 0 : depthwise->bytes());
}

absl::StatusOr<PackedWeights> WeightStore::GetOrMake(
    const std::string& key, const std::function<absl::StatusOr<PackedWeights>()>& make) {
  {
    absl::MutexLock lock(&mu_);
    if (const auto it = entries_.find(key); it != entries_.end()) return it->second;
  }
  // Specialisations are built one at a time (see plan.cc), so nobody else makes this entry now.
  HT_ASSIGN_OR_RETURN(PackedWeights made, make());
  absl::MutexLock lock(&mu_);
  const auto [it, inserted] = entries_.try_emplace(key, std::move(made));
  if (inserted) total_bytes_ += it->second.bytes();
  return it->second;
}

int64_t WeightStore::total_bytes() const {
  absl::MutexLock lock(&mu_);
  return total_bytes_;
}

}  // namespace halftone
