// Models written as ONNX text, for tests:
//
//   <ir_version: 8, opset_import: ["" : 17]>
//   net (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }
#ifndef HALFTONE_TESTS_TESTING_ONNX_TEXT_H_
#define HALFTONE_TESTS_TESTING_ONNX_TEXT_H_

#include <onnx/defs/parser.h>
#include <onnx/onnx_pb.h>

#include <string>

#include "absl/log/check.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/onnx/import.h"

namespace halftone {

inline onnx::ModelProto ParseModel(const std::string& text) {
  onnx::ModelProto model;
  const auto status = onnx::OnnxParser::Parse(model, text.c_str());
  CHECK(status.IsOK()) << status.ErrorMessage() << "\n" << text;
  return model;
}

inline absl::Span<const std::byte> AsBytes(absl::string_view s) {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(s.data()), s.size());
}

inline absl::StatusOr<Graph> Import(const onnx::ModelProto& model,
                                    const ImportOptions& options = {}) {
  return ImportOnnx(AsBytes(model.SerializeAsString()), options);
}

inline absl::StatusOr<Graph> ImportText(const std::string& text,
                                        const ImportOptions& options = {}) {
  return Import(ParseModel(text), options);
}

}  // namespace halftone

#endif  // HALFTONE_TESTS_TESTING_ONNX_TEXT_H_
