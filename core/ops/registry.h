// The operator table.
#ifndef HALFTONE_CORE_OPS_REGISTRY_H_
#define HALFTONE_CORE_OPS_REGISTRY_H_

#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/ops/op_def.h"

namespace halftone {

// The row for an operator at an opset; null when there is none. Thread-safe.
const OpDef* FindOp(absl::string_view domain, absl::string_view name, int opset);
// The row for a node of `graph`.
const OpDef* FindOp(const Graph& graph, const Node& node);
// Every row, sorted by domain, name, opset.
absl::Span<const OpDef> AllOps();

}  // namespace halftone

#endif  // HALFTONE_CORE_OPS_REGISTRY_H_
