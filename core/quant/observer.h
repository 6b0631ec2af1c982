// Collects ranges over streams of values in O(channels) memory. Observers merge: any split of the
// data over observers gives the same range. Thread-compatible.
#ifndef HALFTONE_CORE_QUANT_OBSERVER_H_
#define HALFTONE_CORE_QUANT_OBSERVER_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "core/quant/qparams.h"

namespace halftone {

// The range of a whole tensor. NaN and infinities are counted, not included.
class MinMaxObserver {
 public:
  void Observe(absl::Span<const float> values);
  void Merge(const MinMaxObserver& other);

  const ValueRange& range() const { return range_; }  // empty when nothing finite came
  int64_t non_finite() const { return non_finite_; }

 private:
  ValueRange range_;
  int64_t non_finite_ = 0;
};

// One range per index along one axis.
class ChannelObserver {
 public:
  explicit ChannelObserver(int64_t channels) : channels_(channels) {}

  // `values` is row-major with `inner` elements after the channel axis:
  // values.size() == outer * channels * inner for some outer. Requires: inner > 0.
  void Observe(absl::Span<const float> values, int64_t inner);
  void Merge(const ChannelObserver& other);  // Requires: as many channels

  const std::vector<MinMaxObserver>& channels() const { return channels_; }

 private:
  std::vector<MinMaxObserver> channels_;
};

}  // namespace halftone

#endif  // HALFTONE_CORE_QUANT_OBSERVER_H_
