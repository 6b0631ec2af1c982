// Replaces calls of functions by their bodies.
#ifndef HALFTONE_CORE_ONNX_FUNCTIONS_H_
#define HALFTONE_CORE_ONNX_FUNCTIONS_H_

#include <onnx/onnx_pb.h>

#include <map>
#include <string>

#include "absl/status/status.h"

namespace halftone {

// Expands calls of model-local functions, and of operators that have no table row but whose ONNX
// definition is a function body. `opsets` are those of the model. INVALID_ARGUMENT for functions
// that call themselves, RESOURCE_EXHAUSTED when the result would have more than `max_nodes` nodes.
absl::Status InlineFunctions(onnx::ModelProto& model, const std::map<std::string, int>& opsets,
                             int max_nodes);

}  // namespace halftone

#endif  // HALFTONE_CORE_ONNX_FUNCTIONS_H_
