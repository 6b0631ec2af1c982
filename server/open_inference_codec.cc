#include "server/open_inference_codec.h"

#include <cstring>
#include <limits>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"
#include "server/proto_convert.h"

namespace halftone {
namespace {

using inference::InferParameter;
using inference::InferTensorContents;
using Parameters = google::protobuf::Map<std::string, InferParameter>;
using InputTensor = inference::ModelInferRequest::InferInputTensor;

// Packs repeated values as elements of type To. Nullopt when one does not fit.
template <typename To, typename Repeated>
std::optional<std::string> Pack(const Repeated& values) {
  std::string bytes(static_cast<size_t>(values.size()) * sizeof(To), '\0');
  char* out = bytes.data();
  for (const auto value : values) {
    if constexpr (std::is_integral_v<To> && sizeof(To) < sizeof(value)) {
      if (value < std::numeric_limits<To>::min() || value > std::numeric_limits<To>::max()) {
        return std::nullopt;
      }
    }
    const To element = static_cast<To>(value);
    std::memcpy(out, &element, sizeof(To));
    out += sizeof(To);
  }
  return bytes;
}

// Where the typed elements of a datatype travel.
struct TypedField {
  DataType type;
  int field_number;
  std::optional<std::string> (*pack)(const InferTensorContents&);
};
constexpr TypedField kTypedFields[] = {
    {DataType::kBool, InferTensorContents::kBoolContentsFieldNumber,
     [](const InferTensorContents& c) { return Pack<uint8_t>(c.bool_contents()); }},
    {DataType::kI8, InferTensorContents::kIntContentsFieldNumber,
     [](const InferTensorContents& c) { return Pack<int8_t>(c.int_contents()); }},
    {DataType::kI16, InferTensorContents::kIntContentsFieldNumber,
     [](const InferTensorContents& c) { return Pack<int16_t>(c.int_contents()); }},
    {DataType::kI32, InferTensorContents::kIntContentsFieldNumber,
     [](const InferTensorContents& c) { return Pack<int32_t>(c.int_contents()); }},
    {DataType::kI64, InferTensorContents::kInt64ContentsFieldNumber,
     [](const InferTensorContents& c) { return Pack<int64_t>(c.int64_contents()); }},
    {DataType::kU8, InferTensorContents::kUintContentsFieldNumber,
     [](const InferTensorContents& c) { return Pack<uint8_t>(c.uint_contents()); }},
    {DataType::kU16, InferTensorContents::kUintContentsFieldNumber,
     [](const InferTensorContents& c) { return Pack<uint16_t>(c.uint_contents()); }},
    {DataType::kU32, InferTensorContents::kUintContentsFieldNumber,
     [](const InferTensorContents& c) { return Pack<uint32_t>(c.uint_contents()); }},
    {DataType::kU64, InferTensorContents::kUint64ContentsFieldNumber,
     [](const InferTensorContents& c) { return Pack<uint64_t>(c.uint64_contents()); }},
    {DataType::kF32, InferTensorContents::kFp32ContentsFieldNumber,
     [](const InferTensorContents& c) { return Pack<float>(c.fp32_contents()); }},
    {DataType::kF64, InferTensorContents::kFp64ContentsFieldNumber,
     [](const InferTensorContents& c) { return Pack<double>(c.fp64_contents()); }},
};

// Numbers and sizes of the contents' fields that are not empty.
std::vector<int> UsedFields(const InferTensorContents& c) {
  const int sizes[] = {c.bool_contents_size(), c.int_contents_size(),    c.int64_contents_size(),
                       c.uint_contents_size(), c.uint64_contents_size(), c.fp32_contents_size(),
                       c.fp64_contents_size(), c.bytes_contents_size()};
  std::vector<int> used;
  for (int i = 0; i < 8; ++i) {
    if (sizes[i] > 0) used.push_back(i + 1);
  }
  return used;
}

std::string Where(const InputTensor& input) {
  return absl::StrCat("input '", input.name().substr(0, 100), "'");
}

absl::StatusOr<std::string> PackContents(const InputTensor& input, DataType type) {
  for (const TypedField& field : kTypedFields) {
    if (field.type != type) continue;
    for (int used : UsedFields(input.contents())) {
      if (used == field.field_number) continue;
      const auto* descriptor = InferTensorContents::descriptor();
      return absl::InvalidArgumentError(absl::StrCat(
          Where(input), ": got ", descriptor->FindFieldByNumber(used)->name(), ", want ",
          descriptor->FindFieldByNumber(field.field_number)->name(), " for ", input.datatype()));
    }
    std::optional<std::string> bytes = field.pack(input.contents());
    if (bytes) return *std::move(bytes);
    return absl::InvalidArgumentError(
        absl::StrCat(Where(input), ": a value does not fit into ", input.datatype()));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      Where(input), ": ", input.datatype(), " has no typed contents, want raw_input_contents"));
}

absl::StatusOr<DataType> TypeOf(absl::string_view datatype, absl::string_view where) {
  const std::optional<DataType> type = DataTypeFromWireName(datatype);
  if (type && !datatype.empty()) return *type;
  if (datatype == "BYTES") {
    return absl::InvalidArgumentError(absl::StrCat(where, ": BYTES tensors are not supported"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(where, ": got datatype '", datatype.substr(0, 40),
                   "', want one of BOOL, UINT8 … UINT64, INT8 … INT64, FP16, BF16, FP32, FP64"));
}

absl::Status RejectSharedMemory(const Parameters& parameters, absl::string_view where) {
  for (const auto& [name, value] : parameters) {
    if (absl::StartsWith(name, "shared_memory_")) {
      return absl::UnimplementedError(
          absl::StrCat(where, ": shared memory is not supported (parameter '", name, "')"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<WhenMissing> PolicyOf(absl::string_view text) {
  struct Row {
    absl::string_view name;
    WhenMissing policy;
  };
  static constexpr Row kRows[] = {{"wait", WhenMissing::kWait},
                                  {"fallback", WhenMissing::kFallback},
                                  {"unavailable", WhenMissing::kUnavailable}};
  for (const Row& row : kRows) {
    if (row.name == text) return row.policy;
  }
  return absl::InvalidArgumentError(absl::StrCat("parameter 'when_missing': got '",
                                                 text.substr(0, 40),
                                                 "', want wait, fallback or unavailable"));
}

absl::StatusOr<absl::Duration> TimeoutOf(const InferParameter& value) {
  const bool is_unsigned = value.has_uint64_param();
  if (!is_unsigned && !value.has_int64_param()) {
    return absl::InvalidArgumentError("parameter 'timeout': want an int64 of microseconds");
  }
  const int64_t us = is_unsigned ? static_cast<int64_t>(std::min<uint64_t>(
                                       value.uint64_param(), std::numeric_limits<int64_t>::max()))
                                 : value.int64_param();
  if (us < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("parameter 'timeout': got ", us, " microseconds, want at least 0"));
  }
  // 0 is the protocol's "no timeout".
  return us == 0 ? absl::InfiniteDuration() : absl::Microseconds(us);
}

}  // namespace

absl::StatusOr<std::vector<WireTensor>> WireInputsOf(const inference::ModelInferRequest& request,
                                                     std::list<std::string>& storage) {
  const int raw_count = request.raw_input_contents_size();
  if (raw_count > 0 && raw_count != request.inputs_size()) {
    return absl::InvalidArgumentError(absl::StrCat("raw_input_contents: got ", raw_count,
                                                   " entries, want one for each of the ",
                                                   request.inputs_size(), " inputs"));
  }
  std::vector<WireTensor> wire;
  for (int i = 0; i < request.inputs_size(); ++i) {
    const InputTensor& input = request.inputs(i);
    HT_RETURN_IF_ERROR(RejectSharedMemory(input.parameters(), Where(input)));
    WireTensor tensor{.name = input.name(),
                      .shape = absl::MakeConstSpan(input.shape().data(), input.shape_size())};
    HT_ASSIGN_OR_RETURN(tensor.type, TypeOf(input.datatype(), Where(input)));
    if (raw_count > 0) {
      if (input.has_contents() && !UsedFields(input.contents()).empty()) {
        return absl::InvalidArgumentError(absl::StrCat(
            Where(input), ": contents field must not be specified with raw_input_contents"));
      }
      tensor.bytes = request.raw_input_contents(i);
    } else {
      HT_ASSIGN_OR_RETURN(std::string bytes, PackContents(input, tensor.type));
      tensor.bytes = storage.emplace_back(std::move(bytes));
    }
    wire.push_back(tensor);
  }
  return wire;
}

absl::StatusOr<std::vector<WantedOutput>> WantedOutputsOf(
    const inference::ModelInferRequest& request) {
  std::vector<WantedOutput> wanted;
  for (const auto& output : request.outputs()) {
    const std::string where = absl::StrCat("output '", output.name().substr(0, 100), "'");
    HT_RETURN_IF_ERROR(RejectSharedMemory(output.parameters(), where));
    WantedOutput want{.name = output.name()};
    for (const auto& [name, value] : output.parameters()) {
      if (name == "classification" && value.int64_param() > 0) {
        return absl::InvalidArgumentError(
            absl::StrCat(where, ": classification is not supported, take the scores"));
      }
      if (name == "datatype") {
        HT_ASSIGN_OR_RETURN(want.type, TypeOf(value.string_param(), where));
      }
    }
    wanted.push_back(want);
  }
  return wanted;
}

absl::StatusOr<RequestParameters> ParametersOf(const inference::ModelInferRequest& request) {
  RequestParameters parameters;
  HT_RETURN_IF_ERROR(RejectSharedMemory(request.parameters(), "request"));
  for (const auto& [name, value] : request.parameters()) {
    if (absl::StartsWith(name, "sequence_")) {
      // Clients send zeros for "no sequence".
      if (value.int64_param() == 0 && value.uint64_param() == 0 && !value.bool_param() &&
          value.string_param().empty()) {
        continue;
      }
      return absl::UnimplementedError(
          absl::StrCat("request: sequences are not supported (parameter '", name, "')"));
    }
    if (name == "timeout") {
      HT_ASSIGN_OR_RETURN(parameters.timeout, TimeoutOf(value));
    }
    if (name == "when_missing") {
      HT_ASSIGN_OR_RETURN(parameters.when_missing, PolicyOf(value.string_param()));
    }
  }
  return parameters;
}

void EncodeResponse(const inference::ModelInferRequest& request, const InferOutcome& outcome,
                    inference::ModelInferResponse& response) {
  response.set_model_name(outcome.variant.model);
  response.set_model_version(outcome.variant.spec);
  response.set_id(request.id());
  auto& parameters = *response.mutable_parameters();
  parameters["variant_id"].set_string_param(outcome.variant.id);
  parameters["fell_back"].set_bool_param(outcome.fell_back);
  for (const InferOutput& output : outcome.outputs) {
    auto& tensor = *response.add_outputs();
    tensor.set_name(Utf8(output.name));
    tensor.set_datatype(std::string(Info(output.tensor.type()).wire_name));
    for (int64_t d : output.tensor.shape()) tensor.add_shape(d);
    response.add_raw_output_contents(output.tensor.raw(),
                                     static_cast<size_t>(output.tensor.num_bytes()));
  }
}

}  // namespace halftone
