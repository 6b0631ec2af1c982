#include "core/quant/range_choice.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/log/check.h"
#include "absl/types/span.h"

namespace halftone {
namespace {

constexpr int kZeroEdge = HistogramObserver::kBins;  // edge(kZeroEdge) is 0
constexpr int kSlots = 2 * HistogramObserver::kBins;
constexpr int kLevels = 256;
constexpr int kClipSteps = 128;       // candidates where one number is searched
constexpr int kPairedClipSteps = 64;  // and for each of two

// The part of `range` within [lo, hi].
ValueRange Clip(const ValueRange& range, double lo, double hi) {
  return {std::max(range.min, static_cast<float>(lo)), std::min(range.max, static_cast<float>(hi))};
}

// --- entropy ---

// The non-empty slots around 0, and the tails beyond any window of them.
struct Used {
  explicit Used(const HistogramObserver& h) : counts(h.counts()) {
    for (int i = 0; i < kSlots; ++i) {
      if (counts[i] == 0) continue;
      below = std::max(below, kZeroEdge - i);
      above = std::max(above, i + 1 - kZeroEdge);
      total += counts[i];
    }
  }
  int64_t Sum(int from, int to) const {
    int64_t sum = 0;
    for (int i = from; i < to; ++i) sum += counts[i];
    return sum;
  }

  absl::Span<const int64_t> counts;
  int below = 0, above = 0;  // slots on each side of 0, up to the last that is not empty
  int64_t total = 0;
};

// D(P || Q) for the slots [from, to). Both distributions have the mass of `used.total` and of the
// window. A level spreads its mass evenly over its non-empty slots.
double Divergence(const Used& used, int from, int to) {
  // What P has and Q has not at all (an empty end slot that the tail moved to) costs much, not
  // infinitely much.
  constexpr double kNothing = 1e-9;
  const int n = to - from;
  const auto tail_below = static_cast<double>(used.Sum(kZeroEdge - used.below, from));
  const auto tail_above = static_cast<double>(used.Sum(to, kZeroEdge + used.above));
  const auto total = static_cast<double>(used.total);
  const double inside = total - tail_below - tail_above;
  if (inside == 0) return std::numeric_limits<double>::infinity();
  double sum = 0;
  for (int level = 0; level < kLevels; ++level) {
    const int begin = from + static_cast<int>(int64_t{level} * n / kLevels);
    const int end = from + static_cast<int>(int64_t{level + 1} * n / kLevels);
    double mass = 0;
    int filled = 0;
    for (int i = begin; i < end; ++i) {
      mass += static_cast<double>(used.counts[i]);
      filled += used.counts[i] != 0 ? 1 : 0;
    }
    const double each = filled == 0 ? 0 : mass / filled / inside;
    for (int i = begin; i < end; ++i) {
      double p = static_cast<double>(used.counts[i]);
      const double q = p == 0 ? kNothing : each;
      if (i == from) p += tail_below;
      if (i == to - 1) p += tail_above;
      if (p != 0) sum += p / total * std::log(p / total / q);
    }
  }
  return sum;
}

// --- squared error ---

// Sums of 1, x and x² over all slots below one: the error of a level is a difference of sums.
class Moments {
 public:
  explicit Moments(const HistogramObserver& h)
      : width_(h.width()), n_(kSlots + 1), x_(kSlots + 1), xx_(kSlots + 1) {
    for (int i = 0; i < kSlots; ++i) {
      const auto count = static_cast<double>(h.counts()[i]);
      const double x = h.centre(i);
      n_[i + 1] = n_[i] + count;
      x_[i + 1] = x_[i] + count * x;
      xx_[i + 1] = xx_[i] + count * x * x;
    }
  }

  // Σ (x - x̂)² of quantizing to u8 and back.
  double SquaredError(QParams p) const {
    double sum = 0;
    int from = 0;
    for (int level = 0; level < kLevels; ++level) {
      const double value = static_cast<double>(p.scale) * (level - p.zero_point);
      const int to = level + 1 == kLevels ? kSlots : SlotsBelow(value + 0.5 * p.scale);
      sum += xx_[to] - xx_[from] - 2 * value * (x_[to] - x_[from]) +
             value * value * (n_[to] - n_[from]);
      from = to;
    }
    return std::max(sum, 0.0);
  }

 private:
  // Slots whose centre lies below v.
  int SlotsBelow(double v) const {
    const double i = std::ceil(v / width_ + kZeroEdge - 0.5);
    return static_cast<int>(std::clamp<double>(i, 0, kSlots));
  }

  const double width_;
  std::vector<double> n_, x_, xx_;
};

}  // namespace

ValueRange PercentileRange(const HistogramObserver& h, double percentile) {
  CHECK(percentile > 0 && percentile <= 100) << percentile;
  // 100 - 99.9 is a little less than 0.1: what is meant to be whole must not be rounded down.
  const auto tail = static_cast<int64_t>(
      std::floor(static_cast<double>(h.total()) * (100 - percentile) / 200 + 1e-6));
  // The first edge, from one end, with more than the tail on the way to the next one. Zeros lie
  // between the two sides.
  const auto walk = [&](int from, int step) {
    int64_t passed = 0;
    int i = from;
    for (; i >= 0 && i < kSlots; i += step) {
      if (i == (step > 0 ? kZeroEdge : kZeroEdge - 1)) {
        passed += h.zeros();
        if (passed > tail) break;
      }
      passed += h.counts()[i];
      if (passed > tail) break;
    }
    return step > 0 ? i : i + 1;
  };
  if (h.range().empty()) return {};
  const int from = walk(0, 1), to = walk(kSlots - 1, -1);
  if (from == kZeroEdge && to == kZeroEdge) return h.range();
  return Clip(h.range(), h.edge(from), h.edge(to));
}

ValueRange EntropyRange(const HistogramObserver& h) {
  const Used used(h);
  const int widest = std::max(used.below, used.above);
  double best = std::numeric_limits<double>::infinity();
  int best_reach = widest;  // slots on either side of 0
  const int step = std::max(1, widest / kClipSteps);
  // From wide to narrow, so that of equals the widest wins.
  for (int reach = widest; reach >= 1; reach -= step) {
    const int from = kZeroEdge - std::min(reach, used.below);
    const int to = kZeroEdge + std::min(reach, used.above);
    if (to - from < kLevels) break;  // every slot would be a level of its own: nothing to measure
    const double divergence = Divergence(used, from, to);
    if (divergence >= best) continue;
    best = divergence;
    best_reach = reach;
  }
  if (h.range().empty()) return {};
  return Clip(h.range(), h.edge(kZeroEdge - best_reach), h.edge(kZeroEdge + best_reach));
}

ValueRange MseRange(const HistogramObserver& h) {
  const ValueRange& whole = h.range();
  if (whole.empty()) return {};
  const Moments moments(h);
  const float lo = std::min(whole.min, 0.0f), hi = std::max(whole.max, 0.0f);
  const int steps = lo < 0 && hi > 0 ? kPairedClipSteps : kClipSteps;
  const auto end = [&](float limit, int i) {
    return static_cast<float>(static_cast<double>(limit) * i / steps);
  };
  double best = std::numeric_limits<double>::infinity();
  ValueRange chosen = whole;
  // From wide to narrow, so that of equals the widest wins; an end at 0 has one candidate.
  for (int i = steps; i >= (lo < 0 ? 1 : steps); --i) {
    for (int j = steps; j >= (hi > 0 ? 1 : steps); --j) {
      const ValueRange clip{end(lo, i), end(hi, j)};
      const double error = moments.SquaredError(AffineU8(clip));
      if (error >= best) continue;
      best = error;
      chosen = clip;
    }
  }
  return Clip(whole, chosen.min, chosen.max);
}

double ExpectedSquaredError(const HistogramObserver& h, ValueRange clip) {
  CHECK(!h.range().empty() && !clip.empty());
  return Moments(h).SquaredError(AffineU8(clip)) / static_cast<double>(h.total());
}

}  // namespace halftone
