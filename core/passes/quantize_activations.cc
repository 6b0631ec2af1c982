#include "core/passes/quantize_activations.h"

#include <algorithm>
#include <array>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "core/ops/registry.h"

namespace halftone {
namespace {

// Elementwise functions of one value that primitives apply to their result.
constexpr std::array<absl::string_view, 14> kActivations = {
    "Clip", "Celu",  "Elu",  "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu",
    "Mish", "PRelu", "Relu", "Selu", "Sigmoid",     "Softplus",  "Tanh"};
// Those of them that are sums of exponentials, or as dear, alone or as the gate of a Mul.
constexpr std::array<absl::string_view, 8> kCostly = {"Celu", "Elu",     "Gelu",     "Mish",
                                                      "Selu", "Sigmoid", "Softplus", "Tanh"};
// With a constant operand these are a bias or a scale.
constexpr std::array<absl::string_view, 4> kBinary = {"Add", "Div", "Mul", "Sub"};

template <size_t N>
bool Contains(const std::array<absl::string_view, N>& names, absl::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool IsFloatActivation(const Value* v) {
  return v != nullptr && !v->is_constant() && v->type().type == DataType::kF32;
}

QuantBehavior BehaviorOf(const Graph& graph, const Node& node) {
  const OpDef* row = FindOp(graph, node);
  return row == nullptr ? QuantBehavior::kFloatOnly : row->quant;
}

// The output is made of elements of the inputs. Concat could rescale its inputs one by one, but
// then it computes; with one scale for all it copies bytes.
bool MovesElements(const Graph& graph, const Node& node) {
  return BehaviorOf(graph, node) == QuantBehavior::kPassThrough ||
         (node.op() == "Concat" && node.domain().empty());
}

// Nodes that can run between integers without being worth integers of their own.
bool CanJoinIntegers(const Graph& graph, const Node& node) {
  return AppliedTo(node) == nullptr &&
         (MovesElements(graph, node) || BehaviorOf(graph, node) == QuantBehavior::kElementwiseInt8);
}

// Mul(x, gate(x)): returns x.
Value* GatedValue(const Node& mul) {
  if (mul.op() != "Mul" || mul.inputs().size() != 2) return nullptr;
  for (int i = 0; i < 2; ++i) {
    const Value* gate = mul.input(i);
    Value* x = mul.input(1 - i);
    if (gate == nullptr || x == nullptr || gate->producer() == nullptr) continue;
    const Node& g = *gate->producer();
    if (Contains(kActivations, g.op()) && g.input(0) == x) return x;
  }
  return nullptr;
}

// The node after which `v` is complete: its only user, or the Mul of a gate pair.
const Node* OnlyUser(const Value* v) {
  if (v->is_output() || v->uses().empty()) return nullptr;
  if (v->uses().size() == 1) return v->uses()[0];
  if (v->uses().size() != 2) return nullptr;
  for (const Node* user : v->uses()) {
    if (GatedValue(*user) != v) continue;
    const Node* gate = v->uses()[user == v->uses()[0] ? 1 : 0];
    if (gate->output(0) != nullptr && gate->output(0)->uses().size() == 1 &&
        gate->output(0)->uses()[0] == user) {
      return user;
    }
  }
  return nullptr;
}

// The node whose arithmetic makes `v`, seen through what is applied behind it. Null for graph
// inputs and constants.
const Node* CoreProducer(const Value* v) {
  const Node* p = v->producer();
  while (p != nullptr) {
    const Value* x = AppliedTo(*p);
    if (x == nullptr) return p;
    p = x->producer();
  }
  return nullptr;
}

// False when `v` is certainly smaller than `out`, i.e. broadcast against it.
bool IsFullSize(const Value* v, const Value* out) {
  const SymbolicShape &a = v->type().shape, &b = out->type().shape;
  if (!a || !b) return true;
  if (a->size() != b->size()) return false;
  for (size_t i = 0; i < a->size(); ++i) {
    if ((*a)[i].known() && (*a)[i].value == 1 && !((*b)[i].known() && (*b)[i].value == 1)) {
      return false;
    }
  }
  return true;
}

class Planner {
 public:
  Planner(const Graph& graph, const NodeSet& int8, const RangeMap* allowed, LookUps look_ups)
      : graph_(graph), int8_(int8), allowed_(allowed), look_ups_(look_ups) {}

  ActivationPlan Run() {
    FindIntegerSources();
    const std::vector<Node*>& nodes = graph_.nodes();
    for (auto it = nodes.rbegin(); it != nodes.rend(); ++it) VisitBackwards(*it);
    ReadIntegersBesideThem();
    ActivationPlan plan;
    absl::flat_hash_set<int> symmetric;
    for (const Value* v : right_) symmetric.insert(Root(index_.at(v)));
    for (Value* v : order_) {
      const int group = Root(index_.at(v));
      plan.values.push_back({v, group, symmetric.contains(group)});
      if (const auto f = functions_.find(v); f != functions_.end()) {
        plan.values.back().function = f->second;
      }
    }
    plan.reads = std::move(reads_);
    return plan;
  }

 private:
  // --- which values come out of integer arithmetic ---

  bool IsSource(const Value* v) const {
    const Node* core = CoreProducer(v);
    return core != nullptr && sources_.contains(core);
  }

  void FindIntegerSources() {
    for (int i = 0; i < static_cast<int>(graph_.nodes().size()); ++i) {
      const Node* node = graph_.nodes()[i];
      position_[node] = i;
      if (int8_.contains(node)) {
        sources_.insert(node);
        continue;
      }
      if (!CanJoinIntegers(graph_, *node)) continue;
      const std::vector<int> data = DataInputs(*node);
      const bool all =
          std::all_of(data.begin(), data.end(), [&](int k) { return IsSource(node->input(k)); });
      if (!data.empty() && all) sources_.insert(node);
    }
  }

  // Inputs that carry full-size float activations.
  std::vector<int> DataInputs(const Node& node) const {
    std::vector<int> out;
    if (node.output(0) == nullptr) return out;
    const bool moves = MovesElements(graph_, node);
    for (int i = 0; i < static_cast<int>(node.inputs().size()); ++i) {
      const Value* v = node.input(i);
      if (IsFloatActivation(v) && (moves || IsFullSize(v, node.output(0)))) out.push_back(i);
    }
    return out;
  }

  // --- demand, from consumers to producers ---

  bool MayQuantize(const Value* v) const {
    return index_.contains(v) || allowed_ == nullptr || allowed_->contains(v->name());
  }
  bool Quantize(Value* v) {
    if (index_.contains(v)) return true;
    if (!MayQuantize(v)) return false;
    index_[v] = static_cast<int>(order_.size());
    group_.push_back(static_cast<int>(order_.size()));
    order_.push_back(v);
    quantized_.insert(v);
    return true;
  }
  int Root(int i) const {
    while (group_[i] != i) i = group_[i];
    return i;
  }
  void Tie(const Value* a, const Value* b) {
    const int x = Root(index_.at(a)), y = Root(index_.at(b));
    group_[std::max(x, y)] = std::min(x, y);
  }
  void Read(Node* node, int input) {
    reads_.push_back({node, input});
    read_.insert({node, input});
  }

  void VisitBackwards(Node* node) {
    if (int8_.contains(node)) {
      const bool product = IsFloatActivation(node->input(1));
      if (product && !(MayQuantize(node->input(0)) && MayQuantize(node->input(1)))) return;
      if (Quantize(node->input(0))) Read(node, 0);
      if (product && Quantize(node->input(1))) {
        Read(node, 1);
        right_.push_back(node->input(1));
      }
      return;
    }
    if (node->output(0) == nullptr || LookUp(node) || !CanJoinIntegers(graph_, *node)) return;
    if (MovesElements(graph_, *node)) return VisitPassThrough(node);
    VisitElementwise(node);
  }

  // A costly function between bytes: reads its argument as such. False: something else.
  bool LookUp(Node* node) {
    if (look_ups_ == LookUps::kNone || !index_.contains(node->output(0))) return false;
    Value* x = AppliedTo(*node);
    if (x == nullptr || OnlyUser(x) != node || !IsSource(x)) return false;
    const auto costly = [](const Node* n) { return Contains(kCostly, n->op()); };
    if (std::none_of(x->uses().begin(), x->uses().end(), costly) || !Quantize(x)) return false;
    std::vector<Node*>& function = functions_[x];
    for (Node* user : x->uses()) {
      Read(user, user->input(0) == x ? 0 : 1);
      if (user != node) function.push_back(user);
    }
    function.push_back(node);
    return true;
  }

  // Both sides integers: the node moves bytes, and all its data share one scale.
  void VisitPassThrough(Node* node) {
    std::vector<const Value*> outputs;
    for (const Value* out : node->outputs()) {
      if (out != nullptr && index_.contains(out)) outputs.push_back(out);
    }
    const std::vector<int> data = DataInputs(*node);
    const bool any =
        std::any_of(data.begin(), data.end(), [&](int i) { return IsSource(node->input(i)); });
    if (outputs.empty() || !any || HasConstantData(*node)) return;
    for (const int i : data) {
      Value* u = node->input(i);
      if (allowed_ != nullptr && !allowed_->contains(u->name())) return;
    }
    for (const int i : data) {
      Quantize(node->input(i));
      Read(node, i);
      for (const Value* out : outputs) Tie(node->input(i), out);
    }
  }
  // A constant among the moved elements would need a quantized twin of its own.
  bool HasConstantData(const Node& node) const {
    const SymbolicShape& out = node.output(0)->type().shape;
    return std::any_of(node.inputs().begin(), node.inputs().end(), [&](const Value* v) {
      return v != nullptr && v->is_constant() && v->constant().type() == DataType::kF32 && out &&
             v->constant().rank() == static_cast<int>(out->size()) && v->constant().rank() > 1;
    });
  }

  void VisitElementwise(Node* node) {
    if (!index_.contains(EndOfFusion(node->output(0), /*residual=*/false, quantized_))) return;
    const std::vector<int> data = DataInputs(*node);
    const int fused = node->op() == "Add" ? FusedOperand(*node, data) : -1;
    for (const int i : data) {
      Value* u = node->input(i);
      if (i == fused || !(IsSource(u) || index_.contains(u))) continue;
      if (Quantize(u)) Read(node, i);
    }
  }

  // The operand that stays an accumulator: made by an integer node for this Add alone, the latest
  // of them because everything else exists by then. -1: none.
  int FusedOperand(const Node& add, const std::vector<int>& data) const {
    int best = -1, best_position = -1;
    for (const int i : data) {
      const Value* u = add.input(i);
      const Node* core = CoreProducer(u);
      if (core == nullptr || !int8_.contains(core) || OnlyUser(u) != &add) continue;
      if (EndOfFusion(core->output(0), /*residual=*/false, {}) != u) continue;
      if (position_.at(core) > best_position) {
        best = i;
        best_position = position_.at(core);
      }
    }
    return best;
  }

  // A value that integer nodes read and that nothing needs in float is never widened: elementwise
  // nodes beside them read the integers too, even where their own result stays float.
  void ReadIntegersBesideThem() {
    for (Value* v : order_) {
      if (v->is_output() || !IsSource(v)) continue;
      std::vector<ActivationPlan::Read> more;
      const bool all = std::all_of(v->uses().begin(), v->uses().end(), [&](Node* user) {
        for (int i = 0; i < static_cast<int>(user->inputs().size()); ++i) {
          if (user->input(i) != v || read_.contains({user, i})) continue;
          if (!CanJoinIntegers(graph_, *user)) return false;
          more.push_back({user, i});
        }
        return true;
      });
      if (!all) continue;
      for (const ActivationPlan::Read& r : more) {
        if (!read_.contains({r.node, r.input})) Read(r.node, r.input);
      }
    }
  }

  const Graph& graph_;
  const NodeSet& int8_;
  const RangeMap* allowed_;
  NodeSet sources_;
  absl::flat_hash_map<const Node*, int> position_;
  std::vector<Value*> order_;
  absl::flat_hash_set<const Value*> quantized_;  // the same values
  absl::flat_hash_map<const Value*, int> index_;
  std::vector<const Value*> right_;  // right sides of products
  std::vector<int> group_;           // parent of each value in its group; roots are their own
  std::vector<ActivationPlan::Read> reads_;
  absl::flat_hash_set<std::pair<const Node*, int>> read_;
  LookUps look_ups_;
  absl::flat_hash_map<const Value*, std::vector<Node*>> functions_;  // that a table computes
};

}  // namespace

Value* AppliedTo(const Node& node) {
  if (!node.domain().empty() || node.output(0) == nullptr) return nullptr;
  if (Contains(kActivations, node.op())) {
    return IsFloatActivation(node.input(0)) ? node.input(0) : nullptr;
  }
  if (Value* gated = GatedValue(node)) return gated;
  if (!Contains(kBinary, node.op()) || node.inputs().size() != 2) return nullptr;
  for (int i = 0; i < 2; ++i) {
    Value* x = node.input(i);
    const Value* c = node.input(1 - i);
    const bool constant = c != nullptr && c->is_constant();
    // A constant that raises the rank or the size makes another tensor, not this one changed.
    if (IsFloatActivation(x) && constant && IsFullSize(x, node.output(0))) return x;
  }
  return nullptr;
}

const Value* EndOfFusion(const Value* value, bool residual,
                         const absl::flat_hash_set<const Value*>& stop) {
  while (!stop.contains(value)) {
    const Node* user = OnlyUser(value);
    if (user == nullptr || user->output(0) == nullptr) return value;
    const bool applied = AppliedTo(*user) == value;
    if (!applied && !(residual && user->op() == "Add")) return value;
    value = user->output(0);
  }
  return value;
}

namespace {

// True when the elements of `v` come out of a node of `int8`, moved at most.
bool MadeByIntegers(const Graph& graph, const Value* v, const NodeSet& int8) {
  while (true) {
    const Node* core = CoreProducer(v);
    if (core == nullptr || int8.contains(core)) return core != nullptr;
    if (BehaviorOf(graph, *core) != QuantBehavior::kPassThrough) return false;
    v = core->input(0);
  }
}

}  // namespace

NodeSet AttentionProducts(const Graph& graph, const NodeSet& int8) {
  NodeSet out;
  for (const Node* node : graph.nodes()) {
    if (node->op() != "MatMul" || !node->domain().empty() || int8.contains(node)) continue;
    const Value* left = node->input(0);
    const Value* right = node->input(1);
    if (!IsFloatActivation(left) || !IsFloatActivation(right)) continue;
    const Node* core = CoreProducer(left);
    const bool weighted = core != nullptr && core->op() == "Softmax" && core->domain().empty();
    if (!weighted && !MadeByIntegers(graph, left, int8)) continue;
    if (MadeByIntegers(graph, right, int8)) out.insert(node);
  }
  return out;
}

ActivationPlan PlanActivations(const Graph& graph, const NodeSet& int8, const RangeMap* allowed,
                               LookUps look_ups) {
  return Planner(graph, int8, allowed, look_ups).Run();
}

}  // namespace halftone
