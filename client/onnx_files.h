// Which files an ONNX model consists of.
#ifndef HALFTONE_CLIENT_ONNX_FILES_H_
#define HALFTONE_CLIENT_ONNX_FILES_H_

#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace halftone {

// Locations of the external data that a serialized ModelProto names, nested graphs included. What
// cannot be read gives no names: the server judges the model.
std::set<std::string> ExternalDataFiles(absl::string_view model);

// Paths of all files of a model, the .onnx file first, from what people type: one .onnx file (its
// external data is found beside it), one .onnx file and its data files, or a folder with exactly
// one .onnx file. NOT_FOUND names a data file that is missing; INVALID_ARGUMENT when there is not
// exactly one .onnx file or two files have the same name.
absl::StatusOr<std::vector<std::string>> FindModelFiles(absl::Span<const std::string> paths);

}  // namespace halftone

#endif  // HALFTONE_CLIENT_ONNX_FILES_H_
