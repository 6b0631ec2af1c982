#include "core/exec/concat_slices.h"

#include <algorithm>

#include "core/tensor/shape.h"

namespace halftone {
namespace {

bool IsOp(const Node* node, absl::string_view op) {
  return node->op() == op && node->domain().empty();
}

// A product of channels, which takes rows at any distance (see LowerPointwise).
bool IsPointwise(const Node* node) {
  if (!IsOp(node, "Conv") || !node->input(1)->is_constant()) return false;
  const Shape& w = node->input(1)->constant().shape();
  return w.size() > 2 && ElementCount(absl::MakeConstSpan(w).subspan(2)) == 1;
}

bool ReadsByStrides(const Node* node) {
  return IsOp(node, "Concat") || IsOp(node, "Split") || IsOp(node, "Slice") || IsPointwise(node);
}

bool MayBePart(const Value* v, const Node* concat) {
  if (v->producer() == nullptr || v->is_constant() || v->is_output()) return false;
  if (std::count(concat->inputs().begin(), concat->inputs().end(), v) != 1) return false;
  return std::all_of(v->uses().begin(), v->uses().end(), ReadsByStrides);
}

}  // namespace

absl::flat_hash_map<const Value*, ConcatSlice> FindConcatSlices(const Graph& graph) {
  absl::flat_hash_map<const Value*, ConcatSlice> slices;
  for (const Node* node : graph.nodes()) {
    if (!IsOp(node, "Concat") || node->output(0) == nullptr) continue;
    const Value* whole = node->output(0);
    const auto shape = Concrete(whole->type().shape);
    if (!shape || !whole->type().type || ElementCount(*shape) == 0) continue;
    int64_t axis = node->attributes().Int("axis", 1);
    if (axis < 0) axis += static_cast<int64_t>(shape->size());
    int64_t start = 0;
    for (const Value* in : node->inputs()) {
      const auto part = Concrete(in->type().shape);
      if (!part) break;
      if (MayBePart(in, node)) slices.try_emplace(in, ConcatSlice{whole, axis, start});
      start += (*part)[axis];
    }
  }
  return slices;
}

}  // namespace halftone
