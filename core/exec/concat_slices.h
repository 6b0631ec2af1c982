// Which values become parts of a Concat's result, so that their producers write there at once.
#ifndef HALFTONE_CORE_EXEC_CONCAT_SLICES_H_
#define HALFTONE_CORE_EXEC_CONCAT_SLICES_H_

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "core/graph/graph.h"

namespace halftone {

// Positions [start, start + size) along `axis` of `whole`, the result of a Concat.
struct ConcatSlice {
  const Value* whole = nullptr;
  int64_t axis = 0;
  int64_t start = 0;
};

// A value is here when some Concat reads it once and nobody would have to copy it out again: it is
// no output of the graph, and its other readers take their operands by strides. Of several Concats
// the first has it. `whole` may be a key itself (Concat of Concat); there are no cycles. Pure.
absl::flat_hash_map<const Value*, ConcatSlice> FindConcatSlices(const Graph& graph);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_CONCAT_SLICES_H_
