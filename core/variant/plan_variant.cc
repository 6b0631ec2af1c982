// What a spec would do, without doing it.
#include <map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/base/status_macros.h"
#include "core/graph/constant_bytes.h"
#include "core/passes/quantize_graph.h"
#include "core/passes/single_precision.h"
#include "core/passes/weight_narrower.h"
#include "core/variant/build_variant.h"
#include "core/variant/variant_layers.h"

namespace halftone {

absl::StatusOr<PlanReport> PlanVariant(const Graph& graph, const QuantSpec& spec,
                                       const CpuFeatures& features, bool has_samples) {
  if (ComputesInDoubles(graph)) {
    HT_ASSIGN_OR_RETURN(const Graph singles, InSingles(graph));
    HT_ASSIGN_OR_RETURN(PlanReport report, PlanVariant(singles, spec, features, has_samples));
    report.risks.insert(report.risks.begin(), kDoublesNote);
    return report;
  }
  const QuantSpec resolved = ResolveSpec(spec, has_samples);
  PlanReport report{.spec = resolved.ToString()};
  report.fp32_weight_bytes = report.predicted_weight_bytes = ConstantBytes(graph);
  const absl::Status valid = resolved.Validate();
  if (absl::IsUnimplemented(valid)) {
    report.unsupported.emplace_back(valid.message());
    return report;
  }
  HT_RETURN_IF_ERROR(valid);
  std::vector<NodeChoice> choices = ChooseNodes(
      graph, resolved, {.reduce_weight_range = NeedsReducedWeights(resolved, features)});
  std::map<std::pair<const Value*, WeightFormat>, NodeChoice> once;  // shared weights count once
  std::vector<double> sqnr(choices.size(), 0);
  for (size_t i = 0; i < choices.size(); ++i) {
    NodeChoice& c = choices[i];
    if (c.format.type == WeightType::kF32) continue;
    const Value* w = c.node->input(c.weight_input);
    HT_ASSIGN_OR_RETURN(const NarrowWeights narrow, NarrowTheWeights(w->constant(), c.format));
    HT_ASSIGN_OR_RETURN(sqnr[i], WeightSqnr(w->constant(), narrow, c.format));
    c.weight_bytes = narrow.bytes();
    if (once.emplace(std::make_pair(w, c.format), c).second) {
      report.predicted_weight_bytes += c.weight_bytes - c.fp32_weight_bytes;
    }
  }
  report.layers = LayersOf(choices, resolved, features);
  for (size_t i = 0; i < choices.size(); ++i) report.layers[i].sqnr_db = sqnr[i];
  report.coverage = CoverageOf(choices);
  report.risks = CpuNotes(resolved, features);
  if (resolved.calibration_set == kSyntheticSet) {
    report.risks.push_back("activation ranges would come from GENERATED samples");
  } else if (!has_samples && IsInteger(resolved.weights)) {
    report.risks.push_back(resolved.activations == ActivationMode::kStatic
                               ? "no calibration samples: static int8 cannot be built without them"
                               : "no calibration samples: the loss on real data stays unknown");
  }
  if (resolved.policy == Policy::kSpeed) {
    report.risks.push_back("policy speed: the build measures which layers stay f32");
  }
  if (once.empty() && !IsComputeHintAlone(resolved)) {
    report.risks.push_back("nothing would be quantized: the build will fail");
  }
  return report;
}

}  // namespace halftone
