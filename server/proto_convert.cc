#include "server/proto_convert.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"

namespace halftone {
namespace {

template <typename Proto, typename Core>
struct Pair {
  Proto proto;
  Core core;
};

constexpr Pair<v1::DataType, DataType> kTypes[] = {
    {v1::DATA_TYPE_FP32, DataType::kF32},  {v1::DATA_TYPE_FP16, DataType::kF16},
    {v1::DATA_TYPE_BF16, DataType::kBF16}, {v1::DATA_TYPE_FP64, DataType::kF64},
    {v1::DATA_TYPE_INT8, DataType::kI8},   {v1::DATA_TYPE_UINT8, DataType::kU8},
    {v1::DATA_TYPE_INT16, DataType::kI16}, {v1::DATA_TYPE_UINT16, DataType::kU16},
    {v1::DATA_TYPE_INT32, DataType::kI32}, {v1::DATA_TYPE_UINT32, DataType::kU32},
    {v1::DATA_TYPE_INT64, DataType::kI64}, {v1::DATA_TYPE_UINT64, DataType::kU64},
    {v1::DATA_TYPE_BOOL, DataType::kBool},
};
// The first row of a core value is how it is printed.
constexpr Pair<v1::WeightType, WeightType> kWeights[] = {
    {v1::WEIGHT_TYPE_FP32, WeightType::kF32},        {v1::WEIGHT_TYPE_FP16, WeightType::kF16},
    {v1::WEIGHT_TYPE_BF16, WeightType::kBF16},       {v1::WEIGHT_TYPE_INT8, WeightType::kI8},
    {v1::WEIGHT_TYPE_INT16, WeightType::kI16},       {v1::WEIGHT_TYPE_UINT8, WeightType::kU8},
    {v1::WEIGHT_TYPE_INT4, WeightType::kI4},         {v1::WEIGHT_TYPE_UINT4, WeightType::kU4},
    {v1::WEIGHT_TYPE_TERNARY, WeightType::kTernary}, {v1::WEIGHT_TYPE_BINARY, WeightType::kBinary},
    {v1::WEIGHT_TYPE_UNSPECIFIED, WeightType::kF32},
};
constexpr Pair<v1::ActivationMode, ActivationMode> kActivations[] = {
    {v1::ACTIVATION_MODE_UNSPECIFIED, ActivationMode::kAuto},
    {v1::ACTIVATION_MODE_STATIC, ActivationMode::kStatic},
    {v1::ACTIVATION_MODE_DYNAMIC, ActivationMode::kDynamic},
    {v1::ACTIVATION_MODE_WEIGHT_ONLY, ActivationMode::kWeightOnly},
    {v1::ACTIVATION_MODE_DYNAMIC_PER_TOKEN, ActivationMode::kDynamicPerToken},
};
constexpr Pair<v1::ActivationType, ActivationType> kActivationTypes[] = {
    {v1::ACTIVATION_TYPE_UINT8, ActivationType::kU8},
    {v1::ACTIVATION_TYPE_INT8, ActivationType::kI8},
    {v1::ACTIVATION_TYPE_UINT16, ActivationType::kU16},
    {v1::ACTIVATION_TYPE_INT16, ActivationType::kI16},
    {v1::ACTIVATION_TYPE_UNSPECIFIED, ActivationType::kU8},
};
constexpr Pair<v1::QuantScheme, QuantScheme> kSchemes[] = {
    {v1::QUANT_SCHEME_SYMMETRIC, QuantScheme::kSymmetric},
    {v1::QUANT_SCHEME_AFFINE, QuantScheme::kAffine},
};
constexpr Pair<v1::CalibrationMethod, CalibrationMethod> kMethods[] = {
    {v1::CALIBRATION_METHOD_MIN_MAX, CalibrationMethod::kMinMax},
    {v1::CALIBRATION_METHOD_MOVING_AVERAGE, CalibrationMethod::kMovingAverage},
    {v1::CALIBRATION_METHOD_PERCENTILE, CalibrationMethod::kPercentile},
    {v1::CALIBRATION_METHOD_ENTROPY, CalibrationMethod::kEntropy},
    {v1::CALIBRATION_METHOD_MSE, CalibrationMethod::kMse},
    {v1::CALIBRATION_METHOD_UNSPECIFIED, CalibrationMethod::kMinMax},
};
constexpr Pair<v1::QuantizationLevel, Level> kLevels[] = {
    {v1::QUANTIZATION_LEVEL_FAST, Level::kFast},
    {v1::QUANTIZATION_LEVEL_BETTER, Level::kBetter},
    {v1::QUANTIZATION_LEVEL_BEST, Level::kBest},
    {v1::QUANTIZATION_LEVEL_UNSPECIFIED, Level::kFast},
};
constexpr Pair<v1::Technique, Technique> kTechniqueNames[] = {
    {v1::TECHNIQUE_CLIP, Technique::kClip},
    {v1::TECHNIQUE_EQUALIZE, Technique::kEqualize},
    {v1::TECHNIQUE_BIAS_CORRECTION, Technique::kBiasCorrection},
    {v1::TECHNIQUE_SMOOTH, Technique::kSmooth},
    {v1::TECHNIQUE_GPTQ, Technique::kGptq},
    {v1::TECHNIQUE_ADAROUND, Technique::kAdaRound},
    {v1::TECHNIQUE_MIXED, Technique::kMixed},
};
constexpr Pair<v1::QuantizationPolicy, Policy> kPolicies[] = {
    {v1::QUANTIZATION_POLICY_SIZE, Policy::kSize},
    {v1::QUANTIZATION_POLICY_SPEED, Policy::kSpeed},
    {v1::QUANTIZATION_POLICY_UNSPECIFIED, Policy::kSize},
};
constexpr Pair<v1::ComputeType, ComputeType> kComputeTypes[] = {
    {v1::COMPUTE_TYPE_UNSPECIFIED, ComputeType::kAuto},
    {v1::COMPUTE_TYPE_FP32, ComputeType::kF32},
    {v1::COMPUTE_TYPE_TF32, ComputeType::kTf32},
    {v1::COMPUTE_TYPE_BF16, ComputeType::kBF16},
};
constexpr Pair<v1::VariantState, VariantState> kStates[] = {
    {v1::VARIANT_STATE_BUILDING, VariantState::kBuilding},
    {v1::VARIANT_STATE_STORED, VariantState::kStored},
    {v1::VARIANT_STATE_LOADED, VariantState::kLoaded},
    {v1::VARIANT_STATE_FAILED, VariantState::kFailed},
};

template <typename Table, typename Core>
auto ProtoOf(const Table& table, Core core) {
  for (const auto& row : table) {
    if (row.core == core) return row.proto;
  }
  return std::begin(table)->proto;
}

template <typename Table, typename Proto>
auto CoreOf(const Table& table, Proto proto, absl::string_view what)
    -> absl::StatusOr<decltype(std::begin(table)->core)> {
  for (const auto& row : table) {
    if (row.proto == proto) return row.core;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": got enum value ", static_cast<int>(proto), ", which has no meaning"));
}

absl::Status CopyOverrides(const google::protobuf::Map<std::string, v1::WeightType>& from,
                           absl::string_view what, std::map<std::string, WeightType>& to) {
  for (const auto& [name, weights] : from) {
    const std::string where = absl::StrCat("spec: ", what, "['", name.substr(0, 100), "']");
    if (weights == v1::WEIGHT_TYPE_UNSPECIFIED) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": want a weight type"));
    }
    HT_ASSIGN_OR_RETURN(to[name], CoreOf(kWeights, weights, where));
  }
  return absl::OkStatus();
}

absl::Status CopyTechniques(const google::protobuf::RepeatedField<int>& from, bool on,
                            absl::string_view what, std::map<Technique, bool>& to) {
  for (const int number : from) {
    HT_ASSIGN_OR_RETURN(const Technique technique,
                        CoreOf(kTechniqueNames, static_cast<v1::Technique>(number), what));
    if (!to.emplace(technique, on).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, ": ", Name(technique), " is named twice"));
    }
  }
  return absl::OkStatus();
}

template <typename Request>
absl::StatusOr<QuantSpec> Wish(const Request& request) {
  switch (request.wish_case()) {
    case Request::kSpec:
      return FromProto(request.spec());
    case Request::kSpecText:
      return QuantSpec::Parse(request.spec_text());
    default:
      break;
  }
  return absl::InvalidArgumentError("spec: missing from the request, want spec or spec_text");
}

void ToProto(absl::Time time, google::protobuf::Timestamp& out) {
  const int64_t seconds = absl::ToUnixSeconds(time);
  out.set_seconds(seconds);
  out.set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
}

void ToProto(const TensorSignature& tensor, v1::TensorSignature& out) {
  out.set_name(Utf8(tensor.name));
  out.set_type(ToProto(tensor.type));
  for (const Dim& dim : tensor.shape) {
    v1::Dimension& d = *out.add_shape();
    d.set_size(dim.known() ? dim.value : -1);
    if (!dim.known()) d.set_symbol(Utf8(dim.symbol));
  }
}

template <typename CoreLayers, typename ProtoLayers>
void CopyLayers(const CoreLayers& layers, ProtoLayers* out) {
  for (const LayerReport& layer : layers) {
    v1::LayerReport& l = *out->Add();
    l.set_node(Utf8(layer.node));
    l.set_op(Utf8(layer.op));
    l.set_precision(layer.precision);
    l.set_reason(Utf8(layer.reason));
    l.set_sqnr_db(layer.sqnr_db);
    l.set_weight_bytes(layer.weight_bytes);
    if (layer.fp32_seconds > 0) {
      halftone::ToProto(absl::Seconds(layer.seconds), *l.mutable_latency());
      halftone::ToProto(absl::Seconds(layer.fp32_seconds), *l.mutable_fp32_latency());
    }
    if (layer.weights.fp32.empty()) continue;
    v1::WeightHistogram& h = *l.mutable_weights();
    h.set_min(layer.weights.min);
    h.set_max(layer.weights.max);
    h.mutable_fp32()->Assign(layer.weights.fp32.begin(), layer.weights.fp32.end());
    h.mutable_variant()->Assign(layer.weights.variant.begin(), layer.weights.variant.end());
  }
}

template <typename CoreCoverage, typename ProtoCoverage>
void CopyCoverage(const CoreCoverage& coverage, ProtoCoverage* out) {
  for (const OperatorCoverage& op : coverage) {
    v1::OperatorCoverage& o = *out->Add();
    o.set_op(Utf8(op.op));
    o.set_total(op.total);
    o.set_quantized(op.quantized);
  }
}

}  // namespace

v1::DataType ToProto(DataType type) {
  for (const auto& row : kTypes) {
    if (row.core == type) return row.proto;
  }
  return v1::DATA_TYPE_UNSPECIFIED;
}

absl::StatusOr<DataType> FromProto(v1::DataType type, absl::string_view what) {
  return CoreOf(kTypes, type, what);
}

absl::StatusOr<std::vector<WireTensor>> ToWire(
    const google::protobuf::RepeatedPtrField<v1::Tensor>& tensors) {
  std::vector<WireTensor> wire;
  wire.reserve(tensors.size());
  for (const v1::Tensor& t : tensors) {
    const std::string what = absl::StrCat("input '", t.name().substr(0, 100), "': type");
    HT_ASSIGN_OR_RETURN(const DataType type, FromProto(t.type(), what));
    wire.push_back({.name = t.name(),
                    .type = type,
                    .shape = absl::MakeConstSpan(t.shape().data(), t.shape_size()),
                    .bytes = t.data()});
  }
  return wire;
}

void ToProto(absl::string_view name, const Tensor& tensor, v1::Tensor& out) {
  out.set_name(Utf8(name));
  out.set_type(ToProto(tensor.type()));
  for (int64_t d : tensor.shape()) out.add_shape(d);
  out.set_data(tensor.raw(), static_cast<size_t>(tensor.num_bytes()));
}

absl::StatusOr<QuantSpec> FromProto(const v1::QuantSpec& proto) {
  HT_ASSIGN_OR_RETURN(const WeightType type, CoreOf(kWeights, proto.weights(), "spec: weights"));
  QuantSpec spec = DefaultsOf(type);
  if (proto.activations() != v1::ACTIVATION_MODE_UNSPECIFIED) {
    HT_ASSIGN_OR_RETURN(spec.activations,
                        CoreOf(kActivations, proto.activations(), "spec: activations"));
  }
  if (proto.scheme() != v1::QUANT_SCHEME_UNSPECIFIED) {
    HT_ASSIGN_OR_RETURN(spec.scheme, CoreOf(kSchemes, proto.scheme(), "spec: scheme"));
  }
  HT_ASSIGN_OR_RETURN(spec.activation_type,
                      CoreOf(kActivationTypes, proto.activation_type(), "spec: activation_type"));
  HT_ASSIGN_OR_RETURN(spec.calibration, CoreOf(kMethods, proto.calibration(), "spec: calibration"));
  if (proto.percentile() != 0) spec.percentile = proto.percentile();
  HT_ASSIGN_OR_RETURN(spec.level, CoreOf(kLevels, proto.level(), "spec: level"));
  HT_RETURN_IF_ERROR(CopyTechniques(proto.with(), true, "spec: with", spec.techniques));
  HT_RETURN_IF_ERROR(CopyTechniques(proto.without(), false, "spec: without", spec.techniques));
  HT_ASSIGN_OR_RETURN(spec.policy, CoreOf(kPolicies, proto.policy(), "spec: policy"));
  HT_ASSIGN_OR_RETURN(spec.compute, CoreOf(kComputeTypes, proto.compute(), "spec: compute"));
  if (proto.has_per_tensor()) spec.granularity = PerTensor{};
  if (proto.has_per_channel()) {
    spec.granularity =
        proto.per_channel().has_axis() ? PerChannel{proto.per_channel().axis()} : PerChannel{};
  }
  if (proto.has_per_group()) {
    spec.granularity =
        proto.per_group().size() == 0 ? PerGroup{} : PerGroup{proto.per_group().size()};
  }
  spec.calibration_set = proto.calibration_set();
  HT_RETURN_IF_ERROR(CopyOverrides(proto.op_overrides(), "op_overrides", spec.op_overrides));
  HT_RETURN_IF_ERROR(CopyOverrides(proto.node_overrides(), "node_overrides", spec.node_overrides));
  HT_RETURN_IF_ERROR(spec.Validate());
  // Names inside the message are free text; only what has a text form that means the same is a
  // spec.
  HT_ASSIGN_OR_RETURN(const QuantSpec reparsed, QuantSpec::Parse(spec.ToString()));
  if (reparsed != spec) {
    return absl::InvalidArgumentError(
        absl::StrCat("spec: its text form '", spec.ToString(), "' means something else"));
  }
  return spec;
}

void ToProto(const QuantSpec& spec, v1::QuantSpec& out) {
  out.set_weights(ProtoOf(kWeights, spec.weights));
  if (IsInteger(spec.weights)) {
    out.set_activations(ProtoOf(kActivations, spec.activations));
    if (std::holds_alternative<PerTensor>(spec.granularity)) {
      out.mutable_per_tensor();
    } else if (const auto* group = std::get_if<PerGroup>(&spec.granularity)) {
      out.mutable_per_group()->set_size(group->size);
    } else {
      const int axis = std::get<PerChannel>(spec.granularity).axis;
      if (axis >= 0) out.mutable_per_channel()->set_axis(axis);
      out.mutable_per_channel();
    }
    out.set_scheme(ProtoOf(kSchemes, spec.scheme));
    if (spec.activations == ActivationMode::kStatic) {
      out.set_activation_type(ProtoOf(kActivationTypes, spec.activation_type));
      out.set_calibration(ProtoOf(kMethods, spec.calibration));
    }
    if (spec.calibration == CalibrationMethod::kPercentile) out.set_percentile(spec.percentile);
  }
  out.set_calibration_set(spec.calibration_set);
  out.set_level(ProtoOf(kLevels, spec.level));
  for (const auto& [technique, on] : spec.techniques) {
    (on ? out.mutable_with() : out.mutable_without())->Add(ProtoOf(kTechniqueNames, technique));
  }
  out.set_policy(ProtoOf(kPolicies, spec.policy));
  out.set_compute(ProtoOf(kComputeTypes, spec.compute));
  for (const auto& [op, type] : spec.op_overrides) {
    (*out.mutable_op_overrides())[op] = ProtoOf(kWeights, type);
  }
  for (const auto& [node, type] : spec.node_overrides) {
    (*out.mutable_node_overrides())[node] = ProtoOf(kWeights, type);
  }
  out.set_text(spec.ToString());
}

absl::StatusOr<QuantSpec> WishOf(const v1::QuantizeRequest& request) { return Wish(request); }
absl::StatusOr<QuantSpec> WishOf(const v1::PlanQuantizationRequest& request) {
  return Wish(request);
}

absl::StatusOr<std::string> SelectorText(const v1::VariantSelector& selector) {
  switch (selector.variant_case()) {
    case v1::VariantSelector::kVariantId:
      if (selector.variant_id().empty()) break;
      // A spec text here would start a build, which an id never does.
      if (QuantSpec::Parse(selector.variant_id()).ok()) {
        return absl::InvalidArgumentError(absl::StrCat(
            "variant_id: got the spec '", selector.variant_id(), "', want an id or spec_text"));
      }
      return selector.variant_id();
    case v1::VariantSelector::kSpec: {
      HT_ASSIGN_OR_RETURN(const QuantSpec spec, FromProto(selector.spec()));
      return spec.ToString();
    }
    case v1::VariantSelector::kSpecText: {
      if (selector.spec_text().empty()) break;
      HT_ASSIGN_OR_RETURN(const QuantSpec spec, QuantSpec::Parse(selector.spec_text()));
      return spec.ToString();
    }
    case v1::VariantSelector::VARIANT_NOT_SET:
      break;
  }
  return std::string();
}

void ToProto(const ModelInfo& info, v1::Model& out) {
  out.set_name(info.name);
  out.set_version(info.version);
  out.set_digest(info.digest);
  out.set_bytes(info.bytes);
  ToProto(info.created, *out.mutable_create_time());
  for (const TensorSignature& t : info.signature.inputs) {
    ToProto(t, *out.mutable_signature()->add_inputs());
  }
  for (const TensorSignature& t : info.signature.outputs) {
    ToProto(t, *out.mutable_signature()->add_outputs());
  }
  for (const std::string& set : info.calibration_sets) out.add_calibration_sets(set);
}

void ToProto(const VariantInfo& info, int64_t arena_bytes, v1::Variant& out) {
  out.set_id(info.id);
  out.set_model(info.model);
  out.set_version(info.version);
  out.set_spec_text(info.spec);
  if (const absl::StatusOr<QuantSpec> spec = QuantSpec::Parse(info.spec); spec.ok()) {
    ToProto(*spec, *out.mutable_spec());
  }
  out.set_state(ProtoOf(kStates, info.state));
  out.set_error(Utf8(info.error));
  out.set_disk_bytes(info.disk_bytes);
  if (info.state == VariantState::kLoaded) {
    out.mutable_memory()->set_weight_bytes(info.memory.weight_bytes);
    out.mutable_memory()->set_packed_bytes(info.memory.packed_bytes);
    out.mutable_memory()->set_arena_bytes(arena_bytes);
  }
  ToProto(info.created, *out.mutable_create_time());
}

void ToProto(const VariantReport& report, v1::Report& out) {
  out.set_spec_text(report.spec);
  out.set_isa_class(report.isa_class);
  out.set_sample_source(report.sample_source);
  out.set_sample_count(report.sample_count);
  out.set_sqnr_db(report.sqnr_db);
  if (report.top1_agreement >= 0) out.set_top1_agreement_ratio(report.top1_agreement);
  out.set_max_abs_error(report.max_abs_error);
  CopyLayers(report.layers, out.mutable_layers());
  CopyCoverage(report.coverage, out.mutable_coverage());
  out.set_fp32_weight_bytes(report.fp32_weight_bytes);
  out.set_weight_bytes(report.weight_bytes);
  out.set_resident_bytes(report.resident_bytes);
  out.set_fp32_resident_bytes(report.fp32_resident_bytes);
  ToProto(absl::Seconds(report.latency_seconds), *out.mutable_latency());
  ToProto(absl::Seconds(report.fp32_latency_seconds), *out.mutable_fp32_latency());
  out.set_speedup_ratio(report.speedup);
  ToProto(absl::Seconds(report.build_seconds), *out.mutable_build_time());
  for (const std::string& note : report.notes) out.add_notes(Utf8(note));
  for (const std::string& warning : report.warnings) out.add_warnings(Utf8(warning));
}

void ToProto(const PlanReport& report, v1::QuantizationPlan& out) {
  out.set_spec_text(report.spec);
  out.set_fp32_weight_bytes(report.fp32_weight_bytes);
  out.set_predicted_weight_bytes(report.predicted_weight_bytes);
  CopyCoverage(report.coverage, out.mutable_coverage());
  CopyLayers(report.layers, out.mutable_layers());
  for (const std::string& risk : report.risks) out.add_risks(Utf8(risk));
  for (const std::string& part : report.unsupported) out.add_unsupported(Utf8(part));
}

void ToProto(const LiveSamples::State& state, v1::SampleRequestsResponse& out) {
  out.set_on(state.on);
  out.set_version(state.version);
  out.set_max_samples(state.max_samples);
  out.set_seen(state.seen);
  out.set_held(state.held);
  out.set_bytes(state.bytes);
}

void ToProto(const ModelStore::UploadStatus& status, v1::Upload& out) {
  out.set_upload_id(status.upload_id);
  for (int64_t bytes : status.received_bytes) out.add_received_bytes(bytes);
  out.set_complete(status.complete);
}

void ToProto(const Progress& progress, v1::QuantizeProgress& out) {
  out.set_stage(progress.stage);
  out.set_fraction(progress.fraction);
  out.set_nodes_done(progress.nodes_done);
  out.set_nodes_total(progress.nodes_total);
}

void ToProto(absl::Duration duration, google::protobuf::Duration& out) {
  absl::Duration rest;
  out.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  out.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
}

std::vector<FileInfo> FilesOf(const v1::UploadHeader& header) {
  std::vector<FileInfo> files;
  for (const v1::File& file : header.files()) {
    files.push_back({.name = file.name(), .bytes = file.bytes(), .sha256 = file.sha256()});
  }
  return files;
}

}  // namespace halftone
