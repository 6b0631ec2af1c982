// Where activations become 8-bit integers: a decision (pure), then its insertion into the graph.
//
// Integer arithmetic wants `DQ → Conv → Relu → Q`, so that what lies between two compute nodes is
// one u8 tensor. The decision therefore never separates a compute node from its bias, activation or
// residual Add; carries scales through operators that only move elements (MaxPool, Reshape,
// Concat); and leaves alone what does not lie between integer nodes (LayerNorm, Softmax, …).
#ifndef HALFTONE_CORE_PASSES_QUANTIZE_ACTIVATIONS_H_
#define HALFTONE_CORE_PASSES_QUANTIZE_ACTIVATIONS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "core/graph/graph.h"
#include "core/quant/qparams.h"
#include "core/quant/quant_spec.h"

namespace halftone {

using NodeSet = absl::flat_hash_set<const Node*>;
// Ranges of values by name, from calibration.
using RangeMap = std::map<std::string, ValueRange>;

// The value that `node` transforms element by element, as a primitive does after accumulating:
// Relu(x), Add(x, constant), Mul(x, Sigmoid(x)). Null when `node` is something else.
Value* AppliedTo(const Node& node);

// Follows `value` through what is fused behind its producer (and, with `residual`, through an Add
// of another value) to the last value before `stop` or a branch.
const Value* EndOfFusion(const Value* value, bool residual,
                         const absl::flat_hash_set<const Value*>& stop);

struct ActivationPlan {
  struct Quantized {
    Value* value = nullptr;
    int group = 0;           // values of one group share scale and zero point
    bool symmetric = false;  // i8 around zero instead of u8: somebody's right side (see below)
    // The nodes of the one function that reads it, when a table of all its cases is to compute that
    // function (see LookUps). The range is then cut to where the function changes.
    std::vector<Node*> function;
  };
  struct Read {
    Node* node = nullptr;
    int input = 0;
  };
  std::vector<Quantized> values;  // in reverse execution order
  std::vector<Read> reads;        // inputs that take the dequantized form; others stay float
};

// The products of two activations that `int8` nodes make (the left one maybe through a Softmax):
// queries by keys, and weights of attention by values. Integer arithmetic takes them, too.
NodeSet AttentionProducts(const Graph& graph, const NodeSet& int8);

// Whether functions that cost as much as the product in front of them (Sigmoid, SiLU, Gelu, Tanh …)
// read 8 bits, too, where their result becomes 8 bits anyway: then they are a table of 256 cases,
// at the price of a second rounding.
enum class LookUps : uint8_t { kNone, kCostlyFunctions };

// Decides for a topologically sorted graph whose nodes `int8` read input 0 quantized, and a product
// of two activations input 1 as well: that one symmetric. Values for which `allowed` is given and
// has no entry stay float.
ActivationPlan PlanActivations(const Graph& graph, const NodeSet& int8, const RangeMap* allowed,
                               LookUps look_ups = LookUps::kNone);

// Inserts QuantizeLinear → DequantizeLinear, per tensor: unsigned types are affine, signed ones
// symmetric, and right sides of products are i8. Requires: a range for every value of the plan.
absl::Status InsertStatic(Graph& graph, const ActivationPlan& plan, const RangeMap& ranges,
                          ActivationType type);

// What shares a scale in dynamic quantization: a tensor, or a row along the last axis (a token).
enum class DynamicScale : uint8_t { kPerTensor, kPerRow };

// Inserts DynamicQuantizeLinear → DequantizeLinear, or the same per row (core/ops/row_quant.h),
// before input 0 of every node in `nodes`, one for all consumers of a value.
void InsertDynamic(Graph& graph, const std::vector<Node*>& nodes, DynamicScale scale);
// True when the rows of input 0 are what the node multiplies: MatMul, and Gemm as it lies.
bool MultipliesRows(const Node& node);

}  // namespace halftone

#endif  // HALFTONE_CORE_PASSES_QUANTIZE_ACTIVATIONS_H_
