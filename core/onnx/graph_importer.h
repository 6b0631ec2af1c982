// GraphProto → Graph, nested graphs included.
#ifndef HALFTONE_CORE_ONNX_GRAPH_IMPORTER_H_
#define HALFTONE_CORE_ONNX_GRAPH_IMPORTER_H_

#include <onnx/onnx_pb.h>

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "core/graph/graph.h"
#include "core/onnx/import.h"
#include "core/onnx/problems.h"
#include "core/onnx/tensor_reader.h"

namespace halftone {

// What the import of one model shares among its graphs. Thread-compatible.
struct ImportContext {
  const ImportOptions& options;
  const std::map<std::string, int>& opsets;
  TensorReader& tensors;
  Problems& problems;  // receives everything that is wrong with the model
};

// Takes the constants out of `proto`. The result is meaningful only if `context.problems` is empty
// afterwards; it has no inferred types yet. An error is a limit that was hit or a cycle.
absl::StatusOr<Graph> ImportGraph(onnx::GraphProto& proto, ImportContext& context);

}  // namespace halftone

#endif  // HALFTONE_CORE_ONNX_GRAPH_IMPORTER_H_
