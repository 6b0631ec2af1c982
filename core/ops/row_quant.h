// Operators of our own domain: activations quantized row by row (per token), for which ONNX (to
// opset 22) has no DynamicQuantizeLinear. A row is all that lies along the last axis.
//
//   DynamicQuantizeRows(x: f32[…, n]) → codes: u8[…, n], scale: f32[…, 1], zero_point: u8[…, 1]
//   DequantizeRows(codes, scale, zero_point) → f32[…, n]
//
//   scale      = (max(row, 0) - min(row, 0)) / 255, within [smallest normal f32, largest f32 / 256]
//   zero_point = saturate(round_half_even(-min(row, 0) / scale))
//   codes      = saturate(round_half_even(x / scale) + zero_point); NaN becomes zero_point
//
// Exported files carry both as functions of standard operators, so that every runtime has them.
#ifndef HALFTONE_CORE_OPS_ROW_QUANT_H_
#define HALFTONE_CORE_OPS_ROW_QUANT_H_

#include <limits>

#include "absl/strings/string_view.h"
#include "core/graph/graph.h"

namespace halftone {

inline constexpr absl::string_view kDynamicQuantizeRows = "DynamicQuantizeRows";
inline constexpr absl::string_view kDequantizeRows = "DequantizeRows";
inline constexpr float kSmallestRowScale = std::numeric_limits<float>::min();
inline constexpr float kLargestRowScale = std::numeric_limits<float>::max() / 256.0f;

// One of the two.
bool QuantizesRows(const Node& node);

}  // namespace halftone

#endif  // HALFTONE_CORE_OPS_ROW_QUANT_H_
