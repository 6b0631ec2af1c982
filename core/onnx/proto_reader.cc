#include "core/onnx/proto_reader.h"

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace halftone {

using onnx::AttributeProto;

std::string NormalDomain(absl::string_view domain) {
  return domain == "ai.onnx" ? std::string() : std::string(domain);
}

std::string Describe(const onnx::NodeProto& node) {
  if (!node.name().empty() || node.output_size() == 0) {
    return absl::StrCat(node.op_type(), " '", node.name(), "'");
  }
  return absl::StrCat(node.op_type(), " (output '", node.output(0), "')");
}

absl::StatusOr<ValueType> ReadType(const onnx::TypeProto& proto, const ImportOptions& options) {
  if (proto.value_case() == onnx::TypeProto::VALUE_NOT_SET) return ValueType{};
  if (!proto.has_tensor_type()) {
    return absl::InvalidArgumentError(
        "is a sequence, map, optional or sparse tensor, want a tensor");
  }
  const onnx::TypeProto::Tensor& tensor = proto.tensor_type();
  ValueType out;
  if (tensor.elem_type() != onnx::TensorProto::UNDEFINED) {
    out.type = DataTypeFromOnnx(tensor.elem_type());
    if (!out.type) {
      return absl::InvalidArgumentError(
          absl::StrCat("has ONNX data type ", tensor.elem_type(),
                       ", want a float, integer or bool type that Halftone has"));
    }
  }
  if (!tensor.has_shape()) return out;
  if (tensor.shape().dim_size() > options.max_rank) {
    return absl::ResourceExhaustedError(
        absl::StrCat("has rank ", tensor.shape().dim_size(), ", the limit is ", options.max_rank));
  }
  out.shape.emplace();
  for (const auto& dim : tensor.shape().dim()) {
    if (dim.dim_value() > options.max_dim) {
      return absl::ResourceExhaustedError(
          absl::StrCat("has dimension ", dim.dim_value(), ", the limit is ", options.max_dim));
    }
    // -1 is how some exporters write "any"; anything below means nothing.
    if (dim.dim_value() < -1) {
      return absl::InvalidArgumentError(
          absl::StrCat("has dimension ", dim.dim_value(), ", want a size, a name or -1"));
    }
    if (dim.dim_value() > 0) {
      out.shape->emplace_back(dim.dim_value());
    } else {
      out.shape->emplace_back(dim.dim_param());
    }
  }
  return out;
}

AttributeProto::AttributeType KindOf(const AttributeProto& proto) {
  if (proto.type() != AttributeProto::UNDEFINED) return proto.type();
  if (proto.has_f()) return AttributeProto::FLOAT;
  if (proto.has_i()) return AttributeProto::INT;
  if (proto.has_s()) return AttributeProto::STRING;
  if (proto.has_t()) return AttributeProto::TENSOR;
  if (proto.has_g()) return AttributeProto::GRAPH;
  if (proto.floats_size() > 0) return AttributeProto::FLOATS;
  if (proto.ints_size() > 0) return AttributeProto::INTS;
  if (proto.strings_size() > 0) return AttributeProto::STRINGS;
  return AttributeProto::UNDEFINED;
}

absl::StatusOr<Attribute> ReadAttribute(AttributeProto& proto, TensorReader& tensors) {
  if (!proto.ref_attr_name().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("refers to '", proto.ref_attr_name(), "', which only function bodies may do"));
  }
  switch (KindOf(proto)) {
    case AttributeProto::FLOAT:
      return Attribute(proto.f());
    case AttributeProto::INT:
      return Attribute(int64_t{proto.i()});
    case AttributeProto::STRING:
      return Attribute(proto.s());
    case AttributeProto::TENSOR: {
      HT_ASSIGN_OR_RETURN(Tensor tensor, tensors.Read(*proto.mutable_t()));
      return Attribute(std::move(tensor));
    }
    case AttributeProto::FLOATS:
      return Attribute(std::vector<float>(proto.floats().begin(), proto.floats().end()));
    case AttributeProto::INTS:
      return Attribute(std::vector<int64_t>(proto.ints().begin(), proto.ints().end()));
    case AttributeProto::STRINGS:
      return Attribute(std::vector<std::string>(proto.strings().begin(), proto.strings().end()));
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("has kind ", static_cast<int>(proto.type()),
                       ", want a number, string, tensor, graph or a list of numbers or strings"));
  }
}

}  // namespace halftone
