#include "core/ops/window.h"

#include "core/base/checked_math.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

// Keeps every product and sum of sizes far from overflow.
constexpr int64_t kMaxSize = int64_t{1} << 30;

// One value per axis from an attribute, `fallback` when it is absent.
template <typename Context>
absl::StatusOr<std::vector<int64_t>> PerAxis(const Context& c, absl::string_view name, size_t count,
                                             int64_t fallback, int64_t min) {
  std::vector<int64_t> values = c.attributes().Ints(name);
  if (values.empty()) values.assign(count, fallback);
  if (values.size() != count) {
    return c.Error(absl::StrCat(name, " has ", values.size(), " values, want ", count));
  }
  for (const int64_t v : values) {
    if (v < min || v > kMaxSize) return c.Error(absl::StrCat(name, " has the value ", v));
  }
  return values;
}

template <typename Context>
absl::StatusOr<Window> Read(const Context& c, absl::Span<const int64_t> kernel) {
  Window out;
  const size_t rank = kernel.size();
  const std::string auto_pad = c.attributes().String("auto_pad", "NOTSET");
  if (auto_pad == "VALID") {
    out.auto_pad = AutoPad::kValid;
  } else if (auto_pad == "SAME_UPPER") {
    out.auto_pad = AutoPad::kSameUpper;
  } else if (auto_pad == "SAME_LOWER") {
    out.auto_pad = AutoPad::kSameLower;
  } else if (auto_pad != "NOTSET" && !auto_pad.empty()) {
    return c.Error(
        absl::StrCat("auto_pad is '", auto_pad, "', want NOTSET, VALID, SAME_UPPER or SAME_LOWER"));
  }
  out.ceil_mode = c.attributes().Int("ceil_mode", 0) != 0;
  HT_ASSIGN_OR_RETURN(const auto strides, PerAxis(c, "strides", rank, 1, 1));
  HT_ASSIGN_OR_RETURN(const auto dilations, PerAxis(c, "dilations", rank, 1, 1));
  HT_ASSIGN_OR_RETURN(const auto pads, PerAxis(c, "pads", 2 * rank, 0, 0));
  out.axes.resize(rank);
  for (size_t i = 0; i < rank; ++i) {
    if (kernel[i] < 1 || kernel[i] > kMaxSize) {
      return c.Error(absl::StrCat("kernel size is ", kernel[i], ", want 1 or more"));
    }
    WindowAxis& a = out.axes[i];
    a = {.kernel = kernel[i], .stride = strides[i], .dilation = dilations[i]};
    if (out.auto_pad != AutoPad::kNotSet) continue;
    a.begin = pads[i];
    a.end = pads[i + rank];
  }
  return out;
}

bool IsSame(AutoPad p) { return p == AutoPad::kSameUpper || p == AutoPad::kSameLower; }

}  // namespace

absl::StatusOr<Window> ReadWindow(const InferContext& c, absl::Span<const int64_t> kernel) {
  return Read(c, kernel);
}
absl::StatusOr<Window> ReadWindow(const EvalContext& c, absl::Span<const int64_t> kernel) {
  return Read(c, kernel);
}

absl::StatusOr<Dim> OutputSize(const InferContext& c, const Window& window, size_t axis,
                               const Dim& size) {
  const WindowAxis& a = window.axes[axis];
  const bool same = IsSame(window.auto_pad);
  if (!size.known()) {
    const bool keeps = a.stride == 1 && (same || a.begin + a.end == a.extent() - 1);
    return keeps ? size : Dim();
  }
  if (size.value > (int64_t{1} << 40)) return c.Error(absl::StrCat("size ", size.value));
  if (same) return Dim(CeilDiv(size.value, a.stride));
  const int64_t room = size.value + a.begin + a.end - a.extent();
  if (room < 0) {
    return c.Error(absl::StrCat("a window of ", a.extent(), " does not fit into spatial axis ",
                                axis, " of ", size.value, " + padding ", a.begin + a.end));
  }
  int64_t out = (window.ceil_mode ? CeilDiv(room, a.stride) : room / a.stride) + 1;
  // A window that starts in the padding at the end sees nothing.
  if (window.ceil_mode && (out - 1) * a.stride >= size.value + a.begin) --out;
  return Dim(out);
}

WindowAxis Resolved(const Window& window, size_t axis, int64_t size, int64_t out) {
  WindowAxis a = window.axes[axis];
  if (IsSame(window.auto_pad)) {
    const int64_t total = std::max<int64_t>(0, (out - 1) * a.stride + a.extent() - size);
    a.begin = window.auto_pad == AutoPad::kSameUpper ? total / 2 : total - total / 2;
    a.end = total - a.begin;
  }
  return a;
}

TapRange ValidOutputs(const WindowAxis& axis, int64_t tap, int64_t size, int64_t out) {
  // Input position of output o: o * stride + shift.
  const int64_t shift = tap * axis.dilation - axis.begin;
  const int64_t first = shift >= 0 ? 0 : CeilDiv(-shift, axis.stride);
  const int64_t last = shift >= size ? 0 : (size - 1 - shift) / axis.stride + 1;
  return {std::min(first, out), std::clamp<int64_t>(last, std::min(first, out), out)};
}

Spatial MakeSpatial(const Window& window, absl::Span<const int64_t> in_shape,
                    absl::Span<const int64_t> out_shape) {
  Spatial s;
  const size_t rank = window.axes.size(), skip = kMaxSpatial - rank;
  for (size_t i = 0; i < rank; ++i) {
    s.in[i + skip] = in_shape[i + 2];
    s.out[i + skip] = out_shape[i + 2];
    s.axis[i + skip] = Resolved(window, i, in_shape[i + 2], out_shape[i + 2]);
  }
  return s;
}

}  // namespace halftone
