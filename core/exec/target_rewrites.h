// Rewrites that depend on how this executor works, applied once when a plan is made. They keep the
// graph's meaning exactly; the stored variant is not touched.
#ifndef HALFTONE_CORE_EXEC_TARGET_REWRITES_H_
#define HALFTONE_CORE_EXEC_TARGET_REWRITES_H_

#include "absl/status/status.h"
#include "core/graph/graph.h"

namespace halftone {

// - i8 activations become u8 with a zero point 128 higher: every integer kernel prefers u8 · i8.
//   The right side of a product of two activations stays i8.
// - DQ → data movement → Q with equal parameters becomes data movement on integers.
// - Transpose and Gather move in front of the Cast or DQ that widens stored weights, so that
//   the weights are still recognised, or gathered, in their narrow form.
absl::Status RewriteForTarget(Graph& graph);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_TARGET_REWRITES_H_
