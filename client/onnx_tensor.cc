// ONNX TensorProto, by field numbers: a tensor needs no ONNX library.
#include <optional>
#include <vector>

#include "client/tensor_files.h"
#include "client/wire_reader.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

// Field numbers of onnx.TensorProto.
enum Field {
  kDims = 1,
  kType = 2,
  kFloatData = 4,
  kInt32Data = 5,
  kStringData = 6,
  kInt64Data = 7,
  kName = 8,
  kRawData = 9,
  kDoubleData = 10,
  kUint64Data = 11,
  kExternalData = 13,
  kDataLocation = 14,
};

struct Parsed {
  Shape shape;
  int type = 0;
  std::optional<absl::string_view> raw;
  std::vector<uint64_t> varints;  // int32_data, int64_data, uint64_data
  std::string fixed;              // float_data, double_data: elements as they are
};

absl::Status Bad(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("not a usable ONNX tensor: ", what));
}

// A repeated number, packed or not.
absl::Status AppendVarints(const WireField& field, std::vector<uint64_t>& out) {
  if (field.type == WireType::kVarint) {
    out.push_back(field.value);
    return absl::OkStatus();
  }
  if (field.type != WireType::kBytes) return Bad("a number has the wrong wire type");
  absl::string_view rest = field.bytes;
  while (!rest.empty()) {
    if (!TakeVarint(rest, out.emplace_back())) return Bad("a packed number is cut off");
  }
  return absl::OkStatus();
}

void AppendFixed(const WireField& field, size_t size, std::string& out) {
  if (field.type == WireType::kBytes) {
    out.append(field.bytes.data(), field.bytes.size());
  } else {
    out.append(reinterpret_cast<const char*>(&field.value), size);
  }
}

absl::Status Take(const WireField& field, Parsed& tensor) {
  switch (field.number) {
    case kDims: {
      std::vector<uint64_t> dims;
      HT_RETURN_IF_ERROR(AppendVarints(field, dims));
      if (tensor.shape.size() + dims.size() > 32) return Bad("it has more than 32 dimensions");
      for (const uint64_t dim : dims) tensor.shape.push_back(static_cast<int64_t>(dim));
      return absl::OkStatus();
    }
    case kType:
      if (field.type != WireType::kVarint) return Bad("data_type is not a number");
      tensor.type = static_cast<int>(field.value);
      return absl::OkStatus();
    case kRawData:
      if (field.type != WireType::kBytes) return Bad("raw_data is not bytes");
      tensor.raw = field.bytes;
      return absl::OkStatus();
    case kInt32Data:
    case kInt64Data:
    case kUint64Data:
      return AppendVarints(field, tensor.varints);
    case kFloatData:
      AppendFixed(field, 4, tensor.fixed);
      return absl::OkStatus();
    case kDoubleData:
      AppendFixed(field, 8, tensor.fixed);
      return absl::OkStatus();
    case kStringData:
      return Bad("it holds strings");
    case kExternalData:
      return Bad("its elements are in another file");
    case kDataLocation:
      return field.value == 0 ? absl::OkStatus() : Bad("its elements are in another file");
    default:
      return absl::OkStatus();
  }
}

}  // namespace

absl::StatusOr<Tensor> ParseOnnxTensor(absl::string_view bytes) {
  Parsed parsed;
  WireReader reader(bytes);
  while (const std::optional<WireField> field = reader.Next()) {
    HT_RETURN_IF_ERROR(Take(*field, parsed));
  }
  if (!reader.ok()) return Bad("the bytes are truncated or no protocol buffer");
  const std::optional<DataType> type = DataTypeFromOnnx(parsed.type);
  if (!type || Info(*type).wire_name.empty()) {
    return Bad(absl::StrCat("got data_type ", parsed.type, ", want a type that requests carry"));
  }
  const int element_bytes = BitWidth(*type) / 8;
  std::string narrowed;  // typed fields hold small elements as wide numbers
  absl::string_view elements = parsed.fixed;
  if (parsed.raw) {
    elements = *parsed.raw;
  } else if (!parsed.varints.empty()) {
    for (const uint64_t v : parsed.varints) {
      narrowed.append(reinterpret_cast<const char*>(&v), element_bytes);
    }
    elements = narrowed;
  }
  return TensorFromBytes(*type, parsed.shape, elements);
}

std::string OnnxTensorBytes(absl::string_view name, const Tensor& tensor) {
  std::string out;
  for (const int64_t dim : tensor.shape()) {
    AppendVarintField(out, kDims, static_cast<uint64_t>(dim));
  }
  AppendVarintField(out, kType, Info(tensor.type()).onnx_code);
  AppendBytesField(out, kName, name);
  AppendBytesField(
      out, kRawData,
      {reinterpret_cast<const char*>(tensor.raw()), static_cast<size_t>(tensor.num_bytes())});
  return out;
}

}  // namespace halftone
