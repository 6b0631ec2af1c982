#include "core/onnx/graph_importer.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/onnx/proto_reader.h"
#include "core/ops/registry.h"

namespace halftone {
namespace {

using onnx::AttributeProto;
using onnx::GraphProto;
using onnx::NodeProto;
using onnx::ValueInfoProto;

using NameSet = absl::flat_hash_set<std::string>;

bool IsConstantNode(const NodeProto& node) {
  return node.op_type() == "Constant" && NormalDomain(node.domain()).empty();
}

bool SameTensor(const Tensor& a, const Tensor& b) {
  return a.type() == b.type() && a.shape() == b.shape() && a.bytes() == b.bytes();
}

// Adds the names that `graph` and its nested graphs read but do not define. The depth is bounded:
// the parser limits nesting.
void CollectFreeNames(const GraphProto& graph, NameSet& out) {
  NameSet defined;
  for (const auto& v : graph.input()) defined.insert(v.name());
  for (const auto& t : graph.initializer()) defined.insert(t.name());
  for (const auto& node : graph.node()) defined.insert(node.output().begin(), node.output().end());
  const auto read = [&](const std::string& name) {
    if (!name.empty() && !defined.contains(name)) out.insert(name);
  };
  for (const auto& node : graph.node()) {
    for (const std::string& name : node.input()) read(name);
    for (const auto& attribute : node.attribute()) {
      if (!attribute.has_g()) continue;
      NameSet nested;
      CollectFreeNames(attribute.g(), nested);
      for (const std::string& name : nested) read(name);
    }
  }
  for (const auto& v : graph.output()) read(v.name());
}

// One graph on its way in; nested graphs have a pointer to the one around them.
class Importer {
 public:
  Importer(ImportContext& context, const Importer* outer, std::string where)
      : context_(context), outer_(outer), where_(std::move(where)) {}

  struct Capture {
    std::string name;
    ValueType type;
  };

  // `captures` are the outer values that become trailing inputs.
  absl::StatusOr<Graph> Run(GraphProto& proto, absl::Span<const Capture> captures) {
    graph_ = Graph(proto.name().empty() ? "graph" : proto.name());
    graph_.opsets() = context_.opsets;
    if (proto.sparse_initializer_size() > 0) {
      Invalid(absl::StrCat("sparse initializer '", proto.sparse_initializer(0).values().name(),
                           "': want dense tensors"));
    }
    for (const auto& v : proto.value_info()) ReadHint(v);
    for (const auto& v : proto.output()) ReadHint(v);
    HT_RETURN_IF_ERROR(AddInputs(proto));
    for (const Capture& capture : captures) {
      if (Define(capture.name, "input")) graph_.AddInput(capture.name, capture.type);
    }
    HT_RETURN_IF_ERROR(AddInitializers(proto));
    HT_RETURN_IF_ERROR(AddNodes(proto));
    AddOutputs(proto);
    HT_RETURN_IF_ERROR(graph_.SortTopologically());
    graph_.RemoveUnused();
    return std::move(graph_);
  }

 private:
  void Invalid(absl::string_view what) { context_.problems.AddInvalid(absl::StrCat(where_, what)); }

  // A limit ends the import; anything else joins the list.
  absl::Status Report(const absl::Status& status, absl::string_view what) {
    if (status.code() == absl::StatusCode::kResourceExhausted) {
      return Annotate(status, absl::StrCat(where_, what));
    }
    if (!status.ok()) Invalid(absl::StrCat(what, " ", status.message()));
    return absl::OkStatus();
  }

  // False, and a problem, if the name is taken in this graph.
  bool Define(const std::string& name, absl::string_view kind) {
    if (name.empty()) {
      Invalid(absl::StrCat(kind, " without a name"));
      return false;
    }
    if (defined_.insert(name).second) return true;
    Invalid(absl::StrCat(kind, " '", name, "': the name is defined twice"));
    return false;
  }

  // Initializers and node outputs of a nested graph must not reuse a name that is visible outside.
  bool DefineUnshadowed(const std::string& name, absl::string_view kind) {
    for (const Importer* o = outer_; o != nullptr; o = o->outer_) {
      if (!o->visible_.contains(name)) continue;
      Invalid(absl::StrCat(kind, " '", name, "': hides a value of the graph around it"));
      return false;
    }
    return Define(name, kind);
  }

  // Some exporters write an initializer once for each of its users.
  bool RepeatsConstant(const std::string& name, const Tensor& tensor) const {
    const Value* before = graph_.FindValue(name);
    return before != nullptr && before->is_constant() && SameTensor(before->constant(), tensor);
  }

  void ReadHint(const ValueInfoProto& info) {
    // A hint that makes no sense is no hint; inference finds out what is true.
    absl::StatusOr<ValueType> type = ReadType(info.type(), context_.options);
    if (type.ok()) hints_[info.name()] = *std::move(type);
  }

  void ApplyHint(Value* value) {
    const auto it = hints_.find(value->name());
    if (it != hints_.end()) value->set_type(it->second);
  }

  absl::Status AddInputs(const GraphProto& proto) {
    NameSet initialized;
    for (const auto& t : proto.initializer()) initialized.insert(t.name());
    for (const ValueInfoProto& info : proto.input()) {
      // An input with an initializer is a constant with a default that nobody can override here.
      if (initialized.contains(info.name())) continue;
      const std::string what = absl::StrCat("input '", info.name(), "'");
      absl::StatusOr<ValueType> type = ReadType(info.type(), context_.options);
      HT_RETURN_IF_ERROR(Report(type.status(), what));
      // Loop bodies may leave types to inference, the model's own inputs may not.
      if (type.ok() && !type->type && outer_ == nullptr) {
        Invalid(absl::StrCat(what, " has no data type"));
      }
      if (!Define(info.name(), "input")) continue;
      graph_.AddInput(info.name(), type.ok() ? *std::move(type) : ValueType{});
      visible_.insert(info.name());
    }
    return absl::OkStatus();
  }

  absl::Status AddInitializers(GraphProto& proto) {
    for (onnx::TensorProto& tensor : *proto.mutable_initializer()) {
      absl::StatusOr<Tensor> value = context_.tensors.Read(tensor);
      HT_RETURN_IF_ERROR(Report(value.status(), absl::StrCat("initializer '", tensor.name(), "'")));
      if (value.ok() && RepeatsConstant(tensor.name(), *value)) continue;
      if (!DefineUnshadowed(tensor.name(), "initializer")) continue;
      graph_.AddConstant(tensor.name(), value.ok() ? *std::move(value) : Tensor());
      visible_.insert(tensor.name());
    }
    return absl::OkStatus();
  }

  // First every output, then every input: files may list nodes in any order.
  absl::Status AddNodes(GraphProto& proto) {
    std::vector<Node*> nodes;  // parallel to proto.node(); null for constants
    for (NodeProto& node : *proto.mutable_node()) {
      if (IsConstantNode(node)) {
        nodes.push_back(nullptr);
        HT_RETURN_IF_ERROR(AddConstantNode(node));
      } else {
        nodes.push_back(AddNodeOutputs(node));
      }
    }
    for (int i = 0; i < proto.node_size(); ++i) {
      NodeProto& node = *proto.mutable_node(i);
      if (nodes[i] != nullptr) {
        ConnectInputs(node, nodes[i]);
        HT_RETURN_IF_ERROR(ReadAttributes(node, nodes[i]));
        CheckOperator(node);
      }
      visible_.insert(node.output().begin(), node.output().end());
    }
    return absl::OkStatus();
  }

  absl::Status AddConstantNode(NodeProto& node) {
    const std::string what = Describe(node);
    if (node.output_size() != 1 || node.attribute_size() != 1) {
      Invalid(absl::StrCat(what, ": got ", node.attribute_size(), " attributes and ",
                           node.output_size(), " outputs, want one of each"));
      return absl::OkStatus();
    }
    AttributeProto& attribute = *node.mutable_attribute(0);
    absl::StatusOr<Tensor> value = ConstantValue(attribute);
    if (value.status().code() == absl::StatusCode::kUnimplemented) {
      context_.problems.AddUnsupported("", absl::StrCat("Constant with ", attribute.name()),
                                       graph_.opset(), node.name());
    } else {
      HT_RETURN_IF_ERROR(Report(value.status(), what));
    }
    if (!DefineUnshadowed(node.output(0), "value")) return absl::OkStatus();
    graph_.AddConstant(node.output(0), value.ok() ? *std::move(value) : Tensor());
    return absl::OkStatus();
  }

  absl::StatusOr<Tensor> ConstantValue(AttributeProto& proto) {
    if (proto.name() == "sparse_value" || proto.name() == "value_string" ||
        proto.name() == "value_strings") {
      return absl::UnimplementedError(proto.name());
    }
    HT_ASSIGN_OR_RETURN(Attribute value, ReadAttribute(proto, context_.tensors));
    if (auto* t = std::get_if<Tensor>(&value)) return std::move(*t);
    if (const auto* f = std::get_if<float>(&value)) return Tensor::Scalar<float>(*f);
    if (const auto* i = std::get_if<int64_t>(&value)) return Tensor::Scalar<int64_t>(*i);
    if (const auto* f = std::get_if<std::vector<float>>(&value)) {
      return Tensor::Of<float>({static_cast<int64_t>(f->size())}, absl::MakeConstSpan(*f));
    }
    if (const auto* i = std::get_if<std::vector<int64_t>>(&value)) {
      return Tensor::Of<int64_t>({static_cast<int64_t>(i->size())}, absl::MakeConstSpan(*i));
    }
    return absl::InvalidArgumentError(
        absl::StrCat("attribute '", proto.name(), "' is no constant"));
  }

  Node* AddNodeOutputs(const NodeProto& node) {
    NodeSpec spec{.op = node.op_type(), .domain = NormalDomain(node.domain()), .name = node.name()};
    spec.num_captures = static_cast<int>(CapturedNames(node).size());
    for (const std::string& name : node.output()) {
      const bool present = !name.empty() && DefineUnshadowed(name, "value");
      spec.outputs.push_back(present ? name : "");
    }
    Node* out = graph_.AddNode(std::move(spec));
    for (Value* v : out->outputs()) {
      if (v != nullptr) ApplyHint(v);
    }
    return out;
  }

  Value* Find(const NodeProto& node, const std::string& name) {
    Value* value = graph_.FindValue(name);
    if (value == nullptr) {
      Invalid(absl::StrCat(Describe(node), ": reads '", name, "', which nothing produces"));
    }
    return value;
  }

  static bool HasGraphs(const NodeProto& proto) {
    const auto& attributes = proto.attribute();
    return std::any_of(attributes.begin(), attributes.end(), [](const AttributeProto& attribute) {
      return KindOf(attribute) == AttributeProto::GRAPH;
    });
  }

  // Trailing empty names say no more than their absence, except that captures come behind them.
  static int NumInputs(const NodeProto& proto) {
    int count = proto.input_size();
    if (HasGraphs(proto)) return count;
    while (count > 0 && proto.input(count - 1).empty()) --count;
    return count;
  }

  void ConnectInputs(const NodeProto& proto, Node* node) {
    for (int i = 0; i < NumInputs(proto); ++i) {
      const std::string& name = proto.input(i);
      graph_.SetInput(node, i, name.empty() ? nullptr : Find(proto, name));
    }
  }

  absl::Status ReadAttributes(NodeProto& proto, Node* node) {
    bool has_graphs = false;
    for (AttributeProto& attribute : *proto.mutable_attribute()) {
      if (node->attributes().Has(attribute.name())) {
        Invalid(
            absl::StrCat(Describe(proto), ": attribute '", attribute.name(), "' is given twice"));
        continue;
      }
      if (KindOf(attribute) == AttributeProto::GRAPH) {
        has_graphs = true;
        continue;
      }
      absl::StatusOr<Attribute> value = ReadAttribute(attribute, context_.tensors);
      HT_RETURN_IF_ERROR(Report(
          value.status(), absl::StrCat(Describe(proto), ": attribute '", attribute.name(), "'")));
      if (value.ok()) node->attributes().Set(attribute.name(), *std::move(value));
    }
    return has_graphs ? ReadSubgraphs(proto, node) : absl::OkStatus();
  }

  // What any nested graph of the node reads from here becomes a trailing input of all of them. In
  // order of name, so that an exported graph comes back the same.
  static std::vector<std::string> CapturedNames(const NodeProto& proto) {
    NameSet names;
    for (const AttributeProto& attribute : proto.attribute()) {
      if (KindOf(attribute) == AttributeProto::GRAPH) CollectFreeNames(attribute.g(), names);
    }
    std::vector<std::string> sorted(names.begin(), names.end());
    std::sort(sorted.begin(), sorted.end());
    return sorted;
  }

  absl::Status ReadSubgraphs(NodeProto& proto, Node* node) {
    std::vector<Capture> captures;
    int index = NumInputs(proto);
    for (const std::string& name : CapturedNames(proto)) {
      Value* value = Find(proto, name);
      graph_.SetInput(node, index++, value);
      captures.push_back({name, value == nullptr ? ValueType{} : value->type()});
    }
    for (AttributeProto& attribute : *proto.mutable_attribute()) {
      if (KindOf(attribute) != AttributeProto::GRAPH) continue;
      Importer nested(context_, this,
                      absl::StrCat(where_, attribute.name(), " of ", Describe(proto), ": "));
      HT_ASSIGN_OR_RETURN(Graph body, nested.Run(*attribute.mutable_g(), captures));
      node->attributes().Set(attribute.name(),
                             SubgraphPtr(std::make_shared<const Graph>(std::move(body))));
    }
    return absl::OkStatus();
  }

  void CheckOperator(const NodeProto& node) {
    const std::string domain = NormalDomain(node.domain());
    const auto opset = context_.opsets.find(domain);
    if (opset == context_.opsets.end()) {
      Invalid(absl::StrCat(Describe(node), ": domain '", domain,
                           "' is not among the model's opset imports"));
      return;
    }
    const OpDef* def = FindOp(domain, node.op_type(), opset->second);
    if (def == nullptr) {
      context_.problems.AddUnsupported(
          domain, node.op_type(), opset->second,
          node.name().empty() && node.output_size() > 0 ? node.output(0) : node.name());
      return;
    }
    CheckArity(node, "inputs", NumInputs(node), def->inputs);
    CheckArity(node, "outputs", node.output_size(), def->outputs);
    // Loop may lack its trip count and condition; If and Scan say themselves what they miss.
    const int required = HasGraphs(node) ? 0 : def->inputs.min;
    for (int i = 0; i < std::min(required, NumInputs(node)); ++i) {
      if (node.input(i).empty()) {
        Invalid(absl::StrCat(Describe(node), ": input ", i, " is absent but required"));
      }
    }
  }

  void CheckArity(const NodeProto& node, absl::string_view what, int count, Arity want) {
    if (count >= want.min && (want.max < 0 || count <= want.max)) return;
    std::string range = absl::StrCat(want.min);
    if (want.max < 0) absl::StrAppend(&range, " or more");
    if (want.max > want.min) absl::StrAppend(&range, " to ", want.max);
    Invalid(absl::StrCat(Describe(node), ": got ", count, " ", what, ", want ", range));
  }

  void AddOutputs(const GraphProto& proto) {
    NameSet names;
    for (const ValueInfoProto& info : proto.output()) {
      Value* value = graph_.FindValue(info.name());
      if (value == nullptr) {
        Invalid(absl::StrCat("output '", info.name(), "': nothing produces it"));
        continue;
      }
      // A body may yield one value twice; a model's outputs are told apart by name.
      if (outer_ == nullptr && !names.insert(info.name()).second) {
        Invalid(absl::StrCat("output '", info.name(), "': is listed twice"));
        continue;
      }
      graph_.AddOutput(value);
    }
  }

  ImportContext& context_;
  const Importer* const outer_;
  const std::string where_;  // prefix of messages: "then_branch of If 'x': "
  Graph graph_;
  NameSet defined_;  // every name of this graph so far
  NameSet visible_;  // what a nested graph of the node being read can see here
  absl::flat_hash_map<std::string, ValueType> hints_;
};

}  // namespace

absl::StatusOr<Graph> ImportGraph(GraphProto& proto, ImportContext& context) {
  return Importer(context, nullptr, "").Run(proto, {});
}

}  // namespace halftone
