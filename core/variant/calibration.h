// Runs samples through an fp32 graph and observes the ranges of chosen values.
#ifndef HALFTONE_CORE_VARIANT_CALIBRATION_H_
#define HALFTONE_CORE_VARIANT_CALIBRATION_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/graph/graph.h"
#include "core/passes/quantize_activations.h"
#include "core/tensor/tensor.h"
#include "core/variant/graph_runner.h"

namespace halftone {

// Min-max ranges of the named values over all samples; a value that never was finite has none.
// Holds one sample's values at a time. `step(done, total)` is called after each sample and stops
// the calibration with the error that it returns.
absl::StatusOr<RangeMap> Calibrate(const Graph& graph, const std::vector<std::string>& names,
                                   const std::vector<std::vector<Tensor>>& samples,
                                   const GraphRunner& runner,
                                   const std::function<absl::Status(int done, int total)>& step);

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_CALIBRATION_H_
