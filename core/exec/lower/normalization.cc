// Softmax and layer normalization on oneDNN.
#include "core/base/status_macros.h"
#include "core/exec/lower/compute.h"
#include "core/exec/lower/primitive.h"
#include "core/exec/lower/rules.h"

namespace halftone {

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
  const auto desc = PlainDesc(shape, DataType::kF32);
  const auto algorithm =
      node.op() == "LogSoftmax" ? dnnl::algorithm::softmax_log : dnnl::algorithm::softmax_accurate;
  const auto pd = TryDnnl("softmax", [&] {
    return dnnl::softmax_forward::primitive_desc(CpuEngine(), dnnl::prop_kind::forward_inference,
                                                 algorithm, desc, desc, static_cast<int>(axis),
                                                 BaseAttributes());
  });
  if (!pd.ok()) {
    *reason = std::string(pd.status().message());
    return false;
  }
  HT_ASSIGN_OR_RETURN(const BufferId source, b.FetchPlain(x));
  BufferId result = source;
  if (b.MayOverwrite(x) && b.PlaceOf(x).buffer == source) {
    b.DefineIn(out, {source, Layout::kPlain, DataType::kF32});
  } else {
    result = b.Define(out, Layout::kPlain, DataType::kF32);
  }
  PrimitiveStep step{.primitive = dnnl::softmax_forward(*pd), .scratchpad = pd->scratchpad_desc()};
  step.args = {{DNNL_ARG_SRC, desc, source}, {DNNL_ARG_DST, desc, result}};
  AddPrimitive(b,
               {.node = node.name(),
                .op = node.op(),
                .implementation = pd->impl_info_str(),
                .precision = "f32"},
               std::move(step));
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
  PrimitiveStep step{.primitive = dnnl::layer_normalization_forward(*pd),
                     .scratchpad = pd->scratchpad_desc()};
  step.args = {{DNNL_ARG_SRC, desc, source},
               {DNNL_ARG_DST, desc, result},
               {DNNL_ARG_SCALE, vector, FloatConstant(b, *scale)},
               {DNNL_ARG_SHIFT, vector, FloatConstant(b, *shift)}};
  AddPrimitive(b,
               {.node = node.name(),
                .op = node.op(),
                .implementation = pd->impl_info_str(),
                .precision = "f32"},
               std::move(step));
  return true;
}

}  // namespace halftone
