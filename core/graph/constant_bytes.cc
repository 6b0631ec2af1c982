#include "core/graph/constant_bytes.h"

#include <variant>
#include <vector>

namespace halftone {

int64_t ConstantBytes(const Graph& graph, int of_width) {
  int64_t bytes = 0;
  std::vector<const Graph*> work = {&graph};
  while (!work.empty()) {
    const Graph* g = work.back();
    work.pop_back();
    for (const Value* v : g->values()) {
      if (!v->is_constant()) continue;
      const DataType type = v->constant().type();
      if (of_width > 0 && (!IsFloat(type) || BitWidth(type) != of_width)) continue;
      bytes += v->constant().num_bytes();
    }
    for (const Node* node : g->nodes()) {
      for (const auto& [name, attribute] : node->attributes().items()) {
        const SubgraphPtr* nested = std::get_if<SubgraphPtr>(&attribute);
        if (nested != nullptr && *nested != nullptr) work.push_back(nested->get());
      }
    }
  }
  return bytes;
}

}  // namespace halftone
