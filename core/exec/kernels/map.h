// Elementwise functions of one to three tensors that broadcast, in every element type that has a
// vectorised loop.
#ifndef HALFTONE_CORE_EXEC_KERNELS_MAP_H_
#define HALFTONE_CORE_EXEC_KERNELS_MAP_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/data_type.h"
#include "core/tensor/shape.h"

namespace halftone {

// A broadcast of inputs over one output shape, in physical order; strides count elements and are 0
// where an input repeats. Along the last dimension they are 0 or 1.
struct Broadcast {
  Shape shape;
  std::vector<Shape> strides;  // one per input
};
// Merges dimensions that are contiguous (or repeated) in every input, so that loops are long.
Broadcast Simplify(const Broadcast& broadcast);

// One contiguous output row of n elements; in[i] advances by steps[i], 0 or 1, elements.
using MapRow = void (*)(const void* const* in, const int64_t* steps, void* out, int64_t n);

struct MapFunction {
  absl::string_view op;  // ONNX
  DataType in = DataType::kF32;
  DataType out = DataType::kF32;
  int arity = 1;
  MapRow row = nullptr;
  bool folds = false;  // f(f(a, b), c) is the operator of three inputs
};
// Where's `in` is the type of what it selects; its first input is bool. Null: no loop.
const MapFunction* FindMap(absl::string_view op, DataType in, DataType out);

// out = f(in...); out is contiguous and may be an input that is not broadcast and as wide.
void RunMap(const MapFunction& f, const Broadcast& broadcast, absl::Span<const void* const> in,
            void* out);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_MAP_H_
