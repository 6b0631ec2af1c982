// Which layers must stay wide, so that a variant answers as its model does: found by measuring.
#ifndef HALFTONE_CORE_VARIANT_MIXED_PRECISION_H_
#define HALFTONE_CORE_VARIANT_MIXED_PRECISION_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/variant/compare.h"

namespace halftone {

// What a variant must keep of its model on the samples. Each is met where nothing is asked (0).
struct QualityTarget {
  double min_sqnr_db = 0;
  double min_agreement = 0;  // top-1; only where the first output is a classifier's

  bool Met(const Comparison& c) const;
};

struct WideLayers {
  std::vector<std::string> layers;  // the most sensitive first
  bool met = false;                 // the target is met with them
  // SQNR of the outputs when this layer alone is narrow; empty when no layer had to be wide.
  std::vector<std::pair<std::string, double>> sensitivity;
};

// Compares a variant in which the given layers stay wide with fp32.
using TryWide = std::function<absl::StatusOr<Comparison>(const std::vector<std::string>& wide)>;

// Greedy selection by sensitivity, the plain form of what HAWQ (Dong et al. 2019, arXiv 1905.03696)
// does with Hessians: each layer is made narrow alone and ranked by the noise that it brings to the
// outputs; then as few of the noisiest stay wide as meet the target, found by bisection, since
// noise only falls with each. One layer stays narrow in any case. Deterministic if `attempt` is.
absl::StatusOr<WideLayers> ChooseWideLayers(const std::vector<std::string>& layers,
                                            const QualityTarget& target, const TryWide& attempt,
                                            const StepFn& step);

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_MIXED_PRECISION_H_
