#include "core/quant/error_stats.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/log/check.h"

namespace halftone {

void ErrorStats::Add(absl::Span<const float> want, absl::Span<const float> got) {
  CHECK_EQ(want.size(), got.size());
  for (size_t i = 0; i < want.size(); ++i) {
    const double x = want[i];
    const bool same = want[i] == got[i] || (std::isnan(want[i]) && std::isnan(got[i]));
    double error = same ? 0.0 : std::abs(x - got[i]);
    if (std::isnan(error)) error = std::numeric_limits<double>::infinity();
    if (std::isfinite(x)) signal_ += x * x;
    noise_ += error * error;
    max_abs_ = std::max(max_abs_, error);
  }
  count_ += static_cast<int64_t>(want.size());
}

double ErrorStats::sqnr_db() const {
  if (noise_ == 0) return kMaxSqnrDb;
  if (signal_ == 0 || std::isinf(noise_)) return kMinSqnrDb;
  return std::clamp(10 * std::log10(signal_ / noise_), kMinSqnrDb, kMaxSqnrDb);
}

int64_t ArgMax(absl::Span<const float> row) {
  size_t best = 0;
  for (size_t i = 1; i < row.size(); ++i) {
    if (row[i] > row[best] || (std::isnan(row[best]) && !std::isnan(row[i]))) best = i;
  }
  return static_cast<int64_t>(best);
}

void Top1Agreement::Add(absl::Span<const float> want, absl::Span<const float> got,
                        int64_t classes) {
  CHECK_EQ(want.size(), got.size());
  const size_t n = static_cast<size_t>(classes);
  for (size_t i = 0; i + n <= want.size(); i += n) {
    const int64_t label = ArgMax(want.subspan(i, n));
    equal_ += label == ArgMax(got.subspan(i, n));
    if (rows_ == 0) first_label_ = label;
    mixed_ = mixed_ || label != first_label_;
    ++rows_;
  }
}

}  // namespace halftone
