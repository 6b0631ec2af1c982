#include "core/store/eviction_policy.h"

#include <algorithm>

namespace halftone {
namespace {

// The index with the smallest last_used among those that match.
template <typename T, typename Predicate>
std::optional<size_t> Oldest(absl::Span<const T> all, Predicate matches) {
  std::optional<size_t> best;
  for (size_t i = 0; i < all.size(); ++i) {
    if (matches(all[i]) && (!best || all[i].last_used < all[*best].last_used)) best = i;
  }
  return best;
}

}  // namespace

std::optional<ResidentAction> NextAction(absl::Span<const ResidentSnapshot> all,
                                         int64_t budget_bytes) {
  int64_t loaded = 0;
  int64_t in_use = 0;
  for (const ResidentSnapshot& v : all) {
    if (v.loaded) loaded += v.bytes;
    if (v.loaded && v.in_use) in_use += v.bytes;
  }
  const auto victim = Oldest(all, [](const ResidentSnapshot& v) { return v.loaded && !v.in_use; });
  if (loaded > budget_bytes && victim) {
    return ResidentAction{.kind = ResidentActionKind::kEvict, .index = *victim};
  }
  const auto wanted = Oldest(all, [](const ResidentSnapshot& v) { return v.wanted && !v.loaded; });
  if (!wanted) return std::nullopt;
  const int64_t needed = all[*wanted].bytes;
  if (needed > budget_bytes - in_use) {
    return ResidentAction{.kind = ResidentActionKind::kRefuse,
                          .index = *wanted,
                          .bytes_needed = needed,
                          .bytes_available = std::max<int64_t>(0, budget_bytes - in_use)};
  }
  if (needed > budget_bytes - loaded && victim) {
    return ResidentAction{.kind = ResidentActionKind::kEvict, .index = *victim};
  }
  return ResidentAction{.kind = ResidentActionKind::kLoad, .index = *wanted};
}

std::optional<size_t> NextDrop(absl::Span<const StoredSnapshot> all) {
  return Oldest(all, [](const StoredSnapshot& v) { return v.droppable; });
}

}  // namespace halftone
