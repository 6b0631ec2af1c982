// The intermediate representation: nodes that compute values from values.
//
//   Graph g("mlp");
//   Value* x = g.AddInput("x", {DataType::kF32, Dims{Dim("batch"), 4}});
//   Value* w = g.AddConstant("w", weights);
//   Node* n = g.AddNode({.op = "MatMul", .name = "fc", .inputs = {x, w}, .outputs = {"y"}});
//   g.AddOutput(n->output(0));
//
// A Value has at most one producer and any number of uses; it is a graph input, a constant, or a
// node's output. Node* and Value* stay valid until the node or value is removed.
// Thread-compatible: a const Graph may be read from any thread.
//
// Nested graphs: values of an outer graph that a branch or body uses are *captured*: they are extra
// trailing inputs of the node (Node::num_captures of them) and, in the same order, extra trailing
// inputs of each of its subgraphs. A nested graph is thus closed: it sees nothing but its inputs.
#ifndef HALFTONE_CORE_GRAPH_GRAPH_H_
#define HALFTONE_CORE_GRAPH_GRAPH_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/graph/attributes.h"
#include "core/tensor/shape.h"
#include "core/tensor/tensor.h"

namespace halftone {

class Node;

// Type of a value; `type` is absent until inference or the file says it.
struct ValueType {
  std::optional<DataType> type;
  SymbolicShape shape;
};
std::string ToString(const ValueType& type);  // "f32[batch,3]"

class Value {
 public:
  const std::string& name() const { return name_; }
  const ValueType& type() const { return type_; }
  void set_type(ValueType type) { type_ = std::move(type); }
  Node* producer() const { return producer_; }  // null for inputs and constants
  // One entry per use: a node that reads the value twice is listed twice.
  const std::vector<Node*>& uses() const { return uses_; }
  bool is_constant() const { return constant_.has_value(); }
  bool is_input() const { return is_input_; }
  bool is_output() const { return output_count_ > 0; }
  // Requires: is_constant().
  const Tensor& constant() const { return *constant_; }

 private:
  friend class Graph;
  std::string name_;
  ValueType type_;
  Node* producer_ = nullptr;
  std::vector<Node*> uses_;
  std::optional<Tensor> constant_;
  bool is_input_ = false;
  int output_count_ = 0;
};

class Node {
 public:
  const std::string& op() const { return op_; }                  // ONNX op_type, "Conv"
  const std::string& domain() const { return domain_; }          // "" is ai.onnx
  const std::string& name() const { return name_; }              // unique in its graph, never empty
  const std::vector<Value*>& inputs() const { return inputs_; }  // null: absent optional input
  const std::vector<Value*>& outputs() const { return outputs_; }  // null: absent optional output
  // Null when absent or out of range.
  Value* input(int i) const { return i < static_cast<int>(inputs_.size()) ? inputs_[i] : nullptr; }
  Value* output(int i) const {
    return i < static_cast<int>(outputs_.size()) ? outputs_[i] : nullptr;
  }
  Attributes& attributes() { return attributes_; }
  const Attributes& attributes() const { return attributes_; }
  int num_captures() const { return num_captures_; }

 private:
  friend class Graph;
  std::string op_, domain_, name_;
  std::vector<Value*> inputs_, outputs_;
  Attributes attributes_;
  int num_captures_ = 0;
};

std::string Describe(const Node& node);  // "Conv 'backbone/conv1'", for messages

struct NodeSpec {
  std::string op;
  std::string domain;
  std::string name;  // made unique if taken, invented if empty
  std::vector<Value*> inputs;
  std::vector<std::string> outputs;  // names of new values; "" is an absent optional output
  Attributes attributes;
  int num_captures = 0;
};

struct TensorSignature {
  std::string name;
  DataType type = DataType::kF32;
  Dims shape;  // unknown dims have no value; an unknown rank never gets here (import refuses it)
};
struct Signature {
  std::vector<TensorSignature> inputs, outputs;
};

class Graph {
 public:
  explicit Graph(std::string name = "graph") : name_(std::move(name)) {}
  Graph(Graph&&) = default;
  Graph& operator=(Graph&&) = default;
  // Same names and structure; constants share their bytes. `value_map`, if given, receives the
  // clone of every value.
  Graph Clone(absl::flat_hash_map<const Value*, Value*>* value_map = nullptr) const;

  const std::string& name() const { return name_; }
  // Opset per domain; "" (ai.onnx) is always present once imported.
  std::map<std::string, int>& opsets() { return opsets_; }
  const std::map<std::string, int>& opsets() const { return opsets_; }
  int opset(const std::string& domain = "") const;

  const std::vector<Value*>& inputs() const { return inputs_; }
  const std::vector<Value*>& outputs() const { return outputs_; }
  // In insertion order, or topological order after SortTopologically.
  const std::vector<Node*>& nodes() const { return node_order_; }
  // Every value, in creation order.
  std::vector<Value*> values() const;
  Value* FindValue(absl::string_view name) const;  // null if there is none

  // Names are made unique ("x", "x_1", …) unless they are new.
  Value* AddInput(std::string name, ValueType type);
  Value* AddConstant(std::string name, Tensor tensor);
  Node* AddNode(NodeSpec spec);
  void AddOutput(Value* value);

  // Each keeps producers, uses and graph outputs consistent.
  void SetInput(Node* node, int index, Value* value);  // value may be null; grows inputs as needed
  void SetOp(Node* node, std::string op, std::string domain = "");
  // Every use of `from`, graph outputs included, reads `to` instead.
  void ReplaceUses(Value* from, Value* to);
  // As above but graph outputs keep their *name*: `to` takes over the name of `from` where `from`
  // is a graph output. Use this when a pass replaces the producer of an output.
  void ReplaceUsesKeepingName(Value* from, Value* to);
  void SetConstant(Value* value, Tensor tensor);     // value must be a constant
  void RenameValue(Value* value, std::string name);  // Requires: the name is free
  // Turns a produced value into a constant; the producer loses this output.
  void MakeConstant(Value* value, Tensor tensor);
  // Requires: none of the node's outputs is used or a graph output.
  void RemoveNode(Node* node);
  // Requires: a constant that nothing uses and that is no graph output.
  void RemoveConstant(Value* value);
  // Removes nodes, constants and unused values that no graph output needs. Inputs stay.
  void RemoveUnused();
  // Stable topological order (insertion order where free). InvalidArgument names a cycle's node.
  absl::Status SortTopologically();

  // Checks the invariants above (uses match inputs, acyclic, unique names, outputs exist).
  absl::Status Verify() const;
  // One line per node, for people and golden files.
  std::string Dump() const;

  std::string UniqueName(absl::string_view wanted) const;

 private:
  Value* NewValue(std::string name);
  void Forget(Value* value);

  std::string name_;
  std::map<std::string, int> opsets_;
  std::vector<std::unique_ptr<Value>> values_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<Node*> node_order_;
  std::vector<Value*> inputs_, outputs_;
  absl::flat_hash_map<std::string, Value*> values_by_name_;
  absl::flat_hash_map<std::string, Node*> nodes_by_name_;
  mutable absl::flat_hash_map<std::string, int> next_suffix_;
};

// Names, types and shapes of inputs and outputs. InvalidArgument when one has no type or rank.
absl::StatusOr<Signature> SignatureOf(const Graph& graph);

}  // namespace halftone

#endif  // HALFTONE_CORE_GRAPH_GRAPH_H_
