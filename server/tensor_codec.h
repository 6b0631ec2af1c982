// Tensors on the wire ↔ Tensor. Checks everything that a request says about its tensors.
//
//   HT_ASSIGN_OR_RETURN(std::vector<Tensor> inputs, DecodeInputs(signature, wire));
//   HT_ASSIGN_OR_RETURN(std::vector<OutputPick> picks, PickOutputs(signature, wanted));
//
// Errors are INVALID_ARGUMENT and name the tensor, what came and what was wanted. Free functions,
// thread-safe.
#ifndef HALFTONE_SERVER_TENSOR_CODEC_H_
#define HALFTONE_SERVER_TENSOR_CODEC_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/graph/graph.h"
#include "core/tensor/tensor.h"

namespace halftone {

// A tensor as a request describes it; borrows everything.
struct WireTensor {
  absl::string_view name;  // may be empty when the model has one input
  DataType type = DataType::kF32;
  absl::Span<const int64_t> shape;
  absl::string_view bytes;  // row-major, little-endian
};

// Inputs in signature order. Bytes that are aligned and have the signature's type are borrowed
// from `wire`, so they must outlive the result; the others are copied or widened (FP16, BF16 and
// UINT8 to FP32).
absl::StatusOr<std::vector<Tensor>> DecodeInputs(const Signature& signature,
                                                 absl::Span<const WireTensor> wire);

struct WantedOutput {
  absl::string_view name;
  std::optional<DataType> type;  // absent: the model's own
};

// Which result to send, and as what.
struct OutputPick {
  int index = 0;  // into the signature's outputs
  DataType type = DataType::kF32;
};

// All outputs if none is wanted by name. Float outputs may change to FP32, FP16 or BF16.
absl::StatusOr<std::vector<OutputPick>> PickOutputs(const Signature& signature,
                                                    absl::Span<const WantedOutput> wanted);

// The picked results in the wanted types. RESOURCE_EXHAUSTED when memory is short.
absl::StatusOr<std::vector<Tensor>> EncodeOutputs(absl::Span<const OutputPick> picks,
                                                  std::vector<Tensor> results);

}  // namespace halftone

#endif  // HALFTONE_SERVER_TENSOR_CODEC_H_
