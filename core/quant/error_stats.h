// How far one stream of results is from another: accumulators in O(1) memory. Thread-compatible.
#ifndef HALFTONE_CORE_QUANT_ERROR_STATS_H_
#define HALFTONE_CORE_QUANT_ERROR_STATS_H_

#include <cstdint>

#include "absl/types/span.h"

namespace halftone {

// What "bit-equal" and "nothing left of it" are in finite numbers (reports, JSON, metrics).
inline constexpr double kMaxSqnrDb = 999;
inline constexpr double kMinSqnrDb = -999;

// SQNR = 10·log10(Σx² / Σ(x−x̂)²) and the largest |x−x̂|, sums in double. Positions where both are
// the same (equal infinities or both NaN included) have no error; where only one side is not
// finite the error is infinite.
class ErrorStats {
 public:
  // Requires: want.size() == got.size().
  void Add(absl::Span<const float> want, absl::Span<const float> got);

  // In [kMinSqnrDb, kMaxSqnrDb]; kMaxSqnrDb without any error.
  double sqnr_db() const;
  double max_abs_error() const { return max_abs_; }
  int64_t count() const { return count_; }

 private:
  double signal_ = 0, noise_ = 0, max_abs_ = 0;
  int64_t count_ = 0;
};

// How often the largest element of a row stands at the same place. Ties: the first one.
class Top1Agreement {
 public:
  // Rows of `classes` elements. Requires: equal sizes, a multiple of classes, classes >= 1.
  void Add(absl::Span<const float> want, absl::Span<const float> got, int64_t classes);

  int64_t rows() const { return rows_; }
  double agreement() const { return rows_ == 0 ? 1 : static_cast<double>(equal_) / rows_; }
  // True when two or more rows all want the same class: the agreement then says little.
  bool degenerate() const { return rows_ > 1 && !mixed_; }

 private:
  int64_t rows_ = 0, equal_ = 0;
  int64_t first_label_ = 0;
  bool mixed_ = false;  // some row wanted another class than the first one
};

// Index of the first largest element; NaN never is. Requires: not empty.
int64_t ArgMax(absl::Span<const float> row);

}  // namespace halftone

#endif  // HALFTONE_CORE_QUANT_ERROR_STATS_H_
