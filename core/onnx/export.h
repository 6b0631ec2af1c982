// Graph → standard ONNX files.
#ifndef HALFTONE_CORE_ONNX_EXPORT_H_
#define HALFTONE_CORE_ONNX_EXPORT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/graph/graph.h"

namespace halftone {

struct ExportOptions {
  // Constants of at least this many bytes go to the external data file, aligned to 4096 bytes so
  // that loading is a mapping; < 0: everything stays inside the .onnx (limit: 2 GB).
  int64_t external_threshold = 1024;
  std::string data_file_name = "weights.bin";   // as the .onnx names it
  std::map<std::string, std::string> metadata;  // metadata_props, sorted by key
};

struct ExportedModel {
  std::string onnx;        // serialized ModelProto, deterministic for equal graphs
  int64_t data_bytes = 0;  // size of the external data file, 0: there is none
};

// Serializes the graph (producer_name "halftone"). External data is handed to `write` in order,
// chunk by chunk, padding included; equal graphs give equal bytes.
absl::StatusOr<ExportedModel> ExportOnnx(
    const Graph& graph, const ExportOptions& options,
    const std::function<absl::Status(absl::string_view chunk)>& write);

// Everything inside one string.
absl::StatusOr<std::string> ExportOnnxInline(const Graph& graph);

// Writes `path` and, beside it, `<stem>.data` when the constants have more than 1 GiB.
absl::Status ExportOnnxFile(const Graph& graph, const std::string& path);

}  // namespace halftone

#endif  // HALFTONE_CORE_ONNX_EXPORT_H_
