// Which layers stay float because they are not faster in narrow form: found by measuring.
#ifndef HALFTONE_CORE_VARIANT_SPEED_POLICY_H_
#define HALFTONE_CORE_VARIANT_SPEED_POLICY_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/variant/timing.h"

namespace halftone {

// How fast a variant is in which some layers stay float.
struct SpeedTrial {
  double speedup = 0;                          // fp32's latency / the variant's
  std::map<std::string, LayerSeconds> layers;  // by name
};
using TryFloat = std::function<absl::StatusOr<SpeedTrial>(const std::vector<std::string>& floats)>;

struct FloatLayers {
  std::vector<std::string> layers;  // in the order of the argument
  double speedup = 1;               // with them; 1 when all stay float
};

// Layers that take longer than in fp32 become float, as long as that makes the whole faster (a
// float layer between narrow ones costs conversions, so its neighbours may follow in the next
// round). All of them when even the best choice is slower than fp32: never slower. Calls `attempt`
// at most 5 times, never with all layers.
absl::StatusOr<FloatLayers> ChooseFloatLayers(const std::vector<std::string>& layers,
                                              const TryFloat& attempt);

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_SPEED_POLICY_H_
