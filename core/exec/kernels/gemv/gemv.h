// Products of few rows with packed integer weights, which stay packed until they are in registers:
//
//   y[m, r] = sum over c of x[m, c] * (code[r, c] - zero[r, c / group]) * scale[r, c / group]
//
// in f32, or as exactly (gemv_vnni.cc). With few rows of x the time is that of reading the weights,
// so it shrinks with their width. Each y is summed in an order that depends on nothing but the
// shapes and the CPU.
#ifndef HALFTONE_CORE_EXEC_KERNELS_GEMV_GEMV_H_
#define HALFTONE_CORE_EXEC_KERNELS_GEMV_GEMV_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "core/base/buffer.h"

namespace halftone {

// Integer weights one by one: what is packed, and what tests compare with.
struct CodeMatrix {
  int64_t rows = 0, cols = 0;   // outputs; what they sum over
  int bits = 8;                 // 1, 2, 4, 8 or 16
  std::vector<uint16_t> codes;  // [rows, cols], below 2^bits
  int64_t group = 0;            // columns per scale
  std::vector<float> scales;    // [rows, groups()]
  std::vector<float> zeros;     // like scales, or one for all; whole numbers, but 0.5 for 1 bit
  // Instead of scales and zeros along rows (then group is cols, and they are 1 and 0): one per
  // column.
  std::vector<float> column_scales, column_zeros;

  int64_t groups() const { return group == 0 ? 0 : (cols + group - 1) / group; }
  float At(int64_t r, int64_t c) const;  // the weight
};

// Rows of 64-byte chunks; those of kTile neighbouring rows take turns, so that kernels, which work
// on a tile of rows at once, read one long stream. With 1 and 2 bits a chunk is 16 words of 32
// bits, and field f of word l (bits f * bits …) is the code of column 16 * f + l: shifting all
// words brings 16 neighbours to the lowest bits. With 4 bits byte b has column b below and column
// 64 + b above. 8 and 16 bits lie in the order of columns, minus 128 or 32768. Immutable.
class PackedRows {
 public:
  // Null when memory is short. Requires: rows, cols, group > 0 and sizes that fit.
  static std::shared_ptr<const PackedRows> Pack(const CodeMatrix& m);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int bits() const { return bits_; }
  int64_t group() const { return group_; }
  int64_t groups() const { return groups_; }
  int64_t bytes() const;  // that it keeps in memory

  static constexpr int64_t kTile = 4;
  static constexpr int64_t kChunkBytes = 64;
  // The first chunk of a row, below AlignUp(rows(), kTile); the next is kTile chunks further.
  const uint8_t* row(int64_t r) const {
    return reinterpret_cast<const uint8_t*>(codes_->data()) + r / kTile * kTile * row_bytes_ +
           r % kTile * kChunkBytes;
  }
  int64_t row_bytes() const { return row_bytes_; }
  int64_t padded_cols() const { return padded_cols_; }  // that row_bytes() have codes for
  // The scale of a row's first group; the next is kTile further. groups() of them, and zeros for
  // groups that a whole last chunk would have.
  const float* scales(int64_t r) const { return scales_.data() + ParamsAt(r); }
  // Zero points in the same order, after what packing subtracts; null: `zero` for all.
  const uint16_t* zeros(int64_t r) const {
    return zeros_.empty() ? nullptr : zeros_.data() + ParamsAt(r);
  }
  float zero() const { return zero_; }
  bool zeros_are_codes() const { return zeros_are_codes_; }  // whole numbers in [0, 2^bits)
  float bias() const { return bits_ <= 4 ? 0.0f : bits_ == 8 ? 128.0f : 32768.0f; }

  // Writes w[first + i, c] to out[i * cols + c] for i < count. Splits rows over the calling
  // thread's team.
  void Widen(int64_t first, int64_t count, float* out) const;

  // Whether Multiply takes these weights: groups of 16 * 2^n columns, or of all of them, and no
  // scales per column.
  bool multiplies() const;
  // Floats that Multiply wants as scratch for m rows.
  int64_t ScratchFloats(int64_t m) const;
  // y = x · wᵀ + bias (null: none); x is [m, cols], y is [m, rows]. Splits weight rows over the
  // calling thread's team. Requires: multiplies(), m <= kMaxRows.
  static constexpr int64_t kMaxRows = 4;
  void Multiply(const float* x, int64_t m, const float* bias, float* y, float* scratch) const;
  // The same without vector instructions.
  void MultiplyPortable(const float* x, int64_t m, const float* bias, float* y,
                        float* scratch) const;

 private:
  PackedRows() = default;
  int64_t ParamsAt(int64_t r) const { return r / kTile * kTile * scale_stride_ + r % kTile; }

  int64_t rows_ = 0, cols_ = 0, group_ = 0, groups_ = 0, scale_stride_ = 0, row_bytes_ = 0;
  int64_t padded_cols_ = 0;
  int bits_ = 0;
  float zero_ = 0;
  bool zeros_are_codes_ = false;
  std::shared_ptr<Buffer> codes_;
  std::vector<float> scales_;
  std::vector<uint16_t> zeros_;
  std::vector<float> column_scales_, column_zeros_;
};

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_GEMV_GEMV_H_
