// Direct convolution over up to three spatial axes, shared by float and integer operators.
#ifndef HALFTONE_CORE_OPS_CONV_KERNEL_H_
#define HALFTONE_CORE_OPS_CONV_KERNEL_H_

#include <cstdint>

#include "core/ops/window.h"

namespace halftone {

// Checks input ranks, channels, groups and bias of a Conv-like node whose data, weights and bias
// are inputs x, w and b (b < 0: none), and gives the output shape N, M, spatial…
absl::StatusOr<SymbolicShape> ConvShape(const InferContext& c, int x, int w, int b);

// Calls tap(z, y, x, k) for every kernel tap, k counting them row-major.
template <typename Tap>
void ForEachTap(const Spatial& s, Tap&& tap) {
  int64_t k = 0;
  for (int64_t z = 0; z < s.axis[0].kernel; ++z) {
    for (int64_t y = 0; y < s.axis[1].kernel; ++y) {
      for (int64_t x = 0; x < s.axis[2].kernel; ++x, ++k) tap(z, y, x, k);
    }
  }
}

// Calls row(in_offset, out_offset, count, in_step): `count` neighbouring outputs from out_offset
// meet inputs from in_offset, in_step apart, through one kernel tap.
template <typename Row>
void ForEachTapRow(const Spatial& s, int64_t tz, int64_t ty, int64_t tx, Row&& row) {
  const TapRange rz = ValidOutputs(s.axis[0], tz, s.in[0], s.out[0]);
  const TapRange ry = ValidOutputs(s.axis[1], ty, s.in[1], s.out[1]);
  const TapRange rx = ValidOutputs(s.axis[2], tx, s.in[2], s.out[2]);
  if (rx.first >= rx.last) return;
  const auto at = [&](int axis, int64_t out, int64_t tap) {
    return out * s.axis[axis].stride + tap * s.axis[axis].dilation - s.axis[axis].begin;
  };
  for (int64_t oz = rz.first; oz < rz.last; ++oz) {
    for (int64_t oy = ry.first; oy < ry.last; ++oy) {
      row((at(0, oz, tz) * s.in[1] + at(1, oy, ty)) * s.in[2] + at(2, rx.first, tx),
          (oz * s.out[1] + oy) * s.out[2] + rx.first, rx.last - rx.first, s.axis[2].stride);
    }
  }
}

struct ConvSizes {
  int64_t batch, groups, in_channels, out_channels;  // channels over all groups
};

// y += conv(x, w); x[N,C,in…], w[M,C/groups,kernel…], y[N,M,out…], y set to the bias before.
template <typename T>
void ConvAccumulate(const ConvSizes& n, const Spatial& s, const T* x, const T* w, T* y) {
  const int64_t in_per_group = n.in_channels / n.groups, out_per_group = n.out_channels / n.groups;
  for (int64_t i = 0; i < n.batch * n.out_channels; ++i) {
    const int64_t image = i / n.out_channels, m = i % n.out_channels;
    const int64_t first_channel = m / out_per_group * in_per_group;
    T* plane = y + i * s.out_size();
    for (int64_t ci = 0; ci < in_per_group; ++ci) {
      const T* in = x + (image * n.in_channels + first_channel + ci) * s.in_size();
      const T* weights = w + (m * in_per_group + ci) * s.kernel_size();
      ForEachTap(s, [&](int64_t tz, int64_t ty, int64_t tx, int64_t k) {
        const T weight = weights[k];
        ForEachTapRow(s, tz, ty, tx, [&](int64_t from, int64_t to, int64_t count, int64_t step) {
          const T* src = in + from;
          T* dst = plane + to;
          if (step == 1) {
            for (int64_t j = 0; j < count; ++j) dst[j] += weight * src[j];
          } else {
            for (int64_t j = 0; j < count; ++j) dst[j] += weight * src[j * step];
          }
        });
      });
    }
  }
}

}  // namespace halftone

#endif  // HALFTONE_CORE_OPS_CONV_KERNEL_H_
