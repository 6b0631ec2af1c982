// Receives a variant as standard ONNX files.
#ifndef HALFTONE_CLIENT_EXPORTER_H_
#define HALFTONE_CLIENT_EXPORTER_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/connection.h"

namespace halftone {

// Writes the files into `folder`, which is created, and returns their paths, the .onnx file first.
// A file gets its name when all of them are complete and have the digests that the server states;
// until then it is called NAME.part. Files of the same names are replaced. `progress` is called
// with bytes done and in total.
absl::StatusOr<std::vector<std::string>> ExportVariant(
    Connection& server, const v1::ExportVariantRequest& request, const std::string& folder,
    const std::function<void(int64_t, int64_t)>& progress);

}  // namespace halftone

#endif  // HALFTONE_CLIENT_EXPORTER_H_
