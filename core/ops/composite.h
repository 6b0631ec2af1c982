// Operators whose meaning is a small graph of ai.onnx operators.
//
// A composite is one function that writes that graph, its body, for a node whose input types are
// known. The operator's row infers and evaluates by running the body; the portable pass
// ExpandComposites puts the body in the node's place, so that neither lowering rules nor
// quantization ever meet the operator:
//
//   absl::StatusOr<Outputs> BiasGelu(Body& b) {
//     return Outputs{b.Op("Gelu", {b.Op("Add", {b.in(0), b.in(1)})})};
//   }
#ifndef HALFTONE_CORE_OPS_COMPOSITE_H_
#define HALFTONE_CORE_OPS_COMPOSITE_H_

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/graph/graph.h"
#include "core/ops/op_def.h"

namespace halftone {

// Bodies are written in this opset of ai.onnx.
inline constexpr int kBodyOpset = 21;

// Values that a node's outputs take, in order; trailing optional ones may be missing.
using Outputs = std::vector<Value*>;

// Writes the body of one node. Types and ranks of all present inputs are known; sizes may not be.
class Body {
 public:
  // `inputs` is parallel to node.inputs(); nullopt where absent.
  Body(const Node& node, absl::Span<const std::optional<ValueType>> inputs);

  const Attributes& attributes() const { return node_.attributes(); }
  bool has(int i) const { return in(i) != nullptr; }
  int num_inputs() const { return static_cast<int>(inputs_.size()); }
  // Null when absent, which is how an operator of the body takes an absent input.
  Value* in(int i) const { return i >= 0 && i < num_inputs() ? inputs_[i] : nullptr; }
  // Whether the node has output i.
  bool wants(int i) const { return node_.output(i) != nullptr; }
  // Require: has(i).
  DataType type(int i) const { return *in(i)->type().type; }
  const Dims& dims(int i) const { return *in(i)->type().shape; }
  int rank(int i) const { return static_cast<int>(dims(i).size()); }

  // An operator of ai.onnx and its outputs.
  Value* Op(std::string op, Outputs inputs, Attributes attributes = {});
  Outputs Op(std::string op, Outputs inputs, Attributes attributes, int outputs);
  Value* Constant(Tensor tensor);
  Value* Ints(std::initializer_list<int64_t> values);  // i64[n]
  Value* Number(float value, DataType type);           // a scalar
  Value* Size(Value* of, int64_t axis);                // i64[1]
  Value* Cast(Value* value, DataType type);
  // The node's attributes of these names, as far as it has them.
  Attributes Copied(std::initializer_list<absl::string_view> names) const;

  absl::Status Error(absl::string_view what) const;
  // Fails when one of these inputs is absent: the table row can only require the first few.
  absl::Status Require(std::initializer_list<int> inputs) const;
  // A variation of the operator that has no body.
  absl::Status Unsupported(absl::string_view what) const;

  // The body with its outputs; parallel to the node's present inputs and present outputs.
  absl::StatusOr<Graph> Finish(const Outputs& outputs) &&;

 private:
  const Node& node_;
  Graph graph_;
  std::vector<Value*> inputs_;
};

using BodyFn = absl::StatusOr<Outputs> (*)(Body&);

struct Composite {
  absl::string_view name;
  Arity inputs, outputs;
  BodyFn body;
  absl::string_view domain = "com.microsoft";
  // The operator has a row of its own, in integers; the body stands in for it only where weights
  // and their parameters are constants, which is where kernels for it exist.
  bool has_own_row = false;
};

// The families of composites; FindComposite and CompositeOps collect them.
absl::Span<const Composite> ContribFloatOps();
absl::Span<const Composite> ContribAttentionOps();
absl::Span<const Composite> ContribQuantOps();

// Null when the node's operator is none. Thread-safe.
const Composite* FindComposite(const Node& node);

// The typed body for a node with these inputs, parallel to node.inputs(), nullopt where absent.
// Requires: FindComposite(node) != nullptr, types and ranks are known.
absl::StatusOr<Graph> ComposeBody(const Node& node,
                                  absl::Span<const std::optional<ValueType>> inputs);

}  // namespace halftone

#endif  // HALFTONE_CORE_OPS_COMPOSITE_H_
