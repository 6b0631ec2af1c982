#include "core/passes/quantize_graph.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "core/ops/registry.h"
#include "core/passes/raise_opset.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

// Symmetric weights of which 255 * w * 2 fits into 16 bits.
constexpr int32_t kReducedLimit = 63;

// The first opset whose QuantizeLinear has i16 and u16.
constexpr int kOpsetOf16Bits = 21;

// Operators beside the multiply-accumulate ones whose constants are worth half width, or, where
// they select rows of a table, 8 bits with a scale for each row.
struct StoredWeights {
  absl::string_view op;
  int input;
  bool moves;  // selects among the weights
};
constexpr std::array kStoredWeights = {
    StoredWeights{"GRU", 1, false},   StoredWeights{"GRU", 2, false},
    StoredWeights{"Gather", 0, true}, StoredWeights{"LSTM", 1, false},
    StoredWeights{"LSTM", 2, false},  StoredWeights{"RNN", 1, false},
    StoredWeights{"RNN", 2, false}};

// Below this a table is not worth the nodes that widen its rows.
constexpr int64_t kMinTableBytes = 16 << 10;

bool IsF32Constant(const Value* v) {
  return v != nullptr && v->is_constant() && v->constant().type() == DataType::kF32;
}

// Why a multiply-accumulate node cannot have narrow weights, whatever the format; empty: it can.
std::string OperandObstacle(const Node& node, const std::optional<WeightOperand>& operand) {
  if (!operand) return "it has no weight operand that this version knows";
  const Value* x = node.input(0);
  const Value* w = node.input(operand->input);
  if (x == nullptr || w == nullptr) return "an operand is absent";
  if (!w->is_constant()) {
    if (w->producer() != nullptr && w->producer()->op() == "DequantizeLinear") {
      return "the model itself quantizes it already";
    }
    if (x->is_constant()) return "its constant operand is the left one";
    return "both operands are computed (no constant weights)";
  }
  if (w->constant().type() != DataType::kF32) {
    return absl::StrCat("its weights are ", Name(w->constant().type()), ", want f32");
  }
  if (x->is_constant()) return "both operands are constant";
  if (x->type().type != DataType::kF32) return "its input is not f32";
  if (w->constant().rank() < 2) return "its weights have rank 1: nothing to save";
  return "";
}

std::string FormatObstacle(const Node& node, const NodeChoice& choice) {
  const Tensor& weights = node.input(choice.weight_input)->constant();
  if (IsInteger(choice.format.type) && node.op() == "MatMul" && weights.rank() != 2) {
    return absl::StrCat("its weights have rank ", weights.rank(), ": ", Name(choice.format.type),
                        " wants one matrix for all batches");
  }
  return WeightObstacle(weights, choice.format);
}

std::string UnwantedReason(const QuantSpec& spec, const Node& node) {
  const bool by_node = spec.node_overrides.contains(node.name());
  const bool by_op = spec.op_overrides.contains(node.op());
  if (by_node || by_op) {
    return absl::StrCat("the spec's override for this ", by_node ? "node" : "operator",
                        " says fp32");
  }
  return "the spec says fp32";
}

// Such as an embedding: indices choose whole rows.
bool IsTableOfRows(const Node& gather, const Tensor& table) {
  return gather.attributes().Int("axis", 0) == 0 && table.rank() == 2 &&
         table.num_bytes() >= kMinTableBytes;
}
// One scale for each row. Fewer bits than 8 have no element type that Gather takes.
WeightFormat RowFormat(WeightType type, const Tensor& table) {
  return {.type = type == WeightType::kI16 ? type : WeightType::kI8,
          .group_axis = 1,
          .group_size = table.dim(1)};
}

class Chooser {
 public:
  Chooser(const Graph& graph, const QuantSpec& spec, const QuantizeOptions& options)
      : graph_(graph), spec_(spec), options_(options) {}

  std::vector<NodeChoice> Run() {
    for (Node* node : graph_.nodes()) {
      if (ComputesInt8(*node) || FindWeightOperand(*node)) {
        out_.push_back(ChooseCompute(node));
      } else {
        ChooseStored(node);
      }
    }
    return std::move(out_);
  }

 private:
  bool ComputesInt8(const Node& node) const {
    const OpDef* row = FindOp(graph_, node);
    return row != nullptr && row->quant == QuantBehavior::kComputeInt8;
  }

  NodeChoice ChooseCompute(Node* node) const {
    NodeChoice c{.node = node, .format = {.type = WeightType::kF32}};
    c.output = EndOfFusion(node->output(0), /*residual=*/true, {})->name();
    const std::optional<WeightOperand> operand = FindWeightOperand(*node);
    c.reason = OperandObstacle(*node, operand);
    if (!c.reason.empty()) return c;
    c.weight_input = operand->input;
    c.fp32_weight_bytes = node->input(operand->input)->constant().num_bytes();
    c.weight_bytes = c.fp32_weight_bytes;
    const WeightType type = PrecisionFor(spec_, node->op(), node->name());
    if (type == WeightType::kF32) {
      c.reason = UnwantedReason(spec_, *node);
      return c;
    }
    if (IsInteger(type) && UsesIntegerArithmetic(spec_) && !ComputesInt8(*node)) {
      c.reason = "it has no integer kernel: its weights become narrow by weight-only";
      return c;
    }
    const absl::StatusOr<WeightFormat> format = FormatFor(spec_, type, *node, *operand);
    if (!format.ok()) {
      c.reason = std::string(format.status().message());
      return c;
    }
    NodeChoice wanted = c;
    wanted.format = *format;
    if (IsInteger(type) && UsesIntegerArithmetic(spec_) && options_.reduce_weight_range) {
      wanted.format.limit = kReducedLimit;
    }
    c.reason = FormatObstacle(*node, wanted);
    if (c.reason.empty() && IsStatic(type) && options_.ranges != nullptr &&
        !options_.ranges->contains(node->input(0)->name())) {
      c.reason = "calibration saw no finite value of its input";
    }
    return c.reason.empty() ? wanted : c;
  }
  bool IsStatic(WeightType type) const {
    return type == WeightType::kI8 && spec_.activations == ActivationMode::kStatic;
  }

  void ChooseStored(Node* node) {
    const WeightType type = PrecisionFor(spec_, node->op(), node->name());
    if (!node->domain().empty() || type == WeightType::kF32) return;
    for (const StoredWeights& stored : kStoredWeights) {
      const Value* w = node->input(stored.input);
      if (stored.op != node->op() || !IsF32Constant(w) || w->constant().rank() < 2) continue;
      if (IsInteger(type) && !(stored.moves && IsTableOfRows(*node, w->constant()))) continue;
      NodeChoice c{.node = node, .weight_input = stored.input, .moves_weights = stored.moves};
      c.format = IsInteger(type) ? RowFormat(type, w->constant()) : WeightFormat{.type = type};
      c.output = node->output(0) != nullptr ? node->output(0)->name() : "";
      c.fp32_weight_bytes = c.weight_bytes = w->constant().num_bytes();
      c.reason = WeightObstacle(w->constant(), c.format);
      if (!c.reason.empty()) c.format = {.type = WeightType::kF32};
      out_.push_back(std::move(c));
    }
  }

  const Graph& graph_;
  const QuantSpec& spec_;
  const QuantizeOptions& options_;
  std::vector<NodeChoice> out_;
};

NodeSet Int8Nodes(const std::vector<NodeChoice>& choices) {
  NodeSet out;
  for (const NodeChoice& c : choices) {
    if (c.format.type == WeightType::kI8 && !c.moves_weights) out.insert(c.node);
  }
  return out;
}

void InsertDynamicScales(Graph& graph, const QuantSpec& spec,
                         const std::vector<NodeChoice>& choices, const NodeSet& int8) {
  const bool per_token = spec.activations == ActivationMode::kDynamicPerToken;
  if (!per_token && spec.activations != ActivationMode::kDynamic) return;
  std::vector<Node*> tensors, rows;
  for (const NodeChoice& c : choices) {
    if (!int8.contains(c.node)) continue;
    // A convolution sums over many pixels: there are no rows that one scale could be taken out of.
    (per_token && MultipliesRows(*c.node) ? rows : tensors).push_back(c.node);
  }
  InsertDynamic(graph, tensors, DynamicScale::kPerTensor);
  InsertDynamic(graph, rows, DynamicScale::kPerRow);
}

// What computes in integers with static parameters: also products that have no weights, where the
// spec wants i8 of them.
NodeSet StaticNodes(const Graph& graph, const QuantSpec& spec,
                    const std::vector<NodeChoice>& choices) {
  NodeSet out = Int8Nodes(choices);
  if (spec.activation_type != ActivationType::kU8 && spec.activation_type != ActivationType::kI8) {
    return out;
  }
  for (const Node* node : AttentionProducts(graph, out)) {
    if (PrecisionFor(spec, node->op(), node->name()) == WeightType::kI8) out.insert(node);
  }
  return out;
}

// The better levels lose less, and round each value once.
LookUps LookUpsOf(const QuantSpec& spec) {
  const bool bytes = BitsOf(spec.activation_type) == 8;
  return spec.level == Level::kFast && bytes ? LookUps::kCostlyFunctions : LookUps::kNone;
}

absl::Status NothingToQuantize(const QuantSpec& spec, const std::vector<NodeChoice>& choices) {
  std::map<std::string, int> reasons;
  for (const NodeChoice& c : choices) ++reasons[absl::StrCat(c.node->op(), ": ", c.reason)];
  std::string text;
  for (const auto& [reason, count] : reasons) {
    absl::StrAppend(&text, text.empty() ? "" : "; ", count, " x ", reason);
  }
  if (text.empty()) text = "the model has no Conv, MatMul, Gemm or other node with weights";
  return absl::FailedPreconditionError(
      absl::StrCat("quantize to '", spec.ToString(), "': no node would change (", text, ")"));
}

// Where each node's output is compared: not beyond a value that becomes integers.
void SetOutputs(std::vector<NodeChoice>& choices, const ActivationPlan& plan) {
  absl::flat_hash_set<const Value*> stop;
  for (const ActivationPlan::Quantized& q : plan.values) stop.insert(q.value);
  for (NodeChoice& c : choices) {
    const Value* out = c.node->output(0);
    if (out != nullptr && !c.moves_weights) c.output = EndOfFusion(out, true, stop)->name();
  }
}

// The value that the layer's input was before quantizing it put nodes in between.
const Value* FloatInput(const Node& node) {
  const Value* x = node.input(0);
  while (x != nullptr && x->producer() != nullptr && IsQuantization(*x->producer())) {
    x = x->producer()->input(0);
  }
  return x;
}

// Gives the memory of f32 weights back before the next ones become narrow.
void RemoveIfUnused(Graph& graph, Value* weights) {
  if (weights->uses().empty() && !weights->is_output()) graph.RemoveConstant(weights);
}

absl::Status TakeBackMeanError(Graph& graph, const NodeChoice& choice, WeightNarrower& narrower,
                               const ChannelStatsMap& means) {
  const Value* x = FloatInput(*choice.node);
  const auto seen = x == nullptr ? means.end() : means.find(x->name());
  if (seen == means.end() || choice.weight_input != 1) return absl::OkStatus();
  HT_ASSIGN_OR_RETURN(const Tensor widened,
                      narrower.Widened(*choice.node, choice.weight_input, choice.format));
  return CorrectBias(graph, choice.node, widened, seen->second).status();
}

}  // namespace

bool IsComputeHintAlone(const QuantSpec& spec) {
  return spec.weights == WeightType::kF32 && spec.compute != ComputeType::kAuto;
}

absl::Status PrepareForQuantization(Graph& graph, const QuantSpec& spec) {
  if (IsInteger(spec.weights) || UsesType(spec, WeightType::kBF16)) {
    const bool grouped = std::holds_alternative<PerGroup>(spec.granularity);
    const int activations = BitsOf(spec.activation_type) > 8 ? kOpsetOf16Bits : 0;
    HT_RETURN_IF_ERROR(
        RaiseOpset(graph, std::max(activations, RequiredOpset(spec.weights, grouped))));
  }
  graph.RemoveUnused();  // so that nothing disappears while choices point at it
  return graph.SortTopologically();
}

std::vector<NodeChoice> ChooseNodes(const Graph& graph, const QuantSpec& spec,
                                    const QuantizeOptions& options) {
  return Chooser(graph, spec, options).Run();
}

std::vector<std::string> ValuesToCalibrate(const Graph& graph, const QuantSpec& spec) {
  if (spec.activations != ActivationMode::kStatic) return {};
  const NodeSet int8 = StaticNodes(graph, spec, ChooseNodes(graph, spec, {}));
  const ActivationPlan plan = PlanActivations(graph, int8, nullptr, LookUpsOf(spec));
  std::vector<std::string> names;
  for (const ActivationPlan::Quantized& q : plan.values) names.push_back(q.value->name());
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<std::vector<NodeChoice>> QuantizeGraph(Graph& graph, const QuantSpec& spec,
                                                      const QuantizeOptions& options) {
  if (spec.activations == ActivationMode::kStatic && options.ranges == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "quantize to '", spec.ToString(), "': got no calibrated ranges, static int8 wants them"));
  }
  std::vector<NodeChoice> choices = ChooseNodes(graph, spec, options);
  const bool any = std::any_of(choices.begin(), choices.end(), [](const NodeChoice& c) {
    return c.format.type != WeightType::kF32;
  });
  if (!any && !IsComputeHintAlone(spec)) return NothingToQuantize(spec, choices);
  const NodeSet int8 = Int8Nodes(choices);
  ActivationPlan plan;
  if (spec.activations == ActivationMode::kStatic) {
    plan =
        PlanActivations(graph, StaticNodes(graph, spec, choices), options.ranges, LookUpsOf(spec));
  }
  SetOutputs(choices, plan);
  if (spec.activations == ActivationMode::kStatic) {
    HT_RETURN_IF_ERROR(InsertStatic(graph, plan, *options.ranges, spec.activation_type));
  }
  InsertDynamicScales(graph, spec, choices, int8);
  WeightNarrower narrower(graph, options.narrow);
  for (NodeChoice& c : choices) {
    if (c.format.type == WeightType::kF32) continue;
    Value* wide = c.node->input(c.weight_input);
    if (c.moves_weights) {
      HT_ASSIGN_OR_RETURN(c.weight_bytes, narrower.NarrowThrough(c.node, c.weight_input, c.format));
      RemoveIfUnused(graph, wide);
      continue;
    }
    if (options.means != nullptr) {
      HT_RETURN_IF_ERROR(TakeBackMeanError(graph, c, narrower, *options.means));
    }
    HT_ASSIGN_OR_RETURN(c.weight_bytes, narrower.Narrow(c.node, c.weight_input, c.format));
    RemoveIfUnused(graph, wide);
  }
  HT_RETURN_IF_ERROR(graph.SortTopologically());
  graph.RemoveUnused();
  HT_RETURN_IF_ERROR(graph.Verify());
  return choices;
}

}  // namespace halftone
