// Elementwise arithmetic: oneDNN for what it has of functions of one f32 tensor, our loops for the
// rest.
#include "core/exec/kernels/elementwise.h"

#include <algorithm>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "core/base/status_macros.h"
#include "core/exec/kernels/map.h"
#include "core/exec/lower/arguments.h"
#include "core/exec/lower/primitive.h"
#include "core/exec/lower/rules.h"

namespace halftone {
namespace {

using dnnl::algorithm;

// Functions that only ever run alone; the fusable ones are in MatchEltwise.
std::optional<Eltwise> MatchAlone(const Node& node) {
  static const auto* const kAlgorithms = new absl::flat_hash_map<absl::string_view, Eltwise>{
      {"Exp", {algorithm::eltwise_exp}},
      {"Log", {algorithm::eltwise_log}},
      {"Sqrt", {algorithm::eltwise_sqrt}},
      {"Abs", {algorithm::eltwise_abs}},
      {"Neg", {algorithm::eltwise_linear, -1.0f, 0.0f}},
      {"Mish", {algorithm::eltwise_mish}},
      {"Round", {algorithm::eltwise_round}},
      {"Reciprocal", {algorithm::eltwise_pow, 1.0f, -1.0f}},
  };
  if (const auto e = MatchEltwise(node)) return e;
  const auto it = kAlgorithms->find(node.op());
  if (it == kAlgorithms->end()) return std::nullopt;
  return it->second;
}

// Strides of an operand of (logical) `shape` broadcast to the output's rank, in storage order.
Shape BroadcastStrides(const Shape& shape, size_t rank, Layout layout, Layout stored) {
  Shape full(rank - shape.size(), 1);
  full.insert(full.end(), shape.begin(), shape.end());
  const Shape dense = StridesFor(full, stored);
  Shape strides(rank);
  for (size_t i = 0; i < rank; ++i) strides[i] = full[i] == 1 ? 0 : dense[i];
  return StorageOrder(strides, layout);
}

// Whether an operand of lower rank, which is stored plain, steps over the channels one by one (or
// repeats) once it is read in channels-last order: the loops take nothing else. Requires: rank
// >= 3.
bool FitsChannelsLast(const Shape& shape, size_t rank) {
  if (shape.size() == rank) return true;
  Shape full(rank - shape.size(), 1);
  full.insert(full.end(), shape.begin(), shape.end());
  return full[1] == 1 || ElementCount(full) == full[1];
}

}  // namespace

absl::StatusOr<bool> LowerEltwise(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const auto eltwise = MatchAlone(node);
  const Value* out = node.output(0);
  if (!eltwise || out->type().type != DataType::kF32) {
    *reason = "no oneDNN function";
    return false;
  }
  // Mul by a scalar constant on the left: the tensor, which may be a scalar too, is on the right.
  const Value* x = node.input(0);
  if (node.op() == "Mul" && x->is_constant() && !node.input(1)->is_constant()) x = node.input(1);
  if (x->type().type != DataType::kF32 || b.ShapeOf(x) != b.ShapeOf(out)) {
    *reason = "shape or type changes";
    return false;
  }
  const int64_t n = ElementCount(b.ShapeOf(x));
  if (n == 0) return false;
  const Place place = b.PlaceOf(x);
  auto attr = BaseAttributes();
  const auto desc = PlainDesc({n}, DataType::kF32);
  const auto pd = TryDnnl("eltwise", [&] {
    return dnnl::eltwise_forward::primitive_desc(CpuEngine(), dnnl::prop_kind::forward_inference,
                                                 eltwise->algorithm, desc, desc, eltwise->alpha,
                                                 eltwise->beta, attr);
  });
  if (!pd.ok() || IsReferenceImpl(pd->impl_info_str())) {
    *reason = pd.ok() ? "only a reference implementation" : std::string(pd.status().message());
    return false;
  }
  HT_ASSIGN_OR_RETURN(const BufferId source, b.Fetch(x, place.layout, DataType::kF32));
  const BufferId result = b.DefineOver(x, source, out, place.layout, DataType::kF32);
  AddPrimitive<dnnl::eltwise_forward>(b, node, *pd, DataType::kF32,
                                      {{DNNL_ARG_SRC, desc, source}, {DNNL_ARG_DST, desc, result}});
  return true;
}

namespace {

// The inputs that the loop reads and its function; null when no loop computes this node.
struct MapMatch {
  const MapFunction* function = nullptr;
  std::vector<const Value*> inputs;
};
MapMatch MatchMap(const Node& node) {
  absl::string_view op = node.op();
  if (op == "CastLike") op = "Cast";
  MapMatch m{.inputs = {node.inputs().begin(), node.inputs().end()}};
  if (op == "Cast") m.inputs.resize(1);
  const int inputs = static_cast<int>(m.inputs.size());
  if (inputs == 0 || std::find(m.inputs.begin(), m.inputs.end(), nullptr) != m.inputs.end() ||
      node.attributes().Int("fmod", 0) != 0) {
    return {};
  }
  const Value* typed = op == "Where" ? m.inputs.back() : m.inputs[0];
  m.function = FindMap(op, *typed->type().type, *node.output(0)->type().type);
  if (m.function == nullptr) return {};
  for (int i = 1; i < inputs; ++i) {
    if (m.inputs[i]->type().type != m.function->in) return {};  // Pow takes other exponents
  }
  const int arity = m.function->arity;
  return inputs == arity || (m.function->folds && inputs > arity) ? m : MapMatch();
}

// One run of the loop; Min, Max and Sum of many take several, with the result so far as an input.
struct MapPass {
  Broadcast broadcast;
  std::vector<BufferId> operands;
};

void AddMapStep(ProgramBuilder& b, const Node& node, const MapFunction* f, BufferId result,
                std::vector<MapPass> passes) {
  std::vector<BufferId> touches = {result};
  for (const MapPass& p : passes) {
    touches.insert(touches.end(), p.operands.begin(), p.operands.end());
  }
  b.AddStep({node.name(), node.op(), "", "loop", std::string(Name(f->in))}, std::move(touches),
            [f, result, passes = std::move(passes)](Binding& bind) -> BoundStep {
              return [f, result, passes, &bind] {
                for (const MapPass& pass : passes) {
                  const void* from[3] = {};
                  for (size_t i = 0; i < pass.operands.size(); ++i) {
                    from[i] = bind.pointer(pass.operands[i]);
                  }
                  RunMap(*f, pass.broadcast, {from, pass.operands.size()}, bind.pointer(result));
                }
                return absl::OkStatus();
              };
            });
}

}  // namespace

absl::StatusOr<bool> LowerMap(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* out = node.output(0);
  const Shape shape = b.ShapeOf(out);
  const auto [f, in] = MatchMap(node);
  if (f == nullptr || ElementCount(shape) == 0) {
    *reason = "no loop for these types";
    return false;
  }
  const auto full = [&b, &shape](const Value* v) {
    return b.ShapeOf(v) == shape && !v->is_constant();
  };
  // Channels last if an operand of the full shape is and the others can follow.
  Layout layout = Layout::kPlain;
  for (const Value* v : in) {
    if (shape.size() >= 3 && full(v) && b.LayoutOf(v) == Layout::kChannelsLast) {
      layout = Layout::kChannelsLast;
    }
  }
  for (const Value* v : in) {
    if (layout == Layout::kChannelsLast && !FitsChannelsLast(b.ShapeOf(v), shape.size())) {
      layout = Layout::kPlain;
    }
  }
  std::vector<BufferId> operands;
  std::vector<Shape> strides;
  for (const Value* v : in) {
    const Shape s = b.ShapeOf(v);
    const Layout stored = s.size() == shape.size() ? layout : Layout::kPlain;
    HT_ASSIGN_OR_RETURN(operands.emplace_back(), b.Fetch(v, stored, *v->type().type));
    strides.push_back(BroadcastStrides(s, shape.size(), layout, stored));
  }
  const size_t arity = static_cast<size_t>(f->arity);
  BufferId result = -1;
  for (size_t i = 0; i < in.size() && result < 0 && in.size() == arity; ++i) {
    const bool once = std::count(in.begin(), in.end(), in[i]) == 1;
    if (full(in[i]) && once && BitWidth(*in[i]->type().type) == BitWidth(f->out) &&
        b.MayOverwrite(in[i], operands[i])) {
      result = operands[i];
      b.DefineIn(out, {result, layout, f->out});
    }
  }
  if (result < 0) result = b.Define(out, layout, f->out);
  const Shape physical = StorageOrder(shape, layout);
  std::vector<MapPass> passes;
  passes.push_back({Simplify({physical, {strides.begin(), strides.begin() + f->arity}}),
                    {operands.begin(), operands.begin() + f->arity}});
  for (size_t i = arity; i < in.size(); ++i) {
    passes.push_back(
        {Simplify({physical, {RowMajorStrides(physical), strides[i]}}), {result, operands[i]}});
  }
  AddMapStep(b, node, f, result, std::move(passes));
  return true;
}

absl::StatusOr<bool> LowerQuantizedAdd(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  if (unit.nodes.size() < 2) {
    *reason = "";
    return false;
  }
  const Node& node = *unit.anchor;
  const auto left = MatchDequantize(node.input(0));
  const auto right = MatchDequantize(node.input(1));
  const auto quantize = MatchQuantize(*unit.nodes.back());
  const Layout layout = b.PlaceOf(left->quantized).layout;
  HT_ASSIGN_OR_RETURN(const BufferId x, b.Fetch(left->quantized, layout, left->type));
  HT_ASSIGN_OR_RETURN(const BufferId y, b.Fetch(right->quantized, layout, right->type));
  const BufferId result = b.Define(quantize->quantized, layout, quantize->type);
  const bool relu = unit.nodes.size() == 3;
  const int64_t n = ElementCount(b.ShapeOf(quantize->quantized));
  b.AddStep({node.name(), relu ? "Add+Relu" : "Add", "", "quantized add", "int8"}, {x, y, result},
            [=, l = left->view, r = right->view, q = quantize->view](Binding& bind) -> BoundStep {
              return [=, &bind] {
                RunQuantizedAdd(l, bind.pointer(x), r, bind.pointer(y), relu, q,
                                bind.pointer(result), n);
                return absl::OkStatus();
              };
            });
  return true;
}

namespace {

ScaledShape ReadScaledShape(const Shape& x, const Shape& gain, Layout layout) {
  return {.batch = x[0],
          .positions = ElementCount(x) / (x[0] * x[1]),
          .channels = x[1],
          .channels_last = layout == Layout::kChannelsLast,
          .gain_per_batch = gain[0] == x[0]};
}

}  // namespace

absl::StatusOr<bool> LowerChannelScale(ProgramBuilder& b, const Unit& unit,
                                       std::string* /*reason*/) {
  const Node& node = *unit.anchor;
  const auto scale = MatchChannelScale(node);
  if (!scale || scale->x->is_constant()) return false;
  const Layout layout = b.LayoutOf(scale->x);
  const DataType stored = b.ReadType(scale->x);
  HT_ASSIGN_OR_RETURN(const BufferId x, b.Fetch(scale->x, layout, stored));
  HT_ASSIGN_OR_RETURN(const BufferId gain, b.FetchPlain(scale->gain));
  const BufferId result = scale->x == scale->gain
                              ? b.Define(node.output(0), layout, stored)
                              : b.DefineOver(scale->x, x, node.output(0), layout, stored);
  const ScaledShape shape = ReadScaledShape(b.ShapeOf(scale->x), b.ShapeOf(scale->gain), layout);
  b.AddStep({node.name(), node.op(), "", "channel scale", std::string(Name(stored))},
            {x, gain, result}, [=](Binding& bind) -> BoundStep {
              return [=, &bind] {
                RunChannelScale(stored, bind.pointer(x), bind.as<float>(gain), bind.pointer(result),
                                shape);
                return absl::OkStatus();
              };
            });
  return true;
}

absl::StatusOr<bool> LowerQuantizedScale(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  if (unit.nodes.size() < 2) {
    *reason = "";
    return false;
  }
  const Node& node = *unit.anchor;
  const auto scale = MatchQuantizedScale(node);
  const auto quantize = MatchQuantize(*unit.nodes.back());
  const Layout layout = b.PlaceOf(scale->x.quantized).layout;
  HT_ASSIGN_OR_RETURN(const BufferId x, b.Fetch(scale->x.quantized, layout, scale->x.type));
  HT_ASSIGN_OR_RETURN(const BufferId gain, b.FetchPlain(scale->gain));
  const BufferId result = b.Define(quantize->quantized, layout, quantize->type);
  const ScaledShape scaled =
      ReadScaledShape(b.ShapeOf(scale->x.quantized), b.ShapeOf(scale->gain), layout);
  b.AddStep({node.name(), "Mul+QuantizeLinear", "", "quantized scale", "int8"}, {x, gain, result},
            [=, from = scale->x.view, to = quantize->view](Binding& bind) -> BoundStep {
              return [=, &bind] {
                RunQuantizedScale(from, bind.pointer(x), bind.as<float>(gain), to,
                                  bind.pointer(result), scaled);
                return absl::OkStatus();
              };
            });
  return true;
}

absl::StatusOr<bool> LowerQuantizedMean(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const auto q = MatchDequantize(node.input(0));
  const Value* out = node.output(0);
  if (!q || !q->is_static || unit.inputs.empty() || unit.inputs[0] != q->quantized) {
    *reason = "input is not quantized";
    return false;
  }
  const Shape shape = b.ShapeOf(q->quantized);
  if (shape.size() < 3 || ElementCount(shape) == 0) return false;
  HT_ASSIGN_OR_RETURN(const BufferId x, b.Fetch(q->quantized, Layout::kChannelsLast, q->type));
  const BufferId result = b.Define(out, Layout::kPlain, DataType::kF32);
  const int64_t channels = shape[1], spatial = ElementCount(shape) / (shape[0] * channels);
  b.AddStep({node.name(), node.op(), "", "quantized mean", "int8"}, {x, result},
            [=, batch = shape[0], view = q->view](Binding& bind) -> BoundStep {
              return [=, &bind] {
                RunQuantizedMean(view, bind.pointer(x), batch, spatial, channels,
                                 bind.as<float>(result));
                return absl::OkStatus();
              };
            });
  return true;
}

}  // namespace halftone
