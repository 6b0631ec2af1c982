// Prints docs/operators.md: the operator table and the rules that run it.
#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/exec/lowering.h"
#include "core/ops/infer_util.h"
#include "core/ops/registry.h"

namespace halftone {
namespace {

constexpr absl::string_view kPreamble =
    R"(<!-- Generated: ./dev shell sh -c 'build/release/tests/operator_table > docs/operators.md' -->
# Operators

What the operator table (`core/ops`) and the lowering rules (`core/exec/lower/rules.cc`) say. A line
holds from its first opset up to the next line of the same operator, up to opset 22.

- **Since opset**: where a version begins that older models may differ from.
- **Input 0**: its element types. `floats` are f32 f16 bf16 f64, `ints` i8 to i64 and u8 to u64, `f8`
  the four 8-bit floats, `4-bit` i4 and u4.
- **Runs as**: the rules that are tried, in order; after them, and where there are none, the reference
  evaluation.
- **Quantization**: `compute` multiplies in int8, `elementwise` runs between int8 tensors, `pass` moves
  elements and keeps their scale, `float` stays in float.
- **Tolerance**: how far an implementation may be from the reference, relative to the largest value.
)";

const std::vector<std::pair<absl::string_view, TypeSet>>& NamedSets() {
  static const auto* const kSets = new std::vector<std::pair<absl::string_view, TypeSet>>{
      {"floats", kFloatTypes},          {"ints", kIntTypes},  {"signed ints", kSignedInts},
      {"unsigned ints", kUnsignedInts}, {"f8", kFloat8Types}, {"4-bit", kPackedTypes}};
  return *kSets;
}

std::string TypesText(TypeSet set) {
  if (set == kAllTypes) return "all";
  std::vector<std::string> parts;
  for (const auto& [name, members] : NamedSets()) {
    if ((set & members) != members) continue;
    parts.emplace_back(name);
    set &= ~members;
  }
  for (const DataTypeInfo& info : kDataTypes) {
    if (Contains(set, info.type)) parts.emplace_back(info.name);
  }
  return parts.empty() ? "–" : absl::StrJoin(parts, ", ");
}

std::string RulesText(const OpDef& row) {
  Graph graph("one node");
  const Node* node = graph.AddNode(
      {.op = std::string(row.name), .domain = std::string(row.domain), .outputs = {"y"}});
  std::vector<absl::string_view> names;
  for (const NamedRule& rule : RulesFor(*node)) names.push_back(rule.name);
  return names.empty() ? "reference" : absl::StrJoin(names, ", ");
}

absl::string_view QuantText(QuantBehavior quant) {
  switch (quant) {
    case QuantBehavior::kFloatOnly:
      return "float";
    case QuantBehavior::kPassThrough:
      return "pass";
    case QuantBehavior::kComputeInt8:
      return "compute";
    case QuantBehavior::kElementwiseInt8:
      return "elementwise";
  }
  return "";
}

std::string ToleranceText(const Tolerance& t) {
  return t.relative == 0 && t.absolute == 0 ? "exact" : absl::StrCat(t.relative);
}

// One line per operator, or several where its versions differ in what the line says.
void PrintDomain(absl::string_view domain) {
  std::cout << "\n| Operator | Since opset | Input 0 | Runs as | Quantization | Tolerance |\n"
            << "|---|---|---|---|---|---|\n";
  const absl::Span<const OpDef> rows = AllOps();
  for (size_t i = 0; i < rows.size();) {
    if (rows[i].domain != domain) {
      ++i;
      continue;
    }
    const auto text = [](const OpDef& row) {
      return absl::StrCat(TypesText(row.types), " | ", RulesText(row), " | ", QuantText(row.quant),
                          " | ", ToleranceText(row.tolerance));
    };
    const OpDef& first = rows[i];
    const std::string rest = text(first);
    std::vector<int> versions;
    for (; i < rows.size() && rows[i].name == first.name && rows[i].domain == domain &&
           text(rows[i]) == rest;
         ++i) {
      versions.push_back(rows[i].since_opset);
    }
    std::cout << "| " << first.name << " | " << absl::StrJoin(versions, ", ") << " | " << rest
              << " |\n";
  }
}

void PrintMarkdown() {
  std::cout << kPreamble;
  std::map<absl::string_view, int> domains;
  for (const OpDef& row : AllOps()) ++domains[row.domain];
  for (const auto& [domain, count] : domains) {
    std::cout << "\n## " << (domain.empty() ? "ai.onnx" : domain) << "\n";
    PrintDomain(domain);
  }
}

}  // namespace
}  // namespace halftone

int main() { halftone::PrintMarkdown(); }
