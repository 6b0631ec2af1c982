// Recognises what one primitive can do at once: a multiply-accumulate node with dequantized or
// narrow inputs in front of it and bias, activation, residual and quantize nodes behind it.
#ifndef HALFTONE_CORE_EXEC_FUSION_H_
#define HALFTONE_CORE_EXEC_FUSION_H_

#include <dnnl.hpp>
#include <functional>
#include <optional>
#include <vector>

#include "core/exec/kernels/elementwise.h"
#include "core/graph/graph.h"

namespace halftone {

// A DequantizeLinear (or QuantizeLinear) per tensor whose parameters are constants, or, for
// dynamic quantization, values that exist at run time.
struct TensorQuant {
  const Value* quantized = nullptr;  // the integer side
  DataType type = DataType::kU8;     // u8 or i8
  bool is_static = true;
  QuantizedView view;                       // valid when static
  const Value* scale_value = nullptr;       // valid when not static: f32 scalar
  const Value* zero_point_value = nullptr;  // valid when not static: u8 scalar, may be null (0)
};
// nullopt unless `value` is made by a per-tensor DequantizeLinear of u8 or i8 activations.
std::optional<TensorQuant> MatchDequantize(const Value* value);
// Likewise for what a product takes on its right side if it is computed at run time: i8 activations
// around zero with constant parameters.
std::optional<TensorQuant> MatchRightOperand(const Value* value);
// nullopt unless `node` is a per-tensor QuantizeLinear to u8 or i8 with constant parameters.
std::optional<TensorQuant> MatchQuantize(const Node& node);

// Mul of an f32 tensor [N, C, …] by one factor per channel, f32 [N or 1, C, 1, …]: the last step of
// squeeze and excitation. Shapes are concrete, and not empty.
struct ChannelScale {
  const Value* x = nullptr;
  const Value* gain = nullptr;
};
std::optional<ChannelScale> MatchChannelScale(const Node& mul);
// The same of a dequantized tensor.
struct QuantizedScale {
  TensorQuant x;
  const Value* gain = nullptr;
};
std::optional<QuantizedScale> MatchQuantizedScale(const Node& mul);

// Rows that DequantizeRows makes of codes with a scale and a zero point per row: what
// DynamicQuantizeRows gave, known at run time.
struct RowQuant {
  const Value* codes = nullptr;       // u8
  const Value* scale = nullptr;       // f32, one per row
  const Value* zero_point = nullptr;  // u8, one per row
};
std::optional<RowQuant> MatchDequantizeRows(const Value* value);

enum class WeightForm : uint8_t {
  kF32,    // plain constant
  kF16,    // Cast(f16 constant)
  kBF16,   // Cast(bf16 constant)
  kI8,     // DequantizeLinear(i8 constant), symmetric, per tensor or per output channel
  kCodes,  // DequantizeLinear of constant integers of 1 to 16 bits, in any way, maybe reshaped and
           // transposed behind it: float arithmetic only
};
struct WeightMatch {
  const Value* constant = nullptr;  // the stored tensor
  WeightForm form = WeightForm::kF32;
  std::vector<float> scales;       // kI8: one, or one per output channel
  const Value* widened = nullptr;  // what the node reads
  Shape shape;                     // of `widened`
  int bits = 0;                    // kCodes: of one stored weight
};
// `channel_axis` is the axis of output channels in the weight tensor. nullopt: not constant, or a
// form that primitives cannot take (the node then runs on dequantized weights).
std::optional<WeightMatch> MatchWeights(const Value* value, int channel_axis);

// An elementwise function that oneDNN can apply after a primitive or on its own.
struct Eltwise {
  dnnl::algorithm algorithm = dnnl::algorithm::undef;
  float alpha = 0;
  float beta = 0;
};
std::optional<Eltwise> MatchEltwise(const Node& node);

struct TailOp {
  enum class Kind : uint8_t { kBias, kEltwise, kAdd, kQuantize };
  Kind kind = Kind::kEltwise;
  std::vector<Node*> nodes;                // what this step of the tail absorbs
  Eltwise eltwise;                         // kEltwise
  const Value* other = nullptr;            // kBias, kAdd: the float operand
  std::optional<TensorQuant> other_quant;  // kAdd: the operand is dequantized from here
  TensorQuant quant;                       // kQuantize
  Value* result = nullptr;
};

// A Transpose that a matrix product writes through strides instead of running it.
struct FoldedTranspose {
  Node* node = nullptr;
  std::vector<int64_t> permutation;
};

struct ComputeMatch {
  Node* anchor = nullptr;
  const Value* input = nullptr;            // float side of the activation
  std::optional<TensorQuant> input_quant;  // set: the activation is dequantized from here
  std::optional<RowQuant> row_quant;   // set: the rows of the activation are dequantized from here
  std::optional<WeightMatch> weights;  // absent: weights are computed at run time
  // Of such weights, i8 around zero: integer arithmetic on both sides, both static. Only together
  // with input_quant.
  std::optional<TensorQuant> right_quant;
  const Value* bias = nullptr;  // from the node itself
  std::vector<TailOp> tail;
  // Products of two run-time matrices only: a transpose after the whole tail.
  std::optional<FoldedTranspose> transpose_result;

  const Value* result(size_t tail_ops) const {
    return tail_ops == 0 ? anchor->output(0) : tail[tail_ops - 1].result;
  }
};

// Matches Conv, ConvTranspose, MatMul and Gemm; nullopt for other nodes. `taken` holds nodes that
// other units have absorbed already. Requires concrete shapes for residual additions to match.
std::optional<ComputeMatch> MatchCompute(Node* node, const std::function<bool(const Node*)>& taken);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_FUSION_H_
