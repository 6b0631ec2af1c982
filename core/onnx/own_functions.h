// The operators of our own domain as functions of standard ones, inside of the file that uses them.
#ifndef HALFTONE_CORE_ONNX_OWN_FUNCTIONS_H_
#define HALFTONE_CORE_ONNX_OWN_FUNCTIONS_H_

#include <onnx/onnx_pb.h>

#include "core/graph/graph.h"

namespace halftone {

// Adds the functions that the graph, or one nested in it, calls: see core/ops/unpack.h and
// core/ops/row_quant.h.
//
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
//   DynamicQuantizeRows(x) => (codes, scale, zero_point) {
//     low, high = Min(ReduceMin<axes = [-1]>(x), 0), Max(ReduceMax<axes = [-1]>(x), 0)
//     scale = Clip((high - low) / 255, smallest, largest)
//     offset = Clip(-Round(low / scale), 0, 255)
//     zero_point = Cast<to = UINT8>(offset)
//     codes = Cast<to = UINT8>(Clip(Round(x / scale) + offset, 0, 255))
//   }
//   DequantizeRows(codes, scale, zero_point) => (x) {
//     x = (Cast<to = FLOAT>(codes) - Cast<to = FLOAT>(zero_point)) * scale
//   }
void AddOwnFunctions(const Graph& graph, onnx::ModelProto* model);

// Removes functions that the operator table has as operators: calls of them stay calls.
void DropOwnFunctions(onnx::ModelProto& model);

}  // namespace halftone

#endif  // HALFTONE_CORE_ONNX_OWN_FUNCTIONS_H_
