// Collects ranges over streams of values in O(channels) memory. Observers merge, and those of
// activations can be written, read and continued. Thread-compatible.
#ifndef HALFTONE_CORE_QUANT_OBSERVER_H_
#define HALFTONE_CORE_QUANT_OBSERVER_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/quant/qparams.h"
#include "core/quant/state_io.h"

namespace halftone {

// The range of a whole tensor. NaN and infinities are counted, not included. Any order and split of
// the data gives the same range.
class MinMaxObserver {
 public:
  void Observe(absl::Span<const float> values);
  void Merge(const MinMaxObserver& other);

  const ValueRange& range() const { return range_; }  // empty when nothing finite came
  int64_t non_finite() const { return non_finite_; }

  void Write(StateWriter& out) const;
  static absl::StatusOr<MinMaxObserver> Read(StateReader& in);  // DATA_LOSS

  bool operator==(const MinMaxObserver&) const = default;

 private:
  ValueRange range_;
  int64_t non_finite_ = 0;
};

// The mean of the requests' own ranges, ends apart: one request with an outlier moves it little.
// The first 100 requests weigh the same, afterwards each new one 1/100 (the exponential moving
// average of Jacob et al. 2018, arXiv:1712.05877, section 3.1, with the constant of ONNX Runtime
// and PyTorch; they let the first request alone weigh a third of the first hundred, this does not).
// Beyond 100 requests the result depends on their order, by nature. Means are kept in double, and
// whoever wants the same bits also below keeps the order.
class MovingAverageObserver {
 public:
  static constexpr int64_t kWindow = 100;

  // The values of one request. One without any finite value changes nothing.
  void Observe(absl::Span<const float> request);
  // Weighs both means by their counts, so that up to kWindow requests in all it is the mean of all
  // (but for rounding). Later ones no longer know which request came last.
  void Merge(const MovingAverageObserver& other);

  ValueRange range() const;                 // empty before the first request
  int64_t count() const { return count_; }  // requests

  void Write(StateWriter& out) const;
  static absl::StatusOr<MovingAverageObserver> Read(StateReader& in);  // DATA_LOSS

  bool operator==(const MovingAverageObserver&) const = default;

 private:
  double min_ = 0, max_ = 0;
  int64_t count_ = 0;
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
