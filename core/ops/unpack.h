// Operators of our own domain: weights of one and two bits, which ONNX (to opset 22) has no type
// for.
//
//   UnpackTernary(packed: u8[ceil(n / 4)], shape) → i8 of `shape` with n elements in {-1, 0, 1}
//   UnpackBinary (packed: u8[ceil(n / 8)], shape) → i8 of `shape` with n elements in {-1, 1}
//
// core/quant/packed.h says how the bits lie. A DequantizeLinear behind it gives the scale. Exported
// files carry both as functions of standard operators, so that every runtime has them.
#ifndef HALFTONE_CORE_OPS_UNPACK_H_
#define HALFTONE_CORE_OPS_UNPACK_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/graph/graph.h"

namespace halftone {

inline constexpr absl::string_view kHalftoneDomain = "halftone";
inline constexpr int kHalftoneOpset = 1;
inline constexpr absl::string_view kUnpackTernary = "UnpackTernary";
inline constexpr absl::string_view kUnpackBinary = "UnpackBinary";

// One of the two: stored weights are to stay as they are, however constant they look.
bool UnpacksWeights(const Node& node);
// Bits per weight: 2 or 1. Requires: UnpacksWeights(node).
int UnpackedBits(const Node& node);
// What each byte holds, [256, 8 / bits]. Requires: `op` is one of the two.
std::vector<int8_t> UnpackTable(absl::string_view op);

}  // namespace halftone

#endif  // HALFTONE_CORE_OPS_UNPACK_H_
