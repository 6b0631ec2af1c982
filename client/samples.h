// From files to requests: which file is which input, and how the rows of a file become samples.
//
//   HT_ASSIGN_OR_RETURN(auto arguments, ParseInputArguments({"image=digits.npy"}));
//   HT_ASSIGN_OR_RETURN(auto tensors, LoadInputs(inputs, arguments, {}));
//   HT_ASSIGN_OR_RETURN(auto samples, SplitSamples(inputs, tensors));
#ifndef HALFTONE_CLIENT_SAMPLES_H_
#define HALFTONE_CLIENT_SAMPLES_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/tensor/tensor.h"

namespace halftone {

// An input of a model: sizes >= 0, or -1 where every request chooses.
struct InputSignature {
  std::string name;
  DataType type = DataType::kF32;
  Shape shape;
};

// "NAME=FILE" or "FILE".
struct InputArgument {
  std::string name;  // empty: the model's only input
  std::string path;
};

absl::StatusOr<std::vector<InputArgument>> ParseInputArguments(
    absl::Span<const std::string> arguments);

// "NAME=1,3,224,224" or "1,3,224,224" (name: empty), one -1 allowed.
absl::StatusOr<std::map<std::string, Shape>> ParseShapeArguments(
    absl::Span<const std::string> arguments);

// Reads the file of every input, in the order of `inputs`. A raw file has the type of its input and
// the shape that `shapes` gives, else the input's own. INVALID_ARGUMENT lists missing and unknown
// inputs.
absl::StatusOr<std::vector<Tensor>> LoadInputs(absl::Span<const InputSignature> inputs,
                                               absl::Span<const InputArgument> arguments,
                                               const std::map<std::string, Shape>& shapes);

// Cuts tensors into samples along their first axis; every input must give the same number.
// A tensor with the rank of its input gives one sample per row, of batch size 1, or of the input's
// own first dimension where that is fixed. A tensor with one dimension more gives one per row
// without that dimension. Samples share the bytes of the tensors.
absl::StatusOr<std::vector<std::vector<Tensor>>> SplitSamples(
    absl::Span<const InputSignature> inputs, absl::Span<const Tensor> tensors);

// The reverse for outputs: joins along axis 0. INVALID_ARGUMENT when types or the other dimensions
// differ, or for scalars. Requires: not empty.
absl::StatusOr<Tensor> JoinRows(absl::Span<const Tensor> parts);

// The same numbers every time: floats uniform in [-1, 1), integers and bools 0 or 1; free
// dimensions are 1.
absl::StatusOr<std::vector<Tensor>> RandomInputs(absl::Span<const InputSignature> inputs);

}  // namespace halftone

#endif  // HALFTONE_CLIENT_SAMPLES_H_
