// TensorProto → Tensor, with every size checked before anything is allocated.
#ifndef HALFTONE_CORE_ONNX_TENSOR_READER_H_
#define HALFTONE_CORE_ONNX_TENSOR_READER_H_

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "core/onnx/import.h"
#include "core/tensor/tensor.h"

namespace halftone {

// Reads the tensors of one model. Thread-compatible.
class TensorReader {
 public:
  // External data is looked for in `folder`; empty: the model must not have any.
  // `model_bytes` counts towards options.max_model_bytes.
  TensorReader(std::string folder, int64_t model_bytes, const ImportOptions& options)
      : folder_(std::move(folder)), used_bytes_(model_bytes), options_(options) {}

  // Takes the bytes out of `proto`: its data fields are empty afterwards, so that the model is
  // never in memory twice. External data is mapped, one mapping per file; data that is not aligned
  // to its element size is copied. INVALID_ARGUMENT says what is wrong, RESOURCE_EXHAUSTED which
  // limit.
  absl::StatusOr<Tensor> Read(onnx::TensorProto& proto);

 private:
  absl::StatusOr<Tensor> ReadExternal(const onnx::TensorProto& proto, DataType type,
                                      const Shape& shape, int64_t size);
  absl::StatusOr<std::shared_ptr<Buffer>> MapInsideFolder(const std::string& location);
  absl::Status Account(int64_t bytes);

  const std::string folder_;
  int64_t used_bytes_;
  const ImportOptions options_;
  absl::flat_hash_map<std::string, std::shared_ptr<Buffer>> files_;  // by canonical path
};

}  // namespace halftone

#endif  // HALFTONE_CORE_ONNX_TENSOR_READER_H_
