#include "client/wire.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/tensor_files.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

constexpr absl::string_view kTypePrefix = "DATA_TYPE_";

// "FP32"
absl::string_view WireName(v1::DataType type) {
  return absl::StripPrefix(v1::DataType_Name(type), kTypePrefix);
}

}  // namespace

v1::DataType ToProto(DataType type) {
  v1::DataType proto = v1::DATA_TYPE_UNSPECIFIED;
  v1::DataType_Parse(absl::StrCat(kTypePrefix, Info(type).wire_name), &proto);
  return proto;
}

absl::StatusOr<DataType> FromProto(v1::DataType type) {
  const std::optional<DataType> known =
      v1::DataType_IsValid(type) ? DataTypeFromWireName(WireName(type)) : std::nullopt;
  if (known) return *known;
  return absl::InvalidArgumentError(absl::StrCat("unknown data type ", static_cast<int>(type)));
}

v1::Tensor ToProto(absl::string_view name, const Tensor& tensor) {
  v1::Tensor proto;
  proto.set_name(std::string(name));
  proto.set_type(ToProto(tensor.type()));
  proto.mutable_shape()->Add(tensor.shape().begin(), tensor.shape().end());
  proto.set_data(tensor.raw(), tensor.num_bytes());
  return proto;
}

absl::StatusOr<Tensor> FromProto(const v1::Tensor& tensor) {
  HT_ASSIGN_OR_RETURN(const DataType type, FromProto(tensor.type()));
  absl::StatusOr<Tensor> result = TensorFromBytes(type, tensor.shape(), tensor.data());
  if (result.ok()) return result;
  return Annotate(result.status(), absl::StrCat("tensor '", tensor.name(), "'"));
}

absl::StatusOr<std::vector<InputSignature>> InputsOf(const v1::Signature& signature) {
  std::vector<InputSignature> inputs;
  for (const v1::TensorSignature& input : signature.inputs()) {
    HT_ASSIGN_OR_RETURN(const DataType type, FromProto(input.type()));
    InputSignature& result = inputs.emplace_back();
    result.name = input.name();
    result.type = type;
    for (const v1::Dimension& dim : input.shape()) result.shape.push_back(dim.size());
  }
  return inputs;
}

std::string ToText(const v1::TensorSignature& signature) {
  const auto dimension = [](std::string* out, const v1::Dimension& dim) {
    if (dim.size() >= 0) {
      absl::StrAppend(out, dim.size());
    } else {
      absl::StrAppend(out, dim.symbol().empty() ? "?" : dim.symbol());
    }
  };
  return absl::StrCat(WireName(signature.type()), "[",
                      absl::StrJoin(signature.shape(), ",", dimension), "]");
}

v1::VariantSelector ParseSelector(absl::string_view text) {
  v1::VariantSelector selector;
  if (text.empty()) return selector;
  const bool id = text.size() >= 8 && text.size() <= 64 &&
                  std::all_of(text.begin(), text.end(), absl::ascii_isxdigit);
  if (id) {
    selector.set_variant_id(absl::AsciiStrToLower(text));
  } else {
    selector.set_spec_text(std::string(text));
  }
  return selector;
}

}  // namespace halftone
