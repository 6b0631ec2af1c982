// Whole-graph shape inference and reference evaluation, driven by the operator table.
#ifndef HALFTONE_CORE_OPS_EVALUATE_H_
#define HALFTONE_CORE_OPS_EVALUATE_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/graph/graph.h"
#include "core/ops/op_def.h"

namespace halftone {

struct InferOptions {
  // Nodes with constant inputs and at most this many output elements are folded into constants
  // on the way, so that shape arithmetic (Shape → Gather → Concat → Reshape) becomes static.
  int64_t fold_elements = 4096;
  // Fold nodes that hold graphs too. Nested inference does not: each level would do it again.
  bool fold_subgraphs = true;
};

// Sets the type of every value; sorts the graph topologically. A Shape node of a fully known shape
// folds. Keeps what the file said where inference knows less. InvalidArgument names every node
// that fails by itself.
absl::Status InferShapes(Graph& graph, const InferOptions& options = {});

// True when an attribute is a graph (If, Loop, Scan).
bool HasSubgraph(const Node& node);

// What inference finds about a node's outputs from its inputs' types and constants alone: without
// what the file says about them (about values of nested graphs it may).
absl::StatusOr<std::vector<ValueType>> InferOutputs(const Graph& graph, const Node& node);

// Evaluates one node with its table row. `inputs` is parallel to node.inputs(), null where absent.
absl::StatusOr<std::vector<Tensor>> EvaluateNode(const Graph& graph, const Node& node,
                                                 absl::Span<const Tensor* const> inputs);

// Runs the whole graph with the reference evaluations: slow, readable, the oracle of every test.
// Inputs and outputs are in graph order. Requires a topologically sorted graph.
absl::StatusOr<std::vector<Tensor>> EvaluateGraph(const Graph& graph,
                                                  absl::Span<const Tensor> inputs);

}  // namespace halftone

#endif  // HALFTONE_CORE_OPS_EVALUATE_H_
