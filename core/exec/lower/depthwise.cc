// Depthwise convolutions on our own kernels: oneDNN's for integers is no faster than its f32 one,
// and the others take 1.2 to 2 times as long.
#include "core/exec/kernels/depthwise/depthwise.h"

#include <limits>
#include <memory>
#include <utility>

#include "core/base/status_macros.h"
#include "core/exec/kernels/depthwise/float_depthwise.h"
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

// What follows the sums: [bias] [one activation] [quantize].
struct Tail {
  std::vector<float> bias;  // one per channel
  DepthwiseActivation activation = DepthwiseActivation::kClip;
  float alpha = std::numeric_limits<float>::lowest(), beta = std::numeric_limits<float>::max();
  const TensorQuant* quantize = nullptr;
};

// False when the kernel has no such function.
bool SetActivation(const Eltwise& e, Tail& tail) {
  using dnnl::algorithm;
  switch (e.algorithm) {
    case algorithm::eltwise_relu:
      if (e.alpha != 0.0f) return false;
      tail.alpha = 0.0f;
      return true;
    case algorithm::eltwise_clip:
      tail.alpha = e.alpha;
      tail.beta = e.beta;
      return true;
    case algorithm::eltwise_hardswish:
      tail.activation = DepthwiseActivation::kHardSwish;
      tail.alpha = e.alpha;
      tail.beta = e.beta;
      return true;
    case algorithm::eltwise_logistic:
      tail.activation = DepthwiseActivation::kSigmoid;
      return true;
    case algorithm::eltwise_swish:
      if (e.alpha != 1.0f) return false;
      tail.activation = DepthwiseActivation::kSwish;
      return true;
    default:
      return false;
  }
}

// nullopt for any other tail, which oneDNN may fuse.
std::optional<Tail> ReadTail(const ProgramBuilder& b, const ComputeMatch& m, int64_t channels) {
  Tail tail;
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
        if (activated || !SetActivation(op.eltwise, tail)) return std::nullopt;
        activated = true;
        break;
      case TailOp::Kind::kQuantize:
        tail.quantize = &op.quant;
        break;
      case TailOp::Kind::kAdd:
        return std::nullopt;
    }
  }
  tail.bias.assign(static_cast<size_t>(channels), 0.0f);
  if (bias != nullptr) {
    const auto values = ConstantFloats(b, bias);
    if (!values || (values->size() != 1 && values->size() != tail.bias.size())) {
      return std::nullopt;
    }
    for (size_t c = 0; c < tail.bias.size(); ++c) {
      tail.bias[c] = (*values)[values->size() > 1 ? c : 0];
    }
  }
  return tail;
}

DepthwiseArithmetic ReadArithmetic(const ComputeMatch& m, Tail tail) {
  const TensorQuant& source = *m.input_quant;
  DepthwiseArithmetic a{.source = source.type,
                        .source_zero = source.view.zero_point,
                        .bias = std::move(tail.bias),
                        .activation = tail.activation,
                        .alpha = tail.alpha,
                        .beta = tail.beta};
  const auto& scales = m.weights->scales;
  for (size_t c = 0; c < a.bias.size(); ++c) {
    a.scales.push_back(source.view.scale * scales[scales.size() > 1 ? c : 0]);
  }
  if (tail.quantize != nullptr) {
    a.destination = tail.quantize->type;
    a.destination_scale = tail.quantize->view.scale;
    a.destination_zero = tail.quantize->view.zero_point;
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

// One step that reads `source` and writes `result`.
template <typename Kernel>
void AddStep(ProgramBuilder& b, const ComputeMatch& m, ComputeMode mode, std::string implementation,
             int64_t weight_bytes, std::shared_ptr<const Kernel> depthwise, BufferId source,
             BufferId result) {
  b.AddStep({.node = m.anchor->name(),
             .op = FusedName(m, m.tail.size()),
             .implementation = std::move(implementation),
             .precision = PrecisionName(mode, m),
             .bytes = weight_bytes},
            {source, result},
            [source, result, depthwise = std::move(depthwise)](Binding& bind) -> BoundStep {
              return [&bind, source, result, depthwise] {
                depthwise->Run(bind.pointer(source), bind.pointer(result));
                return absl::OkStatus();
              };
            });
}

absl::StatusOr<bool> LowerIntegers(ProgramBuilder& b, const ComputeMatch& m,
                                   const DepthwiseShape& shape, Tail tail, std::string* reason) {
  const DepthwiseIsa* isa = ChooseDepthwise(b.options().features);
  if (isa == nullptr || !m.input_quant->is_static) return false;
  DepthwiseArithmetic arithmetic = ReadArithmetic(m, std::move(tail));
  if (!DepthwiseStaysInRange(shape, arithmetic)) {
    *reason = "results that may leave 32 bits";
    return false;
  }
  HT_ASSIGN_OR_RETURN(const auto weights, PackDepthwise(b, *m.weights, *isa, shape));
  HT_ASSIGN_OR_RETURN(const BufferId source, b.Fetch(m.input_quant->quantized,
                                                     Layout::kChannelsLast, m.input_quant->type));
  const BufferId result =
      b.Define(m.result(m.tail.size()), Layout::kChannelsLast, arithmetic.destination);
  AddStep(b, m, ComputeMode::kInt8, absl::StrCat("depthwise_i8:", Name(*isa)), weights->bytes(),
          std::make_shared<const Depthwise>(shape, weights, std::move(arithmetic)), source, result);
  return true;
}

// Weights of 16 bits become f32 where the arithmetic is: they are few.
absl::StatusOr<std::shared_ptr<const Buffer>> PackFloats(ProgramBuilder& b,
                                                         const WeightMatch& weights, DataType type,
                                                         const DepthwiseShape& s) {
  const std::string key =
      absl::StrCat(b.options().scope, weights.constant->name(), "|depthwise ", Name(type));
  HT_ASSIGN_OR_RETURN(
      const PackedWeights packed,
      b.weights().GetOrMake(key, [&]() -> absl::StatusOr<PackedWeights> {
        const Tensor& source = weights.constant->constant();
        HT_ASSIGN_OR_RETURN(const Tensor floats, Convert(source, DataType::kF32));
        PackedWeights made{.buffer = PackFloatDepthwise(type, floats.data<float>(), s.channels,
                                                        s.kernel_height, s.kernel_width)};
        source.DropPages();
        if (made.buffer == nullptr)
          return absl::ResourceExhaustedError("packed weights: no memory");
        return made;
      }));
  return packed.buffer;
}

absl::StatusOr<bool> LowerFloats(ProgramBuilder& b, const ComputeMatch& m, ComputeMode mode,
                                 const DepthwiseShape& shape, Tail tail) {
  const DataType type = mode == ComputeMode::kBF16 ? DataType::kBF16 : DataType::kF32;
  const WeightForm form = m.weights->form;
  if (form == WeightForm::kI8 || form == WeightForm::kCodes || tail.quantize != nullptr ||
      !HasFloatDepthwise(b.options().features, type, shape.channels)) {
    return false;
  }
  HT_ASSIGN_OR_RETURN(const auto weights, PackFloats(b, *m.weights, type, shape));
  HT_ASSIGN_OR_RETURN(const BufferId source, b.Fetch(m.input, Layout::kChannelsLast, type));
  const BufferId result = b.Define(m.result(m.tail.size()), Layout::kChannelsLast, type);
  AddStep(b, m, mode, absl::StrCat("depthwise_", Name(type), ":avx512"),
          static_cast<int64_t>(weights->size()),
          std::make_shared<const FloatDepthwise>(
              shape, weights,
              FloatDepthwiseArithmetic{type, std::move(tail.bias), tail.activation, tail.alpha,
                                       tail.beta}),
          source, result);
  return true;
}

}  // namespace

absl::StatusOr<bool> LowerDepthwise(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const ComputeMatch* m = unit.match.get();
  if (m == nullptr || !m->weights) return false;
  const auto shape = ReadShape(b, *m);
  if (!shape) return false;
  auto tail = ReadTail(b, *m, shape->channels);
  if (!tail) {
    *reason = "more behind it than an activation";
    return false;
  }
  if (m->input_quant) return LowerIntegers(b, *m, *shape, *std::move(tail), reason);
  std::string why;
  const ComputeMode mode = ChooseMode(*m, b.options(), /*half_weights_native=*/false, &why);
  return LowerFloats(b, *m, mode, *shape, *std::move(tail));
}

}  // namespace halftone
