// The insertion that quantize_activations.h declares: the plan becomes QuantizeLinear and
// DequantizeLinear nodes.
#include <algorithm>
#include <array>
#include <cmath>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/ops/evaluate.h"
#include "core/ops/row_quant.h"
#include "core/ops/unpack.h"
#include "core/passes/quantize_activations.h"

namespace halftone {
namespace {

// How static activations of a type are stored.
struct ActivationFormat {
  ActivationType type;
  DataType stored;
  int32_t low, high;  // low 0: affine; otherwise symmetric within ±high
  Tensor (*zero_point)(int32_t);
};
template <typename T>
Tensor ZeroPoint(int32_t value) {
  return Tensor::Scalar<T>(static_cast<T>(value));
}
constexpr std::array kFormats = {
    ActivationFormat{ActivationType::kU8, DataType::kU8, 0, 255, ZeroPoint<uint8_t>},
    ActivationFormat{ActivationType::kI8, DataType::kI8, -127, 127, ZeroPoint<int8_t>},
    ActivationFormat{ActivationType::kU16, DataType::kU16, 0, 65535, ZeroPoint<uint16_t>},
    ActivationFormat{ActivationType::kI16, DataType::kI16, -32767, 32767, ZeroPoint<int16_t>}};

const ActivationFormat& FormatOf(ActivationType type) {
  return kFormats[static_cast<size_t>(type)];  // in the order of the enumeration
}
QParams ParamsFor(const ActivationFormat& format, const ValueRange& range) {
  if (format.low == 0) return AffineQParams(range, format.low, format.high);
  return SymmetricQParams(std::max(std::abs(range.min), std::abs(range.max)), format.high);
}

// The part of the range outside of which the function changes by less than half a step of its
// 8-bit result: SiLU of everything below about -6 is as good as its value there.
absl::StatusOr<ValueRange> WhereItChanges(const Graph& graph, const Value* x,
                                          const std::vector<Node*>& function, ValueRange range) {
  constexpr int kPoints = 1024;
  HT_ASSIGN_OR_RETURN(Tensor points, Tensor::Create(DataType::kF32, {kPoints}));
  const auto at = [&](int i) { return range.min + (range.max - range.min) * i / (kPoints - 1); };
  for (int i = 0; i < kPoints; ++i) points.mutable_data<float>()[i] = at(i);
  absl::flat_hash_map<const Value*, Tensor> values;
  values[x] = std::move(points);
  for (const Node* node : function) {
    std::vector<const Tensor*> inputs;
    for (const Value* in : node->inputs()) inputs.push_back(in == nullptr ? nullptr : &values[in]);
    HT_ASSIGN_OR_RETURN(std::vector<Tensor> out, EvaluateNode(graph, *node, inputs));
    values[node->output(0)] = std::move(out[0]);
  }
  const auto y = values[function.back()->output(0)].data<float>();
  const auto [low, high] = std::minmax_element(y.begin(), y.end());
  const float half_step = (*high - *low) / 510;
  int first = 0, last = kPoints - 1;
  while (first < last && std::abs(y[first + 1] - y[0]) < half_step) ++first;
  while (last > first && std::abs(y[last - 1] - y[kPoints - 1]) < half_step) --last;
  return ValueRange{at(first), at(last)};
}

}  // namespace

absl::Status InsertStatic(Graph& graph, const ActivationPlan& plan, const RangeMap& ranges,
                          ActivationType type) {
  absl::flat_hash_map<int, ValueRange> group_ranges;
  for (const ActivationPlan::Quantized& q : plan.values) {
    ValueRange range = ranges.at(q.value->name());
    if (!q.function.empty()) {
      HT_ASSIGN_OR_RETURN(range, WhereItChanges(graph, q.value, q.function, range));
    }
    group_ranges[q.group].Include(range);
  }
  absl::flat_hash_map<const Value*, Value*> dequantized;
  // In execution order, so that files read like the computation.
  for (auto it = plan.values.rbegin(); it != plan.values.rend(); ++it) {
    Value* v = it->value;
    const ActivationFormat& format = FormatOf(it->symmetric ? ActivationType::kI8 : type);
    const QParams p = ParamsFor(format, group_ranges.at(it->group));
    const std::string& name = v->name();
    Value* scale = graph.AddConstant(absl::StrCat(name, "_scale"), Tensor::Scalar<float>(p.scale));
    Value* zero_point =
        graph.AddConstant(absl::StrCat(name, "_zero_point"), format.zero_point(p.zero_point));
    Node* q = graph.AddNode({.op = "QuantizeLinear",
                             .name = absl::StrCat(name, "_QuantizeLinear"),
                             .inputs = {v, scale, zero_point},
                             .outputs = {absl::StrCat(name, "_quantized")}});
    q->output(0)->set_type({format.stored, v->type().shape});
    Node* dq = graph.AddNode({.op = "DequantizeLinear",
                              .name = absl::StrCat(name, "_DequantizeLinear"),
                              .inputs = {q->output(0), scale, zero_point},
                              .outputs = {absl::StrCat(name, "_dequantized")}});
    dq->output(0)->set_type(v->type());
    dequantized[v] = dq->output(0);
  }
  for (const ActivationPlan::Read& read : plan.reads) {
    graph.SetInput(read.node, read.input, dequantized.at(read.node->input(read.input)));
  }
  return absl::OkStatus();
}

bool MultipliesRows(const Node& node) {
  if (!node.domain().empty()) return false;
  return node.op() == "MatMul" || (node.op() == "Gemm" && node.attributes().Int("transA", 0) == 0);
}

void InsertDynamic(Graph& graph, const std::vector<Node*>& nodes, DynamicScale scale) {
  const bool rows = scale == DynamicScale::kPerRow && !nodes.empty();
  if (rows) graph.opsets()[std::string(kHalftoneDomain)] = kHalftoneOpset;
  const std::string domain(rows ? kHalftoneDomain : "");
  const std::string quantize(rows ? kDynamicQuantizeRows : "DynamicQuantizeLinear");
  const std::string dequantize(rows ? kDequantizeRows : "DequantizeLinear");
  absl::flat_hash_map<const Value*, Value*> dequantized;
  for (Node* node : nodes) {
    Value* v = node->input(0);
    Value*& dq = dequantized[v];
    if (dq == nullptr) {
      const std::string name = v->name();
      SymbolicShape scale_shape = Dims{};
      if (rows) scale_shape = v->type().shape;
      if (rows && scale_shape) scale_shape->back() = Dim(1);
      Node* q =
          graph.AddNode({.op = quantize,
                         .domain = domain,
                         .name = absl::StrCat(name, "_", quantize),
                         .inputs = {v},
                         .outputs = {absl::StrCat(name, "_quantized"), absl::StrCat(name, "_scale"),
                                     absl::StrCat(name, "_zero_point")}});
      q->output(0)->set_type({DataType::kU8, v->type().shape});
      q->output(1)->set_type({DataType::kF32, scale_shape});
      q->output(2)->set_type({DataType::kU8, scale_shape});
      Node* widen = graph.AddNode({.op = dequantize,
                                   .domain = domain,
                                   .name = absl::StrCat(name, "_", dequantize),
                                   .inputs = {q->output(0), q->output(1), q->output(2)},
                                   .outputs = {absl::StrCat(name, "_dequantized")}});
      widen->output(0)->set_type(v->type());
      dq = widen->output(0);
    }
    graph.SetInput(node, 0, dq);
  }
}

}  // namespace halftone
