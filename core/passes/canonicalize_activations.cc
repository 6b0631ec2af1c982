#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "core/base/status_macros.h"
#include "core/ops/evaluate.h"
#include "core/passes/portable.h"
#include "core/passes/raise_opset.h"
#include "core/passes/rewrite_util.h"

// Exporters write an activation in many orders: x·0.5·(1+erf(x/√2)), 0.5·(x·(1+erf(x·0.7071))), …
// Rather than a pattern for each, a subgraph of elementwise nodes between a value x and a value y
// is recognised by what it computes: on a dense grid of sample points it must agree with the
// function in the table. The subgraph has a handful of nodes from a short list, so agreement on the
// grid is not a coincidence.
namespace halftone {
namespace {

constexpr int kSamples = 321;
constexpr double kSampleLimit = 8.0;  // beyond it every function here is 0, 1 or x
constexpr double kTolerance = 4e-6;   // relative to max(1, |x|); erf and tanh GELU differ by 5e-4
constexpr int kMaxNodes = 12;         // between x and y
constexpr int kMaxDepth = 10;

double Erf(double x) { return x * 0.5 * (1 + std::erf(x / std::sqrt(2.0))); }
double Tanh(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
double HardSigmoid(double x) { return std::fmin(1, std::fmax(0, x / 6 + 0.5)); }
double HardSwish(double x) { return x * HardSigmoid(x); }

struct Canonical {
  absl::string_view witness;  // an operator that the spelled-out form contains
  double (*function)(double);
  absl::string_view op;
  int opset;
};

constexpr std::array kCanonical = {
    Canonical{"Erf", Erf, "Gelu", 20},
    Canonical{"Tanh", Tanh, "Gelu", 20},
    Canonical{"Clip", HardSwish, "HardSwish", 14},
    Canonical{"HardSigmoid", HardSwish, "HardSwish", 14},
    Canonical{"Clip", HardSigmoid, "HardSigmoid", 6},
};

Attributes AttributesOf(const Canonical& c) {
  if (c.function == Tanh) return {{"approximate", std::string("tanh")}};
  if (c.function == HardSigmoid) return {{"alpha", 1.0f / 6}, {"beta", 0.5f}};
  return {};
}

bool IsElementwise(const Node& node) {
  constexpr std::array<absl::string_view, 9> kOps = {"Add",  "Sub",  "Mul", "Div",        "Pow",
                                                     "Clip", "Tanh", "Erf", "HardSigmoid"};
  return node.domain().empty() && std::find(kOps.begin(), kOps.end(), node.op()) != kOps.end();
}

bool IsScalarConstant(const Value* v) {
  return v->is_constant() && v->constant().num_elements() == 1;
}

Tensor SamplePoints() {
  std::vector<float> x(kSamples);
  for (int i = 0; i < kSamples; ++i) {
    x[i] = static_cast<float>(-kSampleLimit + 2 * kSampleLimit * i / (kSamples - 1));
  }
  return Tensor::Of<float>({kSamples}, absl::MakeConstSpan(x));
}

// Evaluates y at the sample points of x through the nodes between them.
class Region {
 public:
  Region(const Graph& graph, const Value* x) : graph_(graph) { results_[x] = SamplePoints(); }

  // Null if y depends on anything but x and scalar constants, or the way is too long.
  const Tensor* Evaluate(const Value* y, int depth = 0) {
    if (const auto it = results_.find(y); it != results_.end()) return &it->second;
    const Node* node = y->producer();
    if (node == nullptr || !IsElementwise(*node) || depth > kMaxDepth || ++nodes_ > kMaxNodes) {
      return nullptr;
    }
    std::vector<Tensor> inputs;
    for (const Value* in : node->inputs()) {
      if (in == nullptr) {
        inputs.emplace_back();
      } else if (IsScalarConstant(in)) {
        inputs.push_back(in->constant().Reshaped({}));
      } else {
        const Tensor* t = Evaluate(in, depth + 1);
        if (t == nullptr) return nullptr;
        inputs.push_back(*t);
      }
    }
    std::vector<const Tensor*> pointers;
    for (size_t i = 0; i < inputs.size(); ++i) {
      pointers.push_back(node->input(static_cast<int>(i)) == nullptr ? nullptr : &inputs[i]);
    }
    absl::StatusOr<std::vector<Tensor>> out = EvaluateNode(graph_, *node, pointers);
    if (!out.ok()) return nullptr;
    ops_.insert(node->op());
    return &(results_[y] = std::move((*out)[0]));
  }

  bool Contains(absl::string_view op) const { return ops_.contains(op); }

 private:
  const Graph& graph_;
  absl::flat_hash_map<const Value*, Tensor> results_;
  absl::flat_hash_set<std::string> ops_;
  int nodes_ = 0;
};

bool Agrees(const Tensor& y, double (*function)(double)) {
  if (y.type() != DataType::kF32 || y.num_elements() != kSamples) return false;
  const Tensor points = SamplePoints();
  for (int i = 0; i < kSamples; ++i) {
    const double x = points.data<float>()[i];
    const double error = std::abs(y.data<float>()[i] - function(x));
    if (!(error <= kTolerance * std::fmax(1, std::abs(x)))) return false;
  }
  return true;
}

// Every value from which y might be computed by elementwise nodes, nearest first.
std::vector<Value*> Cone(const Value* y) {
  std::vector<Value*> out;
  absl::flat_hash_set<const Value*> seen;
  std::vector<const Value*> layer = {y};
  for (int depth = 0; depth <= kMaxDepth && out.size() <= kMaxNodes; ++depth) {
    std::vector<const Value*> next;
    for (const Value* v : layer) {
      if (v->producer() == nullptr || !IsElementwise(*v->producer())) continue;
      for (Value* in : v->producer()->inputs()) {
        if (in == nullptr || IsScalarConstant(in) || !seen.insert(in).second) continue;
        out.push_back(in);
        next.push_back(in);
      }
    }
    layer = std::move(next);
  }
  return out;
}

bool HasWitness(const std::vector<Value*>& cone) {
  for (const Value* v : cone) {
    if (v->producer() == nullptr) continue;
    for (const Canonical& c : kCanonical) {
      if (v->producer()->op() == c.witness) return true;
    }
  }
  return false;
}

struct Match {
  Value* x;
  const Canonical* canonical;
};

std::optional<Match> Find(const Graph& graph, const Value* y) {
  const std::vector<Value*> cone = Cone(y);
  if (!HasWitness(cone)) return std::nullopt;
  for (Value* x : cone) {
    if (x->type().type != DataType::kF32 || RankOf(x) != RankOf(y)) continue;
    Region region(graph, x);
    const Tensor* result = region.Evaluate(y);
    if (result == nullptr) continue;
    for (const Canonical& c : kCanonical) {
      if (region.Contains(c.witness) && Agrees(*result, c.function)) return Match{x, &c};
    }
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<bool> CanonicalizeActivations(Graph& graph) {
  bool changed = false;
  // Backwards: HardSwish is found before the HardSigmoid inside it.
  std::vector<Node*> nodes = graph.nodes();
  for (auto it = nodes.rbegin(); it != nodes.rend(); ++it) {
    const Node* node = *it;
    if (!IsOp(node, "Mul") && !IsOp(node, "Div")) continue;
    Value* y = node->output(0);
    if (y == nullptr || (y->uses().empty() && !y->is_output())) continue;
    const std::optional<Match> match = Find(graph, y);
    if (!match) continue;
    const absl::Status raised = RaiseOpset(graph, match->canonical->opset);
    if (absl::IsUnimplemented(raised)) continue;  // then the spelled-out form stays
    HT_RETURN_IF_ERROR(raised);
    ReplaceByNode(graph, y,
                  {.op = std::string(match->canonical->op),
                   .name = node->name(),
                   .inputs = {match->x},
                   .attributes = AttributesOf(*match->canonical)});
    changed = true;
  }
  if (changed) graph.RemoveUnused();
  return changed;
}

}  // namespace halftone
