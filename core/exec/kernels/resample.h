// Weighted sums of positions along one axis: every interpolation of Resize is one per axis.
#ifndef HALFTONE_CORE_EXEC_KERNELS_RESAMPLE_H_
#define HALFTONE_CORE_EXEC_KERNELS_RESAMPLE_H_

#include <cstdint>
#include <vector>

namespace halftone {

struct AxisTaps {
  int64_t in = 0;  // positions of the input
  struct Tap {
    int64_t at;
    float weight;
  };
  std::vector<std::vector<Tap>> positions;  // of the output
};

// dst[o, i, n] = sum over the taps of i of weight · src[o, at, n]; both contiguous, n < inner.
void ResampleAxis(const AxisTaps& taps, int64_t outer, int64_t inner, const float* src, float* dst);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_RESAMPLE_H_
