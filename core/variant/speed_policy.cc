#include "core/variant/speed_policy.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"

namespace halftone {
namespace {

constexpr int kMaxTrials = 5;
constexpr double kNoise = 1.03;  // what two equal layers may differ by

// Those of `layers` that `trial` shows to take longer than in fp32, and those in `floats`.
std::vector<std::string> SlowOrFloat(const std::vector<std::string>& layers,
                                     const std::vector<std::string>& floats,
                                     const SpeedTrial& trial) {
  std::vector<std::string> out;
  for (const std::string& layer : layers) {
    const auto time = trial.layers.find(layer);
    const bool slow = time != trial.layers.end() && time->second.fp32 > 0 &&
                      time->second.variant > time->second.fp32 * kNoise;
    if (slow || std::find(floats.begin(), floats.end(), layer) != floats.end()) {
      out.push_back(layer);
    }
  }
  return out;
}

}  // namespace

absl::StatusOr<FloatLayers> ChooseFloatLayers(const std::vector<std::string>& layers,
                                              const TryFloat& attempt) {
  FloatLayers best;
  HT_ASSIGN_OR_RETURN(SpeedTrial trial, attempt({}));
  best.speedup = trial.speedup;
  for (int trials = 1; trials < kMaxTrials; ++trials) {
    std::vector<std::string> floats = SlowOrFloat(layers, best.layers, trial);
    if (floats.size() == best.layers.size() || floats.size() == layers.size()) break;
    HT_ASSIGN_OR_RETURN(SpeedTrial next, attempt(floats));
    if (next.speedup <= best.speedup) break;
    best = {std::move(floats), next.speedup};
    trial = std::move(next);
  }
  if (best.speedup < 1) return FloatLayers{layers, 1};
  return best;
}

}  // namespace halftone
