// Weights in the layouts that kernels want: packed once per plan, whatever the input shapes.
#ifndef HALFTONE_CORE_EXEC_LOWER_PACKING_H_
#define HALFTONE_CORE_EXEC_LOWER_PACKING_H_

#include <dnnl.hpp>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/exec/fusion.h"
#include "core/exec/lower/codes.h"
#include "core/exec/lower/primitive.h"
#include "core/exec/lowering.h"

namespace halftone {

// How an element of the form is stored; f32 for kCodes, which have no single type.
DataType StoredType(WeightForm form);

struct WeightBuffer {
  BufferId buffer = -1;
  dnnl::memory::desc desc;
  std::optional<WidenedWeights> widened;  // set when they stay narrow
};

// The weights in the layout `wanted` (logical dimensions as in `plain`, which describes the bytes
// of the constant or a part of them, or of its values in f32). Packs once per plan. `narrow`:
// `wanted` is f32, and they keep their stored width in its order. `variant` tells apart packings
// that differ in more than the layout.
absl::StatusOr<WeightBuffer> PackWeights(ProgramBuilder& builder, const WeightMatch& weights,
                                         bool narrow, const dnnl::memory::desc& plain,
                                         const dnnl::memory::desc& wanted,
                                         absl::string_view variant);

// PackWeights for integers of any width. Rows: what PackedRows multiplies, one per output. Blocked:
// in the order of convolution weights `wanted`, [g,] o, i, spatial; UNIMPLEMENTED when that has
// gaps. `conv_groups` > 1 says that there is a g.
absl::StatusOr<std::shared_ptr<const PackedRows>> PackRows(ProgramBuilder& builder,
                                                           const WeightMatch& weights,
                                                           const MatrixView& view);
absl::StatusOr<WidenedWeights> PackBlocked(ProgramBuilder& builder, const WeightMatch& weights,
                                           int64_t conv_groups, bool transposed,
                                           const dnnl::memory::desc& wanted);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_LOWER_PACKING_H_
