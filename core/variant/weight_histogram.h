// A layer's weights before and after quantization, as counts: for the report's pictures.
#ifndef HALFTONE_CORE_VARIANT_WEIGHT_HISTOGRAM_H_
#define HALFTONE_CORE_VARIANT_WEIGHT_HISTOGRAM_H_

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/graph/graph.h"
#include "core/passes/quantize_graph.h"
#include "core/variant/report.h"

namespace halftone {

inline constexpr int kHistogramBins = 64;

// Counts of both in kHistogramBins bins over the range of their finite values, which alone count;
// the largest value belongs to the last bin. Empty when there are none.
WeightHistogram CountWeights(absl::Span<const float> fp32, absl::Span<const float> variant);

// Of the layer that `choice` (from QuantizeGraph on `variant`) names: what the graph `fp32` has in
// that place against what `variant` computes with. Empty where `fp32` has no such constant.
absl::StatusOr<WeightHistogram> HistogramOf(const Graph& fp32, const Graph& variant,
                                            const NodeChoice& choice);

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_WEIGHT_HISTOGRAM_H_
