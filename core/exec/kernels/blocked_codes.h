// Integer weights in the element order of another primitive's f32 weights, so that they widen in
// one pass just before it runs.
#ifndef HALFTONE_CORE_EXEC_KERNELS_BLOCKED_CODES_H_
#define HALFTONE_CORE_EXEC_KERNELS_BLOCKED_CODES_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/buffer.h"
#include "core/exec/kernels/gemv/gemv.h"

namespace halftone {

// How a storage index splits into positions along logical dimensions.
struct WeightLayout {
  struct Digit {
    int64_t count;
    int dim;
    int64_t step;  // along dim
  };
  std::vector<Digit> digits;   // outermost first; the last one's step is 1
  std::vector<int64_t> sizes;  // of the logical dimensions; what lies beyond is padding
  // What one step along a dimension adds to the row and to the column of the matrix.
  std::vector<int64_t> row_steps, column_steps;

  int64_t elements() const;  // padding included
};

// Codes in storage order, bit by bit, without padding beyond whole vectors, and their scales as
// [groups, rows]. Immutable.
class BlockedCodes {
 public:
  // Null when memory is short. Requires: the layout reaches only rows and columns of m.
  static std::shared_ptr<const BlockedCodes> Pack(const CodeMatrix& m, WeightLayout layout);

  int64_t elements() const { return elements_; }
  int64_t bytes() const;  // that it keeps in memory
  // Writes elements() floats: the weights, and zeros where the layout pads. Splits the work over
  // the calling thread's team.
  void Widen(float* out) const;

 private:
  // A position in the layout, moved one run (the last digit) at a time.
  class Cursor;
  BlockedCodes() = default;

  int64_t runs() const { return elements_ / run_; }
  int64_t runs_per_task() const;
  int64_t StoredCodes(int64_t lanes) const;  // of a run with so many weights
  // `stored` is how many codes lie before run `first`.
  void WidenRuns(int64_t first, int64_t last, int64_t stored, float* out) const;
  void WidenAny(const Cursor& at, int64_t stored, int64_t lanes, float* out) const;
  uint16_t CodeAt(int64_t i) const;

  WeightLayout layout_;
  int64_t elements_ = 0, run_ = 1;
  int bits_ = 0;
  int64_t table_stride_ = 0;  // between groups of scales_: rows, padded
  std::shared_ptr<Buffer> codes_;
  std::vector<int64_t> stored_;  // by task: codes before it
  std::vector<float> scales_;
  std::vector<uint16_t> zeros_;  // like scales_; empty: zero_ for all
  float zero_ = 0;
  std::vector<int32_t> group_of_column_;  // empty: one group
  std::vector<float> column_scales_, column_zeros_;
};

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_BLOCKED_CODES_H_
