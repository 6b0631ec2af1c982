#include "core/graph/graph.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

void EraseOne(std::vector<Node*>& uses, Node* node) {
  const auto it = std::find(uses.begin(), uses.end(), node);
  CHECK(it != uses.end());
  uses.erase(it);
}

}  // namespace

std::string ToString(const ValueType& type) {
  return absl::StrCat(type.type ? Name(*type.type) : "?",
                      type.shape ? ToString(type.shape) : std::string("[*]"));
}

std::string Describe(const Node& node) { return absl::StrCat(node.op(), " '", node.name(), "'"); }

int Graph::opset(const std::string& domain) const {
  const auto it = opsets_.find(domain);
  return it == opsets_.end() ? 0 : it->second;
}

std::vector<Value*> Graph::values() const {
  std::vector<Value*> out;
  out.reserve(values_.size());
  for (const auto& v : values_) out.push_back(v.get());
  return out;
}

Value* Graph::FindValue(absl::string_view name) const {
  const auto it = values_by_name_.find(name);
  return it == values_by_name_.end() ? nullptr : it->second;
}

std::string Graph::UniqueName(absl::string_view wanted) const {
  const std::string base(wanted.empty() ? "v" : wanted);
  if (!values_by_name_.contains(base) && !nodes_by_name_.contains(base)) return base;
  int& suffix = next_suffix_[base];
  std::string name;
  do {
    name = absl::StrCat(base, "_", ++suffix);
  } while (values_by_name_.contains(name) || nodes_by_name_.contains(name));
  return name;
}

Value* Graph::NewValue(std::string name) {
  if (name.empty() || values_by_name_.contains(name)) name = UniqueName(name);
  values_.push_back(std::make_unique<Value>());
  Value* v = values_.back().get();
  v->name_ = std::move(name);
  values_by_name_[v->name_] = v;
  return v;
}

Value* Graph::AddInput(std::string name, ValueType type) {
  Value* v = NewValue(std::move(name));
  v->type_ = std::move(type);
  v->is_input_ = true;
  inputs_.push_back(v);
  return v;
}

Value* Graph::AddConstant(std::string name, Tensor tensor) {
  Value* v = NewValue(std::move(name));
  v->type_ = {tensor.type(), Symbolic(tensor.shape())};
  v->constant_ = std::move(tensor);
  return v;
}

Node* Graph::AddNode(NodeSpec spec) {
  nodes_.push_back(std::make_unique<Node>());
  Node* node = nodes_.back().get();
  node->op_ = std::move(spec.op);
  node->domain_ = std::move(spec.domain);
  node->name_ = spec.name.empty() ? UniqueName(node->op_) : std::move(spec.name);
  if (nodes_by_name_.contains(node->name_)) node->name_ = UniqueName(node->name_);
  nodes_by_name_[node->name_] = node;
  node->attributes_ = std::move(spec.attributes);
  node->num_captures_ = spec.num_captures;
  node->inputs_ = std::move(spec.inputs);
  for (Value* v : node->inputs_) {
    if (v != nullptr) v->uses_.push_back(node);
  }
  for (std::string& name : spec.outputs) {
    if (name.empty()) {
      node->outputs_.push_back(nullptr);
      continue;
    }
    Value* v = NewValue(std::move(name));
    v->producer_ = node;
    node->outputs_.push_back(v);
  }
  node_order_.push_back(node);
  return node;
}

void Graph::AddOutput(Value* value) {
  ++value->output_count_;
  outputs_.push_back(value);
}

void Graph::SetInput(Node* node, int index, Value* value) {
  if (index >= static_cast<int>(node->inputs_.size())) node->inputs_.resize(index + 1, nullptr);
  Value*& slot = node->inputs_[index];
  if (slot != nullptr) EraseOne(slot->uses_, node);
  slot = value;
  if (value != nullptr) value->uses_.push_back(node);
}

void Graph::SetOp(Node* node, std::string op, std::string domain) {
  node->op_ = std::move(op);
  node->domain_ = std::move(domain);
}

void Graph::ReplaceUses(Value* from, Value* to) {
  if (from == to) return;
  const std::vector<Node*> users = from->uses_;
  for (Node* user : users) {
    for (int i = 0; i < static_cast<int>(user->inputs_.size()); ++i) {
      if (user->inputs_[i] == from) SetInput(user, i, to);
    }
  }
  for (Value*& out : outputs_) {
    if (out == from) {
      out = to;
      --from->output_count_;
      ++to->output_count_;
    }
  }
}

void Graph::ReplaceUsesKeepingName(Value* from, Value* to) {
  const bool was_output = from->is_output();
  const std::string name = from->name();
  ReplaceUses(from, to);
  // An input or another output must keep its own name.
  if (was_output && !to->is_input_ && to->output_count_ == 1) {
    RenameValue(from, UniqueName(absl::StrCat(name, "_replaced")));
    RenameValue(to, name);
  }
}

void Graph::RenameValue(Value* value, std::string name) {
  if (value->name_ == name) return;
  CHECK(!values_by_name_.contains(name)) << name;
  values_by_name_.erase(value->name_);
  value->name_ = std::move(name);
  values_by_name_[value->name_] = value;
}

void Graph::SetConstant(Value* value, Tensor tensor) {
  CHECK(value->is_constant());
  value->type_ = {tensor.type(), Symbolic(tensor.shape())};
  value->constant_ = std::move(tensor);
}

void Graph::MakeConstant(Value* value, Tensor tensor) {
  CHECK(!value->is_input());
  if (Node* producer = value->producer_) {
    for (Value*& out : producer->outputs_) {
      if (out == value) out = nullptr;
    }
    value->producer_ = nullptr;
  }
  value->type_ = {tensor.type(), Symbolic(tensor.shape())};
  value->constant_ = std::move(tensor);
}

void Graph::Forget(Value* value) {
  values_by_name_.erase(value->name_);
  const auto it =
      std::find_if(values_.begin(), values_.end(), [&](const auto& v) { return v.get() == value; });
  CHECK(it != values_.end());
  values_.erase(it);
}

void Graph::RemoveNode(Node* node) {
  for (int i = 0; i < static_cast<int>(node->inputs_.size()); ++i) SetInput(node, i, nullptr);
  for (Value* out : node->outputs_) {
    if (out == nullptr) continue;
    CHECK(out->uses_.empty() && !out->is_output()) << out->name() << " is still used";
    Forget(out);
  }
  nodes_by_name_.erase(node->name_);
  node_order_.erase(std::find(node_order_.begin(), node_order_.end(), node));
  nodes_.erase(
      std::find_if(nodes_.begin(), nodes_.end(), [&](const auto& n) { return n.get() == node; }));
}

void Graph::RemoveConstant(Value* value) {
  CHECK(value->is_constant() && value->uses_.empty() && !value->is_output()) << value->name();
  Forget(value);
}

void Graph::RemoveUnused() {
  // Mark from the outputs, then sweep everything at once: linear, whatever the number of dead
  // nodes.
  absl::flat_hash_set<const Node*> live;
  absl::flat_hash_set<const Value*> live_values(inputs_.begin(), inputs_.end());
  std::vector<Value*> work(outputs_.begin(), outputs_.end());
  for (Value* out : outputs_) live_values.insert(out);
  while (!work.empty()) {
    Value* v = work.back();
    work.pop_back();
    Node* node = v->producer_;
    if (node == nullptr || !live.insert(node).second) continue;
    for (Value* out : node->outputs_) {
      if (out != nullptr) live_values.insert(out);
    }
    for (Value* in : node->inputs_) {
      if (in == nullptr) continue;
      live_values.insert(in);
      work.push_back(in);
    }
  }
  for (const auto& v : values_) {
    auto& uses = v->uses_;
    uses.erase(std::remove_if(uses.begin(), uses.end(), [&](Node* n) { return !live.contains(n); }),
               uses.end());
  }
  const auto dead_node = [&](const Node* n) { return !live.contains(n); };
  node_order_.erase(std::remove_if(node_order_.begin(), node_order_.end(), dead_node),
                    node_order_.end());
  for (const auto& n : nodes_) {
    if (dead_node(n.get())) nodes_by_name_.erase(n->name_);
  }
  nodes_.erase(std::remove_if(nodes_.begin(), nodes_.end(),
                              [&](const auto& n) { return dead_node(n.get()); }),
               nodes_.end());
  for (const auto& v : values_) {
    if (!live_values.contains(v.get())) values_by_name_.erase(v->name_);
  }
  values_.erase(std::remove_if(values_.begin(), values_.end(),
                               [&](const auto& v) { return !live_values.contains(v.get()); }),
                values_.end());
}

absl::Status Graph::SortTopologically() {
  absl::flat_hash_map<const Node*, int> missing;  // inputs whose producer is not placed yet
  std::vector<Node*> order;
  order.reserve(node_order_.size());
  std::vector<Node*> heap;  // ready nodes, the earliest inserted first
  for (Node* node : node_order_) {
    int count = 0;
    for (const Value* in : node->inputs_) count += in != nullptr && in->producer_ != nullptr;
    missing[node] = count;
    if (count == 0) heap.push_back(node);
  }
  absl::flat_hash_map<const Node*, int> position;
  for (int i = 0; i < static_cast<int>(node_order_.size()); ++i) position[node_order_[i]] = i;
  const auto later = [&](const Node* a, const Node* b) { return position[a] > position[b]; };
  std::make_heap(heap.begin(), heap.end(), later);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    Node* node = heap.back();
    heap.pop_back();
    order.push_back(node);
    for (Value* out : node->outputs_) {
      if (out == nullptr) continue;
      for (Node* user : out->uses_) {
        if (--missing[user] == 0) {
          heap.push_back(user);
          std::push_heap(heap.begin(), heap.end(), later);
        }
      }
    }
  }
  if (order.size() != node_order_.size()) {
    for (const Node* node : node_order_) {
      if (missing[node] > 0) {
        return absl::InvalidArgumentError(
            absl::StrCat(Describe(*node), ": is part of, or depends on, a cycle"));
      }
    }
  }
  node_order_ = std::move(order);
  return absl::OkStatus();
}

Graph Graph::Clone(absl::flat_hash_map<const Value*, Value*>* value_map) const {
  Graph out(name_);
  out.opsets_ = opsets_;
  absl::flat_hash_map<const Value*, Value*> local;
  auto& map = value_map != nullptr ? *value_map : local;
  for (const auto& v : values_) {
    out.values_.push_back(std::make_unique<Value>(*v));
    Value* copy = out.values_.back().get();
    copy->producer_ = nullptr;
    copy->uses_.clear();
    out.values_by_name_[copy->name_] = copy;
    map[v.get()] = copy;
  }
  const auto mapped = [&](Value* v) { return v == nullptr ? nullptr : map.at(v); };
  for (const Node* node : node_order_) {
    out.nodes_.push_back(std::make_unique<Node>(*node));
    Node* copy = out.nodes_.back().get();
    for (Value*& in : copy->inputs_) {
      in = mapped(in);
      if (in != nullptr) in->uses_.push_back(copy);
    }
    for (Value*& v : copy->outputs_) {
      v = mapped(v);
      if (v != nullptr) v->producer_ = copy;
    }
    out.nodes_by_name_[copy->name_] = copy;
    out.node_order_.push_back(copy);
  }
  for (Value* v : inputs_) out.inputs_.push_back(map.at(v));
  for (Value* v : outputs_) out.outputs_.push_back(map.at(v));
  return out;
}

absl::StatusOr<Signature> SignatureOf(const Graph& graph) {
  const auto convert = [](const Value* v,
                          absl::string_view kind) -> absl::StatusOr<TensorSignature> {
    if (!v->type().type || !v->type().shape) {
      return absl::InvalidArgumentError(absl::StrCat(kind, " '", v->name(), "': got type ",
                                                     ToString(v->type()),
                                                     ", want a data type and a rank"));
    }
    return TensorSignature{v->name(), *v->type().type, *v->type().shape};
  };
  Signature out;
  for (const Value* v : graph.inputs()) {
    HT_ASSIGN_OR_RETURN(out.inputs.emplace_back(), convert(v, "input"));
  }
  for (const Value* v : graph.outputs()) {
    HT_ASSIGN_OR_RETURN(out.outputs.emplace_back(), convert(v, "output"));
  }
  return out;
}

}  // namespace halftone
