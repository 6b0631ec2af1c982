#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/ops/evaluate.h"
#include "core/ops/random.h"
#include "core/passes/portable.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

absl::string_view BytesOf(const Tensor& t) {
  return absl::string_view(reinterpret_cast<const char*>(t.raw()),
                           static_cast<size_t>(t.num_bytes()));
}

size_t HashOf(const Tensor& t) {
  return absl::HashOf(static_cast<int>(t.type()), t.shape(), BytesOf(t));
}

bool Equal(const Tensor& a, const Tensor& b) {
  return a.type() == b.type() && a.shape() == b.shape() && BytesOf(a) == BytesOf(b);
}

bool MergeConstants(Graph& graph) {
  bool changed = false;
  absl::flat_hash_map<size_t, std::vector<Value*>> by_hash;
  for (Value* v : graph.values()) {
    if (!v->is_constant() || v->is_output()) continue;
    std::vector<Value*>& same_hash = by_hash[HashOf(v->constant())];
    Value* twin = nullptr;
    for (Value* other : same_hash) {
      if (Equal(other->constant(), v->constant())) twin = other;
    }
    if (twin == nullptr) {
      same_hash.push_back(v);
    } else if (!v->uses().empty()) {
      graph.ReplaceUses(v, twin);
      changed = true;
    }
  }
  return changed;
}

// Equal texts mean equal attributes: lengths and bits are written, not rounded numbers.
struct KeyWriter {
  std::string& out;
  void operator()(int64_t v) const { absl::StrAppend(&out, "i", v); }
  void operator()(float v) const { absl::StrAppend(&out, "f", absl::bit_cast<uint32_t>(v)); }
  void operator()(const std::string& v) const { absl::StrAppend(&out, "s", v.size(), ":", v); }
  void operator()(const Tensor& v) const {
    absl::StrAppend(&out, "t", Name(v.type()), ToString(v.shape()), BytesOf(v));
  }
  template <typename T>
  void operator()(const std::vector<T>& v) const {
    absl::StrAppend(&out, "[", v.size(), ":");
    for (const T& item : v) {
      (*this)(item);
      out += ',';
    }
  }
  void operator()(const SubgraphPtr&) const {}  // such nodes are never merged
};

std::string KeyOf(const Node& node) {
  std::string key = absl::StrCat(node.domain(), ".", node.op(), "(");
  for (const Value* in : node.inputs()) {
    absl::StrAppend(&key, reinterpret_cast<uintptr_t>(in), ",");
  }
  absl::StrAppend(&key, ")");
  for (const Value* out : node.outputs()) absl::StrAppend(&key, out != nullptr ? "1" : "0");
  for (const auto& [name, value] : node.attributes().items()) {
    absl::StrAppend(&key, ";", name, "=");
    std::visit(KeyWriter{key}, value);
  }
  return key;
}

bool Replace(Graph& graph, const Node& duplicate, const Node& original) {
  for (size_t i = 0; i < duplicate.outputs().size(); ++i) {
    const Value* from = duplicate.outputs()[i];
    if (from != nullptr && !CanReplace(from, original.outputs()[i])) return false;
  }
  bool changed = false;
  for (size_t i = 0; i < duplicate.outputs().size(); ++i) {
    Value* from = duplicate.outputs()[i];
    if (from == nullptr || (from->uses().empty() && !from->is_output())) continue;
    Value* to = original.outputs()[i];
    // A rank that the file says of one of them holds for both.
    if (!to->type().shape) to->set_type(from->type());
    graph.ReplaceUsesKeepingName(from, to);
    changed = true;
  }
  return changed;
}

bool MergeNodes(Graph& graph) {
  bool changed = false;
  absl::flat_hash_map<std::string, Node*> seen;
  const std::vector<Node*> nodes = graph.nodes();
  for (Node* node : nodes) {
    if (IsRandom(*node) || IsQuantization(*node) || HasSubgraph(*node)) continue;
    const auto [it, inserted] = seen.emplace(KeyOf(*node), node);
    if (!inserted) changed |= Replace(graph, *node, *it->second);
  }
  return changed;
}

}  // namespace

absl::StatusOr<bool> Deduplicate(Graph& graph) {
  HT_RETURN_IF_ERROR(graph.SortTopologically());  // so that one sweep merges whole chains
  bool changed = MergeConstants(graph);
  changed |= MergeNodes(graph);
  if (changed) graph.RemoveUnused();
  return changed;
}

}  // namespace halftone
