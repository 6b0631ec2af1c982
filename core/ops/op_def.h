// What an operator means: one row per (domain, op_type, first opset of an incompatible version).
#ifndef HALFTONE_CORE_OPS_OP_DEF_H_
#define HALFTONE_CORE_OPS_OP_DEF_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/graph/graph.h"
#include "core/tensor/tensor.h"

namespace halftone {

// How many inputs or outputs; max < 0: variadic.
struct Arity {
  int min = 1;
  int max = 1;
};

// A set of element types.
using TypeSet = uint32_t;
constexpr TypeSet Types() { return 0; }
template <typename... Rest>
constexpr TypeSet Types(DataType first, Rest... rest) {
  return (TypeSet{1} << static_cast<int>(first)) | Types(rest...);
}
constexpr bool Contains(TypeSet set, DataType t) { return (set & Types(t)) != 0; }

// How quantization treats the operator. Passes look here, never at names.
enum class QuantBehavior : uint8_t {
  kFloatOnly,    // runs in float whatever its neighbours do
  kPassThrough,  // moves or selects elements: the output may keep the input's scale and zero point
  kComputeInt8,  // multiply-accumulate with constant weights: worth int8 (Conv, MatMul, Gemm)
  kElementwiseInt8,  // elementwise or pooling arithmetic that can run between int8 tensors (Add …)
};

// How closely implementations must agree with the reference: |got - want| <= absolute +
// relative * max(|want| over the tensor). Zero means bit-equal.
struct Tolerance {
  float relative = 0;
  float absolute = 0;
};
inline constexpr Tolerance kExact = {0, 0};
inline constexpr Tolerance kRounding = {1e-6f, 1e-7f};    // one rounding per element
inline constexpr Tolerance kAccumulate = {2e-5f, 1e-6f};  // sums in another order

// An integer element of a value as far as inference knows it: a number, or the size of a named
// dimension, or nothing (neither). Lets shape arithmetic keep what it knows beside a symbolic
// batch: Shape of f32[batch,3,8] has the elements {batch, 3, 8}.
struct Element {
  std::optional<int64_t> number;
  std::string symbol;  // only without a number; empty: unknown
};
using Elements = std::vector<Element>;

// What inference knows about one input.
struct InferInput {
  bool present = true;
  ValueType type;
  const Tensor* constant = nullptr;
  const Elements* elements = nullptr;  // of a scalar or 1-D integer value; null: nothing known
};

// Inference sees symbolic types and, where known, the values of inputs. An InferFn checks types,
// ranks, sizes and attributes as far as they are known; the matching EvalFn relies on those checks
// because EvaluateNode infers first, with every input known completely.
class InferContext {
 public:
  InferContext(const Node& node, int opset, std::vector<const Value*> inputs);
  InferContext(const Node& node, int opset, std::vector<InferInput> inputs);

  const Node& node() const { return node_; }
  const Attributes& attributes() const { return node_.attributes(); }
  int opset() const { return opset_; }
  int num_inputs() const { return static_cast<int>(inputs_.size()); }
  int num_outputs() const { return static_cast<int>(outputs_.size()); }
  bool has_input(int i) const { return i < num_inputs() && inputs_[i].present; }
  bool has_output(int i) const { return node_.output(i) != nullptr; }
  // Requires: has_input(i).
  const ValueType& input(int i) const { return inputs_[i].type; }
  // The constant behind an input, if it is one.
  const Tensor* constant(int i) const;
  // The elements of a scalar or 1-D integer input as far as known; nullopt: not even how many.
  std::optional<Elements> elements(int i) const;

  // Sets an output's type; ignored for an absent optional output.
  void set_output(int i, std::optional<DataType> type, SymbolicShape shape);
  // Says what is known of the elements of an output; its shape must be set, scalar or 1-D.
  void set_elements(int i, Elements elements);
  // The node's message prefix plus `what`, as InvalidArgument.
  absl::Status Error(absl::string_view what) const;

  const std::vector<ValueType>& outputs() const { return outputs_; }
  // Parallel to outputs(); nullopt where nothing is known.
  const std::vector<std::optional<Elements>>& output_elements() const { return output_elements_; }

 private:
  const Node& node_;
  int opset_;
  std::vector<InferInput> inputs_;
  std::vector<ValueType> outputs_;
  std::vector<std::optional<Elements>> output_elements_;
};

// Evaluation sees concrete tensors and fills one tensor per output.
class EvalContext {
 public:
  // No tensor that an evaluation makes may be larger: a tiny file could ask for any size.
  static constexpr int64_t kMaxTensorBytes = int64_t{1} << 36;

  // `output_types` is what inference said about the outputs, parallel to node.outputs().
  EvalContext(const Node& node, int opset, std::vector<const Tensor*> inputs,
              std::vector<ValueType> output_types);

  const Node& node() const { return node_; }
  const Attributes& attributes() const { return node_.attributes(); }
  int opset() const { return opset_; }
  int num_inputs() const { return static_cast<int>(inputs_.size()); }
  int num_outputs() const { return static_cast<int>(outputs_.size()); }
  bool has_input(int i) const { return i < num_inputs() && inputs_[i] != nullptr; }
  const Tensor& input(int i) const { return *inputs_[i]; }
  const std::vector<const Tensor*>& inputs() const { return inputs_; }
  bool has_output(int i) const { return node_.output(i) != nullptr; }
  const std::vector<ValueType>& output_types() const { return output_types_; }
  // Allocates output i as inference said and returns it for writing. Null for an output that the
  // node does not have. Fails when the shape depends on data: use the form below.
  absl::StatusOr<Tensor*> Allocate(int i);
  // Allocates output i and returns it for writing.
  absl::StatusOr<Tensor*> Allocate(int i, DataType type, absl::Span<const int64_t> shape);
  void set_output(int i, Tensor t) {
    if (i < num_outputs()) outputs_[i] = std::move(t);
  }
  absl::Status Error(absl::string_view what) const;

  std::vector<Tensor>& outputs() { return outputs_; }

 private:
  const Node& node_;
  int opset_;
  std::vector<const Tensor*> inputs_;
  std::vector<ValueType> output_types_;
  std::vector<Tensor> outputs_;
};

using InferFn = absl::Status (*)(InferContext&);
using EvalFn = absl::Status (*)(EvalContext&);

struct OpDef {
  absl::string_view domain;  // "" is ai.onnx
  absl::string_view name;
  int since_opset;  // this row holds from here up to the next row of the same operator
  Arity inputs, outputs;
  InferFn infer;
  EvalFn eval;
  TypeSet types = 0;  // of input 0, checked before `infer` runs; 0: no input, or a composition
  QuantBehavior quant = QuantBehavior::kFloatOnly;
  Tolerance tolerance = kRounding;
};

}  // namespace halftone

#endif  // HALFTONE_CORE_OPS_OP_DEF_H_
