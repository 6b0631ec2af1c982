// Windows of convolutions and poolings, as oneDNN wants them.
#ifndef HALFTONE_CORE_EXEC_LOWER_SPATIAL_H_
#define HALFTONE_CORE_EXEC_LOWER_SPATIAL_H_

#include <dnnl.hpp>
#include <optional>

#include "core/graph/graph.h"
#include "core/tensor/shape.h"

namespace halftone {

struct Window {
  dnnl::memory::dims kernel, strides;
  dnnl::memory::dims dilations;  // oneDNN's: 0 is dense
  dnnl::memory::dims pads_begin, pads_end;
};

// From the ONNX attributes (auto_pad included). The end padding is what the output size needs, so
// that ceil_mode and rounding are already in it. nullopt for a rank that oneDNN does not take, or
// negative padding.
std::optional<Window> ReadWindow(const Node& node, const Shape& input, const Shape& output,
                                 absl::Span<const int64_t> kernel, bool transposed = false);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_LOWER_SPATIAL_H_
