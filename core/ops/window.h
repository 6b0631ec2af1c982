// Sliding windows: how convolutions and pooling read their geometry from a node.
//
// A window of `kernel` taps, `dilation` apart, moves over a padded axis in steps of `stride`:
//
//   size + begin + end - ((kernel - 1) * dilation + 1) over stride, rounded down or up, plus 1
#ifndef HALFTONE_CORE_OPS_WINDOW_H_
#define HALFTONE_CORE_OPS_WINDOW_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "core/ops/eval_util.h"
#include "core/ops/infer_util.h"

namespace halftone {

enum class AutoPad : uint8_t { kNotSet, kValid, kSameUpper, kSameLower };

struct WindowAxis {
  int64_t kernel = 1, stride = 1, dilation = 1;
  int64_t begin = 0, end = 0;  // padding; for SAME only known with the input size

  int64_t extent() const { return (kernel - 1) * dilation + 1; }
};

struct Window {
  AutoPad auto_pad = AutoPad::kNotSet;
  bool ceil_mode = false;
  std::vector<WindowAxis> axes;  // one per spatial axis
};

// Reads strides, dilations, pads, auto_pad and ceil_mode for a kernel of the given sizes.
// Checks counts and ranges; kernels, strides, dilations are >= 1 and pads >= 0 afterwards.
absl::StatusOr<Window> ReadWindow(const InferContext& c, absl::Span<const int64_t> kernel);
// For evaluation, after inference checked the same node.
absl::StatusOr<Window> ReadWindow(const EvalContext& c, absl::Span<const int64_t> kernel);

// Output size for an input size; sets begin and end of a SAME window. Unknown stays unknown unless
// the window keeps the size. Fails when the window does not fit.
absl::StatusOr<Dim> OutputSize(const InferContext& c, const Window& window, size_t axis,
                               const Dim& size);
// The axis with its padding for an input of `size` and an output of `out` elements.
WindowAxis Resolved(const Window& window, size_t axis, int64_t size, int64_t out);

// Output positions [first, last) whose tap `tap` falls inside an input of `size` elements.
struct TapRange {
  int64_t first, last;
};
TapRange ValidOutputs(const WindowAxis& axis, int64_t tap, int64_t size, int64_t out);

// Up to three spatial axes, shorter ones padded in front with axes of size 1.
inline constexpr int kMaxSpatial = 3;
struct Spatial {
  std::array<int64_t, kMaxSpatial> in = {1, 1, 1}, out = {1, 1, 1};
  std::array<WindowAxis, kMaxSpatial> axis;
  int64_t in_size() const { return in[0] * in[1] * in[2]; }
  int64_t out_size() const { return out[0] * out[1] * out[2]; }
  int64_t kernel_size() const { return axis[0].kernel * axis[1].kernel * axis[2].kernel; }
};
// From the spatial parts of shapes N, C, spatial…
Spatial MakeSpatial(const Window& window, absl::Span<const int64_t> in_shape,
                    absl::Span<const int64_t> out_shape);

}  // namespace halftone

#endif  // HALFTONE_CORE_OPS_WINDOW_H_
