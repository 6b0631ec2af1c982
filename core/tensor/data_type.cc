#include "core/tensor/data_type.h"

namespace halftone {
namespace {

template <typename Predicate>
std::optional<DataType> Find(Predicate matches) {
  for (const DataTypeInfo& info : kDataTypes) {
    if (matches(info)) return info.type;
  }
  return std::nullopt;
}

}  // namespace

std::optional<DataType> DataTypeFromName(absl::string_view name) {
  return Find([&](const DataTypeInfo& i) { return i.name == name; });
}

std::optional<DataType> DataTypeFromWireName(absl::string_view name) {
  if (name.empty()) return std::nullopt;
  return Find([&](const DataTypeInfo& i) { return i.wire_name == name; });
}

std::optional<DataType> DataTypeFromOnnx(int64_t onnx_code) {
  return Find([&](const DataTypeInfo& i) { return i.onnx_code == onnx_code; });
}

}  // namespace halftone
