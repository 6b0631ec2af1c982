#include "core/exec/fusion.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/string_view.h"
#include "core/ops/row_quant.h"
#include "core/ops/unpack.h"

namespace halftone {
namespace {

std::optional<float> ScalarConstant(const Value* v) {
  if (v == nullptr || !v->is_constant() || v->constant().num_elements() != 1) return std::nullopt;
  absl::StatusOr<Tensor> f = Convert(v->constant(), DataType::kF32);
  if (!f.ok()) return std::nullopt;
  return f->data<float>()[0];
}

bool IsByte(DataType t) { return t == DataType::kU8 || t == DataType::kI8; }

// Scale and zero point of a Q or DQ node whose integer side is `quantized`.
std::optional<TensorQuant> MatchParameters(const Node& node, const Value* quantized) {
  if (node.attributes().Int("block_size", 0) != 0) return std::nullopt;
  const Value* scale = node.input(1);
  const Value* zero_point = node.input(2);
  TensorQuant q;
  q.quantized = quantized;
  if (quantized == nullptr || !quantized->type().type || !IsByte(*quantized->type().type)) {
    return std::nullopt;
  }
  q.type = *quantized->type().type;
  if (const auto s = ScalarConstant(scale)) {
    const auto z = zero_point == nullptr ? std::optional<float>(0.0f) : ScalarConstant(zero_point);
    if (!z || scale->constant().type() != DataType::kF32) return std::nullopt;
    q.view = {q.type, *s, static_cast<int32_t>(*z)};
    return q;
  }
  const auto shape = Concrete(scale->type().shape);
  if (!shape || ElementCount(*shape) != 1 || scale->is_constant()) return std::nullopt;
  if (zero_point != nullptr && zero_point->is_constant()) return std::nullopt;
  // What DynamicQuantizeLinear gives; the steps read nothing else at run time.
  if (q.type != DataType::kU8 || scale->type().type != DataType::kF32) return std::nullopt;
  q.is_static = false;
  q.scale_value = scale;
  q.zero_point_value = zero_point;
  return q;
}

std::optional<Shape> StaticShape(const Value* v) { return Concrete(v->type().shape); }

// A constant that adds one number per output channel; its elements in channel order.
bool IsChannelVector(const Value* v, const Shape& out, int channel_axis) {
  if (!v->is_constant() || v->constant().type() != DataType::kF32) return false;
  const Shape& shape = v->constant().shape();
  if (v->constant().num_elements() != out[channel_axis]) return false;
  if (shape.size() > out.size()) return false;
  const int offset = static_cast<int>(out.size() - shape.size());
  for (int i = 0; i < static_cast<int>(shape.size()); ++i) {
    if (shape[i] != 1 && i + offset != channel_axis) return false;
  }
  return true;
}

Eltwise Make(dnnl::algorithm a, float alpha = 0, float beta = 0) { return {a, alpha, beta}; }

// v → {gate, Mul(v, gate(v))}: SiLU and HardSwish as exporters write them.
std::optional<TailOp> MatchGate(Value* v, const std::function<bool(const Node*)>& taken) {
  if (v->uses().size() != 2) return std::nullopt;
  Node* gate = v->uses()[0];
  Node* mul = v->uses()[1];
  if (gate->op() == "Mul") std::swap(gate, mul);
  if (mul->op() != "Mul" || taken(gate) || taken(mul)) return std::nullopt;
  Value* g = gate->output(0);
  if (g == nullptr || g->uses().size() != 1 || g->uses()[0] != mul || g->is_output()) {
    return std::nullopt;
  }
  TailOp op;
  op.nodes = {gate, mul};
  op.result = mul->output(0);
  if (gate->op() == "Sigmoid") {
    op.eltwise = Make(dnnl::algorithm::eltwise_swish, 1.0f);
  } else if (gate->op() == "HardSigmoid") {
    op.eltwise = Make(dnnl::algorithm::eltwise_hardswish, gate->attributes().Float("alpha", 0.2f),
                      gate->attributes().Float("beta", 0.5f));
  } else {
    return std::nullopt;
  }
  return op;
}

std::optional<TailOp> MatchAdd(Value* v, Node* node, const ComputeMatch& match, int channel_axis) {
  if (node->inputs().size() != 2 || node->input(0) == node->input(1)) return std::nullopt;
  const Value* other = node->input(0) == v ? node->input(1) : node->input(0);
  const auto shape = StaticShape(v);
  const auto out_shape = StaticShape(node->output(0));
  if (!shape || !out_shape || *shape != *out_shape) return std::nullopt;
  TailOp op;
  op.nodes = {node};
  op.other = other;
  op.result = node->output(0);
  if (match.tail.empty() && match.bias == nullptr && IsChannelVector(other, *shape, channel_axis)) {
    op.kind = TailOp::Kind::kBias;
    return op;
  }
  const auto other_shape = StaticShape(other);
  if (!other_shape || *other_shape != *shape || other->is_constant()) return std::nullopt;
  for (const TailOp& earlier : match.tail) {
    if (earlier.kind == TailOp::Kind::kAdd) return std::nullopt;
  }
  op.kind = TailOp::Kind::kAdd;
  op.other_quant = MatchDequantize(other);
  if (op.other_quant && !op.other_quant->is_static) op.other_quant.reset();
  return op;
}

std::optional<TailOp> MatchTailOp(Value* v, const ComputeMatch& match, int channel_axis,
                                  const std::function<bool(const Node*)>& taken) {
  if (v->is_output() || v->uses().empty()) return std::nullopt;
  if (auto gate = MatchGate(v, taken)) return gate;
  if (v->uses().size() != 1 || taken(v->uses()[0])) return std::nullopt;
  Node* node = v->uses()[0];
  if (node->output(0) == nullptr) return std::nullopt;
  TailOp op;
  op.nodes = {node};
  op.result = node->output(0);
  if (const auto q = MatchQuantize(*node); q && node->input(0) == v) {
    op.kind = TailOp::Kind::kQuantize;
    op.quant = *q;
    return op;
  }
  if (const auto e = MatchEltwise(*node); e && (node->input(0) == v || node->input(1) == v)) {
    op.eltwise = *e;
    return op;
  }
  if (node->op() == "Add") return MatchAdd(v, node, match, channel_axis);
  return std::nullopt;
}

std::optional<FoldedTranspose> MatchTranspose(Node* node) {
  if (node == nullptr || node->op() != "Transpose" || !node->domain().empty()) return std::nullopt;
  FoldedTranspose t{node, node->attributes().Ints("perm")};
  const auto shape = StaticShape(node->output(0));
  if (!shape || t.permutation.size() != shape->size() || shape->size() < 2) return std::nullopt;
  return t;
}

// f32 that DequantizeLinear makes of constants, with data movement behind it.
std::optional<WeightMatch> MatchCodes(const Value* value) {
  constexpr int kMaxHops = 8;
  WeightMatch m{.form = WeightForm::kCodes, .widened = value};
  const auto shape = StaticShape(value);
  const Node* node = value->producer();
  for (int hop = 0; node != nullptr && hop < kMaxHops; ++hop) {
    if (!node->domain().empty() || (node->op() != "Reshape" && node->op() != "Transpose")) break;
    if (node->op() == "Reshape" && !node->input(1)->is_constant()) return std::nullopt;
    node = node->input(0)->producer();
  }
  if (!shape || node == nullptr || node->op() != "DequantizeLinear" || !node->domain().empty()) {
    return std::nullopt;
  }
  for (int i = 1; i < static_cast<int>(node->inputs().size()); ++i) {
    if (node->input(i) != nullptr && !node->input(i)->is_constant()) return std::nullopt;
  }
  if (node->input(1)->constant().type() != DataType::kF32) return std::nullopt;
  const Value* codes = node->input(0);
  const Node* unpack = codes->producer();
  if (unpack != nullptr) {
    if (!UnpacksWeights(*unpack) || node->input(2) != nullptr) return std::nullopt;
    m.bits = UnpackedBits(*unpack);
    codes = unpack->input(0);
  }
  if (!codes->is_constant() || codes->constant().num_elements() == 0) return std::nullopt;
  const DataType type = codes->constant().type();
  if (!IsInteger(type) || BitWidth(type) > 16 || value->type().type != DataType::kF32) {
    return std::nullopt;
  }
  if (unpack == nullptr) m.bits = BitWidth(type);
  m.constant = codes;
  m.shape = *shape;
  return m;
}

// i8 around zero, per tensor or per output channel: what integer kernels take.
std::optional<WeightMatch> MatchInt8(const Value* value, int channel_axis) {
  const Node* node = value->producer();
  WeightMatch m{.constant = node->input(0), .form = WeightForm::kI8, .widened = value};
  if (node->attributes().Int("block_size", 0) != 0) return std::nullopt;
  const Value* scale = node->input(1);
  const Value* zero_point = node->input(2);
  if (!scale->is_constant() || scale->constant().type() != DataType::kF32) return std::nullopt;
  if (zero_point != nullptr) {
    if (!zero_point->is_constant()) return std::nullopt;
    for (std::byte b : zero_point->constant().bytes()) {
      if (b != std::byte{0}) return std::nullopt;
    }
  }
  const auto scales = scale->constant().data<float>();
  m.shape = m.constant->constant().shape();
  int64_t axis = node->attributes().Int("axis", 1);
  if (axis < 0) axis += static_cast<int64_t>(m.shape.size());
  if (scales.size() != 1 && axis != channel_axis) return std::nullopt;
  m.scales.assign(scales.begin(), scales.end());
  return m;
}

}  // namespace

std::optional<TensorQuant> MatchDequantize(const Value* value) {
  const Node* node = value->producer();
  if (node == nullptr || node->op() != "DequantizeLinear" || node->input(0)->is_constant()) {
    return std::nullopt;
  }
  return MatchParameters(*node, node->input(0));
}

std::optional<ChannelScale> MatchChannelScale(const Node& mul) {
  if (mul.op() != "Mul" || mul.inputs().size() != 2 ||
      mul.output(0)->type().type != DataType::kF32) {
    return std::nullopt;
  }
  for (const int side : {0, 1}) {
    const ChannelScale scale{mul.input(side), mul.input(1 - side)};
    const auto x = Concrete(scale.x->type().shape), g = Concrete(scale.gain->type().shape);
    if (x && g && x->size() >= 3 && g->size() == x->size() && ElementCount(*x) != 0 &&
        (*g)[1] == (*x)[1] && ((*g)[0] == 1 || (*g)[0] == (*x)[0]) &&
        ElementCount(*g) == (*g)[0] * (*g)[1]) {
      return scale;
    }
  }
  return std::nullopt;
}

std::optional<QuantizedScale> MatchQuantizedScale(const Node& mul) {
  const auto scale = MatchChannelScale(mul);
  if (!scale) return std::nullopt;
  const auto q = MatchDequantize(scale->x);
  if (!q || !q->is_static) return std::nullopt;
  return QuantizedScale{*q, scale->gain};
}

std::optional<RowQuant> MatchDequantizeRows(const Value* value) {
  const Node* node = value->producer();
  if (node == nullptr || node->domain() != kHalftoneDomain || node->op() != kDequantizeRows) {
    return std::nullopt;
  }
  return RowQuant{node->input(0), node->input(1), node->input(2)};
}

std::optional<TensorQuant> MatchQuantize(const Node& node) {
  if (node.op() != "QuantizeLinear") return std::nullopt;
  auto q = MatchParameters(node, node.output(0));
  if (q && !q->is_static) return std::nullopt;
  return q;
}

std::optional<WeightMatch> MatchWeights(const Value* value, int channel_axis) {
  WeightMatch m{.constant = value, .widened = value};
  if (value->is_constant()) {
    if (value->constant().type() != DataType::kF32) return std::nullopt;
    m.shape = value->constant().shape();
    return m;
  }
  const Node* node = value->producer();
  if (node == nullptr || node->input(0) == nullptr) return std::nullopt;
  if (node->op() == "Cast" && node->input(0)->is_constant() &&
      value->type().type == DataType::kF32) {
    m.constant = node->input(0);
    const DataType stored = m.constant->constant().type();
    if (stored != DataType::kF16 && stored != DataType::kBF16) return std::nullopt;
    m.form = stored == DataType::kF16 ? WeightForm::kF16 : WeightForm::kBF16;
    m.shape = m.constant->constant().shape();
    return m;
  }
  if (node->op() == "DequantizeLinear" && node->input(0)->is_constant() &&
      node->input(0)->constant().type() == DataType::kI8) {
    if (auto int8 = MatchInt8(value, channel_axis)) return int8;
  }
  return MatchCodes(value);
}

std::optional<Eltwise> MatchEltwise(const Node& node) {
  using dnnl::algorithm;
  const Attributes& a = node.attributes();
  const absl::string_view op = node.op();
  if (!node.domain().empty()) return std::nullopt;
  if (op == "Relu") return Make(algorithm::eltwise_relu);
  if (op == "LeakyRelu") return Make(algorithm::eltwise_relu, a.Float("alpha", 0.01f));
  if (op == "Sigmoid") return Make(algorithm::eltwise_logistic);
  if (op == "Tanh") return Make(algorithm::eltwise_tanh);
  if (op == "Elu") return Make(algorithm::eltwise_elu, a.Float("alpha", 1.0f));
  if (op == "HardSwish") return Make(algorithm::eltwise_hardswish, 1.0f / 6.0f, 0.5f);
  if (op == "HardSigmoid") {
    return Make(algorithm::eltwise_hardsigmoid, a.Float("alpha", 0.2f), a.Float("beta", 0.5f));
  }
  if (op == "Gelu") {
    return Make(a.String("approximate", "none") == "tanh" ? algorithm::eltwise_gelu_tanh
                                                          : algorithm::eltwise_gelu_erf);
  }
  if (op == "Clip") {
    const float kInf = std::numeric_limits<float>::max();
    const auto low = node.input(1) == nullptr ? std::optional<float>(a.Float("min", -kInf))
                                              : ScalarConstant(node.input(1));
    const auto high = node.input(2) == nullptr ? std::optional<float>(a.Float("max", kInf))
                                               : ScalarConstant(node.input(2));
    if (!low || !high || *low > *high) return std::nullopt;
    return Make(algorithm::eltwise_clip, *low, *high);
  }
  if (op == "Mul" || op == "Div") {  // by a scalar
    const auto right = ScalarConstant(node.input(1));
    const auto left = op == "Mul" ? ScalarConstant(node.input(0)) : std::nullopt;
    const auto c = right ? right : left;
    if (!c || node.output(0)->type().type != DataType::kF32) return std::nullopt;
    // A [1,1,1] constant may raise the rank of the result.
    const Value* x = right ? node.input(0) : node.input(1);
    if (!x->type().shape || !node.output(0)->type().shape ||
        x->type().shape->size() != node.output(0)->type().shape->size()) {
      return std::nullopt;
    }
    return Make(algorithm::eltwise_linear, op == "Mul" ? *c : 1.0f / *c, 0.0f);
  }
  return std::nullopt;
}

std::optional<TensorQuant> MatchRightOperand(const Value* value) {
  auto q = MatchDequantize(value);
  if (!q || !q->is_static || q->type != DataType::kI8 || q->view.zero_point != 0) {
    return std::nullopt;
  }
  return q;
}

std::optional<ComputeMatch> MatchCompute(Node* node,
                                         const std::function<bool(const Node*)>& taken) {
  const absl::string_view op = node->op();
  const bool conv = op == "Conv" || op == "ConvTranspose";
  if ((!conv && op != "MatMul" && op != "Gemm") || !node->domain().empty()) return std::nullopt;
  const Value* out = node->output(0);
  if (out->type().type != DataType::kF32) return std::nullopt;
  ComputeMatch m;
  m.anchor = node;
  m.input = node->input(0);
  m.input_quant = MatchDequantize(m.input);
  if (!conv) m.row_quant = MatchDequantizeRows(m.input);
  const Value* w = node->input(1);
  const int weight_rank = w->type().shape ? static_cast<int>(w->type().shape->size()) : 0;
  int channel_axis = 0;  // of the weights
  // With groups, no axis of these weights tells the output channels apart.
  if (op == "ConvTranspose") channel_axis = node->attributes().Int("group", 1) == 1 ? 1 : -1;
  if (op == "MatMul") channel_axis = weight_rank - 1;
  if (op == "Gemm") channel_axis = node->attributes().Int("transB", 0) != 0 ? 0 : 1;
  m.weights = MatchWeights(w, channel_axis);
  if (!m.weights && op == "MatMul" && m.input_quant) m.right_quant = MatchRightOperand(w);
  if (m.right_quant && !m.input_quant->is_static) m.right_quant.reset();
  // Integer arithmetic needs both sides.
  const bool integers = m.weights && m.weights->form == WeightForm::kI8 && op != "ConvTranspose";
  if (!integers) m.row_quant.reset();
  if (!integers && !m.right_quant) m.input_quant.reset();
  // Float arithmetic has packed forms for all integers.
  if (m.weights && m.weights->form == WeightForm::kI8 && !m.input_quant && !m.row_quant) {
    if (auto codes = MatchCodes(w)) m.weights = std::move(codes);
  }
  m.bias = node->input(2);
  const auto shape = StaticShape(out);
  if (!shape) return m;
  const int out_axis = conv ? 1 : static_cast<int>(shape->size()) - 1;
  if (out_axis < 0) return m;
  Value* v = node->output(0);
  while (auto tail = MatchTailOp(v, m, out_axis, taken)) {
    v = tail->result;
    const bool last = tail->kind == TailOp::Kind::kQuantize;
    m.tail.push_back(*std::move(tail));
    if (last) break;
  }
  if (op == "MatMul" && !m.weights) {
    if (!v->is_output() && v->uses().size() == 1 && !taken(v->uses()[0])) {
      m.transpose_result = MatchTranspose(v->uses()[0]);
    }
  }
  return m;
}

}  // namespace halftone
