#include "client/tensor_files.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "absl/strings/match.h"
#include "client/files.h"
#include "core/base/checked_math.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

// Puts the dimension that the size of the file decides in place of -1.
absl::StatusOr<Shape> CompleteShape(absl::Span<const int64_t> shape, int64_t element_count) {
  Shape complete(shape.begin(), shape.end());
  const auto free = std::find(complete.begin(), complete.end(), -1);
  if (free == complete.end()) return complete;
  if (std::count(shape.begin(), shape.end(), -1) > 1) {
    return absl::InvalidArgumentError(absl::StrCat("more than one dimension of ", ToString(shape),
                                                   " is free: say it with --shape"));
  }
  *free = 1;
  HT_ASSIGN_OR_RETURN(const int64_t others, NumElements(complete));
  if (others == 0 || element_count % others != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "got ", element_count, " elements, want a multiple of ", others, " for ", ToString(shape)));
  }
  *free = element_count / others;
  return complete;
}

}  // namespace

absl::StatusOr<Tensor> TensorFromBytes(DataType type, absl::Span<const int64_t> shape,
                                       absl::string_view elements) {
  HT_ASSIGN_OR_RETURN(const int64_t count, NumElements(shape));
  HT_ASSIGN_OR_RETURN(const int64_t size, PackedBytes(count, BitWidth(type)));
  // Compared before anything is allocated: a header may claim any shape.
  if (static_cast<int64_t>(elements.size()) != size) {
    return absl::InvalidArgumentError(absl::StrCat("got ", elements.size(), " bytes of elements, ",
                                                   Name(type), ToString(shape), " has ", size));
  }
  HT_ASSIGN_OR_RETURN(Tensor tensor, Tensor::Create(type, shape));
  if (size > 0) std::memcpy(tensor.mutable_raw(), elements.data(), elements.size());
  return tensor;
}

TensorFileFormat FormatOf(absl::string_view path) {
  if (absl::EndsWith(path, ".npy")) return TensorFileFormat::kNpy;
  if (absl::EndsWith(path, ".pb")) return TensorFileFormat::kOnnx;
  return TensorFileFormat::kRaw;
}

absl::StatusOr<Tensor> ReadTensorFile(const std::string& path) {
  HT_ASSIGN_OR_RETURN(const std::shared_ptr<Buffer> file, OpenFile(path));
  absl::StatusOr<Tensor> tensor =
      absl::InvalidArgumentError("a raw file needs a type and a shape, want .npy or .pb here");
  if (FormatOf(path) == TensorFileFormat::kNpy) tensor = ParseNpy(AsText(*file));
  if (FormatOf(path) == TensorFileFormat::kOnnx) tensor = ParseOnnxTensor(AsText(*file));
  if (!tensor.ok()) return Annotate(tensor.status(), path);
  return tensor;
}

absl::StatusOr<Tensor> ReadRawTensorFile(const std::string& path, DataType type,
                                         absl::Span<const int64_t> shape) {
  HT_ASSIGN_OR_RETURN(const std::shared_ptr<Buffer> file, OpenFile(path));
  const absl::string_view bytes = AsText(*file);
  absl::StatusOr<Shape> complete =
      CompleteShape(shape, static_cast<int64_t>(bytes.size()) * 8 / BitWidth(type));
  if (!complete.ok()) return Annotate(complete.status(), path);
  absl::StatusOr<Tensor> tensor = TensorFromBytes(type, *complete, bytes);
  if (!tensor.ok()) return Annotate(tensor.status(), path);
  return tensor;
}

absl::Status WriteTensorFile(const std::string& path, absl::string_view name,
                             const Tensor& tensor) {
  switch (FormatOf(path)) {
    case TensorFileFormat::kNpy: {
      if (tensor.type() != DataType::kBF16) return WriteFile(path, NpyBytes(tensor));
      HT_ASSIGN_OR_RETURN(const Tensor wide, Convert(tensor, DataType::kF32));
      return WriteFile(path, NpyBytes(wide));
    }
    case TensorFileFormat::kOnnx:
      return WriteFile(path, OnnxTensorBytes(name, tensor));
    case TensorFileFormat::kRaw:
      break;
  }
  return WriteFile(
      path, {reinterpret_cast<const char*>(tensor.raw()), static_cast<size_t>(tensor.num_bytes())});
}

}  // namespace halftone
