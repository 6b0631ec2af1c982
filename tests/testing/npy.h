// Reads .npy files (NumPy's format, version 1 to 3, little-endian, C order).
#ifndef HALFTONE_TESTS_TESTING_NPY_H_
#define HALFTONE_TESTS_TESTING_NPY_H_

#include <string>

#include "absl/status/statusor.h"
#include "core/tensor/tensor.h"

namespace halftone {

// InvalidArgument for anything but whole numbers, floats and bools in C order.
absl::StatusOr<Tensor> ReadNpy(const std::string& path);

// The folder with the real models: $HALFTONE_MODELS, else ../shared/models. Empty if there is none;
// tests that want it then skip.
std::string ModelsFolder();

}  // namespace halftone

#endif  // HALFTONE_TESTS_TESTING_NPY_H_
