// Rounding weights by what a layer's output wants: not the nearest integers, but those for which
// Σ|W·x − Ŵ·x|² over calibration inputs x is small. With e = ŵ − w for one output channel this sum
// is eᵀ·H·e, H = Σ x·xᵀ. Deterministic and single-threaded.
#ifndef HALFTONE_CORE_QUANT_ROUNDING_H_
#define HALFTONE_CORE_QUANT_ROUNDING_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "core/quant/qparams.h"

namespace halftone {

// H = Σ x·xᵀ over streamed inputs: size² floats, whatever the number of inputs. Thread-compatible.
class SecondMoment {
 public:
  // Requires: 0 < size <= kMaxRoundingColumns.
  explicit SecondMoment(int64_t size);

  // Rows of `size` numbers. Requires: a multiple of size.
  void Add(absl::Span<const float> rows);

  int64_t size() const { return size_; }
  int64_t count() const { return count_; }
  // Row k of the whole symmetric matrix, once Finish was called.
  absl::Span<const float> row(int64_t k) const {
    return absl::MakeConstSpan(h_).subspan(static_cast<size_t>(k * size_),
                                           static_cast<size_t>(size_));
  }
  // Makes both triangles equal. Add may follow, then Finish again.
  void Finish();
  // Σx² of column k, plus 1 % of the mean over all columns, so that inputs that were always 0 do
  // not make weights run away (the damping of GPTQ).
  double damped(int64_t k) const;

 private:
  int64_t size_, count_ = 0;
  double damping_ = 0;
  std::vector<float> h_;  // Add fills the upper triangle
};

// More columns than this cost minutes and hundreds of MB per layer.
inline constexpr int64_t kMaxRoundingColumns = 4608;

// Where the numbers of a row may lie: integers [qmin, qmax], parameters for each `group` columns.
struct RoundingGrid {
  int32_t qmin = -127, qmax = 127;
  int64_t group = 0;  // the last group may be shorter
};

// GPTQ (Frantar et al. 2022, arXiv 2210.17323) in the form of LDLQ (Chee et al. 2023, arXiv
// 2307.13304, theorem 6: the same result from one factorisation H = U·D·Uᵀ): columns in the order
// of falling H_kk, each rounded after it took over the error of those before it. `weights` are rows
// of h.size() columns, `params` ceil(columns / group) per row. Writes q as the same rows.
void RoundGptq(absl::Span<const float> weights, const SecondMoment& h, const RoundingGrid& grid,
               absl::Span<const QParams> params, absl::Span<int32_t> q);

// Improves q: goes over the columns and moves each number to the value, within one step of its
// weight, that lowers eᵀ·H·e most, until nothing moves or eight rounds are over. The objective of
// AdaRound (Nagel et al. 2020, arXiv 2004.10568, equation 13, layer by layer), solved by coordinate
// descent instead of a continuous relaxation: it never ends worse than it began.
void RoundByDescent(absl::Span<const float> weights, const SecondMoment& h,
                    const RoundingGrid& grid, absl::Span<const QParams> params,
                    absl::Span<int32_t> q);

// Σ over rows of eᵀ·H·e, the error that both lower.
double RoundingError(absl::Span<const float> weights, const SecondMoment& h,
                     const RoundingGrid& grid, absl::Span<const QParams> params,
                     absl::Span<const int32_t> q);

}  // namespace halftone

#endif  // HALFTONE_CORE_QUANT_ROUNDING_H_
