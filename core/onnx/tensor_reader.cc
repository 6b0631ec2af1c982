#include "core/onnx/tensor_reader.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/checked_math.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

using onnx::TensorProto;

// Bytes 0 and 1 are the only valid C++ bools; files contain others.
void NormalizeBools(std::byte* data, int64_t count) {
  for (int64_t i = 0; i < count; ++i) data[i] = std::byte{data[i] != std::byte{0}};
}

template <typename To, typename Field>
absl::Status CopyField(const Field& field, int64_t count, std::byte* out) {
  if (field.size() != count) {
    return absl::InvalidArgumentError(
        absl::StrCat("has ", field.size(), " values, its shape wants ", count));
  }
  To* dst = reinterpret_cast<To*>(out);
  for (int64_t i = 0; i < count; ++i) dst[i] = static_cast<To>(field.Get(static_cast<int>(i)));
  return absl::OkStatus();
}

// Narrow types travel in int32_data, narrow floats as their bit pattern, 4-bit types in pairs.
absl::Status CopyTypedField(const TensorProto& proto, DataType type, int64_t elements,
                            std::byte* out) {
  switch (type) {
    case DataType::kF32:
      return CopyField<float>(proto.float_data(), elements, out);
    case DataType::kF64:
      return CopyField<double>(proto.double_data(), elements, out);
    case DataType::kI64:
      return CopyField<int64_t>(proto.int64_data(), elements, out);
    case DataType::kU64:
      return CopyField<uint64_t>(proto.uint64_data(), elements, out);
    case DataType::kU32:
      return CopyField<uint32_t>(proto.uint64_data(), elements, out);
    case DataType::kI32:
      return CopyField<int32_t>(proto.int32_data(), elements, out);
    case DataType::kI16:
    case DataType::kU16:
    case DataType::kF16:
    case DataType::kBF16:
      return CopyField<uint16_t>(proto.int32_data(), elements, out);
    case DataType::kI8:
    case DataType::kU8:
    case DataType::kF8E4M3FN:
    case DataType::kF8E4M3FNUZ:
    case DataType::kF8E5M2:
    case DataType::kF8E5M2FNUZ:
      return CopyField<uint8_t>(proto.int32_data(), elements, out);
    case DataType::kBool:
      return CopyField<bool>(proto.int32_data(), elements, out);
    case DataType::kI4:
    case DataType::kU4:
      return CopyField<uint8_t>(proto.int32_data(), CeilDiv(elements, 2), out);
  }
  return absl::InternalError("unhandled data type");
}

void ReleaseData(TensorProto& proto) {
  // Clearing keeps the capacity; swapping with an empty field gives the memory back.
  std::string().swap(*proto.mutable_raw_data());
  proto.clear_raw_data();
  google::protobuf::RepeatedField<float>().Swap(proto.mutable_float_data());
  google::protobuf::RepeatedField<double>().Swap(proto.mutable_double_data());
  google::protobuf::RepeatedField<int32_t>().Swap(proto.mutable_int32_data());
  google::protobuf::RepeatedField<int64_t>().Swap(proto.mutable_int64_data());
  google::protobuf::RepeatedField<uint64_t>().Swap(proto.mutable_uint64_data());
}

absl::StatusOr<Shape> ReadShape(const TensorProto& proto, const ImportOptions& options) {
  if (proto.dims_size() > options.max_rank) {
    return absl::ResourceExhaustedError(
        absl::StrCat("has rank ", proto.dims_size(), ", the limit is ", options.max_rank));
  }
  for (const int64_t d : proto.dims()) {
    if (d <= options.max_dim) continue;
    return absl::ResourceExhaustedError(
        absl::StrCat("has dimension ", d, ", the limit is ", options.max_dim));
  }
  return Shape(proto.dims().begin(), proto.dims().end());
}

absl::StatusOr<Tensor> CopyOf(DataType type, const Shape& shape, const void* data) {
  HT_ASSIGN_OR_RETURN(Tensor out, Tensor::Create(type, shape));
  if (out.num_bytes() > 0) {
    std::memcpy(out.mutable_raw(), data, static_cast<size_t>(out.num_bytes()));
  }
  if (type == DataType::kBool) NormalizeBools(out.mutable_raw(), out.num_elements());
  return out;
}

struct ExternalLocation {
  std::string file;
  int64_t offset = 0;
  int64_t length = -1;  // -1: not stated
};

absl::StatusOr<ExternalLocation> ParseLocation(const TensorProto& proto) {
  ExternalLocation out;
  for (const auto& entry : proto.external_data()) {
    if (entry.key() == "location") {
      out.file = entry.value();
      continue;
    }
    if (entry.key() != "offset" && entry.key() != "length") continue;  // checksum and the like
    int64_t& number = entry.key() == "offset" ? out.offset : out.length;
    if (!absl::SimpleAtoi(entry.value(), &number) || number < 0) {
      return absl::InvalidArgumentError(absl::StrCat("external data ", entry.key(), " is '",
                                                     entry.value(), "', want a byte count"));
    }
  }
  if (out.file.empty()) return absl::InvalidArgumentError("external data names no location");
  return out;
}

}  // namespace

absl::StatusOr<Tensor> TensorReader::Read(TensorProto& proto) {
  const std::optional<DataType> type = DataTypeFromOnnx(proto.data_type());
  if (!type) {
    return absl::InvalidArgumentError(
        absl::StrCat("has ONNX data type ", proto.data_type(),
                     ", want a float, integer or bool type that Halftone has"));
  }
  HT_ASSIGN_OR_RETURN(const Shape shape, ReadShape(proto, options_));
  HT_ASSIGN_OR_RETURN(const int64_t elements, NumElements(shape));
  HT_ASSIGN_OR_RETURN(const int64_t size, PackedBytes(elements, BitWidth(*type)));
  if (size > options_.max_tensor_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "has ", size, " bytes, the limit for one tensor is ", options_.max_tensor_bytes));
  }
  if (proto.has_segment()) return absl::InvalidArgumentError("is stored in segments");
  if (proto.data_location() == TensorProto::EXTERNAL) {
    return ReadExternal(proto, *type, shape, size);
  }
  absl::StatusOr<Tensor> out;
  if (proto.has_raw_data()) {
    if (static_cast<int64_t>(proto.raw_data().size()) != size) {
      return absl::InvalidArgumentError(absl::StrCat("has ", proto.raw_data().size(), " bytes, ",
                                                     Name(*type), ToString(shape), " wants ",
                                                     size));
    }
    out = CopyOf(*type, shape, proto.raw_data().data());
  } else {
    // Typed fields hold at least a byte per element pair, so this is no larger than the file
    // allows.
    const int64_t present = int64_t{proto.float_data_size()} + proto.double_data_size() +
                            proto.int32_data_size() + proto.int64_data_size() +
                            proto.uint64_data_size();
    if (present < elements / 2) {
      return absl::InvalidArgumentError(
          absl::StrCat("has ", present, " values, its shape wants ", elements));
    }
    HT_ASSIGN_OR_RETURN(out, Tensor::Create(*type, shape));
    HT_RETURN_IF_ERROR(CopyTypedField(proto, *type, elements, out->mutable_raw()));
  }
  if (out.ok()) ReleaseData(proto);
  return out;
}

absl::StatusOr<Tensor> TensorReader::ReadExternal(const TensorProto& proto, DataType type,
                                                  const Shape& shape, int64_t size) {
  HT_ASSIGN_OR_RETURN(const ExternalLocation location, ParseLocation(proto));
  if (location.length >= 0 && location.length != size) {
    return absl::InvalidArgumentError(absl::StrCat("has ", location.length,
                                                   " bytes of external data, ", Name(type),
                                                   ToString(shape), " wants ", size));
  }
  HT_ASSIGN_OR_RETURN(const std::shared_ptr<Buffer> file, MapInsideFolder(location.file));
  const int64_t available = static_cast<int64_t>(file->size());
  if (location.offset > available || size > available - location.offset) {
    return absl::InvalidArgumentError(absl::StrCat("wants bytes ", location.offset, " to ",
                                                   location.offset, " + ", size, " of '",
                                                   location.file, "', which has ", available));
  }
  const int64_t alignment = std::max(1, BitWidth(type) / 8);
  if (location.offset % alignment != 0 || type == DataType::kBool) {
    // Many tensors may name the same bytes: copies count, or a small file could fill the memory.
    HT_RETURN_IF_ERROR(Account(size));
    return CopyOf(type, shape, file->data() + location.offset);
  }
  return Tensor::FromBuffer(type, shape, file, static_cast<size_t>(location.offset));
}

absl::StatusOr<std::shared_ptr<Buffer>> TensorReader::MapInsideFolder(const std::string& location) {
  namespace fs = std::filesystem;
  if (folder_.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "is in the external file '", location, "', but the model came without files beside it"));
  }
  const fs::path relative(location);
  const bool climbs = std::any_of(relative.begin(), relative.end(),
                                  [](const fs::path& part) { return part == ".."; });
  if (relative.is_absolute() || climbs || location.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        "external location '", location, "' is not a plain path inside the model's folder"));
  }
  // The canonical paths follow symbolic links, so a link that leaves the folder is seen here.
  std::error_code error;
  const fs::path root = fs::canonical(folder_, error);
  const fs::path file = error ? fs::path() : fs::canonical(root / relative, error);
  if (error || !fs::is_regular_file(file, error)) {
    return absl::InvalidArgumentError(
        absl::StrCat("external file '", location, "' does not exist or is no regular file"));
  }
  const auto [root_end, unused] = std::mismatch(root.begin(), root.end(), file.begin(), file.end());
  if (root_end != root.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("external location '", location, "' leads out of the model's folder"));
  }
  // "w.bin" and "./w.bin" are one file.
  if (const auto it = files_.find(file.string()); it != files_.end()) return it->second;
  HT_ASSIGN_OR_RETURN(std::shared_ptr<Buffer> buffer, Buffer::MapFile(file.string()));
  HT_RETURN_IF_ERROR(Account(static_cast<int64_t>(buffer->size())));
  files_[file.string()] = buffer;
  return buffer;
}

absl::Status TensorReader::Account(int64_t bytes) {
  used_bytes_ += bytes;
  if (used_bytes_ <= options_.max_model_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("the model has at least ", used_bytes_,
                                                   " bytes with its external data, the limit is ",
                                                   options_.max_model_bytes));
}

}  // namespace halftone
