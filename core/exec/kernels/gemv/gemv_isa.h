// The kernels behind PackedRows::Multiply, one per instruction set. Only gemv*.cc want this.
#ifndef HALFTONE_CORE_EXEC_KERNELS_GEMV_GEMV_ISA_H_
#define HALFTONE_CORE_EXEC_KERNELS_GEMV_GEMV_ISA_H_

#include <cstdint>

#include "core/exec/kernels/gemv/gemv.h"

namespace halftone {

// Rows [first, last) of w times the m rows of x, which are `stride` apart and padded by zeros to a
// whole chunk. y[i * w.rows() + r] = bias[r] + …
struct GemvTask {
  const PackedRows& w;
  const float* x;
  int64_t stride;
  int64_t m;
  const float* bias;  // may be null
  float* y;
};

// The value of code `q` of row r in group g is (q - zero) * scale.
struct GemvParams {
  float scale, zero;
};
inline GemvParams ParamsOf(const PackedRows& w, int64_t r, int64_t g) {
  const uint16_t* zeros = w.zeros(r);
  return {w.scales(r)[g], zeros == nullptr ? w.zero() : static_cast<float>(zeros[g]) - w.bias()};
}

// Columns of a chunk, in fields of 16.
inline int FieldsPerChunk(int bits) { return 32 / bits; }

void GemvPortable(const GemvTask& task, int64_t first, int64_t last);
void GemvAvx2(const GemvTask& task, int64_t first, int64_t last);
void GemvAvx512(const GemvTask& task, int64_t first, int64_t last);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_GEMV_GEMV_ISA_H_
