// Depthwise convolutions of 8 bits on our own kernel: oneDNN's for integers is no faster than its
// f32 one.
#include "core/exec/kernels/depthwise/depthwise.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/status_macros.h"
#include "core/exec/lower/compute.h"
#include "core/exec/lower/rules.h"
#include "core/exec/lower/spatial.h"

namespace halftone {
namespace {

// One spatial dimension is an image of one row. nullopt: not depthwise, or not for this kernel.
std::optional<DepthwiseShape> ReadShape(const ProgramBuilder& b, const ComputeMatch& m) {
  const Shape input = b.ShapeOf(m.input), output = b.ShapeOf(m.anchor->output(0));
  const Shape& weights = m.weights->shape;
  if (weights.size() < 3 || weights.size() > 4 || ElementCount(input) == 0 ||
      ElementCount(output) == 0) {
    return std::nullopt;
  }
  const int64_t channels = input[1];
  if (m.anchor->attributes().Int("group", 1) != channels || weights[0] != channels ||
      weights[1] != 1) {
    return std::nullopt;
  }
  const auto kernel = absl::MakeConstSpan(weights).subspan(2);
  const auto window = ReadWindow(*m.anchor, input, output, kernel);
  if (!window) return std::nullopt;
  for (size_t i = 0; i < kernel.size(); ++i) {
    const bool dense = window->dilations[i] == 0 || kernel[i] == 1;
    if (kernel[i] > DepthwiseWeights::kMaxKernel || !dense) return std::nullopt;
  }
  DepthwiseShape s{.batch = input[0],
                   .channels = channels,
                   .height = 1,
                   .width = input.back(),
                   .out_height = 1,
                   .out_width = output.back(),
                   .kernel_height = 1,
                   .kernel_width = kernel.back(),
                   .stride_width = output.back() == 1 ? 1 : window->strides.back(),
                   .pad_left = window->pads_begin.back()};
  if (kernel.size() == 2) {
    s.height = input[2];
    s.out_height = output[2];
    s.kernel_height = kernel[0];
    s.stride_height = window->strides[0];
    s.pad_top = window->pads_begin[0];
  }
  if (s.stride_width > 2) return std::nullopt;
  return s;
}

// False when the kernel has no such function.
bool SetActivation(const Eltwise& e, DepthwiseArithmetic& a) {
  using dnnl::algorithm;
  switch (e.algorithm) {
    case algorithm::eltwise_relu:
      if (e.alpha != 0.0f) return false;
      a.alpha = 0.0f;
      return true;
    case algorithm::eltwise_clip:
      a.alpha = e.alpha;
      a.beta = e.beta;
      return true;
    case algorithm::eltwise_hardswish:
      a.activation = DepthwiseActivation::kHardSwish;
      a.alpha = e.alpha;
      a.beta = e.beta;
      return true;
    case algorithm::eltwise_logistic:
      a.activation = DepthwiseActivation::kSigmoid;
      return true;
    case algorithm::eltwise_swish:
      if (e.alpha != 1.0f) return false;
      a.activation = DepthwiseActivation::kSwish;
      return true;
    default:
      return false;
  }
}

// The whole tail: [bias] [one activation] [quantize]. nullopt for any other, which oneDNN may fuse.
std::optional<DepthwiseArithmetic> ReadTail(const ProgramBuilder& b, const ComputeMatch& m,
                                            const DepthwiseShape& shape) {
  const TensorQuant& source = *m.input_quant;
  DepthwiseArithmetic a{.source = source.type, .source_zero = source.view.zero_point};
  const auto& scales = m.weights->scales;
  for (int64_t c = 0; c < shape.channels; ++c) {
    a.scales.push_back(source.view.scale * scales[scales.size() > 1 ? c : 0]);
  }
  const Value* bias = m.bias;
  bool activated = false;
  for (size_t i = 0; i < m.tail.size(); ++i) {
    const TailOp& op = m.tail[i];
    switch (op.kind) {
      case TailOp::Kind::kBias:
        if (i != 0 || bias != nullptr) return std::nullopt;
        bias = op.other;
        break;
      case TailOp::Kind::kEltwise:
        if (activated || !SetActivation(op.eltwise, a)) return std::nullopt;
        activated = true;
        break;
      case TailOp::Kind::kQuantize:
        a.destination = op.quant.type;
        a.destination_scale = op.quant.view.scale;
        a.destination_zero = op.quant.view.zero_point;
        break;
      case TailOp::Kind::kAdd:
        return std::nullopt;
    }
  }
  a.bias.assign(static_cast<size_t>(shape.channels), 0.0f);
  if (bias != nullptr) {
    const auto values = ConstantFloats(b, bias);
    if (!values || (values->size() != 1 && values->size() != a.bias.size())) return std::nullopt;
    for (size_t c = 0; c < a.bias.size(); ++c) a.bias[c] = (*values)[values->size() > 1 ? c : 0];
  }
  return a;
}

absl::StatusOr<std::shared_ptr<const DepthwiseWeights>> PackDepthwise(ProgramBuilder& b,
                                                                      const WeightMatch& weights,
                                                                      const DepthwiseIsa& isa,
                                                                      const DepthwiseShape& s) {
  const std::string key =
      absl::StrCat(b.options().scope, weights.constant->name(), "|depthwise ", Name(isa));
  HT_ASSIGN_OR_RETURN(const PackedWeights packed,
                      b.weights().GetOrMake(key, [&]() -> absl::StatusOr<PackedWeights> {
                        const Tensor& source = weights.constant->constant();
                        PackedWeights made{.depthwise = DepthwiseWeights::Pack(
                                               isa, source.data<int8_t>().data(), s.channels,
                                               s.kernel_height, s.kernel_width)};
                        source.DropPages();
                        if (made.depthwise == nullptr) {
                          return absl::ResourceExhaustedError("packed weights: no memory");
                        }
                        return made;
                      }));
  return packed.depthwise;
}

}  // namespace

absl::StatusOr<bool> LowerDepthwise(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const ComputeMatch* m = unit.match.get();
  if (m == nullptr || !m->weights || m->weights->form != WeightForm::kI8 || !m->input_quant ||
      !m->input_quant->is_static) {
    return false;
  }
  const DepthwiseIsa* isa = ChooseDepthwise(b.options().features);
  const auto shape = ReadShape(b, *m);
  if (isa == nullptr || !shape) return false;
  auto arithmetic = ReadTail(b, *m, *shape);
  if (!arithmetic) {
    *reason = "more behind it than an activation";
    return false;
  }
  if (!DepthwiseStaysInRange(*shape, *arithmetic)) {
    *reason = "results that may leave 32 bits";
    return false;
  }
  HT_ASSIGN_OR_RETURN(const auto weights, PackDepthwise(b, *m->weights, *isa, *shape));
  HT_ASSIGN_OR_RETURN(const BufferId source, b.Fetch(m->input_quant->quantized,
                                                     Layout::kChannelsLast, m->input_quant->type));
  const BufferId result =
      b.Define(m->result(m->tail.size()), Layout::kChannelsLast, arithmetic->destination);
  const int64_t bytes = weights->bytes();
  auto depthwise = std::make_shared<const Depthwise>(*shape, weights, *std::move(arithmetic));
  b.AddStep({.node = m->anchor->name(),
             .op = FusedName(*m, m->tail.size()),
             .implementation = absl::StrCat("depthwise_i8:", Name(*isa)),
             .precision = PrecisionName(ComputeMode::kInt8, *m),
             .bytes = bytes},
            {source, result}, [=](Binding& bind) -> BoundStep {
              return [=, &bind] {
                depthwise->Run(bind.pointer(source), bind.pointer(result));
                return absl::OkStatus();
              };
            });
  return true;
}

}  // namespace halftone
