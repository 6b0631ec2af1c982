#include "core/quant/histogram.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

// Small enough that a block stays in the first cache between the search for its range and binning.
constexpr size_t kBlock = 2048;

constexpr int kBins = HistogramObserver::kBins;
constexpr int32_t kZeroSlot = 2 * kBins;

__attribute__((target_clones("default", "avx2", "avx512f"))) void FindSlots(const float* in,
                                                                            size_t n,
                                                                            float bins_per_unit,
                                                                            int32_t* slot) {
  for (size_t i = 0; i < n; ++i) {
    // Exact but where it underflows, and then the bin is 0 either way.
    const int32_t k = static_cast<int32_t>(std::abs(in[i]) * bins_per_unit);
    const int32_t side = in[i] < 0 ? kBins - 1 - k : kBins + k;
    slot[i] = in[i] == 0 ? kZeroSlot : side;
  }
}

}  // namespace

int HistogramObserver::ExponentFor(float magnitude) {
  static_assert(kBins == 1 << 12);
  int exponent = 0;
  std::frexp(magnitude, &exponent);  // magnitude < 2^exponent
  return magnitude == 0 ? kSmallestExponent : std::max(exponent - 12, kSmallestExponent);
}

void HistogramObserver::WidenTo(int exponent) {
  const int shift = std::min(exponent - exponent_, 31);
  if (shift <= 0) return;
  // From the bins at 0 outwards: a bin is emptied before something is added to it.
  for (int k = 0; k < kBins; ++k) {
    const int64_t above = std::exchange(slots_[kBins + k], 0);
    const int64_t below = std::exchange(slots_[kBins - 1 - k], 0);
    slots_[kBins + (k >> shift)] += above;
    slots_[kBins - 1 - (k >> shift)] += below;
  }
  exponent_ = exponent;
}

void HistogramObserver::Bin(absl::Span<const float> finite) {
  std::array<int32_t, kBlock> slot;
  FindSlots(finite.data(), finite.size(), std::ldexp(1.0f, -exponent_), slot.data());
  for (size_t i = 0; i < finite.size(); ++i) ++slots_[slot[i]];
}

void HistogramObserver::Observe(absl::Span<const float> values) {
  std::array<float, kBlock> kept;
  for (size_t at = 0; at < values.size(); at += kBlock) {
    absl::Span<const float> block = values.subspan(at, kBlock);
    MinMaxObserver seen;
    seen.Observe(block);
    min_max_.Merge(seen);
    if (seen.non_finite() > 0) {
      const auto end = std::copy_if(block.begin(), block.end(), kept.begin(),
                                    [](float v) { return std::isfinite(v); });
      block = absl::MakeConstSpan(kept.data(), static_cast<size_t>(end - kept.begin()));
    }
    if (block.empty()) continue;
    WidenTo(ExponentFor(std::max(std::abs(seen.range().min), std::abs(seen.range().max))));
    Bin(block);
  }
}

void HistogramObserver::Merge(const HistogramObserver& other) {
  min_max_.Merge(other.min_max_);
  WidenTo(other.exponent_);
  const int shift = std::min(exponent_ - other.exponent_, 31);
  for (int k = 0; k < kBins; ++k) {
    slots_[kBins + (k >> shift)] += other.slots_[kBins + k];
    slots_[kBins - 1 - (k >> shift)] += other.slots_[kBins - 1 - k];
  }
  slots_[kZeroSlot] += other.slots_[kZeroSlot];
}

int64_t HistogramObserver::total() const {
  return std::accumulate(slots_.begin(), slots_.end(), int64_t{0});
}

double HistogramObserver::width() const { return std::ldexp(1.0, exponent_); }

void HistogramObserver::Write(StateWriter& out) const {
  min_max_.Write(out);
  out.Signed(exponent_);
  // Most slots are empty: pairs of (slots skipped, count).
  out.Unsigned(static_cast<uint64_t>(
      std::count_if(slots_.begin(), slots_.end(), [](int64_t n) { return n != 0; })));
  uint64_t skipped = 0;
  for (const int64_t n : slots_) {
    if (n == 0) {
      ++skipped;
      continue;
    }
    out.Unsigned(std::exchange(skipped, 0));
    out.Signed(n);
  }
}

absl::StatusOr<HistogramObserver> HistogramObserver::Read(StateReader& in) {
  HistogramObserver h;
  HT_ASSIGN_OR_RETURN(h.min_max_, MinMaxObserver::Read(in));
  HT_ASSIGN_OR_RETURN(const int64_t exponent, in.Signed());
  const ValueRange& range = h.range();
  const int want = range.empty() ? kSmallestExponent
                                 : ExponentFor(std::max(std::abs(range.min), std::abs(range.max)));
  if (exponent != want) {
    return absl::DataLossError(
        absl::StrCat("histogram state: got bins of 2^", exponent, ", its range wants 2^", want));
  }
  h.exponent_ = want;
  HT_ASSIGN_OR_RETURN(const uint64_t filled, in.Unsigned());
  uint64_t slot = 0;
  for (uint64_t i = 0; i < filled; ++i, ++slot) {
    HT_ASSIGN_OR_RETURN(const uint64_t skipped, in.Unsigned());
    const uint64_t left = h.slots_.size() - slot;
    if (skipped >= left) {
      return absl::DataLossError(
          absl::StrCat("histogram state: got more than ", h.slots_.size(), " bins"));
    }
    slot += skipped;
    HT_ASSIGN_OR_RETURN(h.slots_[slot], in.Count());
  }
  return h;
}

}  // namespace halftone
