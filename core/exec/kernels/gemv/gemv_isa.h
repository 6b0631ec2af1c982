// The kernels behind PackedRows::Multiply, one per instruction set. Only gemv*.cc want this.
#ifndef HALFTONE_CORE_EXEC_KERNELS_GEMV_GEMV_ISA_H_
#define HALFTONE_CORE_EXEC_KERNELS_GEMV_GEMV_ISA_H_

#include <cstdint>

#include "core/exec/kernels/gemv/gemv.h"

namespace halftone {

// Rows [first, last) of w times the m rows of x, which are `stride` apart and padded by zeros to
// w.padded_cols(); for GemvVnni what PrepareVnni wrote. y[i * w.rows() + r] = bias[r] + …
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
  const int64_t at = g * PackedRows::kTile;
  return {w.scales(r)[at], zeros == nullptr ? w.zero() : static_cast<float>(zeros[at]) - w.bias()};
}

// Where byte `offset` of a row lies, from PackedRows::row on.
inline int64_t InRow(int64_t offset) {
  constexpr int64_t kChunk = PackedRows::kChunkBytes;
  return offset / kChunk * kChunk * PackedRows::kTile + offset % kChunk;
}

void GemvPortable(const GemvTask& task, int64_t first, int64_t last);
void GemvAvx2(const GemvTask& task, int64_t first, int64_t last);
void GemvAvx512(const GemvTask& task, int64_t first, int64_t last);

// 4 bits with zero points that are codes, too, and 8 bits with one such zero point.
bool VnniTakes(const PackedRows& w);
// Requires: VnniTakes(w). One row of x to VnniScratchFloats(w) floats. A row with a NaN or an
// infinity makes its products NaN.
int64_t VnniScratchFloats(const PackedRows& w);
void PrepareVnni(const PackedRows& w, const float* x, float* out);
void GemvVnni(const GemvTask& task, int64_t first, int64_t last);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_GEMV_GEMV_ISA_H_
