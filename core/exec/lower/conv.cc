// Conv and ConvTranspose on oneDNN, channels last, with everything around them fused.
#include <algorithm>

#include "core/base/status_macros.h"
#include "core/exec/lower/compute.h"
#include "core/exec/lower/rules.h"
#include "core/exec/lower/spatial.h"

namespace halftone {
namespace {

using dnnl::memory;

struct ConvShape {
  Shape input, output, weights;  // as in ONNX
  int64_t groups = 1;
  Window window;
};

std::optional<ConvShape> ReadShape(const ProgramBuilder& b, const ComputeMatch& m,
                                   bool transposed) {
  ConvShape s;
  s.input = b.ShapeOf(m.input);
  s.output = b.ShapeOf(m.anchor->output(0));
  s.weights = m.weights->shape;
  s.groups = m.anchor->attributes().Int("group", 1);
  if (s.weights.size() < 3 || ElementCount(s.output) == 0 || ElementCount(s.input) == 0) {
    return std::nullopt;
  }
  const auto kernel = absl::MakeConstSpan(s.weights).subspan(2);
  const auto window = ReadWindow(*m.anchor, s.input, s.output, kernel, transposed);
  if (!window) return std::nullopt;
  s.window = *window;
  return s;
}

// oneDNN 3.7's brgemm convolutions of one input channel read wrong rows, and beyond the input, when
// the last axis has one position and a stride, and the axis before has no stride.
bool ReadsWrongRows(const ConvShape& s) {
  const auto& strides = s.window.strides;
  const size_t n = strides.size();
  return s.input[1] == 1 && s.output.back() == 1 && n > 1 && strides[n - 1] > 1;
}

// Weight dimensions as oneDNN wants them, [g,] o, i, spatial, over the constant's row-major bytes.
memory::desc PlainWeights(const ConvShape& s, DataType type, bool transposed) {
  const Shape strides = RowMajorStrides(s.weights);
  // Conv: [M, C/g, …]; ConvTranspose: [C, M/g, …].
  const int64_t outer = s.weights[0] / s.groups, inner = s.weights[1];
  memory::dims dims, st;
  if (s.groups > 1) {
    dims.push_back(s.groups);
    st.push_back(outer * strides[0]);
  }
  dims.insert(dims.end(), {transposed ? inner : outer, transposed ? outer : inner});
  st.insert(st.end(), {strides[transposed ? 1 : 0], strides[transposed ? 0 : 1]});
  for (size_t i = 2; i < s.weights.size(); ++i) {
    dims.push_back(s.weights[i]);
    st.push_back(strides[i]);
  }
  return memory::desc(dims, DnnlType(type), st);
}

template <typename Desc>
absl::StatusOr<ComputePrimitive> Create(const ConvShape& s, DataType source, FusedTail tail,
                                        const memory::desc& weights, bool transposed) {
  const auto src = ChannelsLastDesc(s.input, source);
  const auto dst = ChannelsLastDesc(s.output, tail.destination);
  const auto bias = tail.bias.empty()
                        ? memory::desc()
                        : PlainDesc({static_cast<int64_t>(tail.bias.size())}, DataType::kF32);
  const Window& w = s.window;
  return TryDnnl("convolution", [&] {
    typename Desc::primitive_desc pd(
        CpuEngine(), dnnl::prop_kind::forward_inference,
        transposed ? dnnl::algorithm::deconvolution_direct : dnnl::algorithm::convolution_direct,
        src, weights, bias, dst, w.strides, w.dilations, w.pads_begin, w.pads_end, tail.attr);
    return FromDescriptor<Desc>(pd, bias, std::move(tail));
  });
}

DataType WeightType(ComputeMode mode) {
  if (mode == ComputeMode::kInt8) return DataType::kI8;
  return mode == ComputeMode::kBF16 ? DataType::kBF16 : DataType::kF32;
}

// The longest tail that a fast implementation takes.
template <typename Desc>
absl::StatusOr<ComputePrimitive> Choose(ProgramBuilder& b, const ComputeMatch& m,
                                        const ConvShape& s, ComputeMode mode, bool transposed) {
  const DataType type = WeightType(mode);
  const DataType source = SourceType(m, mode);
  memory::dims dims = PlainWeights(s, type, transposed).get_dims();
  const memory::desc any(dims, DnnlType(type), memory::format_tag::any);
  TailRequest request{.mode = mode,
                      .layout = Layout::kChannelsLast,
                      .result_shape = s.output,
                      .channel_axis = 1,
                      .weight_scale_mask = s.groups > 1 ? 3 : 1,
                      .swish_pass = true};
  absl::Status last = absl::UnimplementedError("no tail fits");
  for (size_t ops = m.tail.size() + 1; ops-- > 0;) {
    absl::StatusOr<FusedTail> tail = DescribeTail(b, m, request, ops);
    if (!tail.ok()) {
      last = tail.status();
      continue;
    }
    absl::StatusOr<ComputePrimitive> c = Create<Desc>(s, source, *std::move(tail), any, transposed);
    if (c.ok() && !IsReferenceImpl(c->implementation)) return c;
    last = c.ok() ? absl::UnimplementedError(absl::StrCat("only ", c->implementation)) : c.status();
  }
  return last;
}

template <typename Desc>
absl::StatusOr<bool> Lower(ProgramBuilder& b, const Unit& unit, bool transposed,
                           std::string* reason) {
  if (unit.match == nullptr) {
    *reason = "not f32";
    return false;
  }
  const ComputeMatch& m = *unit.match;
  if (!m.weights) {
    *reason = "weights are not constant";
    return false;
  }
  const auto shape = ReadShape(b, m, transposed);
  if (!shape) {
    *reason = "shape or padding that oneDNN does not take";
    return false;
  }
  if (ReadsWrongRows(*shape)) {
    *reason = "one channel and one column of a stride";
    return false;
  }
  std::string why;
  ComputeMode mode = ChooseMode(m, b.options(), /*half_weights_native=*/false, &why);
  absl::StatusOr<ComputePrimitive> c = Choose<Desc>(b, m, *shape, mode, transposed);
  if (!c.ok() && (mode == ComputeMode::kInt8 || mode == ComputeMode::kBF16)) {
    why = std::string(c.status().message());
    mode = FloatMode(m, b.options());
    c = Choose<Desc>(b, m, *shape, mode, transposed);
  }
  if (!c.ok()) {
    *reason = std::string(c.status().message());
    return false;
  }
  // What an f32 primitive computes with is packed through f32, the others as they are.
  const DataType plain_type =
      WeightType(mode) == DataType::kF32 ? DataType::kF32 : m.weights->constant->constant().type();
  WeightBuffer weights;
  if (m.weights->form == WeightForm::kCodes) {
    HT_ASSIGN_OR_RETURN(weights.widened,
                        PackBlocked(b, *m.weights, shape->groups, transposed, c->weights));
  } else {
    HT_ASSIGN_OR_RETURN(
        weights,
        PackWeights(
            b, *m.weights, mode == ComputeMode::kWidened,
            PlainWeights(*shape, plain_type, transposed), c->weights,
            absl::StrCat(Name(c->source.get_data_type() == memory::data_type::s8 ? DataType::kI8
                                                                                 : DataType::kU8),
                         m.input_quant && m.input_quant->view.zero_point != 0 ? "z" : "")));
  }
  HT_RETURN_IF_ERROR(
      FinishCompute(b, m, mode, *std::move(c), weights, {Layout::kChannelsLast}, std::move(why)));
  return true;
}

}  // namespace

absl::StatusOr<bool> LowerConv(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  return Lower<dnnl::convolution_forward>(b, unit, false, reason);
}

absl::StatusOr<bool> LowerConvTranspose(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  return Lower<dnnl::deconvolution_forward>(b, unit, true, reason);
}

}  // namespace halftone
