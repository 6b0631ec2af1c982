// fp32 graph + resolved spec (+ calibrated ranges) → the same graph in standard ONNX with narrow
// weights (f16, bf16, i8) and, for int8, quantized activations.
//
//   HT_RETURN_IF_ERROR(PrepareForQuantization(graph, spec));
//   HT_ASSIGN_OR_RETURN(auto values, ValuesToCalibrate(graph, spec));     // static int8 only
//   …observe their ranges…
//   HT_ASSIGN_OR_RETURN(auto choices, QuantizeGraph(graph, spec, {.ranges = &ranges}));
//
// Names of existing values never change; new ones get suffixes (_quantized, _dequantized, _scale
// …), so that values of the fp32 graph and of the variant can be compared by name.
#ifndef HALFTONE_CORE_PASSES_QUANTIZE_GRAPH_H_
#define HALFTONE_CORE_PASSES_QUANTIZE_GRAPH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/graph/graph.h"
#include "core/passes/accuracy.h"
#include "core/passes/quantize_activations.h"
#include "core/passes/quantize_weights.h"
#include "core/passes/weight_narrower.h"
#include "core/quant/quant_spec.h"

namespace halftone {

// What happens to one node that could have narrow weights.
struct NodeChoice {
  Node* node = nullptr;
  int weight_input = -1;  // -1: it has no constant weights
  WeightFormat format;    // type kF32: stays float, and `reason` says why
  std::string reason;
  bool moves_weights = false;  // it only selects among the weights (Gather): narrow all through
  std::string output;          // name of the value behind its fused activation: what to compare
  int64_t weight_bytes = 0;    // stored
  int64_t fp32_weight_bytes = 0;
};

struct QuantizeOptions {
  // Symmetric weights in [-63, 63] for integer arithmetic that sums pairs of products in 16 bits.
  bool reduce_weight_range = false;
  const RangeMap* ranges = nullptr;  // static int8: required
  NarrowFn narrow;                   // how weights are rounded; empty: to the nearest
  // By name of a layer's input: where given, biases take back what rounding does to means.
  const ChannelStatsMap* means = nullptr;
};

// Raises the opset to what the spec's operators need, removes what is unused, sorts the graph.
absl::Status PrepareForQuantization(Graph& graph, const QuantSpec& spec);

// Every node with weights, and every multiply-accumulate node, in execution order. Pure.
// Requires a sorted graph with inferred types and a resolved spec.
std::vector<NodeChoice> ChooseNodes(const Graph& graph, const QuantSpec& spec,
                                    const QuantizeOptions& options);

// Names of the values whose ranges static int8 needs; none for other specs.
std::vector<std::string> ValuesToCalibrate(const Graph& graph, const QuantSpec& spec);

// "fp32/compute=…": the graph stays as it is.
bool IsComputeHintAlone(const QuantSpec& spec);

// Rewrites the graph and returns what happened, with weight_bytes filled in. FAILED_PRECONDITION
// when nothing would change: the message says why node by node.
absl::StatusOr<std::vector<NodeChoice>> QuantizeGraph(Graph& graph, const QuantSpec& spec,
                                                      const QuantizeOptions& options);

}  // namespace halftone

#endif  // HALFTONE_CORE_PASSES_QUANTIZE_GRAPH_H_
