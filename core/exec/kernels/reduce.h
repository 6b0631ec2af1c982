// Sums, products and extremes over any axes.
#ifndef HALFTONE_CORE_EXEC_KERNELS_REDUCE_H_
#define HALFTONE_CORE_EXEC_KERNELS_REDUCE_H_

#include <vector>

#include "absl/strings/string_view.h"
#include "core/tensor/data_type.h"
#include "core/tensor/shape.h"

namespace halftone {

// A contiguous tensor in physical order, and which of its dimensions disappear.
struct Reduction {
  Shape shape;
  std::vector<bool> reduced;
};
// Drops dimensions of size 1 and merges neighbours of one kind.
Reduction Simplify(const Reduction& reduction);

// Sums of floats accumulate in double. `dst` has the kept elements in order.
using ReduceFn = void (*)(const Reduction& r, const void* src, void* dst);
// ReduceSum, ReduceMean, ReduceMin, … of f32, i32 or i64; null: no loop. Requires of what it gets:
// `r` went through Simplify and has elements.
ReduceFn FindReduce(absl::string_view op, DataType type);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_REDUCE_H_
