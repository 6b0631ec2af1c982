// If: both branches are lowered in place, and the steps of each run under the condition.
#include <cstring>
#include <utility>

#include "core/base/status_macros.h"
#include "core/exec/lower/rules.h"
#include "core/exec/target_rewrites.h"
#include "core/graph/attributes.h"
#include "core/ops/evaluate.h"

namespace halftone {
namespace {

// A branch with what it captures in its place: constants, and the shapes of this specialisation.
absl::StatusOr<Graph> Specialize(const Graph& branch, absl::Span<const Value* const> captures) {
  if (branch.inputs().size() != captures.size()) {
    return absl::InvalidArgumentError("captures do not match");
  }
  Graph g = branch.Clone();
  for (size_t i = 0; i < captures.size(); ++i) {
    Value* v = g.inputs()[i];
    v->set_type(captures[i]->type());
    if (captures[i]->is_constant()) {
      g.ReplaceUses(v, g.AddConstant(captures[i]->name(), captures[i]->constant()));
    }
  }
  // What the file says of inner shapes gives way to what these captures imply.
  for (Value* v : g.values()) {
    if (v->producer() != nullptr) v->set_type({v->type().type, std::nullopt});
  }
  // The portable passes do not look into branches: weights that are computed from constants (an
  // LSTM's gates in another order) become constants here.
  const InferOptions fold = {.fold_elements = int64_t{1} << 20};
  HT_RETURN_IF_ERROR(InferShapes(g, fold));
  HT_RETURN_IF_ERROR(RewriteForTarget(g));
  HT_RETURN_IF_ERROR(InferShapes(g));
  g.RemoveUnused();
  return g;
}

// The value of a branch becomes the value of the If.
absl::Status AddResult(ProgramBuilder& b, const Node& node, const Value* from, const Value* to,
                       BufferId result) {
  HT_ASSIGN_OR_RETURN(const BufferId source, b.FetchPlain(from));
  const bool from_static = b.IsStatic(from), to_static = b.IsStatic(to);
  const DataType type = from->type().type.value_or(DataType::kF32);
  const Shape shape = from_static ? b.ShapeOf(from) : Shape();
  const int64_t bytes = from_static ? (ElementCount(shape) * BitWidth(type) + 7) / 8 : 0;
  b.AddStep(
      {node.name(), node.op(), "", "copy", ""}, {source, result}, [=](Binding& bind) -> BoundStep {
        return [=, &bind]() -> absl::Status {
          if (from_static && to_static) {
            std::memcpy(bind.pointer(result), bind.pointer(source), static_cast<size_t>(bytes));
            return absl::OkStatus();
          }
          const Tensor view = from_static ? Tensor::Borrow(type, shape, bind.pointer(source))
                                          : bind.dynamic(source);
          if (!to_static) {
            HT_ASSIGN_OR_RETURN(bind.dynamic(result), view.Clone());
            return absl::OkStatus();
          }
          return absl::InternalError("a branch knows less than the node that holds it");
        };
      });
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<bool> LowerIf(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* condition = node.input(0);
  const std::vector<const Value*> captures(node.inputs().begin() + 1, node.inputs().end());
  for (const Value* v : captures) {
    if (v == nullptr) {
      *reason = "an absent capture";
      return false;
    }
  }
  std::vector<std::pair<bool, Graph>> branches;
  for (const bool when : {true, false}) {
    if (condition->is_constant() && condition->constant().data<bool>()[0] != when) continue;
    const auto* branch = node.attributes().Find<SubgraphPtr>(when ? "then_branch" : "else_branch");
    if (branch == nullptr || *branch == nullptr) return false;
    absl::StatusOr<Graph> graph = Specialize(**branch, captures);
    if (!graph.ok()) {
      // It may be the one that never runs for these shapes.
      *reason = std::string(graph.status().message());
      return false;
    }
    for (size_t i = 0; i < node.outputs().size(); ++i) {
      const Value *from = graph->outputs()[i], *to = node.outputs()[i];
      if (to != nullptr && b.IsStatic(to) && from->type().type != to->type().type) return false;
      if (to != nullptr && b.IsStatic(to) && !Concrete(from->type().shape)) {
        *reason = "a branch knows less than the node";
        return false;
      }
    }
    branches.emplace_back(when, *std::move(graph));
  }
  HT_ASSIGN_OR_RETURN(const BufferId flag, b.FetchPlain(condition));
  for (const Value* v : captures) HT_RETURN_IF_ERROR(b.FetchStrided(v).status());
  std::vector<BufferId> results;
  for (const Value* to : node.outputs()) {
    if (to == nullptr) {
      results.push_back(-1);
    } else {
      results.push_back(b.IsStatic(to) ? b.Define(to, Layout::kPlain, *to->type().type)
                                       : b.DefineDynamic(to));
    }
  }
  for (auto& [when, graph] : branches) {
    const bool guarded = branches.size() > 1;
    if (guarded) b.BeginGuard(flag, when);
    HT_ASSIGN_OR_RETURN(
        const Graph* lowered,
        b.LowerNested(std::move(graph), absl::StrCat(node.name(), when ? ".then" : ".else"),
                      captures));
    for (size_t i = 0; i < node.outputs().size(); ++i) {
      if (node.outputs()[i] == nullptr) continue;
      HT_RETURN_IF_ERROR(AddResult(b, node, lowered->outputs()[i], node.outputs()[i], results[i]));
    }
    if (guarded) b.EndGuard();
  }
  return true;
}

}  // namespace halftone
