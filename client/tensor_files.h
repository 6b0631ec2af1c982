// Tensors in files: NumPy's .npy, ONNX TensorProto .pb, and .raw bytes.
//
//   HT_ASSIGN_OR_RETURN(Tensor t, ReadTensorFile("image.npy"));
//   HT_RETURN_IF_ERROR(WriteTensorFile("logits.npy", "logits", t));
//
// Any bytes give a tensor or an error that names the file and what is wrong with it.
#ifndef HALFTONE_CLIENT_TENSOR_FILES_H_
#define HALFTONE_CLIENT_TENSOR_FILES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/tensor.h"

namespace halftone {

enum class TensorFileFormat { kNpy, kOnnx, kRaw };

// By the end of the name: ".npy", ".pb", anything else is raw.
TensorFileFormat FormatOf(absl::string_view path);

// A .npy or .pb file. INVALID_ARGUMENT for a raw one: its type and shape are not in the file.
absl::StatusOr<Tensor> ReadTensorFile(const std::string& path);

// The file's bytes, row-major and little-endian, under a type and shape; one dimension may be -1:
// the size of the file decides.
absl::StatusOr<Tensor> ReadRawTensorFile(const std::string& path, DataType type,
                                         absl::Span<const int64_t> shape);

// Writes in the format of the name, replacing the file. bf16 becomes f32 in .npy, which has no such
// type. `name` is stored in .pb only.
absl::Status WriteTensorFile(const std::string& path, absl::string_view name, const Tensor& tensor);

// --- the formats, without files ---

// A copy of the elements. INVALID_ARGUMENT when type and shape do not have that many bytes.
absl::StatusOr<Tensor> TensorFromBytes(DataType type, absl::Span<const int64_t> shape,
                                       absl::string_view elements);

// Header versions 1 to 3, C order, little-endian; f2 f4 f8, i1 to i8, u1 to u8, b1.
absl::StatusOr<Tensor> ParseNpy(absl::string_view bytes);
std::string NpyBytes(const Tensor& tensor);

// A TensorProto whose elements are in raw_data or in the typed fields; no strings, no external
// data, no 4-bit types.
absl::StatusOr<Tensor> ParseOnnxTensor(absl::string_view bytes);
std::string OnnxTensorBytes(absl::string_view name, const Tensor& tensor);

}  // namespace halftone

#endif  // HALFTONE_CLIENT_TENSOR_FILES_H_
