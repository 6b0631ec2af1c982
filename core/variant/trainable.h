// A quantized graph in the form that quantization-aware training starts from.
#ifndef HALFTONE_CORE_VARIANT_TRAINABLE_H_
#define HALFTONE_CORE_VARIANT_TRAINABLE_H_

#include "absl/status/statusor.h"
#include "core/graph/graph.h"

namespace halftone {

// Integer weights become f32 constants, each behind a QuantizeLinear and a DequantizeLinear that
// share scale and zero point ("fake quantization"):
//
//   w i8 ─ DequantizeLinear ─ Conv     →     w f32 ─ QuantizeLinear ─ DequantizeLinear ─ Conv
//
// so that gradients can move weights and scales (both f32 constants), while the graph computes
// what it did: a weight is that of `fp32` where this rounds to the integer that `variant` has, and
// the integer's own real value where a technique chose another one. Activations keep their pairs.
// Weights of fewer bits than ONNX has types for:
//
//   ternary: w f32 ─ QuantizeLinear (i8) ─ Clip(-1, 1) ─ DequantizeLinear
//   binary:  w f32 ─ Sign ─ Cast (i8) ─ DequantizeLinear
//
// `fp32` is the graph that the variant was made from; nodes are told by the names of their outputs.
// FAILED_PRECONDITION when no weights are constants behind a DequantizeLinear.
absl::StatusOr<Graph> MakeTrainable(const Graph& fp32, const Graph& variant);

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_TRAINABLE_H_
