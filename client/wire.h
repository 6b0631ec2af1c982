// Between the wire and our own types: tensors, signatures, variant selectors.
#ifndef HALFTONE_CLIENT_WIRE_H_
#define HALFTONE_CLIENT_WIRE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/samples.h"
#include "core/tensor/tensor.h"
#include "halftone/v1/types.pb.h"

namespace halftone {

v1::DataType ToProto(DataType type);  // UNSPECIFIED for types that never travel
// INVALID_ARGUMENT for an unknown one.
absl::StatusOr<DataType> FromProto(v1::DataType type);

v1::Tensor ToProto(absl::string_view name, const Tensor& tensor);
// INVALID_ARGUMENT when type, shape and bytes do not fit.
absl::StatusOr<Tensor> FromProto(const v1::Tensor& tensor);

// What SplitSamples wants to know of a model's inputs.
absl::StatusOr<std::vector<InputSignature>> InputsOf(const v1::Signature& signature);

// "FP32[batch,1,32,32]"
std::string ToText(const v1::TensorSignature& signature);

// From what people type: empty: the default variant; 8 to 64 hexadecimal digits: an id; anything
// else: a spec's text, which the server judges.
v1::VariantSelector ParseSelector(absl::string_view text);

}  // namespace halftone

#endif  // HALFTONE_CLIENT_WIRE_H_
