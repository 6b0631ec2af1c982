// What a quantizer did, in the words of reports: layers, coverage, bytes.
#ifndef HALFTONE_CORE_VARIANT_VARIANT_LAYERS_H_
#define HALFTONE_CORE_VARIANT_VARIANT_LAYERS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/exec/cpu_features.h"
#include "core/graph/graph.h"
#include "core/passes/quantize_graph.h"
#include "core/quant/quant_spec.h"
#include "core/variant/report.h"

namespace halftone {

// One entry per choice, without numbers of quality.
std::vector<LayerReport> LayersOf(const std::vector<NodeChoice>& choices, const QuantSpec& spec,
                                  const CpuFeatures& features);

// Per operator, sorted by name.
std::vector<OperatorCoverage> CoverageOf(const std::vector<NodeChoice>& choices);

// What the spec costs on this CPU, in words ("no VNNI: …"); the same in dry runs and reports.
std::vector<std::string> CpuNotes(const QuantSpec& spec, const CpuFeatures& features);
// True when integer arithmetic on this CPU needs weights in [-63, 63].
bool NeedsReducedWeights(const QuantSpec& spec, const CpuFeatures& features);

// A model of doubles (see ComputesInDoubles) as what is quantized and served, and what reports say.
absl::StatusOr<Graph> InSingles(const Graph& doubles);
inline constexpr char kDoublesNote[] =
    "fp64 model computed in fp32: quality, sizes and speed are compared with its fp32 form";

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_VARIANT_LAYERS_H_
