#include "core/onnx/wire_scan.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <onnx/onnx_pb.h>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

// Messages that can hold many others. kLeaf stands for everything else: names, types, tensors.
enum class Kind : uint8_t { kModel, kGraph, kFunction, kNode, kAttribute, kLeaf };

Kind ChildOf(Kind parent, int field) {
  switch (parent) {
    case Kind::kModel:
      if (field == onnx::ModelProto::kGraphFieldNumber) return Kind::kGraph;
      if (field == onnx::ModelProto::kFunctionsFieldNumber) return Kind::kFunction;
      return Kind::kLeaf;
    case Kind::kGraph:
      return field == onnx::GraphProto::kNodeFieldNumber ? Kind::kNode : Kind::kLeaf;
    case Kind::kFunction:
      return field == onnx::FunctionProto::kNodeFieldNumber ? Kind::kNode : Kind::kLeaf;
    case Kind::kNode:
      return field == onnx::NodeProto::kAttributeFieldNumber ? Kind::kAttribute : Kind::kLeaf;
    case Kind::kAttribute:
      if (field == onnx::AttributeProto::kGFieldNumber) return Kind::kGraph;
      if (field == onnx::AttributeProto::kGraphsFieldNumber) return Kind::kGraph;
      return Kind::kLeaf;
    case Kind::kLeaf:
      break;
  }
  return Kind::kLeaf;
}

// A file nested deeper than this is not parsed either.
constexpr int kMaxDepth = 1000;

class Scanner {
 public:
  Scanner(CodedInputStream& stream, int64_t max_parts) : stream_(stream), max_parts_(max_parts) {}

  // False: the limit is reached or the bytes make no sense.
  bool Scan(Kind kind, int depth) {
    while (const uint32_t tag = stream_.ReadTag()) {
      if (WireFormatLite::GetTagWireType(tag) != WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
        if (!WireFormatLite::SkipField(&stream_, tag)) return false;
        continue;
      }
      if (++parts_ > max_parts_) return false;
      uint32_t length = 0;
      if (!stream_.ReadVarint32(&length) || length > INT32_MAX) return false;
      const Kind child = ChildOf(kind, WireFormatLite::GetTagFieldNumber(tag));
      if (child == Kind::kLeaf) {
        if (!stream_.Skip(static_cast<int>(length))) return false;
        continue;
      }
      if (depth == kMaxDepth) return false;
      const CodedInputStream::Limit limit = stream_.PushLimit(static_cast<int>(length));
      if (!Scan(child, depth + 1)) return false;
      stream_.PopLimit(limit);
    }
    return stream_.ConsumedEntireMessage();
  }

  bool TooMany() const { return parts_ > max_parts_; }

 private:
  CodedInputStream& stream_;
  const int64_t max_parts_;
  int64_t parts_ = 0;
};

}  // namespace

absl::Status CheckPartCount(absl::Span<const std::byte> bytes, int64_t max_parts) {
  CodedInputStream stream(reinterpret_cast<const uint8_t*>(bytes.data()),
                          static_cast<int>(bytes.size()));
  Scanner scanner(stream, max_parts);
  if (!scanner.Scan(Kind::kModel, 0) && scanner.TooMany()) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the model has more than ", max_parts, " nodes, attributes, tensors and names in all"));
  }
  return absl::OkStatus();
}

}  // namespace halftone
