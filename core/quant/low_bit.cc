#include "core/quant/low_bit.h"

#include <cmath>

#include "core/quant/qparams.h"

namespace halftone {
namespace {

// The mean of the magnitudes above the threshold; 0 when there are none.
struct Above {
  double sum = 0;
  int64_t count = 0;
  double mean() const { return count == 0 ? 0.0 : sum / static_cast<double>(count); }
};
Above MagnitudesAbove(absl::Span<const float> w, double threshold) {
  Above above;
  for (const float v : w) {
    const double magnitude = std::abs(v);
    if (magnitude <= threshold) continue;
    above.sum += magnitude;
    ++above.count;
  }
  return above;
}

float ValidScale(double scale) { return scale == 0 ? 1.0f : internal_qparams::ValidScale(scale); }

double MeanMagnitude(absl::Span<const float> w) {
  double sum = 0;
  for (const float v : w) sum += std::abs(v);
  return w.empty() ? 0.0 : sum / static_cast<double>(w.size());
}

}  // namespace

float TernaryScale(absl::Span<const float> w) {
  constexpr double kFirstThreshold = 0.7;
  constexpr int kMaxRounds = 64;  // it settles in a few; each round lowers the error
  // Equal magnitudes have none above 0.7 of their mean only when they are 0.
  Above above = MagnitudesAbove(w, kFirstThreshold * MeanMagnitude(w));
  for (int round = 0; round < kMaxRounds; ++round) {
    const Above next = MagnitudesAbove(w, ValidScale(above.mean()) / 2.0);
    if (next.count == above.count) break;
    above = next;
  }
  return ValidScale(above.mean());
}

void QuantizeTernary(absl::Span<const float> w, float scale, absl::Span<int8_t> t) {
  const float threshold = scale / 2;
  for (size_t i = 0; i < w.size(); ++i) {
    t[i] = static_cast<int8_t>((w[i] > threshold) - (w[i] < -threshold));
  }
}

float BinaryScale(absl::Span<const float> w) { return ValidScale(MeanMagnitude(w)); }

void QuantizeBinary(absl::Span<const float> w, absl::Span<int8_t> b) {
  for (size_t i = 0; i < w.size(); ++i) b[i] = w[i] >= 0 ? 1 : -1;
}

}  // namespace halftone
