// Brings graphs of opsets before 7 to opset 7.
#ifndef HALFTONE_CORE_ONNX_LEGACY_H_
#define HALFTONE_CORE_ONNX_LEGACY_H_

#include "absl/status/status.h"
#include "core/graph/graph.h"
#include "core/ops/legacy.h"

namespace halftone {

// Rewrites operands that say along which axis they lie as NumPy broadcasts, so that nothing behind
// the importer has to know of them, and sets the opset to 7. Wants inferred shapes and infers them
// again. UNIMPLEMENTED for nested graphs, INVALID_ARGUMENT where the rank of an operand is unknown.
absl::Status ModerniseBroadcasts(Graph& graph);

}  // namespace halftone

#endif  // HALFTONE_CORE_ONNX_LEGACY_H_
