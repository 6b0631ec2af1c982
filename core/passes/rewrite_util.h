// What most passes need: looking at constants, finding neighbours, replacing values.
//
// Passes rewire and leave dead nodes behind; they call Graph::RemoveUnused once at their end.
#ifndef HALFTONE_CORE_PASSES_REWRITE_UTIL_H_
#define HALFTONE_CORE_PASSES_REWRITE_UTIL_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/graph/graph.h"

namespace halftone {

// An operator of the default domain.
bool IsOp(const Node* node, absl::string_view op);

// The constant behind a value; null if it is none (or absent).
const Tensor* ConstantOf(const Value* value);
// As above if it is f32.
const Tensor* FloatConstantOf(const Value* value);
// The number behind a constant of one element and any numeric type.
std::optional<double> ScalarOf(const Value* value);
bool IsScalar(const Value* value, double want, double tolerance = 1e-6);
// The integers behind a constant; nullopt if it is no integer constant.
std::optional<std::vector<int64_t>> IntsOf(const Value* value);

// The rank if known, else -1.
int RankOf(const Value* value);

// The one node that reads the value, once, if nothing else does and it is no graph output.
Node* SoleUser(const Value* value);

// Whether every use of `from` may read `to` instead without renaming a graph input or output.
bool CanReplace(const Value* from, const Value* to);

// Adds a node with one output that takes the place, the name and the type of `replaced`.
// The old producer stays, dead.
Node* ReplaceByNode(Graph& graph, Value* replaced, NodeSpec spec);

// Gives input `index` of `node` a new constant value: in place if nobody else reads the old one.
void ReplaceConstantInput(Graph& graph, Node* node, int index, Tensor tensor,
                          absl::string_view name);

// A negative axis counted from the end; nullopt when out of [-rank, rank).
std::optional<int> NormalAxis(int64_t axis, int rank);

// QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, rows quantized one by one, unpacking of
// weights: they state a decision and stay as they are.
bool IsQuantization(const Node& node);

}  // namespace halftone

#endif  // HALFTONE_CORE_PASSES_REWRITE_UTIL_H_
