// The small pieces of an ONNX file as our types: value types and attributes.
#ifndef HALFTONE_CORE_ONNX_PROTO_READER_H_
#define HALFTONE_CORE_ONNX_PROTO_READER_H_

#include <onnx/onnx_pb.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/graph/attributes.h"
#include "core/graph/graph.h"
#include "core/onnx/tensor_reader.h"

namespace halftone {

// "" for both spellings of the default domain, "" and "ai.onnx".
std::string NormalDomain(absl::string_view domain);

// How messages name a node: "Conv 'c1'", or by its first output when it has no name.
std::string Describe(const onnx::NodeProto& node);

// A tensor type. Missing, negative and zero dimensions are unknown: exporters write 0 for "any".
// INVALID_ARGUMENT for sequences, maps and strings, RESOURCE_EXHAUSTED for ranks and dimensions
// above the limits.
absl::StatusOr<ValueType> ReadType(const onnx::TypeProto& proto, const ImportOptions& options);

// Any attribute but a graph; tensors give up their bytes (see TensorReader::Read).
absl::StatusOr<Attribute> ReadAttribute(onnx::AttributeProto& proto, TensorReader& tensors);

// The kind of an attribute, guessed from its fields where old files do not state it.
onnx::AttributeProto::AttributeType KindOf(const onnx::AttributeProto& proto);

}  // namespace halftone

#endif  // HALFTONE_CORE_ONNX_PROTO_READER_H_
