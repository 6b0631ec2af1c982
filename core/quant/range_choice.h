// Which range to map onto the integers: less than all values, because rare large ones cost
// everybody else resolution. Pure functions of a histogram; deterministic. All return a part of
// h.range() (not necessarily with 0 in it) and the empty range for an empty histogram.
#ifndef HALFTONE_CORE_QUANT_RANGE_CHOICE_H_
#define HALFTONE_CORE_QUANT_RANGE_CHOICE_H_

#include "core/quant/histogram.h"
#include "core/quant/qparams.h"

namespace halftone {

// Leaves at most (100 - percentile) / 2 percent of the values beyond either end, to the next edge
// of a bin; 100 leaves out none (McKinstry et al. 2018, arXiv:1809.04191, section 3.2; both ends
// apart as in ONNX Runtime). Where nothing but zeros would be left: the whole range. Requires:
// 0 < percentile <= 100.
ValueRange PercentileRange(const HistogramObserver& h, double percentile);

// The clip with the smallest Kullback-Leibler divergence D(P || Q), where P is the distribution of
// values with what is beyond the clip moved to its ends, and Q the same seen through 256 levels
// (Migacz, "8-bit Inference with TensorRT", GTC 2017). Two things differ from there:
// - zeros are left out, being exact at every scale: after a ReLU they would drown all else;
// - the levels are the 256 of an affine u8 on [max(-t, min), min(t, max)] instead of 128 on [0, t].
// The search needs many bins per level (here up to 2 * kBins for 256): ONNX Runtime's default of
// 128 bins for 128 levels has one candidate and chooses the full range always.
ValueRange EntropyRange(const HistogramObserver& h);

// The clip with the smallest expected squared error of quantizing to affine u8 (as AffineU8 of it)
// and back: rounding within and clipping beyond, exactly for values at the centres of their bins.
// All pairs of ends min * i/n and max * j/n are tried (cf. Banner et al. 2019, arXiv:1810.05723,
// who assume a Gaussian or Laplace distribution; PyTorch's HistogramObserver also takes the
// histogram, and searches greedily).
ValueRange MseRange(const HistogramObserver& h);

// The mean of (x - dequantize(quantize(x)))² for affine u8 on `clip`, which is widened to contain
// 0. What MseRange minimises. Requires: neither empty.
double ExpectedSquaredError(const HistogramObserver& h, ValueRange clip);

}  // namespace halftone

#endif  // HALFTONE_CORE_QUANT_RANGE_CHOICE_H_
