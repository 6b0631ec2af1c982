#include "core/onnx/functions.h"

#include <onnx/defs/schema.h>
#include <onnx/inliner/inliner.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <functional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/onnx/proto_reader.h"
#include "core/ops/registry.h"

namespace halftone {
namespace {

using FunctionName = std::pair<std::string, std::string>;  // domain, name
using NodeList = google::protobuf::RepeatedPtrField<onnx::NodeProto>;

FunctionName NameOf(const onnx::NodeProto& node) {
  return {NormalDomain(node.domain()), node.op_type()};
}

void ForEachNode(const NodeList& nodes, const std::function<void(const onnx::NodeProto&)>& visit) {
  for (const onnx::NodeProto& node : nodes) {
    visit(node);
    for (const auto& attribute : node.attribute()) {
      if (attribute.has_g()) ForEachNode(attribute.g().node(), visit);
    }
  }
}

class Expander {
 public:
  Expander(onnx::ModelProto& model, const std::map<std::string, int>& opsets, int max_nodes)
      : model_(model), opsets_(opsets), max_nodes_(max_nodes) {
    for (const onnx::FunctionProto& f : model.functions()) {
      known_.insert({NormalDomain(f.domain()), f.name()});
    }
  }

  absl::Status Run() {
    AddSchemaBodies();
    if (model_.functions_size() == 0) return absl::OkStatus();
    HT_RETURN_IF_ERROR(CheckSize());
    AddDefaults(*model_.mutable_graph()->mutable_node());
    for (onnx::FunctionProto& f : *model_.mutable_functions()) AddDefaults(*f.mutable_node());
    try {
      onnx::inliner::InlineLocalFunctions(model_);
    } catch (const std::exception& e) {
      return absl::InvalidArgumentError(
          absl::StrCat("expanding the model's functions: ", e.what()));
    }
    return absl::OkStatus();
  }

 private:
  // Operators of ONNX that we do not have but that are written in terms of others.
  void AddSchemaBodies() {
    AddSchemaBodiesFor(model_.graph().node());
    // Bodies may call such operators too; the list grows while it is walked.
    for (int i = 0; i < model_.functions_size(); ++i) {
      const NodeList nodes = model_.functions(i).node();
      AddSchemaBodiesFor(nodes);
    }
  }

  void AddSchemaBodiesFor(const NodeList& nodes) {
    ForEachNode(nodes, [&](const onnx::NodeProto& node) {
      const FunctionName name = NameOf(node);
      const auto opset = opsets_.find(name.first);
      if (opset == opsets_.end() || known_.contains(name)) return;
      if (FindOp(name.first, name.second, opset->second) != nullptr) return;
      const onnx::OpSchema* schema =
          onnx::OpSchemaRegistry::Schema(name.second, opset->second, name.first);
      if (schema == nullptr || !schema->HasFunction()) return;
      const onnx::FunctionProto* body = schema->GetFunction(opset->second);
      if (body == nullptr) return;
      onnx::FunctionProto* copy = model_.add_functions();
      *copy = *body;
      // The body is found by the spelling of the call.
      copy->set_domain(node.domain());
      copy->set_name(name.second);
      for (auto& import : *copy->mutable_opset_import()) {
        if (NormalDomain(import.domain()) == name.first) import.set_version(opset->second);
      }
      for (const auto& [attribute_name, attribute] : schema->attributes()) {
        if (attribute.default_value.has_type()) {
          *copy->add_attribute_proto() = attribute.default_value;
        }
      }
      known_.insert(name);
    });
  }

  // Writes the attributes that a call leaves to their defaults into the call: the library's inliner
  // knows no defaults. Requires: CheckSize() has filled bodies_.
  void AddDefaults(NodeList& nodes) {
    for (onnx::NodeProto& node : nodes) {
      for (auto& attribute : *node.mutable_attribute()) {
        if (attribute.has_g()) AddDefaults(*attribute.mutable_g()->mutable_node());
      }
      const auto body = bodies_.find(NameOf(node));
      if (body == bodies_.end()) continue;
      for (const onnx::AttributeProto& fallback : body->second->attribute_proto()) {
        const auto& given = node.attribute();
        const bool says = std::any_of(given.begin(), given.end(), [&](const auto& attribute) {
          return attribute.name() == fallback.name();
        });
        if (!says) *node.add_attribute() = fallback;
      }
    }
  }

  // How many nodes a call of each function expands to; the library's inliner counts nothing itself.
  absl::Status CheckSize() {
    for (const onnx::FunctionProto& f : model_.functions()) {
      bodies_[{NormalDomain(f.domain()), f.name()}] = &f;
    }
    HT_ASSIGN_OR_RETURN(const int64_t total, Count(model_.graph().node()));
    if (total > max_nodes_) {
      return absl::ResourceExhaustedError(absl::StrCat("the model has more than ", max_nodes_,
                                                       " nodes once its functions are expanded"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<int64_t> Count(const NodeList& nodes) {
    int64_t total = 0;
    absl::Status status;
    ForEachNode(nodes, [&](const onnx::NodeProto& node) {
      if (!status.ok()) return;
      absl::StatusOr<int64_t> size = SizeOf(NameOf(node));
      status = size.status();
      if (status.ok()) total = std::min<int64_t>(total + *size, int64_t{max_nodes_} + 1);
    });
    HT_RETURN_IF_ERROR(status);
    return total;
  }

  absl::StatusOr<int64_t> SizeOf(const FunctionName& name) {
    const auto body = bodies_.find(name);
    if (body == bodies_.end()) return 1;
    if (const auto it = sizes_.find(name); it != sizes_.end()) return it->second;
    if (open_.contains(name)) {
      return absl::InvalidArgumentError(absl::StrCat("function '", name.second, "': calls itself"));
    }
    // A chain of calls costs stack, here and in the inliner.
    if (open_.size() >= kMaxCallDepth) {
      return absl::ResourceExhaustedError(absl::StrCat("function '", name.second, "': more than ",
                                                       kMaxCallDepth, " calls within calls"));
    }
    open_.insert(name);
    absl::StatusOr<int64_t> size = Count(body->second->node());
    open_.erase(name);
    if (size.ok()) sizes_[name] = *size;
    return size;
  }

  static constexpr size_t kMaxCallDepth = 64;

  onnx::ModelProto& model_;
  const std::map<std::string, int>& opsets_;
  const int max_nodes_;
  std::set<FunctionName> known_;
  std::map<FunctionName, const onnx::FunctionProto*> bodies_;
  std::map<FunctionName, int64_t> sizes_;
  std::set<FunctionName> open_;  // calls being counted
};

}  // namespace

absl::Status InlineFunctions(onnx::ModelProto& model, const std::map<std::string, int>& opsets,
                             int max_nodes) {
  return Expander(model, opsets, max_nodes).Run();
}

}  // namespace halftone
