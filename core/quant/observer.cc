#include "core/quant/observer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "absl/log/check.h"

namespace halftone {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

void MinMaxObserver::Observe(absl::Span<const float> values) {
  // Lanes keep the loop free of a serial dependency, so it becomes vector min and max.
  constexpr size_t kLanes = 16;
  std::array<float, kLanes> lo, hi;
  std::array<int32_t, kLanes> bad{};
  lo.fill(kInfinity);
  hi.fill(-kInfinity);
  const auto step = [&](size_t lane, float v) {
    const bool finite = std::abs(v) < kInfinity;
    const float low = finite ? v : kInfinity;
    const float high = finite ? v : -kInfinity;
    lo[lane] = low < lo[lane] ? low : lo[lane];
    hi[lane] = high > hi[lane] ? high : hi[lane];
    bad[lane] += finite ? 0 : 1;
  };
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) step(lane, values[i + lane]);
  }
  for (; i < values.size(); ++i) step(0, values[i]);
  for (size_t lane = 0; lane < kLanes; ++lane) {
    range_.Include({lo[lane], hi[lane]});
    non_finite_ += bad[lane];
  }
}

void MinMaxObserver::Merge(const MinMaxObserver& other) {
  range_.Include(other.range_);
  non_finite_ += other.non_finite_;
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
