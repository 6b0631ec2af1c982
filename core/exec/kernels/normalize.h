// Normalisation of rows: instance, group and layer normalisation.
#ifndef HALFTONE_CORE_EXEC_KERNELS_NORMALIZE_H_
#define HALFTONE_CORE_EXEC_KERNELS_NORMALIZE_H_

#include <cstdint>

#include "core/exec/kernels/elementwise.h"

namespace halftone {

// Rows of `channels` × `inner` contiguous elements; every row becomes mean 0 and variance 1, then
// times scale plus shift. Row r takes the `scales_per_row` numbers of each from position
// r % row_groups · scales_per_row on: one per channel, or one for the row.
struct RowNormalization {
  int64_t rows = 0, row_groups = 1;
  int64_t channels = 1, inner = 1;
  int64_t scales_per_row = 1;
  float epsilon = 1e-5f;
};
// `shift` may be null. x and y may be the same.
void NormalizeRows(const RowNormalization& n, const float* x, const float* scale,
                   const float* shift, float* y);

// The same for rows with a scale for each of their elements (inner 1, one row group), quantized as
// they are made: q becomes round_half_even(y · (1 / to.scale)) + to.zero_point, saturated, where
// NaN becomes the zero point. `y` takes the float rows too, unless it is null; it may be x.
void NormalizeRowsQuantized(const RowNormalization& n, const float* x, const float* scale,
                            const float* shift, float* y, const QuantizedView& to, void* q);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_NORMALIZE_H_
