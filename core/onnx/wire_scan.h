// A look at the bytes of an ONNX file before they are parsed.
#ifndef HALFTONE_CORE_ONNX_WIRE_SCAN_H_
#define HALFTONE_CORE_ONNX_WIRE_SCAN_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace halftone {

// Parsing gives every node, attribute, tensor and name an object of its own, a hundred times the
// two bytes that an empty one takes in the file. This counts them without building any.
// RESOURCE_EXHAUSTED above `max_parts`; OK for bytes that are no ONNX file: the parser says so.
// Requires: bytes.size() < 2 GiB.
absl::Status CheckPartCount(absl::Span<const std::byte> bytes, int64_t max_parts);

}  // namespace halftone

#endif  // HALFTONE_CORE_ONNX_WIRE_SCAN_H_
