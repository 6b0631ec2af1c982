// The portable passes one by one; PortablePasses() in pass.h has their order.
// Each returns whether it changed the graph, and leaves nothing dead behind when it did.
#ifndef HALFTONE_CORE_PASSES_PORTABLE_H_
#define HALFTONE_CORE_PASSES_PORTABLE_H_

#include "absl/status/statusor.h"
#include "core/graph/graph.h"

namespace halftone {

// Operators that are compositions (see core/ops/composite.h) → their bodies in ai.onnx, which
// raises the graph's opset. Nodes in nested graphs stay.
absl::StatusOr<bool> ExpandComposites(Graph& graph);

// Transpose of a Transpose → one.
absl::StatusOr<bool> MergeTransposes(Graph& graph);

// Nodes without effect: Identity, Dropout in inference, a Cast to the same type, Reshape,
// Transpose, Slice, Expand and Pad that change nothing, x·1, x+0, Concat and Sum of one input.
absl::StatusOr<bool> RemoveIdentity(Graph& graph);

// Nodes whose inputs are all constants become constants, unless the result is large (over 64 MiB
// and larger than the inputs). What widens stored weights (DequantizeLinear, Cast) stays: it says
// how a weight is kept in memory. A QuantizeLinear of weights folds to the integers.
absl::StatusOr<bool> FoldConstants(Graph& graph);

// Equal constants become one, and so do nodes that compute the same from the same inputs.
absl::StatusOr<bool> Deduplicate(Graph& graph);

// BatchNormalization with constant statistics → Mul, Add (which FoldScale then folds further).
absl::StatusOr<bool> FoldBatchNorm(Graph& graph);

// Mul, Div, Add, Sub by a per-channel constant after Conv, ConvTranspose or Gemm (after MatMul: Mul
// and Div only) → its weights and bias. The result must not be used otherwise.
absl::StatusOr<bool> FoldScale(Graph& graph);

// Zero Pad before Conv or AveragePool → their `pads`.
absl::StatusOr<bool> FoldPad(Graph& graph);

// Exporters' spelled-out GELU (both kinds), HardSwish and HardSigmoid → one node.
absl::StatusOr<bool> CanonicalizeActivations(Graph& graph);

// MatMulInteger or ConvInteger of dynamically quantized data, Cast, Mul by both scales →
// DequantizeLinear, MatMul or Conv.
absl::StatusOr<bool> CanonicalizeIntegerProducts(Graph& graph);

// DequantizeLinear of constant bytes with zero points → of i8 without, where the differences fit:
// kernels want weights around zero.
absl::StatusOr<bool> CenterWeights(Graph& graph);

// DequantizeLinear of constant i8 that are all -1, 0 or 1, in front of float arithmetic → of packed
// weights of 1 or 2 bits (core/ops/unpack.h): what training made ternary or binary stays so small.
absl::StatusOr<bool> PackFewBits(Graph& graph);

// ReduceMean, Sub, Pow, Sqrt, Div, Mul, Add → LayerNormalization.
absl::StatusOr<bool> CanonicalizeLayerNorm(Graph& graph);

// ReduceMean over both spatial axes of a rank-4 tensor → GlobalAveragePool.
absl::StatusOr<bool> CanonicalizePooling(Graph& graph);

// Nodes and constants that no output needs.
absl::StatusOr<bool> RemoveDead(Graph& graph);

}  // namespace halftone

#endif  // HALFTONE_CORE_PASSES_PORTABLE_H_
