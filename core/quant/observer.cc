#include "core/quant/observer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "absl/log/check.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

#define HT_VECTORIZED __attribute__((target_clones("default", "avx2", "avx512f")))

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Lanes keep the loop free of a serial dependency, so it becomes vector min and max. Every clone
// finds the same: nothing is rounded.
constexpr size_t kLanes = 16;
struct Lanes {
  std::array<float, kLanes> lo, hi;
  std::array<int32_t, kLanes> bad{};
};

HT_VECTORIZED void ObserveLanes(const float* values, size_t n, Lanes& lanes) {
  Lanes l = lanes;
  for (size_t i = 0; i + kLanes <= n; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float v = values[i + lane];
      const bool finite = std::abs(v) < kInfinity;
      const float low = finite ? v : kInfinity;
      const float high = finite ? v : -kInfinity;
      l.lo[lane] = low < l.lo[lane] ? low : l.lo[lane];
      l.hi[lane] = high > l.hi[lane] ? high : l.hi[lane];
      l.bad[lane] += finite ? 0 : 1;
    }
  }
  lanes = l;
}

}  // namespace

void MinMaxObserver::Observe(absl::Span<const float> values) {
  // Blocks keep the 32-bit counts of the lanes from overflowing.
  constexpr size_t kBlock = kLanes << 20;
  for (size_t at = 0; at < values.size(); at += kBlock) {
    const absl::Span<const float> block = values.subspan(at, kBlock);
    Lanes lanes;
    lanes.lo.fill(kInfinity);
    lanes.hi.fill(-kInfinity);
    ObserveLanes(block.data(), block.size(), lanes);
    for (size_t lane = 0; lane < kLanes; ++lane) {
      range_.Include({lanes.lo[lane], lanes.hi[lane]});
      non_finite_ += lanes.bad[lane];
    }
    for (const float v : block.last(block.size() % kLanes)) {
      const bool finite = std::abs(v) < kInfinity;
      if (finite) range_.Include({v, v});
      non_finite_ += finite ? 0 : 1;
    }
  }
}

void MinMaxObserver::Merge(const MinMaxObserver& other) {
  range_.Include(other.range_);
  non_finite_ += other.non_finite_;
}

void MinMaxObserver::Write(StateWriter& out) const {
  out.Range(range_);
  out.Signed(non_finite_);
}

absl::StatusOr<MinMaxObserver> MinMaxObserver::Read(StateReader& in) {
  MinMaxObserver o;
  HT_ASSIGN_OR_RETURN(o.range_, in.Range());
  HT_ASSIGN_OR_RETURN(o.non_finite_, in.Count());
  return o;
}

void MovingAverageObserver::Observe(absl::Span<const float> request) {
  MinMaxObserver seen;
  seen.Observe(request);
  if (seen.range().empty()) return;
  ++count_;
  const double weight = 1.0 / static_cast<double>(std::min(count_, kWindow));
  min_ += (seen.range().min - min_) * weight;
  max_ += (seen.range().max - max_) * weight;
}

void MovingAverageObserver::Merge(const MovingAverageObserver& other) {
  if (other.count_ == 0) return;
  count_ += other.count_;
  const double weight = static_cast<double>(other.count_) / static_cast<double>(count_);
  min_ += (other.min_ - min_) * weight;
  max_ += (other.max_ - max_) * weight;
}

ValueRange MovingAverageObserver::range() const {
  if (count_ == 0) return {};
  return {static_cast<float>(min_), static_cast<float>(max_)};
}

void MovingAverageObserver::Write(StateWriter& out) const {
  out.Double(min_);
  out.Double(max_);
  out.Signed(count_);
}

absl::StatusOr<MovingAverageObserver> MovingAverageObserver::Read(StateReader& in) {
  MovingAverageObserver o;
  HT_ASSIGN_OR_RETURN(o.min_, in.Double());
  HT_ASSIGN_OR_RETURN(o.max_, in.Double());
  HT_ASSIGN_OR_RETURN(o.count_, in.Count());
  const ValueRange range = o.range();
  if (!range.empty() && !(std::isfinite(range.min) && std::isfinite(range.max))) {
    return absl::DataLossError("moving average state: the range is not finite");
  }
  if (o.count_ > 0 && range.empty()) {
    return absl::DataLossError("moving average state: the range's ends are not ordered");
  }
  return o;
}

void ChannelObserver::Observe(absl::Span<const float> values, int64_t inner) {
  const size_t step = static_cast<size_t>(inner);
  for (size_t i = 0, channel = 0; i < values.size(); i += step) {
    channels_[channel].Observe(values.subspan(i, step));
    channel = channel + 1 == channels_.size() ? 0 : channel + 1;
  }
}

void ChannelObserver::Merge(const ChannelObserver& other) {
  CHECK_EQ(channels_.size(), other.channels_.size());
  for (size_t c = 0; c < channels_.size(); ++c) channels_[c].Merge(other.channels_[c]);
}

}  // namespace halftone
