// Copies between strided views: transposes, layout changes, concatenation, slices.
#ifndef HALFTONE_CORE_EXEC_KERNELS_COPY_H_
#define HALFTONE_CORE_EXEC_KERNELS_COPY_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "core/tensor/shape.h"

namespace halftone {

// One strided view to another of the same shape. Strides count elements and may be zero
// (broadcast) or negative in the source.
struct StridedCopy {
  Shape shape;
  Shape src_strides;
  Shape dst_strides;
  int64_t src_offset = 0;  // elements
  int64_t dst_offset = 0;
  int element_bytes = 4;  // 1, 2, 4 or 8
};

// Drops dimensions of size 1, merges neighbours that are contiguous in both views and sorts
// dimensions so that destination strides decrease. The same copy, in fewer and longer loops.
StridedCopy Simplify(const StridedCopy& copy);

// Requires: src and dst cover the views and do not overlap; `copy` went through Simplify.
void RunStridedCopy(const StridedCopy& copy, const void* src, void* dst);

// Strides of [N, C, spatial…] stored channels last.
Shape ChannelsLastStrides(absl::Span<const int64_t> shape);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_COPY_H_
