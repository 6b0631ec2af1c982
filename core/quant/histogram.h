// How often which values came: a histogram in O(1) memory over any stream, in any order.
//
//   HistogramObserver h;
//   h.Observe(values);                                  // any number of times
//   h.Merge(other);                                     // the same as observing both
//   ValueRange clip = PercentileRange(h, 99.999);       // range_choice.h
//
// The bins are kBins equal ones on each side of 0, of width 2^e. A larger value doubles the width
// by joining bins in pairs: (2k, 2k+1) become k, and as every edge of the wide bins is an edge of
// the narrow ones no count is ever split or guessed. e depends on the largest magnitude alone, so
// counts are the same for every order, split and merge of the same values (most observers of
// histograms, e.g. PyTorch's, redistribute counts when the range grows and are not).
// Thread-compatible.
#ifndef HALFTONE_CORE_QUANT_HISTOGRAM_H_
#define HALFTONE_CORE_QUANT_HISTOGRAM_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/quant/observer.h"
#include "core/quant/qparams.h"
#include "core/quant/state_io.h"

namespace halftone {

class HistogramObserver {
 public:
  // Per side: the side of the largest magnitude uses more than half of them.
  static constexpr int kBins = 4096;

  HistogramObserver() : slots_(2 * kBins + 1) {}

  // NaN and infinities are counted, not binned. About 1 ns per value.
  void Observe(absl::Span<const float> values);
  void Merge(const HistogramObserver& other);

  const ValueRange& range() const {
    return min_max_.range();
  }  // exact; empty without finite values
  int64_t non_finite() const { return min_max_.non_finite(); }

  // Counts by ascending value: slot i holds the values from edge(i) to edge(i + 1), ends on the
  // side away from 0 excluded. 2 * kBins slots.
  absl::Span<const int64_t> counts() const {
    return absl::MakeConstSpan(slots_).first(static_cast<size_t>(kZeroSlot));
  }
  // Exact zeros have a count of their own: every affine quantizer represents them without error.
  int64_t zeros() const { return slots_[kZeroSlot]; }
  int64_t total() const;  // finite values: zeros() and the sum of counts()

  double width() const;  // of a bin: a power of two
  double edge(int i) const { return (i - kBins) * width(); }
  double centre(int i) const { return (i - kBins + 0.5) * width(); }

  // For a calibration that goes on later. DATA_LOSS when the bytes describe no histogram.
  void Write(StateWriter& out) const;
  static absl::StatusOr<HistogramObserver> Read(StateReader& in);

  bool operator==(const HistogramObserver&) const = default;

 private:
  static constexpr int kZeroSlot = 2 * kBins;
  // 2^-kSmallestExponent is still a normal float: scaling by it is exact.
  static constexpr int kSmallestExponent = -126;

  // The smallest exponent with which this magnitude falls into a bin.
  static int ExponentFor(float magnitude);
  void WidenTo(int exponent);
  void Bin(absl::Span<const float> finite);

  MinMaxObserver min_max_;
  int exponent_ = kSmallestExponent;
  std::vector<int64_t> slots_;  // counts by ascending value, then the zeros
};

}  // namespace halftone

#endif  // HALFTONE_CORE_QUANT_HISTOGRAM_H_
