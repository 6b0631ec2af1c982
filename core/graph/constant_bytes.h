// How much the constants of a graph take.
#ifndef HALFTONE_CORE_GRAPH_CONSTANT_BYTES_H_
#define HALFTONE_CORE_GRAPH_CONSTANT_BYTES_H_

#include <cstdint>

#include "core/graph/graph.h"

namespace halftone {

// Bytes of all constants, those of nested graphs included. `of_width` > 0: of floats of so many
// bits alone.
int64_t ConstantBytes(const Graph& graph, int of_width = 0);

}  // namespace halftone

#endif  // HALFTONE_CORE_GRAPH_CONSTANT_BYTES_H_
