// Graph::Dump: text for people and golden files.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/graph/graph.h"

namespace halftone {
namespace {

std::string ToText(const Attribute& attribute) {
  struct Printer {
    std::string operator()(int64_t v) const { return absl::StrCat(v); }
    std::string operator()(float v) const { return absl::StrCat(v); }
    std::string operator()(const std::string& v) const { return absl::StrCat("\"", v, "\""); }
    std::string operator()(const Tensor& v) const { return v.ToString(4); }
    std::string operator()(const std::vector<int64_t>& v) const {
      return absl::StrCat("[", absl::StrJoin(v, ","), "]");
    }
    std::string operator()(const std::vector<float>& v) const {
      return absl::StrCat("[", absl::StrJoin(v, ","), "]");
    }
    std::string operator()(const std::vector<std::string>& v) const {
      return absl::StrCat("[", absl::StrJoin(v, ","), "]");
    }
    std::string operator()(const SubgraphPtr& v) const {
      return absl::StrCat("graph(", v->nodes().size(), " nodes)");
    }
  };
  return std::visit(Printer{}, attribute);
}

std::string Typed(const Value* v) {
  return v == nullptr ? "-" : absl::StrCat(v->name(), ":", ToString(v->type()));
}

}  // namespace

std::string Graph::Dump() const {
  const auto typed = [](std::string* out, const Value* v) { absl::StrAppend(out, Typed(v)); };
  std::string out = absl::StrCat("graph ", name_, "(", absl::StrJoin(inputs_, ", ", typed),
                                 ") -> (", absl::StrJoin(outputs_, ", ", typed), ")\n");
  for (const Node* node : node_order_) {
    absl::StrAppend(&out, "  ", absl::StrJoin(node->outputs(), ", ", typed), " = ", node->domain(),
                    node->domain().empty() ? "" : ".", node->op(), "(",
                    absl::StrJoin(node->inputs(), ", ",
                                  [](std::string* o, const Value* v) {
                                    absl::StrAppend(o, v == nullptr ? "-" : v->name(),
                                                    v != nullptr && v->is_constant()
                                                        ? ":" + v->constant().ToString(0)
                                                        : "");
                                  }),
                    ")");
    if (!node->attributes().items().empty()) {
      absl::StrAppend(&out, " {",
                      absl::StrJoin(node->attributes().items(), ", ",
                                    [](std::string* o, const auto& item) {
                                      absl::StrAppend(o, item.first, "=", ToText(item.second));
                                    }),
                      "}");
    }
    absl::StrAppend(&out, "  # ", node->name(), "\n");
  }
  return out;
}

}  // namespace halftone
