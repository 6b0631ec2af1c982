#include "core/exec/lower/compute.h"

#include <algorithm>
#include <cstring>

#include "core/base/status_macros.h"
#include "core/exec/kernels/convert.h"
#include "core/exec/kernels/swish.h"
#include "core/ops/evaluate.h"

namespace halftone {
namespace {

using dnnl::memory;

// Without VNNI, 255·|w|·2 must fit into 16 bits.
constexpr int kSaturationFreeWeight = 64;

// [1, …, channels, …, 1]: an operand that repeats over everything but the channel.
memory::desc ChannelDesc(const TailRequest& request, int64_t channels) {
  Shape shape(request.result_shape.size(), 1);
  shape[request.channel_axis] = channels;
  return PlainDesc(shape, DataType::kF32);
}

memory::desc ResultDesc(const TailRequest& request, DataType type) {
  return request.layout == Layout::kChannelsLast && request.result_shape.size() >= 3
             ? ChannelsLastDesc(request.result_shape, type)
             : PlainDesc(request.result_shape, type);
}

// Builds one FusedTail; members collect what the operations add.
class TailBuilder {
 public:
  TailBuilder(ProgramBuilder& builder, const ComputeMatch& match, const TailRequest& request)
      : builder_(builder), match_(match), request_(request) {}

  absl::StatusOr<FusedTail> Build(size_t tail_ops) {
    out_.attr = BaseAttributes();
    SetMathMode();
    out_.tail_ops = tail_ops;
    if (tail_ops > 0 && match_.tail[tail_ops - 1].kind == TailOp::Kind::kQuantize) {
      out_.destination = match_.tail[tail_ops - 1].quant.type;
    } else if (request_.mode == ComputeMode::kBF16) {
      out_.destination = DataType::kBF16;
    }
    if (request_.accumulate) {
      if (out_.destination != DataType::kF32) return absl::UnimplementedError("a sum in 8 bits");
      post_ops_.append_sum(1.0f);
    }
    HT_RETURN_IF_ERROR(AddBias(tail_ops));
    if (request_.mode == ComputeMode::kInt8) {
      AddSourceQuant();
      if (match_.right_quant) {
        AddScale(DNNL_ARG_WEIGHTS, {match_.right_quant->view.scale}, 0);
      } else {
        AddScale(DNNL_ARG_WEIGHTS, match_.weights->scales,
                 match_.weights->scales.size() > 1 ? request_.weight_scale_mask : 0);
      }
    } else if (match_.weights && match_.weights->form == WeightForm::kI8) {
      ScaleWidenedResult();
    }
    out_.swish_behind = tail_ops > 0 && SwishIsFasterBehind(match_.tail[tail_ops - 1]);
    if (out_.swish_behind) --tail_ops;
    for (size_t i = 0; i < tail_ops; ++i) HT_RETURN_IF_ERROR(Add(match_.tail[i]));
    out_.attr.set_post_ops(post_ops_);
    return std::move(out_);
  }

 private:
  // oneDNN computes SiLU slowly (see kernels/swish.h), but reads nothing again for it.
  bool SwishIsFasterBehind(const TailOp& op) const {
    constexpr int64_t kNearBytes = 1 << 20;
    const DataType type = out_.destination;
    return request_.swish_pass && op.kind == TailOp::Kind::kEltwise &&
           op.eltwise.algorithm == dnnl::algorithm::eltwise_swish && op.eltwise.alpha == 1.0f &&
           HasSwish(builder_.options().features, type) &&
           (type == DataType::kBF16 || ElementCount(request_.result_shape) * 4 <= kNearBytes);
  }

  void SetMathMode() {
    if (request_.mode != ComputeMode::kF32) return;
    const ComputeType compute = builder_.options().compute;
    if (compute == ComputeType::kTf32) out_.attr.set_fpmath_mode(dnnl::fpmath_mode::tf32);
    if (compute == ComputeType::kBF16) out_.attr.set_fpmath_mode(dnnl::fpmath_mode::bf16);
  }

  absl::Status AddBias(size_t tail_ops) {
    const Value* source = match_.bias;
    if (source == nullptr && tail_ops > 0 && match_.tail[0].kind == TailOp::Kind::kBias) {
      source = match_.tail[0].other;
    }
    const int64_t channels = request_.result_shape[request_.channel_axis];
    if (source != nullptr) {
      auto values = ConstantFloats(builder_, source);
      if (!values) return absl::UnimplementedError("bias is not constant");
      if (values->size() == 1 && channels > 1) values->resize(channels, (*values)[0]);
      if (static_cast<int64_t>(values->size()) != channels) {
        return absl::UnimplementedError("bias is not one number per channel");
      }
      out_.bias = *std::move(values);
    }
    const bool compensate = request_.mode == ComputeMode::kInt8 && match_.input_quant->is_static &&
                            match_.input_quant->view.zero_point != 0 &&
                            !request_.weight_sums.empty();
    if (compensate) {
      out_.bias.resize(channels, 0.0f);
      const auto& scales = match_.weights->scales;
      const double x =
          static_cast<double>(match_.input_quant->view.scale) * match_.input_quant->view.zero_point;
      for (int64_t c = 0; c < channels; ++c) {
        out_.bias[c] = static_cast<float>(out_.bias[c] - x * scales[scales.size() > 1 ? c : 0] *
                                                             request_.weight_sums[c]);
      }
    }
    return absl::OkStatus();
  }

  void AddScale(int arg, std::vector<float> values, int mask) {
    out_.attr.set_scales_mask(arg, mask);
    LazyArg lazy;
    lazy.index = DNNL_ARG_ATTR_SCALES | arg;
    lazy.desc = PlainDesc({static_cast<int64_t>(values.size())}, DataType::kF32);
    lazy.floats = std::move(values);
    out_.args.push_back(std::move(lazy));
  }

  void AddZeroPoint(int arg, int32_t value) {
    out_.attr.set_zero_points_mask(arg, 0);
    LazyArg lazy;
    lazy.index = DNNL_ARG_ATTR_ZERO_POINTS | arg;
    lazy.desc = PlainDesc({1}, DataType::kI32);
    lazy.integer = value;
    out_.args.push_back(std::move(lazy));
  }

  void AddSourceQuant() {
    const TensorQuant& q = *match_.input_quant;
    if (q.is_static) {
      AddScale(DNNL_ARG_SRC, {q.view.scale}, 0);
      if (q.view.zero_point != 0 && request_.weight_sums.empty()) {
        AddZeroPoint(DNNL_ARG_SRC, q.view.zero_point);
      }
      return;
    }
    out_.attr.set_scales_mask(DNNL_ARG_SRC, 0);
    LazyArg lazy;
    lazy.index = DNNL_ARG_ATTR_SCALES | DNNL_ARG_SRC;
    lazy.desc = PlainDesc({1}, DataType::kF32);
    lazy.value = q.scale_value;
    out_.args.push_back(std::move(lazy));
    if (q.zero_point_value != nullptr) {
      out_.attr.set_zero_points_mask(DNNL_ARG_SRC, 0);
      out_.runtime_zero_point = q.zero_point_value;
    }
  }

  // i8 weights were widened without their scale: y = s_c · (x · q) + bias, as post-operations.
  void ScaleWidenedResult() {
    const auto& scales = match_.weights->scales;
    if (scales.size() == 1) {
      post_ops_.append_eltwise(dnnl::algorithm::eltwise_linear, scales[0], 0.0f);
    } else {
      AddBinary(dnnl::algorithm::binary_mul, ChannelDesc(request_, scales.size())).floats = scales;
    }
    if (!out_.bias.empty()) {
      const auto desc = ChannelDesc(request_, out_.bias.size());
      AddBinary(dnnl::algorithm::binary_add, desc).floats = std::exchange(out_.bias, {});
    }
  }

  LazyArg& AddBinary(dnnl::algorithm algorithm, const memory::desc& desc) {
    LazyArg lazy;
    lazy.index = DNNL_ARG_ATTR_MULTIPLE_POST_OP(post_ops_.len()) | DNNL_ARG_SRC_1;
    lazy.desc = desc;
    post_ops_.append_binary(algorithm, desc);
    out_.args.push_back(std::move(lazy));
    return out_.args.back();
  }

  absl::Status Add(const TailOp& op) {
    switch (op.kind) {
      case TailOp::Kind::kBias:
        break;  // in the bias argument
      case TailOp::Kind::kEltwise:
        post_ops_.append_eltwise(op.eltwise.algorithm, op.eltwise.alpha, op.eltwise.beta);
        break;
      case TailOp::Kind::kAdd:
        AddResidual(op);
        break;
      case TailOp::Kind::kQuantize:
        AddScale(DNNL_ARG_DST, {op.quant.view.scale}, 0);
        if (op.quant.view.zero_point != 0) AddZeroPoint(DNNL_ARG_DST, op.quant.view.zero_point);
        break;
    }
    return absl::OkStatus();
  }

  void AddResidual(const TailOp& op) {
    if (op.other_quant && BitWidth(out_.destination) == 8) {
      const TensorQuant& q = *op.other_quant;
      post_ops_.append_sum(q.view.scale, q.view.zero_point, DnnlType(q.type));
      out_.sum_into = q.quantized;
      return;
    }
    const DataType read = builder_.ReadType(op.other);
    LazyArg& arg = AddBinary(dnnl::algorithm::binary_add, ResultDesc(request_, read));
    arg.value = op.other;
    arg.layout = request_.layout;
    arg.type = read;
  }

  ProgramBuilder& builder_;
  const ComputeMatch& match_;
  const TailRequest& request_;
  FusedTail out_;
  dnnl::post_ops post_ops_;
};

// Defines the value that the fused primitive produces and returns the buffer to write; adds the
// copy that an in-place sum needs.
absl::StatusOr<BufferId> DefineResult(ProgramBuilder& builder, const ComputeMatch& match,
                                      const FusedTail& tail, Layout layout) {
  const Value* result = match.result(tail.tail_ops);
  if (tail.sum_into == nullptr) return builder.Define(result, layout, tail.destination);
  const Value* other = tail.sum_into;
  HT_ASSIGN_OR_RETURN(const BufferId source, builder.Fetch(other, layout, *other->type().type));
  if (builder.MayOverwrite(other, source)) {
    builder.DefineIn(result, {source, layout, tail.destination});
    return source;
  }
  const BufferId to = builder.Define(result, layout, tail.destination);
  const int64_t bytes = ElementCount(builder.ShapeOf(other));
  builder.AddStep({match.anchor->name(), "copy", "copy", "residual", ""}, {source, to},
                  [=](Binding& b) -> BoundStep {
                    return [=, &b] {
                      std::memcpy(b.pointer(to), b.pointer(source), static_cast<size_t>(bytes));
                      return absl::OkStatus();
                    };
                  });
  return to;
}

}  // namespace

namespace {

void AddSwish(ProgramBuilder& builder, const ComputeMatch& match, DataType type, BufferId result) {
  const int64_t n = ElementCount(builder.ShapeOf(match.anchor->output(0)));
  builder.AddStep({match.anchor->name(), "SiLU", "", "swish", std::string(Name(type))}, {result},
                  [=](Binding& b) -> BoundStep {
                    return [=, &b] {
                      RunSwish(type, b.pointer(result), n);
                      return absl::OkStatus();
                    };
                  });
}

}  // namespace

bool MaySaturate(const ComputeMatch& match, const CpuFeatures& features) {
  if (features.vnni) return false;
  const auto w = match.weights->constant->constant().data<int8_t>();
  return std::any_of(w.begin(), w.end(), [](int8_t q) {
    return q > kSaturationFreeWeight || q < -kSaturationFreeWeight;
  });
}

ComputeMode ChooseMode(const ComputeMatch& match, const LoweringOptions& options,
                       bool half_weights_native, std::string* reason) {
  const WeightForm form = match.weights ? match.weights->form : WeightForm::kF32;
  switch (form) {
    case WeightForm::kF32:
      // oneDNN's math mode alone changes nothing on CPUs with AVX512-BF16 (3.7.2).
      return match.weights && options.features.bf16 && options.compute == ComputeType::kBF16
                 ? ComputeMode::kBF16
                 : ComputeMode::kF32;
    case WeightForm::kBF16:
      if (options.features.bf16 && options.compute != ComputeType::kF32) return ComputeMode::kBF16;
      [[fallthrough]];
    case WeightForm::kF16:
      if (options.widen_once) {
        *reason = kWidenedOnce;
        return ComputeMode::kF32;
      }
      return half_weights_native ? ComputeMode::kHalfWeights : ComputeMode::kWidened;
    case WeightForm::kCodes:
      return ComputeMode::kWidened;
    case WeightForm::kI8:
      if (!match.input_quant) return ComputeMode::kWidened;
      if (MaySaturate(match, options.features)) {
        *reason = "no VNNI: 8-bit weights would saturate, so float arithmetic";
        return ComputeMode::kWidened;
      }
      return ComputeMode::kInt8;
  }
  return ComputeMode::kF32;
}

ComputeMode FloatMode(const ComputeMatch& match, const LoweringOptions& options) {
  const WeightForm form = match.weights ? match.weights->form : WeightForm::kF32;
  const bool half = form == WeightForm::kF16 || form == WeightForm::kBF16;
  return form == WeightForm::kF32 || (half && options.widen_once) ? ComputeMode::kF32
                                                                  : ComputeMode::kWidened;
}

std::string PrecisionName(ComputeMode mode, const ComputeMatch& match) {
  switch (mode) {
    case ComputeMode::kBF16:
      return "bf16";
    case ComputeMode::kInt8:
      return match.input_quant->type == DataType::kU8 ? "u8s8" : "s8s8";
    case ComputeMode::kF32:
    case ComputeMode::kHalfWeights:
    case ComputeMode::kWidened:
      return match.weights ? WeightsName(*match.weights) : "f32";
  }
  return "";
}

const Value* SourceValue(const ComputeMatch& match, ComputeMode mode) {
  return mode == ComputeMode::kInt8 ? match.input_quant->quantized : match.input;
}

DataType SourceType(const ComputeMatch& match, ComputeMode mode) {
  if (mode == ComputeMode::kInt8) return match.input_quant->type;
  return mode == ComputeMode::kBF16 ? DataType::kBF16 : DataType::kF32;
}

std::string WeightsName(const WeightMatch& weights) {
  if (weights.form == WeightForm::kCodes) return CodesName(weights);
  if (weights.form == WeightForm::kF32) return "f32";
  return absl::StrCat(Name(StoredType(weights.form)), " weights, f32 compute");
}

std::string CodesName(const WeightMatch& weights) {
  const absl::string_view name = weights.bits == 1   ? "binary"
                                 : weights.bits == 2 ? "ternary"
                                                     : Name(weights.constant->constant().type());
  return absl::StrCat(name, " weights, f32 compute");
}

std::string FusedName(const ComputeMatch& m, size_t tail_ops) {
  std::string name = m.anchor->op();
  for (size_t i = 0; i < tail_ops; ++i) {
    for (const Node* n : m.tail[i].nodes) absl::StrAppend(&name, "+", n->op());
  }
  return name;
}

absl::StatusOr<FusedTail> DescribeTail(ProgramBuilder& builder, const ComputeMatch& match,
                                       const TailRequest& request, size_t tail_ops) {
  return TailBuilder(builder, match, request).Build(tail_ops);
}

absl::StatusOr<std::vector<PrimitiveArg>> CommitTail(ProgramBuilder& builder,
                                                     const FusedTail& tail) {
  std::vector<PrimitiveArg> args;
  for (const LazyArg& lazy : tail.args) {
    PrimitiveArg arg{lazy.index, lazy.desc, -1};
    if (lazy.value != nullptr) {
      HT_ASSIGN_OR_RETURN(arg.buffer, builder.Fetch(lazy.value, lazy.layout, lazy.type));
    } else if (lazy.integer) {
      arg.buffer = IntConstant(builder, *lazy.integer);
    } else {
      arg.buffer = FloatConstant(builder, lazy.floats);
    }
    args.push_back(std::move(arg));
  }
  return args;
}

absl::Status LowerRest(ProgramBuilder& builder, const ComputeMatch& match, size_t tail_ops) {
  for (size_t i = tail_ops; i < match.tail.size(); ++i) {
    for (Node* node : match.tail[i].nodes) HT_RETURN_IF_ERROR(builder.LowerAlone(node));
  }
  return absl::OkStatus();
}

absl::Status FinishCompute(ProgramBuilder& builder, const ComputeMatch& match, ComputeMode mode,
                           ComputePrimitive chosen, const WeightBuffer& weights,
                           const ComputePlaces& places, std::string why) {
  const FusedTail& tail = chosen.tail;
  PrimitiveStep step{.primitive = chosen.primitive, .scratchpad = chosen.scratchpad};
  const DataType source_type = SourceType(match, mode);
  PrimitiveArg source{DNNL_ARG_SRC, chosen.source, -1};
  if (places.source) {
    source.buffer = places.source->buffer;
    source.byte_offset = places.source->view.offset * BitWidth(source_type) / 8;
  } else {
    HT_ASSIGN_OR_RETURN(source.buffer,
                        builder.Fetch(SourceValue(match, mode), places.layout, source_type));
  }
  HT_ASSIGN_OR_RETURN(step.args, CommitTail(builder, tail));
  if (!tail.bias.empty()) {
    step.args.push_back({DNNL_ARG_BIAS, chosen.bias, FloatConstant(builder, tail.bias)});
  }
  if (tail.runtime_zero_point) {
    HT_ASSIGN_OR_RETURN(const BufferId zp, builder.FetchPlain(*tail.runtime_zero_point));
    step.zero_point = RuntimeZeroPoint{DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_SRC, zp};
  }
  PrimitiveArg result{DNNL_ARG_DST, chosen.destination, -1};
  if (places.result) {
    builder.DefineView(match.result(tail.tail_ops), *places.result);
    result.buffer = places.result->buffer;
    result.byte_offset = places.result->view.offset * BitWidth(tail.destination) / 8;
  } else {
    HT_ASSIGN_OR_RETURN(result.buffer, DefineResult(builder, match, tail, places.layout));
  }
  for (PartialCompute& part : chosen.before) {
    PrimitiveArg from = source, to = result;
    from.desc = part.source;
    from.byte_offset += part.source_begin * BitWidth(source_type) / 8;
    to.desc = part.destination;
    step.before.push_back({part.primitive,
                           part.scratchpad,
                           {from, to, {DNNL_ARG_WEIGHTS, part.packed.desc, part.packed.buffer}}});
  }
  source.byte_offset += chosen.source_begin * BitWidth(source_type) / 8;
  step.args.push_back(std::move(source));
  step.args.push_back(std::move(result));
  if (weights.widened) {
    step.widened = weights.widened;
  } else {
    step.args.push_back({DNNL_ARG_WEIGHTS, weights.desc, weights.buffer});
  }
  AddPrimitive(builder,
               {.node = match.anchor->name(),
                .op = FusedName(match, tail.tail_ops - (tail.swish_behind ? 1 : 0)),
                .implementation = chosen.implementation,
                .precision = PrecisionName(mode, match),
                .detail = std::move(why)},
               std::move(step));
  if (tail.swish_behind) AddSwish(builder, match, tail.destination, result.buffer);
  return LowerRest(builder, match, tail.tail_ops);
}

std::optional<std::vector<float>> ConstantFloats(const ProgramBuilder& builder,
                                                 const Value* value) {
  Tensor t;
  if (value->is_constant()) {
    t = value->constant();
  } else if (const Node* node = value->producer(); node != nullptr) {
    std::vector<const Tensor*> inputs;
    for (const Value* in : node->inputs()) {
      if (in != nullptr && !in->is_constant()) return std::nullopt;
      inputs.push_back(in == nullptr ? nullptr : &in->constant());
    }
    auto outputs = EvaluateNode(builder.graph(), *node, inputs);
    if (!outputs.ok()) return std::nullopt;
    t = (*outputs)[0];
  } else {
    return std::nullopt;
  }
  absl::StatusOr<Tensor> f = Convert(t, DataType::kF32);
  if (!f.ok()) return std::nullopt;
  const auto data = f->data<float>();
  return std::vector<float>(data.begin(), data.end());
}

}  // namespace halftone
