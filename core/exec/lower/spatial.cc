#include "core/exec/lower/spatial.h"

#include <algorithm>

namespace halftone {

std::optional<Window> ReadWindow(const Node& node, const Shape& input, const Shape& output,
                                 absl::Span<const int64_t> kernel, bool transposed) {
  const size_t spatial = kernel.size();
  if (spatial < 1 || spatial > 3 || input.size() != spatial + 2 || output.size() != spatial + 2) {
    return std::nullopt;
  }
  const Attributes& a = node.attributes();
  const auto strides = a.Ints("strides", std::vector<int64_t>(spatial, 1));
  const auto dilations = a.Ints("dilations", std::vector<int64_t>(spatial, 1));
  const auto pads = a.Ints("pads", std::vector<int64_t>(2 * spatial, 0));
  const std::string auto_pad = a.String("auto_pad", "NOTSET");
  const auto extra = a.Ints("output_padding", std::vector<int64_t>(spatial, 0));
  if (strides.size() != spatial || dilations.size() != spatial || pads.size() != 2 * spatial ||
      extra.size() != spatial) {
    return std::nullopt;
  }
  Window w;
  for (size_t i = 0; i < spatial; ++i) {
    const int64_t extent = (kernel[i] - 1) * dilations[i] + 1;
    // What the window positions reach over the input (or, transposed, over the output).
    const int64_t big = transposed ? output[i + 2] : input[i + 2];
    const int64_t steps = transposed ? input[i + 2] : output[i + 2];
    const int64_t total = (steps - 1) * strides[i] + extent - big;
    int64_t begin = pads[i];
    const int64_t automatic = std::max<int64_t>(total + (transposed ? extra[i] : 0), 0);
    const bool named = transposed && !a.Ints("output_shape").empty();
    if (auto_pad == "SAME_LOWER" || named) begin = automatic - automatic / 2;
    if (auto_pad == "SAME_UPPER") begin = automatic / 2;
    if (auto_pad == "VALID") begin = 0;
    const int64_t end = total - begin;
    // A negative end means that the last rows are not read at all: oneDNN takes that for
    // convolutions and poolings, whose output size is given.
    if (begin < 0 || begin >= extent + big) return std::nullopt;
    w.kernel.push_back(kernel[i]);
    // One position has no next one; oneDNN wants a stride beyond what a negative end cuts off.
    w.strides.push_back(steps == 1 && end >= 0 ? 1 : strides[i]);
    w.dilations.push_back(dilations[i] - 1);
    w.pads_begin.push_back(begin);
    w.pads_end.push_back(end);
  }
  return w;
}

}  // namespace halftone
