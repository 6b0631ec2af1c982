#include "core/passes/raise_opset.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/ops/evaluate.h"
#include "core/ops/registry.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

constexpr int kOldestRaisedOpset = 7;

absl::Status CannotRaise(const Node& node, absl::string_view why) {
  return absl::UnimplementedError(absl::StrCat(Describe(node), ": cannot raise its opset: ", why));
}

Value* AddInts(Graph& graph, const Node& node, absl::string_view what,
               const std::vector<int64_t>& values) {
  return graph.AddConstant(
      absl::StrCat(node.name(), "/", what),
      Tensor::Of<int64_t>({static_cast<int64_t>(values.size())}, absl::MakeConstSpan(values)));
}

// Moves a list attribute, if there is one, to an input.
void IntsToInput(Graph& graph, Node* node, absl::string_view attribute, int input) {
  const std::vector<int64_t> values = node->attributes().Ints(attribute);
  node->attributes().Erase(attribute);
  if (!values.empty()) graph.SetInput(node, input, AddInts(graph, *node, attribute, values));
}

// Moves a number to an input of the element type of input 0.
absl::Status FloatToInput(Graph& graph, Node* node, absl::string_view attribute, int input) {
  const float* value = node->attributes().Find<float>(attribute);
  if (value == nullptr) return absl::OkStatus();
  const DataType type = node->input(0)->type().type.value_or(DataType::kF32);
  HT_ASSIGN_OR_RETURN(Tensor scalar, Convert(Tensor::Scalar<float>(*value), type));
  graph.SetInput(node, input,
                 graph.AddConstant(absl::StrCat(node->name(), "/", attribute), std::move(scalar)));
  node->attributes().Erase(attribute);
  return absl::OkStatus();
}

absl::Status AxesToInput(Graph& graph, Node* node) {
  IntsToInput(graph, node, "axes", 1);
  return absl::OkStatus();
}

absl::Status SplitToInput(Graph& graph, Node* node) {
  IntsToInput(graph, node, "split", 1);
  return absl::OkStatus();
}

absl::Status SplitCountsOutputs(Graph&, Node* node) {
  if (node->input(1) == nullptr) {
    node->attributes().Set("num_outputs", static_cast<int64_t>(node->outputs().size()));
  }
  return absl::OkStatus();
}

absl::Status SliceToInputs(Graph& graph, Node* node) {
  IntsToInput(graph, node, "starts", 1);
  IntsToInput(graph, node, "ends", 2);
  IntsToInput(graph, node, "axes", 3);
  return absl::OkStatus();
}

absl::Status PadToInputs(Graph& graph, Node* node) {
  IntsToInput(graph, node, "pads", 1);
  return FloatToInput(graph, node, "value", 2);
}

absl::Status ClipToInputs(Graph& graph, Node* node) {
  HT_RETURN_IF_ERROR(FloatToInput(graph, node, "min", 1));
  return FloatToInput(graph, node, "max", 2);
}

absl::Status TopKToInput(Graph& graph, Node* node) {
  graph.SetInput(node, 1, AddInts(graph, *node, "k", {node->attributes().Int("k", 1)}));
  node->attributes().Erase("k");
  return absl::OkStatus();
}

absl::Status UpsampleToInput(Graph& graph, Node* node) {
  const auto scales = node->attributes().Get("scales", std::vector<float>{});
  node->attributes().Erase("scales");
  graph.SetInput(node, 1,
                 graph.AddConstant(absl::StrCat(node->name(), "/scales"),
                                   Tensor::Of<float>({static_cast<int64_t>(scales.size())},
                                                     absl::MakeConstSpan(scales))));
  return absl::OkStatus();
}

absl::Status UpsampleToResize(Graph& graph, Node* node) {
  graph.SetOp(node, "Resize");
  return absl::OkStatus();
}

// Old Resize divided coordinates by the scale and truncated them.
absl::Status ResizeStatesCoordinates(Graph& graph, Node* node) {
  graph.SetInput(node, 2, node->input(1));
  graph.SetInput(node, 1, nullptr);
  node->attributes().Set("coordinate_transformation_mode", std::string("asymmetric"));
  node->attributes().Set("nearest_mode", std::string("floor"));
  return absl::OkStatus();
}

absl::Status ResizeLosesMode(Graph&, Node* node) {
  if (node->attributes().String("coordinate_transformation_mode", "") == "tf_half_pixel_for_nn") {
    return CannotRaise(*node, "tf_half_pixel_for_nn was removed in opset 13");
  }
  return absl::OkStatus();
}

absl::Status DropoutWithoutRatio(Graph&, Node* node) {
  node->attributes().Erase("ratio");  // inference does not use it
  return absl::OkStatus();
}

absl::Status BatchNormIsSpatial(Graph&, Node* node) {
  if (node->attributes().Int("spatial", 1) != 1) {
    return CannotRaise(*node, "spatial=0 was removed in opset 9");
  }
  node->attributes().Erase("spatial");
  return absl::OkStatus();
}

absl::Status BatchNormHasOneOutput(Graph& graph, Node* node) {
  if (node->outputs().size() <= 1) return absl::OkStatus();
  for (size_t i = 1; i < node->outputs().size(); ++i) {
    const Value* extra = node->outputs()[i];
    if (extra != nullptr && (!extra->uses().empty() || extra->is_output())) {
      return CannotRaise(*node, "it is used for training");
    }
  }
  ReplaceByNode(graph, node->output(0),
                {.op = node->op(),
                 .name = node->name(),
                 .inputs = node->inputs(),
                 .attributes = node->attributes()});
  graph.RemoveNode(node);
  return absl::OkStatus();
}

absl::Status ScatterIsElements(Graph& graph, Node* node) {
  graph.SetOp(node, "ScatterElements");
  return absl::OkStatus();
}

// The old operators saw a matrix: everything from `axis` on was one row.
absl::Status SoftmaxOverOneAxis(Graph& graph, Node* node) {
  const int64_t axis = node->attributes().Int("axis", 1);
  Value* x = node->input(0);
  const int rank = RankOf(x);
  if (axis == -1 || (rank > 0 && axis == rank - 1)) {
    node->attributes().Set("axis", int64_t{-1});
    return absl::OkStatus();
  }
  if (axis < 0 && rank < 0) return CannotRaise(*node, "the rank of its input is unknown");
  const int64_t row = axis < 0 ? axis + rank : axis;
  Value* y = node->output(0);
  const auto add = [&](absl::string_view op, std::vector<Value*> inputs, Attributes attributes) {
    return graph
        .AddNode({.op = std::string(op),
                  .name = absl::StrCat(node->name(), "/", op),
                  .inputs = std::move(inputs),
                  .outputs = {absl::StrCat(y->name(), "/", op)},
                  .attributes = std::move(attributes)})
        ->output(0);
  };
  Value* matrix = add("Flatten", {x}, {{"axis", row}});
  Value* result = add(node->op(), {matrix}, {{"axis", int64_t{-1}}});
  ReplaceByNode(graph, y,
                {.op = "Reshape",
                 .name = absl::StrCat(node->name(), "/Reshape"),
                 .inputs = {result, add("Shape", {x}, {})}});
  graph.RemoveNode(node);
  return absl::OkStatus();
}

// Opset 20 takes the axis as an input, and means another one when it is absent.
absl::Status DftAxisToInput(Graph& graph, Node* node) {
  Value* axis = graph.AddConstant(absl::StrCat(node->name(), "/axis"),
                                  Tensor::Scalar<int64_t>(node->attributes().Int("axis", 1)));
  if (node->inputs().size() < 2) graph.SetInput(node, 1, nullptr);
  graph.SetInput(node, 2, axis);
  node->attributes().Erase("axis");
  return absl::OkStatus();
}

absl::Status GridSampleModes(Graph&, Node* node) {
  const std::string mode = node->attributes().String("mode", "bilinear");
  if (mode == "bilinear") node->attributes().Set("mode", std::string("linear"));
  if (mode == "bicubic") node->attributes().Set("mode", std::string("cubic"));
  return absl::OkStatus();
}

absl::Status RoiAlignStatesCoordinates(Graph&, Node* node) {
  node->attributes().Set("coordinate_transformation_mode", std::string("output_half_pixel"));
  return absl::OkStatus();
}

absl::Status Refuse(Graph&, Node* node) {
  return CannotRaise(*node, "its definition changed and there is no rewrite for it");
}

struct Change {
  absl::string_view op;
  int since;  // the opset whose definition differs from the one before
  absl::Status (*apply)(Graph&, Node*);
};

// What changed between opsets 7 and 22. Versions that only added types, inputs or attributes whose
// absence means what it meant before are not here.
constexpr std::array kChanges = {
    Change{"BatchNormalization", 9, BatchNormIsSpatial},
    Change{"Scan", 9, Refuse},
    Change{"Upsample", 9, UpsampleToInput},
    Change{"Slice", 10, SliceToInputs},
    Change{"TopK", 10, TopKToInput},
    Change{"Upsample", 10, UpsampleToResize},
    Change{"Clip", 11, ClipToInputs},
    Change{"Pad", 11, PadToInputs},
    Change{"Resize", 11, ResizeStatesCoordinates},
    Change{"Scatter", 11, ScatterIsElements},
    Change{"Dropout", 12, DropoutWithoutRatio},
    Change{"Hardmax", 13, SoftmaxOverOneAxis},
    Change{"LogSoftmax", 13, SoftmaxOverOneAxis},
    Change{"ReduceSum", 13, AxesToInput},
    Change{"Resize", 13, ResizeLosesMode},
    Change{"Softmax", 13, SoftmaxOverOneAxis},
    Change{"Split", 13, SplitToInput},
    Change{"Squeeze", 13, AxesToInput},
    Change{"Unsqueeze", 13, AxesToInput},
    Change{"BatchNormalization", 14, BatchNormHasOneOutput},
    Change{"RoiAlign", 16, RoiAlignStatesCoordinates},
    Change{"ReduceL1", 18, AxesToInput},
    Change{"ReduceL2", 18, AxesToInput},
    Change{"ReduceLogSum", 18, AxesToInput},
    Change{"ReduceLogSumExp", 18, AxesToInput},
    Change{"ReduceMax", 18, AxesToInput},
    Change{"ReduceMean", 18, AxesToInput},
    Change{"ReduceMin", 18, AxesToInput},
    Change{"ReduceProd", 18, AxesToInput},
    Change{"ReduceSumSquare", 18, AxesToInput},
    Change{"Split", 18, SplitCountsOutputs},
    Change{"DFT", 20, DftAxisToInput},
    Change{"GridSample", 20, GridSampleModes},
    Change{"GroupNormalization", 21, Refuse},
};

bool HasChange(const Node& node, int from, int to) {
  return std::any_of(kChanges.begin(), kChanges.end(), [&](const Change& change) {
    return node.op() == change.op && change.since > from && change.since <= to;
  });
}

// The table may know of a difference that kChanges does not.
absl::Status CheckKnown(const Graph& graph, int to) {
  const int from = graph.opset();
  for (const Node* node : graph.nodes()) {
    if (!node->domain().empty() || HasChange(*node, from, to)) continue;
    if (FindOp("", node->op(), from) != FindOp("", node->op(), to)) {
      HT_RETURN_IF_ERROR(CannotRaise(*node, "the operator differs between the two opsets"));
    }
  }
  return absl::OkStatus();
}

absl::Status Raise(Graph& graph, int to);

absl::Status RaiseNested(Graph& graph, int to) {
  for (Node* node : graph.nodes()) {
    std::vector<std::pair<std::string, SubgraphPtr>> raised;
    for (const auto& [name, value] : node->attributes().items()) {
      const auto* nested = std::get_if<SubgraphPtr>(&value);
      if (nested == nullptr) continue;
      auto copy = std::make_shared<Graph>((*nested)->Clone());
      HT_RETURN_IF_ERROR(Annotate(Raise(*copy, to), Describe(*node)));
      raised.emplace_back(name, std::move(copy));
    }
    for (auto& [name, nested] : raised) node->attributes().Set(name, std::move(nested));
  }
  return absl::OkStatus();
}

absl::Status Raise(Graph& graph, int to) {
  HT_RETURN_IF_ERROR(CheckKnown(graph, to));
  for (int version = graph.opset() + 1; version <= to; ++version) {
    const std::vector<Node*> nodes = graph.nodes();
    for (Node* node : nodes) {
      // An operator has at most one change per version, and applying it may remove the node.
      const auto change = std::find_if(kChanges.begin(), kChanges.end(), [&](const Change& c) {
        return c.since == version && IsOp(node, c.op);
      });
      if (change != kChanges.end()) HT_RETURN_IF_ERROR(change->apply(graph, node));
    }
  }
  graph.opsets()[""] = to;
  HT_RETURN_IF_ERROR(RaiseNested(graph, to));
  return graph.SortTopologically();
}

}  // namespace

absl::Status RaiseOpset(Graph& graph, int opset) {
  const int from = graph.opset();
  if (from >= opset) return absl::OkStatus();
  if (from < kOldestRaisedOpset || opset > kNewestRaisedOpset) {
    return absl::UnimplementedError(absl::StrCat("cannot raise opset ", from, " to ", opset,
                                                 ", only from ", kOldestRaisedOpset,
                                                 " or newer to ", kNewestRaisedOpset, " or older"));
  }
  // A dry run on a copy (constants share their bytes) keeps the graph whole if a node refuses.
  Graph trial = graph.Clone();
  HT_RETURN_IF_ERROR(Raise(trial, opset));
  HT_RETURN_IF_ERROR(Raise(graph, opset));
  return InferShapes(graph);
}

}  // namespace halftone
