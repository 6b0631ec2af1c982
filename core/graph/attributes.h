// Attributes of a node: a small ordered map from name to value.
#ifndef HALFTONE_CORE_GRAPH_ATTRIBUTES_H_
#define HALFTONE_CORE_GRAPH_ATTRIBUTES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/tensor/tensor.h"

namespace halftone {

class Graph;

// A nested graph (branches of If, body of Loop). Shared because clones of a graph never change it.
using SubgraphPtr = std::shared_ptr<const Graph>;

using Attribute = std::variant<int64_t, float, std::string, Tensor, std::vector<int64_t>,
                               std::vector<float>, std::vector<std::string>, SubgraphPtr>;

class Attributes {
 public:
  Attributes() = default;
  Attributes(std::initializer_list<std::pair<const std::string, Attribute>> items)
      : items_(items) {}

  bool Has(absl::string_view name) const { return items_.find(name) != items_.end(); }
  // The value if present *with this type*, else null.
  template <typename T>
  const T* Find(absl::string_view name) const {
    const auto it = items_.find(name);
    return it == items_.end() ? nullptr : std::get_if<T>(&it->second);
  }
  template <typename T>
  T Get(absl::string_view name, T fallback) const {
    const T* value = Find<T>(name);
    return value != nullptr ? *value : fallback;
  }
  int64_t Int(absl::string_view name, int64_t fallback) const { return Get(name, fallback); }
  float Float(absl::string_view name, float fallback) const { return Get(name, fallback); }
  std::string String(absl::string_view name, std::string fallback) const {
    return Get(name, std::move(fallback));
  }
  std::vector<int64_t> Ints(absl::string_view name, std::vector<int64_t> fallback = {}) const {
    return Get(name, std::move(fallback));
  }

  void Set(std::string name, Attribute value) { items_[std::move(name)] = std::move(value); }
  void Erase(absl::string_view name) {
    if (const auto it = items_.find(name); it != items_.end()) items_.erase(it);
  }
  const std::map<std::string, Attribute, std::less<>>& items() const { return items_; }

 private:
  std::map<std::string, Attribute, std::less<>> items_;  // ordered: dumps and exports are stable
};

}  // namespace halftone

#endif  // HALFTONE_CORE_GRAPH_ATTRIBUTES_H_
