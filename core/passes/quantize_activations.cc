#include "core/passes/quantize_activations.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/ops/registry.h"
#include "core/ops/row_quant.h"
#include "core/ops/unpack.h"

namespace halftone {
namespace {

// Elementwise functions of one value that primitives apply to their result.
constexpr std::array<absl::string_view, 14> kActivations = {
    "Clip", "Celu",  "Elu",  "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu",
    "Mish", "PRelu", "Relu", "Selu", "Sigmoid",     "Softplus",  "Tanh"};
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

// How static activations of a type are stored.
struct ActivationFormat {
  ActivationType type;
  DataType stored;
  int32_t low, high;  // low 0: affine; otherwise symmetric within ±high
  Tensor (*zero_point)(int32_t);
};
template <typename T>
Tensor ZeroPoint(int32_t value) {
  return Tensor::Scalar<T>(static_cast<T>(value));
}
constexpr std::array kFormats = {
    ActivationFormat{ActivationType::kU8, DataType::kU8, 0, 255, ZeroPoint<uint8_t>},
    ActivationFormat{ActivationType::kI8, DataType::kI8, -127, 127, ZeroPoint<int8_t>},
    ActivationFormat{ActivationType::kU16, DataType::kU16, 0, 65535, ZeroPoint<uint16_t>},
    ActivationFormat{ActivationType::kI16, DataType::kI16, -32767, 32767, ZeroPoint<int16_t>}};

const ActivationFormat& FormatOf(ActivationType type) {
  return kFormats[static_cast<size_t>(type)];  // in the order of the enumeration
}
QParams ParamsFor(const ActivationFormat& format, const ValueRange& range) {
  if (format.low == 0) return AffineQParams(range, format.low, format.high);
  return SymmetricQParams(std::max(std::abs(range.min), std::abs(range.max)), format.high);
}

class Planner {
 public:
  Planner(const Graph& graph, const NodeSet& int8, const RangeMap* allowed)
      : graph_(graph), int8_(int8), allowed_(allowed) {}

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
    if (node->output(0) == nullptr || !CanJoinIntegers(graph_, *node)) return;
    if (MovesElements(graph_, *node)) return VisitPassThrough(node);
    VisitElementwise(node);
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

ActivationPlan PlanActivations(const Graph& graph, const NodeSet& int8, const RangeMap* allowed) {
  return Planner(graph, int8, allowed).Run();
}

void InsertStatic(Graph& graph, const ActivationPlan& plan, const RangeMap& ranges,
                  ActivationType type) {
  absl::flat_hash_map<int, ValueRange> group_ranges;
  for (const ActivationPlan::Quantized& q : plan.values) {
    group_ranges[q.group].Include(ranges.at(q.value->name()));
  }
  absl::flat_hash_map<const Value*, Value*> dequantized;
  // In execution order, so that files read like the computation.
  for (auto it = plan.values.rbegin(); it != plan.values.rend(); ++it) {
    Value* v = it->value;
    const ActivationFormat& format = FormatOf(it->symmetric ? ActivationType::kI8 : type);
    const QParams p = ParamsFor(format, group_ranges.at(it->group));
    const std::string& name = v->name();
    Value* scale = graph.AddConstant(absl::StrCat(name, "_scale"), Tensor::Scalar<float>(p.scale));
    Value* zero_point =
        graph.AddConstant(absl::StrCat(name, "_zero_point"), format.zero_point(p.zero_point));
    Node* q = graph.AddNode({.op = "QuantizeLinear",
                             .name = absl::StrCat(name, "_QuantizeLinear"),
                             .inputs = {v, scale, zero_point},
                             .outputs = {absl::StrCat(name, "_quantized")}});
    q->output(0)->set_type({format.stored, v->type().shape});
    Node* dq = graph.AddNode({.op = "DequantizeLinear",
                              .name = absl::StrCat(name, "_DequantizeLinear"),
                              .inputs = {q->output(0), scale, zero_point},
                              .outputs = {absl::StrCat(name, "_dequantized")}});
    dq->output(0)->set_type(v->type());
    dequantized[v] = dq->output(0);
  }
  for (const ActivationPlan::Read& read : plan.reads) {
    graph.SetInput(read.node, read.input, dequantized.at(read.node->input(read.input)));
  }
}

bool MultipliesRows(const Node& node) {
  if (!node.domain().empty()) return false;
  return node.op() == "MatMul" || (node.op() == "Gemm" && node.attributes().Int("transA", 0) == 0);
}

void InsertDynamic(Graph& graph, const std::vector<Node*>& nodes, DynamicScale scale) {
  const bool rows = scale == DynamicScale::kPerRow && !nodes.empty();
  if (rows) graph.opsets()[std::string(kHalftoneDomain)] = kHalftoneOpset;
  const std::string domain(rows ? kHalftoneDomain : "");
  const std::string quantize(rows ? kDynamicQuantizeRows : "DynamicQuantizeLinear");
  const std::string dequantize(rows ? kDequantizeRows : "DequantizeLinear");
  absl::flat_hash_map<const Value*, Value*> dequantized;
  for (Node* node : nodes) {
    Value* v = node->input(0);
    Value*& dq = dequantized[v];
    if (dq == nullptr) {
      const std::string name = v->name();
      SymbolicShape scale_shape = Dims{};
      if (rows && (scale_shape = v->type().shape)) scale_shape->back() = Dim(1);
      Node* q =
          graph.AddNode({.op = quantize,
                         .domain = domain,
                         .name = absl::StrCat(name, "_", quantize),
                         .inputs = {v},
                         .outputs = {absl::StrCat(name, "_quantized"), absl::StrCat(name, "_scale"),
                                     absl::StrCat(name, "_zero_point")}});
      q->output(0)->set_type({DataType::kU8, v->type().shape});
      q->output(1)->set_type({DataType::kF32, scale_shape});
      q->output(2)->set_type({DataType::kU8, scale_shape});
      Node* widen = graph.AddNode({.op = dequantize,
                                   .domain = domain,
                                   .name = absl::StrCat(name, "_", dequantize),
                                   .inputs = {q->output(0), q->output(1), q->output(2)},
                                   .outputs = {absl::StrCat(name, "_dequantized")}});
      widen->output(0)->set_type(v->type());
      dq = widen->output(0);
    }
    graph.SetInput(node, 0, dq);
  }
}

}  // namespace halftone
