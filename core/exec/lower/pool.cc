// Poolings and resampling on oneDNN, channels last.
#include <algorithm>
#include <cmath>

#include "core/base/status_macros.h"
#include "core/exec/lower/primitive.h"
#include "core/exec/lower/rules.h"
#include "core/exec/lower/spatial.h"

namespace halftone {
namespace {

using dnnl::algorithm;

struct PoolKind {
  algorithm pooling = algorithm::pooling_max;
  bool global = false;
};

PoolKind ReadKind(const Node& node) {
  PoolKind kind;
  kind.global = node.op() == "GlobalAveragePool" || node.op() == "GlobalMaxPool";
  if (node.op() == "AveragePool" || node.op() == "GlobalAveragePool") {
    kind.pooling = node.attributes().Int("count_include_pad", 0) != 0
                       ? algorithm::pooling_avg_include_padding
                       : algorithm::pooling_avg_exclude_padding;
  }
  return kind;
}

}  // namespace

absl::StatusOr<bool> LowerPool(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* x = node.input(0);
  const Value* out = node.output(0);
  const DataType type = *x->type().type;
  if (node.output(1) != nullptr) {
    *reason = "indices are asked for";
    return false;
  }
  if (type != DataType::kF32 && type != DataType::kU8 && type != DataType::kI8) {
    *reason = absl::StrCat("type ", Name(type));
    return false;
  }
  const Shape input = b.ShapeOf(x), output = b.ShapeOf(out);
  if (ElementCount(input) == 0 || ElementCount(output) == 0) return false;
  const PoolKind kind = ReadKind(node);
  std::vector<int64_t> kernel = node.attributes().Ints("kernel_shape");
  if (kind.global && input.size() >= 3) kernel.assign(input.begin() + 2, input.end());
  const auto window = ReadWindow(node, input, output, kernel);
  if (!window) {
    *reason = "window that oneDNN does not take";
    return false;
  }
  // Padding that ceil_mode adds is never counted, but oneDNN would count it.
  const bool ceil = node.attributes().Int("ceil_mode", 0) != 0;
  if (ceil && kind.pooling == algorithm::pooling_avg_include_padding) {
    *reason = "ceil_mode with count_include_pad";
    return false;
  }
  const auto create = [&](DataType stored) {
    return TryDnnl("pooling", [&] {
      return dnnl::pooling_forward::primitive_desc(
          CpuEngine(), dnnl::prop_kind::forward_inference, kind.pooling,
          ChannelsLastDesc(input, stored), ChannelsLastDesc(output, stored), window->strides,
          window->kernel, window->dilations, window->pads_begin, window->pads_end,
          BaseAttributes());
    });
  };
  // What lies there as bf16 stays that.
  DataType stored = b.ReadType(x);
  auto pd = create(stored);
  if (stored != type && (!pd.ok() || IsReferenceImpl(pd->impl_info_str()))) {
    stored = type;
    pd = create(stored);
  }
  if (!pd.ok() || IsReferenceImpl(pd->impl_info_str())) {
    *reason = pd.ok() ? "only a reference implementation" : std::string(pd.status().message());
    return false;
  }
  HT_ASSIGN_OR_RETURN(const BufferId source, b.Fetch(x, Layout::kChannelsLast, stored));
  const BufferId result = b.Define(out, Layout::kChannelsLast, stored);
  AddPrimitive<dnnl::pooling_forward>(
      b, node, *pd, stored,
      {{DNNL_ARG_SRC, pd->src_desc(), source}, {DNNL_ARG_DST, pd->dst_desc(), result}});
  return true;
}

// oneDNN derives the scale of an axis from its sizes; ONNX computes positions with the scale that
// the file says, which differs where scale · size is not whole.
bool SizesSayTheScale(const Node& node, int opset, const Shape& input, const Shape& output) {
  const Value* scales = node.input(opset < 11 ? 1 : 2);
  const bool has_sizes = node.input(3) != nullptr;
  if (has_sizes) {
    return node.attributes().String("keep_aspect_ratio_policy", "stretch") == "stretch";
  }
  if (scales == nullptr || !scales->is_constant()) return false;
  if (scales->constant().type() != DataType::kF32) return false;
  const auto values = scales->constant().data<float>();
  if (values.size() != input.size()) return false;
  for (size_t i = 0; i < input.size(); ++i) {
    const double size = static_cast<double>(values[i]) * static_cast<double>(input[i]);
    if (std::abs(size - static_cast<double>(output[i])) > 1e-5 * static_cast<double>(output[i])) {
      return false;
    }
  }
  return true;
}

absl::StatusOr<bool> LowerResize(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Attributes& a = node.attributes();
  const Value* x = node.input(0);
  const Value* out = node.output(0);
  const Shape input = b.ShapeOf(x), output = b.ShapeOf(out);
  if (x->type().type != DataType::kF32 || input.size() < 3 || input.size() > 5 ||
      ElementCount(input) == 0 || ElementCount(output) == 0 || input[0] != output[0] ||
      input[1] != output[1] || a.Int("antialias", 0) != 0 || a.Has("axes")) {
    *reason = "not a spatial f32 resize";
    return false;
  }
  const int opset = b.graph().opset();
  if (!SizesSayTheScale(node, opset, input, output)) {
    *reason = "scales that do not fit the sizes";
    return false;
  }
  const bool old = opset < 11;
  const std::string mode = a.String("mode", "nearest");
  const std::string coordinates =
      old ? "asymmetric" : a.String("coordinate_transformation_mode", "half_pixel");
  bool whole_factor = true;  // then every nearest mode but pytorch's corner cases picks i / factor
  for (size_t i = 2; i < input.size(); ++i) whole_factor &= output[i] % input[i] == 0;
  const std::string rounding = old ? "floor" : a.String("nearest_mode", "round_prefer_floor");
  const bool nearest = mode == "nearest" && whole_factor &&
                       ((coordinates == "asymmetric" && rounding == "floor") ||
                        (coordinates == "half_pixel" && rounding != "floor" && rounding != "ceil"));
  const bool linear = mode == "linear" && coordinates == "half_pixel";
  if (!nearest && !linear) {
    *reason = absl::StrCat(mode, "/", coordinates, "/", rounding);
    return false;
  }
  const auto src = ChannelsLastDesc(input, DataType::kF32);
  const auto dst = ChannelsLastDesc(output, DataType::kF32);
  const auto pd = TryDnnl("resampling", [&] {
    return dnnl::resampling_forward::primitive_desc(
        CpuEngine(), dnnl::prop_kind::forward_inference,
        nearest ? algorithm::resampling_nearest : algorithm::resampling_linear, src, dst,
        BaseAttributes());
  });
  if (!pd.ok()) {
    *reason = std::string(pd.status().message());
    return false;
  }
  HT_ASSIGN_OR_RETURN(const BufferId source, b.Fetch(x, Layout::kChannelsLast, DataType::kF32));
  const BufferId result = b.Define(out, Layout::kChannelsLast, DataType::kF32);
  AddPrimitive<dnnl::resampling_forward>(
      b, node, *pd, DataType::kF32, {{DNNL_ARG_SRC, src, source}, {DNNL_ARG_DST, dst, result}});
  return true;
}

}  // namespace halftone
