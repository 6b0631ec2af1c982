// Follows "A new operator in twenty lines" of docs/architecture.md to the letter.
#include <gmock/gmock.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/infer_util.h"
#include "tests/unit/ops/ops_testing.h"

namespace halftone {
namespace {

absl::Status EvalHalve(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  return DispatchFloat(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    const auto x = c.input(0).data<T>();
    const auto y = out->mutable_data<T>();
    for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] / 2;
  });
}
constexpr OpDef kHalve = {.name = "Halve",
                          .since_opset = 7,
                          .infer = InferLikeInput,
                          .eval = Widened<EvalHalve>,
                          .types = kFloatTypes};

// clang-format off
const NodeCase kCase =
NodeCase{"Halves", "Halve", 17, {}, {F({2}, {3, -4})}, {F({2}, {1.5f, -2})}}
;
// clang-format on

// The table is closed, so what EvaluateNode does with a row happens here.
absl::StatusOr<std::vector<Tensor>> EvaluateRow(const OpDef& row, const NodeCase& c) {
  const Graph graph = GraphOf(c, 1);
  const Node& node = *graph.nodes()[0];
  const std::vector<const Value*> inputs(node.inputs().begin(), node.inputs().end());
  InferContext infer(node, c.opset, inputs);
  HT_RETURN_IF_ERROR(CheckType(infer, 0, row.types));
  HT_RETURN_IF_ERROR(row.infer(infer));
  EvalContext eval(node, c.opset, std::vector<const Tensor*>{&c.inputs[0]}, infer.outputs());
  HT_RETURN_IF_ERROR(row.eval(eval));
  return std::move(eval.outputs());
}

TEST(Recipe, GivesARunningOperator) {
  HT_ASSERT_OK_AND_ASSIGN(const auto got, EvaluateRow(kHalve, kCase));
  ExpectSame(got[0], kCase.outputs[0], 0);
  NodeCase half = kCase;
  HT_ASSERT_OK_AND_ASSIGN(half.inputs[0], Convert(kCase.inputs[0], DataType::kBF16));
  HT_ASSERT_OK_AND_ASSIGN(const auto rounded, EvaluateRow(kHalve, half));
  EXPECT_EQ(rounded[0].type(), DataType::kBF16);
  half.inputs[0] = I({2}, {3, -4});
  EXPECT_THAT(EvaluateRow(kHalve, half), StatusIs(absl::StatusCode::kInvalidArgument));
}

std::string ReadFile(const char* path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// Without indentation, which differs between a list item and a file.
std::string Flat(absl::string_view text) {
  std::string out;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    absl::StrAppend(&out, absl::StripAsciiWhitespace(line), "\n");
  }
  return out;
}

TEST(Recipe, IsTheOneInTheDocument) {
  const std::string document = ReadFile("docs/architecture.md");
  const size_t start = document.find("## A new operator in twenty lines");
  ASSERT_NE(start, std::string::npos);
  const std::string recipe = document.substr(start, document.find("\n## ", start) - start);
  const std::vector<std::string> parts = absl::StrSplit(recipe, "```");
  ASSERT_GE(parts.size(), 5u);
  const std::string here = Flat(ReadFile("tests/unit/ops/recipe_test.cc"));
  for (size_t i = 1; i < parts.size(); i += 2) {
    const std::string code = Flat(absl::StripAsciiWhitespace(parts[i].substr(parts[i].find('\n'))));
    EXPECT_THAT(here, testing::HasSubstr(code));
  }
}

}  // namespace
}  // namespace halftone
