// Arguments of a node as its inference reads them, attribute or input by opset, for whoever lowers
// it: the two must never disagree about the shape of the result.
#ifndef HALFTONE_CORE_OPS_KNOWN_ARGUMENTS_H_
#define HALFTONE_CORE_OPS_KNOWN_ARGUMENTS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "core/ops/op_def.h"
#include "core/tensor/shape.h"

namespace halftone {

// Which dimensions of input 0, of this shape, a Reduce… operator takes away, one flag each; nullopt
// when only the run knows the axes. Errors are those of inference.
absl::StatusOr<std::optional<std::vector<bool>>> ReducedDimensions(const InferContext& c,
                                                                   const Shape& shape);

// `count` elements along `axis` from `start`, `step` apart. Within the axis unless count is 0.
struct SlicedAxis {
  int64_t axis = 0;
  int64_t start = 0, step = 1, count = 0;
};
// What Slice takes of input 0, of this shape; axes that are not named stay whole. nullopt and
// errors as above.
absl::StatusOr<std::optional<std::vector<SlicedAxis>>> SlicedAxes(const InferContext& c,
                                                                  const Shape& shape);

}  // namespace halftone

#endif  // HALFTONE_CORE_OPS_KNOWN_ARGUMENTS_H_
