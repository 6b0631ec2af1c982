// Whether the rows of a batch can be computed one after the other: then a batch that is too large
// for the caches runs as several small ones.
#ifndef HALFTONE_CORE_EXEC_BATCH_ROWS_H_
#define HALFTONE_CORE_EXEC_BATCH_ROWS_H_

#include "core/graph/graph.h"

namespace halftone {

// `whole` and `part` are one graph with inferred shapes and other sizes of axis 0 of every input.
// True when row i of every output depends on row i of the inputs alone, and in both graphs in the
// same way: so the outputs of `whole` are those of its parts, one below the other. Knows the common
// operators; what it does not know, it denies. Pure.
bool RowsAreIndependent(const Graph& whole, const Graph& part);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_BATCH_ROWS_H_
