#include "core/exec/target_rewrites.h"

#include <algorithm>

#include "core/base/status_macros.h"
#include "core/exec/fusion.h"
#include "core/exec/kernels/copy.h"
#include "core/ops/evaluate.h"
#include "core/ops/registry.h"

namespace halftone {
namespace {

bool IsOp(const Node* node, absl::string_view op) {
  return node != nullptr && node->op() == op && node->domain().empty();
}

// --- i8 activations → u8 ---------------------------------------------------------------------

// The DQ nodes at the end of every path from an i8 value through data movement; false when
// something else reads it.
bool CollectReaders(Value* v, std::vector<Node*>& dequantize, std::vector<Value*>& between) {
  if (v->is_output()) return false;
  between.push_back(v);
  for (Node* user : v->uses()) {
    if (IsOp(user, "Shape")) continue;
    if (IsOp(user, "DequantizeLinear") && user->input(0) == v) {
      dequantize.push_back(user);
    } else if ((IsOp(user, "MaxPool") || IsOp(user, "Reshape") || IsOp(user, "Flatten") ||
                IsOp(user, "Transpose")) &&
               user->input(0) == v && user->output(1) == nullptr) {
      if (!CollectReaders(user->output(0), dequantize, between)) return false;
    } else {
      return false;
    }
  }
  return true;
}

// True for the right side of a product of two quantized activations, which is i8 around zero.
bool IsRightOperand(const Value* dequantized) {
  const auto& users = dequantized->uses();
  return MatchRightOperand(dequantized) &&
         std::any_of(users.begin(), users.end(), [dequantized](const Node* user) {
           return IsOp(user, "MatMul") && user->input(1) == dequantized &&
                  MatchDequantize(user->input(0));
         });
}

void ShiftZeroPoint(Graph& g, Node* node, int32_t zero_point) {
  const Tensor shifted = Tensor::Scalar<uint8_t>(static_cast<uint8_t>(zero_point + 128));
  g.SetInput(node, 2, g.AddConstant(node->name() + "_u8_zero_point", shifted));
}

void UseUnsignedActivations(Graph& g) {
  for (Node* node : g.nodes()) {
    const auto q = MatchQuantize(*node);
    if (!q || q->type != DataType::kI8) continue;
    std::vector<Node*> readers;
    std::vector<Value*> between;
    if (!CollectReaders(node->output(0), readers, between)) continue;
    const bool all_match = std::all_of(readers.begin(), readers.end(), [](const Node* r) {
      const auto d = MatchDequantize(r->output(0));
      return d && d->is_static && !IsRightOperand(r->output(0));
    });
    if (!all_match) continue;
    for (Node* r : readers) {
      ShiftZeroPoint(g, r, MatchDequantize(r->output(0))->view.zero_point);
    }
    ShiftZeroPoint(g, node, q->view.zero_point);
    node->attributes().Erase("output_dtype");
    for (Value* v : between) v->set_type({DataType::kU8, v->type().shape});
  }
}

// --- DQ → movement → Q ------------------------------------------------------------------------

bool SameView(const QuantizedView& a, const QuantizedView& b) {
  return a.type == b.type && a.scale == b.scale && a.zero_point == b.zero_point;
}

// Movement whose result on integers is the quantized result: padding values and indices excluded.
bool MovesOnly(const Graph& g, const Node& node) {
  const OpDef* def = FindOp(g, node);
  return def != nullptr && def->quant == QuantBehavior::kPassThrough && node.op() != "Pad" &&
         node.outputs().size() == 1;
}

absl::Status PullThroughMovement(Graph& g) {
  const std::vector<Node*> nodes = g.nodes();
  for (Node* node : nodes) {
    const bool concat = IsOp(node, "Concat");
    if (!concat && !MovesOnly(g, *node)) continue;
    Value* out = node->output(0);
    if (out == nullptr || out->is_output() || out->uses().empty()) continue;
    const auto first = MatchDequantize(node->input(0));
    if (!first || !first->is_static) continue;
    const int data_inputs = concat ? static_cast<int>(node->inputs().size()) : 1;
    bool equal = true;
    for (int i = 0; i < data_inputs && equal; ++i) {
      const auto d = MatchDequantize(node->input(i));
      equal = d && d->is_static && SameView(d->view, first->view);
    }
    std::vector<Node*> quantizers;
    for (Node* user : out->uses()) {
      if (IsOp(user, "Shape")) continue;  // of integers it is the same
      const auto q = MatchQuantize(*user);
      equal = equal && q && user->input(0) == out && SameView(q->view, first->view);
      quantizers.push_back(user);
    }
    if (!equal || quantizers.empty()) continue;
    for (int i = 0; i < data_inputs; ++i) {
      const Value* quantized = MatchDequantize(node->input(i))->quantized;
      g.SetInput(node, i, const_cast<Value*>(quantized));
    }
    out->set_type({first->type, out->type().shape});
    for (Node* q : quantizers) g.ReplaceUsesKeepingName(q->output(0), out);
  }
  g.RemoveUnused();
  return absl::OkStatus();
}

// --- movement in front of widened weights ------------------------------------------------------

absl::StatusOr<Tensor> TransposeTensor(const Tensor& t, absl::Span<const int64_t> perm) {
  Shape shape;
  Shape strides;
  const Shape dense = RowMajorStrides(t.shape());
  for (int64_t p : perm) {
    shape.push_back(t.dim(static_cast<int>(p)));
    strides.push_back(dense[p]);
  }
  HT_ASSIGN_OR_RETURN(Tensor out, Tensor::Create(t.type(), shape));
  StridedCopy copy{shape, strides, RowMajorStrides(shape)};
  copy.element_bytes = BitWidth(t.type()) / 8;
  if (t.num_elements() > 0) RunStridedCopy(Simplify(copy), t.raw(), out.mutable_raw());
  return out;
}

// Transpose(widen(constant)) → widen(transposed constant).
absl::Status MoveTransposes(Graph& g) {
  const std::vector<Node*> nodes = g.nodes();
  for (Node* node : nodes) {
    if (!IsOp(node, "Transpose")) continue;
    Node* widen = node->input(0)->producer();
    if (!IsOp(widen, "DequantizeLinear") && !IsOp(widen, "Cast")) continue;
    const Value* stored = widen->input(0);
    if (!stored->is_constant() || BitWidth(stored->constant().type()) < 8) continue;
    const int rank = stored->constant().rank();
    std::vector<int64_t> perm = node->attributes().Ints("perm");
    if (perm.empty()) {
      for (int i = rank - 1; i >= 0; --i) perm.push_back(i);
    }
    if (widen->attributes().Int("block_size", 0) != 0) continue;
    HT_ASSIGN_OR_RETURN(Tensor moved, TransposeTensor(stored->constant(), perm));
    NodeSpec spec{.op = widen->op(), .name = widen->name(), .inputs = widen->inputs()};
    spec.inputs[0] = g.AddConstant(stored->name() + "_transposed", std::move(moved));
    spec.outputs = {node->output(0)->name() + "_widened"};
    spec.attributes = widen->attributes();
    if (IsOp(widen, "DequantizeLinear")) {
      int64_t axis = widen->attributes().Int("axis", 1);
      if (axis < 0) axis += rank;
      const auto it = std::find(perm.begin(), perm.end(), axis);
      if (it != perm.end()) spec.attributes.Set("axis", int64_t{it - perm.begin()});
    }
    Node* replacement = g.AddNode(std::move(spec));
    replacement->output(0)->set_type(node->output(0)->type());
    g.ReplaceUsesKeepingName(node->output(0), replacement->output(0));
  }
  g.RemoveUnused();
  return g.SortTopologically();
}

// Gather(widen(table), i) → widen(Gather(table, i)): an embedding table stays narrow.
absl::Status MoveGathers(Graph& g) {
  const std::vector<Node*> nodes = g.nodes();
  for (Node* node : nodes) {
    if (!IsOp(node, "Gather")) continue;
    Node* widen = node->input(0)->producer();
    const bool cast = IsOp(widen, "Cast");
    if (!cast && !IsOp(widen, "DequantizeLinear")) continue;
    Value* stored = widen->input(0);
    if (!stored->is_constant() || BitWidth(stored->constant().type()) < 8) continue;
    if (!cast &&
        (!widen->input(1)->is_constant() || widen->input(1)->constant().num_elements() != 1)) {
      continue;
    }
    Node* gather = g.AddNode({.op = "Gather",
                              .name = node->name() + "_narrow",
                              .inputs = {stored, node->input(1)},
                              .outputs = {node->name() + "_narrow_rows"},
                              .attributes = node->attributes()});
    gather->output(0)->set_type({stored->constant().type(), node->output(0)->type().shape});
    NodeSpec spec{.op = widen->op(), .name = widen->name(), .inputs = widen->inputs()};
    spec.inputs[0] = gather->output(0);
    spec.outputs = {node->output(0)->name() + "_widened"};
    spec.attributes = widen->attributes();
    Node* replacement = g.AddNode(std::move(spec));
    replacement->output(0)->set_type(node->output(0)->type());
    g.ReplaceUsesKeepingName(node->output(0), replacement->output(0));
  }
  g.RemoveUnused();
  return g.SortTopologically();
}

// --- convolution weights that no primitive takes as they are
// ---------------------------------------

// An integer kernel wants weights around zero; without constant weights there is no kernel at all.
absl::Status WidenConvWeights(Graph& g) {
  const std::vector<Node*> nodes = g.nodes();
  for (Node* node : nodes) {
    const bool transposed = IsOp(node, "ConvTranspose");
    if (!transposed && !IsOp(node, "Conv")) continue;
    Value* weights = node->input(1);
    Node* widen = weights->producer();
    if (!IsOp(widen, "DequantizeLinear") || weights->is_output() ||
        MatchWeights(weights, transposed ? 1 : 0)) {
      continue;
    }
    std::vector<const Tensor*> inputs;
    for (const Value* in : widen->inputs()) {
      inputs.push_back(in != nullptr && in->is_constant() ? &in->constant() : nullptr);
      if (in != nullptr && inputs.back() == nullptr) break;
    }
    if (inputs.size() != widen->inputs().size() || inputs[1] == nullptr) continue;
    absl::StatusOr<std::vector<Tensor>> wide = EvaluateNode(g, *widen, inputs);
    if (wide.ok()) g.MakeConstant(weights, std::move((*wide)[0]));
  }
  g.RemoveUnused();
  return absl::OkStatus();
}

}  // namespace

absl::Status RewriteForTarget(Graph& graph) {
  HT_RETURN_IF_ERROR(MoveTransposes(graph));
  HT_RETURN_IF_ERROR(MoveGathers(graph));
  HT_RETURN_IF_ERROR(WidenConvWeights(graph));
  HT_RETURN_IF_ERROR(PullThroughMovement(graph));
  UseUnsignedActivations(graph);
  return graph.Verify();
}

}  // namespace halftone
