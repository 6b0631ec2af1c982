// Weights of three and of two values: the scale that loses least, and the values. Pure functions.
#ifndef HALFTONE_CORE_QUANT_LOW_BIT_H_
#define HALFTONE_CORE_QUANT_LOW_BIT_H_

#include <cstdint>

#include "absl/types/span.h"

namespace halftone {

// The scale a > 0 for w ≈ a * t, t in {-1, 0, 1}, of Ternary Weight Networks (Li, Liu 2016,
// arXiv 1605.04711): with the threshold 0.7 * mean|w|, a is the mean of the |w| above it. From
// there the threshold a / 2 (best for a given a) and that mean (best for given t) alternate until t
// stays: the squared error sinks with each step. 1 when all w are 0. Requires: finite w.
float TernaryScale(absl::Span<const float> w);
// t = sign(w) where |w| > scale / 2, else 0: of the three values the nearest. Requires:
// t.size() == w.size().
void QuantizeTernary(absl::Span<const float> w, float scale, absl::Span<int8_t> t);

// The scale a > 0 for w ≈ a * b, b in {-1, 1}, of Binary Weight Networks (Rastegari et al. 2016,
// XNOR-Net, arXiv 1603.05279): mean|w|, which has the least squared error. 1 when all w are 0.
// Requires: finite w.
float BinaryScale(absl::Span<const float> w);
// b = 1 where w >= 0, else -1. Requires: b.size() == w.size().
void QuantizeBinary(absl::Span<const float> w, absl::Span<int8_t> b);

}  // namespace halftone

#endif  // HALFTONE_CORE_QUANT_LOW_BIT_H_
