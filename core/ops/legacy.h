// Operators as opsets 1 to 6 wrote them: a smaller operand says along which axis it lies.
#ifndef HALFTONE_CORE_OPS_LEGACY_H_
#define HALFTONE_CORE_OPS_LEGACY_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "core/graph/graph.h"

namespace halftone {

// From this opset on operands broadcast as in NumPy.
inline constexpr int kOldestModernOpset = 7;

// True for the binary operators that had attributes `broadcast` and `axis`, and for PRelu, whose
// slopes lay along the channels.
bool NamesItsAxis(const Node& node);

// How many axes of size 1 the shape of input 1 lacks at its end to broadcast as in NumPy to input
// 0. 0 unless NamesItsAxis.
absl::StatusOr<int64_t> MissingAxes(const Node& node, int64_t rank_0, int64_t rank_1);

}  // namespace halftone

#endif  // HALFTONE_CORE_OPS_LEGACY_H_
