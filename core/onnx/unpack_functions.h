// The operators of our own domain as functions of standard ones, inside of the file that uses them.
#ifndef HALFTONE_CORE_ONNX_UNPACK_FUNCTIONS_H_
#define HALFTONE_CORE_ONNX_UNPACK_FUNCTIONS_H_

#include <onnx/onnx_pb.h>

#include "core/graph/graph.h"

namespace halftone {

// Adds the functions that the graph, or one nested in it, calls: see core/ops/unpack.h.
// UnpackBinary has the same body with a table of [256, 8]:
//
//   UnpackTernary<shape>(packed) => (values) {
//     table = Constant<value: i8[256, 4]>()             # what each byte holds
//     index = Cast<to = INT32>(packed)
//     bytes = Gather<axis = 0>(table, index)            # [n / 4, 4]
//     flat = Reshape(bytes, [-1])
//     dims = Constant<value_ints: @shape>()
//     count = ReduceProd<keepdims = 1>(dims)            # [1]
//     kept = Slice(flat, [0], count)                    # without the rest of the last byte
//     values = Reshape(kept, dims)
//   }
void AddUnpackFunctions(const Graph& graph, onnx::ModelProto* model);

// Removes functions that the operator table has as operators: calls of them stay calls.
void DropUnpackFunctions(onnx::ModelProto& model);

}  // namespace halftone

#endif  // HALFTONE_CORE_ONNX_UNPACK_FUNCTIONS_H_
