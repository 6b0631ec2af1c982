#include "core/passes/pass.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/ops/evaluate.h"
#include "core/passes/portable.h"

namespace halftone {
namespace {

constexpr int kMaxRounds = 10;

constexpr std::array kPortable = {
    Pass{"expand_composites", ExpandComposites},
    Pass{"merge_transposes", MergeTransposes},
    Pass{"remove_identity", RemoveIdentity},
    Pass{"fold_constants", FoldConstants},
    Pass{"deduplicate", Deduplicate},
    Pass{"canonicalize_integer_products", CanonicalizeIntegerProducts},
    Pass{"center_weights", CenterWeights},
    Pass{"pack_few_bits", PackFewBits},
    Pass{"canonicalize_layer_norm", CanonicalizeLayerNorm},
    Pass{"canonicalize_activations", CanonicalizeActivations},
    Pass{"canonicalize_pooling", CanonicalizePooling},
    Pass{"fold_batch_norm", FoldBatchNorm},
    Pass{"fold_scale", FoldScale},
    Pass{"fold_pad", FoldPad},
    Pass{"remove_dead", RemoveDead},
};

absl::StatusOr<bool> RunOnce(Graph& graph, const Pass& pass) {
  absl::StatusOr<bool> changed = pass.run(graph);
  if (!changed.ok()) return Annotate(changed.status(), absl::StrCat("pass ", pass.name));
  if (!*changed) return false;
  // New nodes are appended; whoever reads the graph next relies on the order and on types.
  absl::Status status = graph.SortTopologically();
  if (status.ok()) status = InferShapes(graph);
  if (status.ok()) status = graph.Verify();
  if (!status.ok()) {
    return absl::InternalError(
        absl::StrCat("pass ", pass.name, " broke the graph: ", status.message()));
  }
  return true;
}

}  // namespace

absl::Status RunPasses(Graph& graph, absl::Span<const Pass> passes) {
  for (int round = 0; round < kMaxRounds; ++round) {
    bool changed = false;
    for (const Pass& pass : passes) {
      HT_ASSIGN_OR_RETURN(const bool pass_changed, RunOnce(graph, pass));
      changed |= pass_changed;
    }
    if (!changed) break;
  }
  return absl::OkStatus();
}

absl::Span<const Pass> PortablePasses() { return kPortable; }

}  // namespace halftone
