// Constant weights in narrow formats: which operand they are, the numbers, and the nodes that
// widen them again. Deterministic and single-threaded.
#ifndef HALFTONE_CORE_PASSES_QUANTIZE_WEIGHTS_H_
#define HALFTONE_CORE_PASSES_QUANTIZE_WEIGHTS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "core/graph/graph.h"
#include "core/quant/quant_spec.h"
#include "core/tensor/tensor.h"

namespace halftone {

// Where a multiply-accumulate node takes its weights from.
struct WeightOperand {
  int input = 1;
  // Axis of output channels in the weight tensor; absent where one axis does not tell them apart
  // (grouped ConvTranspose): such weights are quantized per tensor.
  std::optional<int> channel_axis;
};
// nullopt for operators that have no weight operand we know.
std::optional<WeightOperand> FindWeightOperand(const Node& node);

// How the weights of one node are stored. Equal formats of one constant share their bytes.
struct WeightFormat {
  WeightType type = WeightType::kI8;
  // kI8 only:
  std::optional<int> channel_axis;  // absent: per tensor
  QuantScheme scheme = QuantScheme::kSymmetric;
  int32_t limit = 127;  // symmetric values lie in [-limit, limit]

  auto operator<=>(const WeightFormat&) const = default;
};

struct NarrowWeights {
  Tensor stored;             // i8, f16 or bf16, of the shape of the f32 weights
  Tensor scale, zero_point;  // i8 only: scalars, or one per channel
  int64_t bytes() const;
  absl::StatusOr<Tensor> Widen(const WeightFormat& format) const;  // what the graph computes with
};

// Why these weights cannot be stored like this ("… beyond 65504 …"); empty when they can.
std::string WeightObstacle(const Tensor& weights, const WeightFormat& format);
// Requires: f32 weights without an obstacle. ResourceExhausted when memory is short.
absl::StatusOr<NarrowWeights> NarrowTheWeights(const Tensor& weights, const WeightFormat& format);
// SQNR of the widened weights against the f32 ones, in dB.
absl::StatusOr<double> WeightSqnr(const Tensor& weights, const WeightFormat& format);

// Replaces constants by narrow ones and a node that widens them: DequantizeLinear for i8, Cast for
// f16 and bf16. Thread-compatible; belongs to one graph.
class WeightNarrower {
 public:
  explicit WeightNarrower(Graph& graph) : graph_(graph) {}

  // Makes `node` read its input `index` (an f32 constant) through the narrow form. Returns the
  // bytes that the stored form takes.
  absl::StatusOr<int64_t> Narrow(Node* node, int index, const WeightFormat& format);
  // The same for a node that only moves elements (Gather): the node works on the narrow constant
  // and its output is widened. Requires: an f16 or bf16 format.
  absl::StatusOr<int64_t> NarrowThrough(Node* node, int index, const WeightFormat& format);

 private:
  struct Entry {
    Value* stored = nullptr;
    Value* widened = nullptr;  // made when first asked for
    int64_t bytes = 0;
  };
  absl::StatusOr<Entry*> Store(Value* weights, const WeightFormat& format);

  Graph& graph_;
  std::map<std::pair<std::string, WeightFormat>, Entry> entries_;  // by name: stable order
  std::map<std::string, std::pair<Value*, Value*>> parameters_;    // scale, zero point by constant
};

}  // namespace halftone

#endif  // HALFTONE_CORE_PASSES_QUANTIZE_WEIGHTS_H_
