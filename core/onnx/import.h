// ONNX files → Graph. Nothing in the bytes can crash, hang or balloon the process.
#ifndef HALFTONE_CORE_ONNX_IMPORT_H_
#define HALFTONE_CORE_ONNX_IMPORT_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/graph/graph.h"

namespace halftone {

struct ImportOptions {
  int64_t max_model_bytes = int64_t{64} << 30;   // .onnx plus external data
  int64_t max_tensor_bytes = int64_t{16} << 30;  // one initializer
  int max_nodes = 200'000;                       // nested graphs included
  int max_nesting = 16;                          // graphs within graphs
  int max_rank = 16;
  // One side of a tensor: none that fits into an address space has a longer one.
  int64_t max_dim = int64_t{1} << 40;
};

// Reads `path`; external data comes from files beside it, mapped, and never from outside its
// folder. The result is topologically sorted and verified, with types inferred as far as possible
// (InferShapes), Constant nodes turned into constants, and empty-named optional inputs made null.
// A model without opset imports gets the opset of its IR version's last ONNX release.
// INVALID_ARGUMENT: not a valid model (lists every problem found, with node names, and every
// unknown operator too).
// UNIMPLEMENTED: lists every operator without a table row, with node names and opset.
// RESOURCE_EXHAUSTED: beyond a limit of `options`.
absl::StatusOr<Graph> ImportOnnxFile(const std::string& path, const ImportOptions& options = {});

// As above for bytes in memory; a model with external data is an InvalidArgument here.
absl::StatusOr<Graph> ImportOnnx(absl::Span<const std::byte> bytes,
                                 const ImportOptions& options = {});

}  // namespace halftone

#endif  // HALFTONE_CORE_ONNX_IMPORT_H_
