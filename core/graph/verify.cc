// Graph::Verify: the invariants that every pass must keep.
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/graph/graph.h"

namespace halftone {
namespace {

absl::Status Broken(absl::string_view what) {
  return absl::InternalError(absl::StrCat("graph invariant broken: ", what));
}

}  // namespace

absl::Status Graph::Verify() const {
  absl::flat_hash_set<const Value*> known;
  absl::flat_hash_set<absl::string_view> names;
  for (const auto& v : values_) {
    known.insert(v.get());
    if (!names.insert(v->name()).second)
      return Broken(absl::StrCat("two values '", v->name(), "'"));
    const int roles = (v->producer() != nullptr) + v->is_constant() + v->is_input();
    if (roles > 1) return Broken(absl::StrCat("'", v->name(), "' has more than one origin"));
    if (roles == 0 && (!v->uses().empty() || v->is_output())) {
      return Broken(absl::StrCat("'", v->name(), "' is used but nothing makes it"));
    }
  }
  absl::flat_hash_map<const Value*, int> reads;
  for (const Node* node : node_order_) {
    for (const Value* in : node->inputs()) {
      if (in == nullptr) continue;
      if (!known.contains(in)) return Broken(absl::StrCat(Describe(*node), " reads a stranger"));
      ++reads[in];
    }
    for (const Value* out : node->outputs()) {
      if (out != nullptr && out->producer() != node) {
        return Broken(
            absl::StrCat(Describe(*node), ": '", out->name(), "' names another producer"));
      }
    }
  }
  for (const auto& v : values_) {
    if (reads[v.get()] != static_cast<int>(v->uses().size())) {
      return Broken(absl::StrCat("'", v->name(), "' has ", v->uses().size(),
                                 " uses, nodes read it ", reads[v.get()], " times"));
    }
  }
  for (const Value* out : outputs_) {
    if (!known.contains(out)) return Broken("an output is a stranger");
  }
  Graph copy = Clone();
  return copy.SortTopologically();
}

}  // namespace halftone
