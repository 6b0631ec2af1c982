// Softmax and layer normalization on oneDNN, the other normalisations on our own loops.
#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/exec/kernels/map.h"
#include "core/exec/kernels/normalize.h"
#include "core/exec/lower/arguments.h"
#include "core/exec/lower/compute.h"
#include "core/exec/lower/primitive.h"
#include "core/exec/lower/rules.h"

namespace halftone {
namespace {

// A QuantizeLinear of `v` that its producer can do as it writes.
std::optional<TensorQuant> QuantizedTwin(const Value* v) {
  for (const Node* user : v->uses()) {
    if (user->input(0) != v) continue;
    if (auto q = MatchQuantize(*user)) return q;
  }
  return std::nullopt;
}

// The float result of a node that writes its quantized twin, too; -1: nobody reads it.
BufferId DefineBesideTwin(ProgramBuilder& b, const Value* v) {
  if (!v->is_output() && v->uses().size() == 1) return -1;
  return b.Define(v, Layout::kPlain, DataType::kF32);
}

using SoftmaxDescriptor = dnnl::softmax_forward::primitive_desc;

// Writes floats, or `twin` in their place.
absl::StatusOr<SoftmaxDescriptor> DescribeSoftmax(const Node& node, const Shape& shape, int axis,
                                                  const std::optional<TensorQuant>& twin) {
  auto attr = BaseAttributes();
  if (twin) attr.set_scales_mask(DNNL_ARG_DST, 0);
  const auto algorithm =
      node.op() == "LogSoftmax" ? dnnl::algorithm::softmax_log : dnnl::algorithm::softmax_accurate;
  return TryDnnl("softmax", [&] {
    return SoftmaxDescriptor(CpuEngine(), dnnl::prop_kind::forward_inference, algorithm,
                             PlainDesc(shape, DataType::kF32),
                             PlainDesc(shape, twin ? twin->type : DataType::kF32), axis, attr);
  });
}

}  // namespace

absl::StatusOr<bool> LowerSoftmax(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* x = node.input(0);
  const Value* out = node.output(0);
  const Shape shape = b.ShapeOf(x);
  const int rank = static_cast<int>(shape.size());
  const bool old = b.graph().opset() < 13;  // flattens to two dimensions
  int64_t axis = node.attributes().Int("axis", old ? 1 : -1);
  if (axis < 0) axis += rank;
  if (x->type().type != DataType::kF32 || rank == 0 || axis < 0 || axis >= rank ||
      (old && axis != rank - 1) || ElementCount(shape) == 0) {
    *reason = "axis or type";
    return false;
  }
  // Where nobody reads the floats; a softmax has no attribute for a zero point.
  std::optional<TensorQuant> twin;
  if (!out->is_output() && out->uses().size() == 1) twin = QuantizedTwin(out);
  if (twin && twin->view.zero_point != 0) twin.reset();
  absl::StatusOr<SoftmaxDescriptor> pd = DescribeSoftmax(node, shape, static_cast<int>(axis), twin);
  if (twin && (!pd.ok() || IsReferenceImpl(pd->impl_info_str()))) {
    twin.reset();
    pd = DescribeSoftmax(node, shape, static_cast<int>(axis), twin);
  }
  if (!pd.ok()) {
    *reason = std::string(pd.status().message());
    return false;
  }
  HT_ASSIGN_OR_RETURN(const BufferId source, b.FetchPlain(x));
  std::vector<PrimitiveArg> args = {{DNNL_ARG_SRC, pd->src_desc(), source}};
  if (twin) {
    const BufferId result = b.Define(twin->quantized, Layout::kPlain, twin->type);
    args.push_back({DNNL_ARG_DST, pd->dst_desc(), result});
    args.push_back({DNNL_ARG_ATTR_SCALES | DNNL_ARG_DST, PlainDesc({1}, DataType::kF32),
                    FloatConstant(b, {twin->view.scale})});
  } else {
    const BufferId result = b.DefineOver(x, source, out, Layout::kPlain, DataType::kF32);
    args.push_back({DNNL_ARG_DST, pd->dst_desc(), result});
  }
  AddPrimitive(b,
               {.node = node.name(),
                .op = absl::StrCat(node.op(), twin ? "+QuantizeLinear" : ""),
                .implementation = pd->impl_info_str(),
                .precision = twin ? "int8" : "f32"},
               {.primitive = dnnl::softmax_forward(*pd),
                .scratchpad = pd->scratchpad_desc(),
                .args = std::move(args)});
  return true;
}

absl::StatusOr<bool> LowerLayerNorm(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* x = node.input(0);
  const Value* out = node.output(0);
  const Shape shape = b.ShapeOf(x);
  const int rank = static_cast<int>(shape.size());
  int64_t axis = node.attributes().Int("axis", -1);
  if (axis < 0) axis += rank;
  if (x->type().type != DataType::kF32 || axis != rank - 1 || rank < 1 || shape.back() == 0 ||
      ElementCount(shape) == 0 || node.output(1) != nullptr || node.output(2) != nullptr) {
    *reason = "not over the last axis alone";
    return false;
  }
  const auto scale = ConstantFloats(b, node.input(1));
  const auto shift = node.input(2) == nullptr
                         ? std::optional<std::vector<float>>(std::in_place, shape.back(), 0.0f)
                         : ConstantFloats(b, node.input(2));
  const size_t channels = static_cast<size_t>(shape.back());
  if (!scale || !shift || scale->size() != channels || shift->size() != channels) {
    *reason = "scale or bias is not a constant vector";
    return false;
  }
  const auto desc = PlainDesc({ElementCount(shape) / shape.back(), shape.back()}, DataType::kF32);
  const auto pd = TryDnnl("layer normalization", [&] {
    return dnnl::layer_normalization_forward::primitive_desc(
        CpuEngine(), dnnl::prop_kind::forward_inference, desc, desc,
        node.attributes().Float("epsilon", 1e-5f),
        dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift,
        BaseAttributes());
  });
  if (!pd.ok() || IsReferenceImpl(pd->impl_info_str())) {
    *reason = pd.ok() ? "only a reference implementation" : std::string(pd.status().message());
    return false;
  }
  HT_ASSIGN_OR_RETURN(const BufferId source, b.FetchPlain(x));
  const BufferId result = b.Define(out, Layout::kPlain, DataType::kF32);
  const auto vector = PlainDesc({shape.back()}, DataType::kF32);
  AddPrimitive<dnnl::layer_normalization_forward>(
      b, node, *pd, DataType::kF32,
      {{DNNL_ARG_SRC, desc, source},
       {DNNL_ARG_DST, desc, result},
       {DNNL_ARG_SCALE, vector, FloatConstant(b, *scale)},
       {DNNL_ARG_SHIFT, vector, FloatConstant(b, *shift)}});
  return true;
}

namespace {

// What InstanceNormalization, GroupNormalization and LayerNormalization over any last axes are as
// rows; nullopt when their parameters are no vectors that fit.
std::optional<RowNormalization> RowsOf(const ProgramBuilder& b, const Node& node) {
  const Shape shape = b.ShapeOf(node.input(0));
  const int64_t rank = static_cast<int64_t>(shape.size());
  const int64_t elements = ElementCount(shape);
  const int64_t scales = ElementCount(b.ShapeOf(node.input(1)));
  RowNormalization n{.epsilon = node.attributes().Float("epsilon", 1e-5f)};
  if (node.op() == "LayerNormalization") {
    int64_t axis = node.attributes().Int("axis", -1);
    if (axis < 0) axis += rank;
    n.rows = ElementCount(absl::MakeConstSpan(shape).subspan(0, axis));
    n.channels = n.scales_per_row = elements / n.rows;
    if (scales != n.channels) return std::nullopt;
  } else {
    const int64_t channels = shape[1];
    n.row_groups =
        node.op() == "GroupNormalization" ? node.attributes().Int("num_groups", 0) : channels;
    if (n.row_groups < 1 || channels % n.row_groups != 0) return std::nullopt;
    n.rows = shape[0] * n.row_groups;
    n.channels = channels / n.row_groups;
    n.inner = elements / (n.rows * n.channels);
    n.scales_per_row = scales / n.row_groups;  // version 18 has one per group
    if (scales != channels && scales != n.row_groups) return std::nullopt;
  }
  if (node.input(2) != nullptr && ElementCount(b.ShapeOf(node.input(2))) != scales) {
    return std::nullopt;
  }
  return n;
}

// Rows by our loops, and `twin` from the same pass over memory.
absl::StatusOr<bool> AddRowNorm(ProgramBuilder& b, const Node& node,
                                const std::optional<TensorQuant>& twin, std::string* reason) {
  const Value* x = node.input(0);
  const bool f32 = x->type().type == DataType::kF32 && node.input(1)->type().type == DataType::kF32;
  if (!f32 || ElementCount(b.ShapeOf(x)) == 0 || node.output(1) != nullptr ||
      node.output(2) != nullptr) {
    *reason = "type or outputs";
    return false;
  }
  const auto n = RowsOf(b, node);
  if (!n) {
    *reason = "scale or bias";
    return false;
  }
  HT_ASSIGN_OR_RETURN(const BufferId source, b.FetchPlain(x));
  HT_ASSIGN_OR_RETURN(const BufferId scale, b.FetchPlain(node.input(1)));
  BufferId shift = -1;
  std::vector<BufferId> touches = {source, scale};
  if (node.input(2) != nullptr) {
    HT_ASSIGN_OR_RETURN(shift, b.FetchPlain(node.input(2)));
    touches.push_back(shift);
  }
  const BufferId result = twin ? DefineBesideTwin(b, node.output(0))
                               : b.Define(node.output(0), Layout::kPlain, DataType::kF32);
  if (result >= 0) touches.push_back(result);
  BufferId quantized = -1;
  if (twin) {
    quantized = b.Define(twin->quantized, Layout::kPlain, twin->type);
    touches.push_back(quantized);
  }
  const std::string op = absl::StrCat(node.op(), twin ? "+QuantizeLinear" : "");
  b.AddStep({node.name(), op, "", "rows", twin ? "int8" : "f32"}, std::move(touches),
            [=, n = *n, to = twin ? twin->view : QuantizedView()](Binding& bind) -> BoundStep {
              return [=, &bind] {
                const float* from = bind.as<float>(source);
                const float* s = bind.as<float>(scale);
                const float* t = shift < 0 ? nullptr : bind.as<float>(shift);
                float* y = result < 0 ? nullptr : bind.as<float>(result);
                if (quantized < 0) {
                  NormalizeRows(n, from, s, t, y);
                } else {
                  NormalizeRowsQuantized(n, from, s, t, y, to, bind.pointer(quantized));
                }
                return absl::OkStatus();
              };
            });
  return true;
}

}  // namespace

absl::StatusOr<bool> LowerRowNorm(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  return AddRowNorm(b, *unit.anchor, std::nullopt, reason);
}

absl::StatusOr<bool> LowerQuantizedLayerNorm(ProgramBuilder& b, const Unit& unit,
                                             std::string* reason) {
  const auto twin = QuantizedTwin(unit.anchor->output(0));
  if (!twin) return false;
  return AddRowNorm(b, *unit.anchor, twin, reason);
}

// With known statistics: a factor and a shift per channel.
absl::StatusOr<bool> LowerBatchNorm(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* x = node.input(0);
  const Value* out = node.output(0);
  const Shape shape = b.ShapeOf(x);
  std::optional<std::vector<float>> p[4];
  bool known = x->type().type == DataType::kF32 && shape.size() >= 2 &&
               node.attributes().Int("training_mode", 0) == 0 && ElementCount(shape) > 0;
  for (int i = 0; i < 4 && known; ++i) {
    p[i] = ConstantFloats(b, node.input(i + 1));
    known = p[i] && static_cast<int64_t>(p[i]->size()) == shape[1];
  }
  if (!known) {
    *reason = "statistics are not constant";
    return false;
  }
  std::vector<float> factor, shift;
  for (int64_t c = 0; c < shape[1]; ++c) {
    const double f = (*p[0])[c] / std::sqrt(static_cast<double>((*p[3])[c]) +
                                            node.attributes().Float("epsilon", 1e-5f));
    factor.push_back(static_cast<float>(f));
    shift.push_back(static_cast<float>((*p[1])[c] - f * (*p[2])[c]));
  }
  const Layout layout = b.LayoutOf(x);
  HT_ASSIGN_OR_RETURN(const BufferId source, b.Fetch(x, layout, DataType::kF32));
  const BufferId scales = FloatConstant(b, factor), shifts = FloatConstant(b, shift);
  const BufferId result = b.Define(out, layout, DataType::kF32);
  Shape per_channel(shape.size(), 0);
  per_channel[1] = 1;
  const Shape physical = StorageOrder(shape, layout);
  const Broadcast bc =
      Simplify(Broadcast{physical, {RowMajorStrides(physical), StorageOrder(per_channel, layout)}});
  const MapFunction* multiply = FindMap("Mul", DataType::kF32, DataType::kF32);
  const MapFunction* add = FindMap("Add", DataType::kF32, DataType::kF32);
  b.AddStep({node.name(), node.op(), "", "loop", "f32"}, {source, scales, shifts, result},
            [=](Binding& bind) -> BoundStep {
              return [=, &bind] {
                void* y = bind.pointer(result);
                RunMap(*multiply, bc, {bind.pointer(source), bind.pointer(scales)}, y);
                RunMap(*add, bc, {y, bind.pointer(shifts)}, y);
                return absl::OkStatus();
              };
            });
  return true;
}

}  // namespace halftone
