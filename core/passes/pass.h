// Graph → graph rewrites. A pass is a name and a function; a pipeline is a list of passes.
#ifndef HALFTONE_CORE_PASSES_PASS_H_
#define HALFTONE_CORE_PASSES_PASS_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/graph/graph.h"

namespace halftone {

struct Pass {
  absl::string_view name;
  absl::StatusOr<bool> (*run)(Graph&);  // true: the graph changed
};

// Runs the passes in order, the whole list again until nothing changes (at most 10 rounds), and
// verifies the graph after each one that changed it. An error names the pass.
absl::Status RunPasses(Graph& graph, absl::Span<const Pass> passes);

// What every model goes through after import: constant folding, identity and dropout removal,
// BatchNorm folding, dead code removal, pattern canonicalisation (exporters' spelled-out GELU,
// LayerNorm, HardSwish, SiLU → one node). The result is portable: the same on every CPU, and valid
// ONNX of the graph's opset (raised where a canonical operator needs it).
absl::Span<const Pass> PortablePasses();

}  // namespace halftone

#endif  // HALFTONE_CORE_PASSES_PASS_H_
