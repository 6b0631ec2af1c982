// Narrow weights in a graph: constants, and the nodes that widen them again. Deterministic and
// single-threaded.
#ifndef HALFTONE_CORE_PASSES_WEIGHT_NARROWER_H_
#define HALFTONE_CORE_PASSES_WEIGHT_NARROWER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "core/graph/graph.h"
#include "core/passes/quantize_weights.h"

namespace halftone {

// The numbers that input `index` of a node gets.
using NarrowFn =
    std::function<absl::StatusOr<NarrowWeights>(const Node&, int index, const WeightFormat&)>;

// Replaces constants by narrow ones and what widens them:
//
//   f16, bf16         Cast
//   i16 i8 u8 i4 u4   DequantizeLinear (axis, block_size)
//   ternary, binary   UnpackTernary or UnpackBinary (core/ops/unpack.h) → DequantizeLinear
//   …stored as rows   → Reshape, and for ConvTranspose → Transpose → Reshape
//
// Thread-compatible; belongs to one graph, whose opset must have these (see RequiredOpset).
class WeightNarrower {
 public:
  // `narrow` chooses the numbers; NarrowTheWeights if empty.
  explicit WeightNarrower(Graph& graph, NarrowFn narrow = nullptr)
      : graph_(graph), narrow_(std::move(narrow)) {}

  // What `node` will compute with after Narrow.
  absl::StatusOr<Tensor> Widened(const Node& node, int index, const WeightFormat& format);

  // Makes `node` read its input `index` (an f32 constant) through the narrow form. Returns the
  // bytes that the stored form takes.
  absl::StatusOr<int64_t> Narrow(Node* node, int index, const WeightFormat& format);
  // The same for a node that only moves elements (Gather): the node works on the narrow constant
  // and its output is widened. Requires: an f16 or bf16 format, or 8 or 16 bits in groups that are
  // the rows of a table from which Gather takes rows; these meet their scales in a Mul.
  absl::StatusOr<int64_t> NarrowThrough(Node* node, int index, const WeightFormat& format);

 private:
  struct Entry {
    NarrowWeights narrow;
    Value* stored = nullptr;
    Value* widened = nullptr;  // made when first asked for
  };
  // `codes`, which are what `gather` takes from a table, as f32, times the scales of the same rows.
  Value* ScaleRows(const Node& gather, Value* codes, const std::string& weights,
                   const NarrowWeights& narrow);
  absl::StatusOr<Entry*> Store(const Node& node, int index, const WeightFormat& format);

  Graph& graph_;
  NarrowFn narrow_;
  std::map<std::pair<std::string, WeightFormat>, Entry> entries_;  // by name: stable order
};

// What a graph with these weights computes with, as f32 of the original shape.
absl::StatusOr<Tensor> WidenWeights(const NarrowWeights& narrow, const WeightFormat& format);
// SQNR of the widened weights against the f32 ones, in dB.
absl::StatusOr<double> WeightSqnr(const Tensor& weights, const NarrowWeights& narrow,
                                  const WeightFormat& format);

// The opset of ai.onnx from which on the nodes that widen this format exist.
int RequiredOpset(WeightType type, bool grouped);

}  // namespace halftone

#endif  // HALFTONE_CORE_PASSES_WEIGHT_NARROWER_H_
