// What to load and what to drop: pure decisions over a snapshot. No clock, lock or file here.
#ifndef HALFTONE_CORE_STORE_EVICTION_POLICY_H_
#define HALFTONE_CORE_STORE_EVICTION_POLICY_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/types/span.h"

namespace halftone {

struct ResidentSnapshot {
  bool loaded = false;     // in memory now
  bool wanted = false;     // somebody asked for it and it is not loaded
  bool in_use = false;     // somebody holds it: cannot leave
  int64_t bytes = 0;       // resident; an estimate until it was loaded once
  uint64_t last_used = 0;  // larger: later. For a wanted one: when it was first wanted
};

enum class ResidentActionKind : uint8_t {
  kEvict,
  kLoad,
  kRefuse,  // the budget cannot hold it: too large, or what is loaded is all in use
};

struct ResidentAction {
  ResidentActionKind kind = ResidentActionKind::kLoad;
  size_t index = 0;             // into the snapshot
  int64_t bytes_needed = 0;     // kRefuse
  int64_t bytes_available = 0;  // kRefuse: the budget less what is in use
};

// The next step towards: everything wanted is loaded, first wanted first, and loaded bytes stay
// within the budget. Idempotent. Frees memory before it spends memory: least recently used first,
// never what is in use. nullopt: nothing to do.
std::optional<ResidentAction> NextAction(absl::Span<const ResidentSnapshot> all,
                                         int64_t budget_bytes);

struct StoredSnapshot {
  bool droppable = false;  // can be built again, and nobody uses or awaits it
  uint64_t last_used = 0;
};

// The stored variant to drop when the disk is short: the least recently used droppable one.
std::optional<size_t> NextDrop(absl::Span<const StoredSnapshot> all);

}  // namespace halftone

#endif  // HALFTONE_CORE_STORE_EVICTION_POLICY_H_
