#include "absl/strings/str_format.h"
#include "core/ops/composite.h"
#include "core/passes/portable.h"
#include "tests/unit/passes/pass_testing.h"

namespace halftone {
namespace {

Graph LoadMicrosoft(absl::string_view net, int opset) {
  absl::StatusOr<Graph> graph = ImportText(absl::StrCat(
      "<ir_version: 8, opset_import: [\"\" : ", opset, ", \"com.microsoft\" : 1]> ", net));
  CHECK_OK(graph.status());
  return *std::move(graph);
}

TEST(ExpandComposites, PutsTheBodyInPlaceAndRaisesTheOpset) {
  const Graph before = LoadMicrosoft(
      "net (float[N, 4] x, float[4] b) => (float[N, 4] y) { y = com.microsoft.BiasGelu(x, b) }",
      11);
  const Graph after = RunPass(before, ExpandComposites);
  EXPECT_EQ(OpsOf(after), "Add Gelu");
  EXPECT_EQ(after.opset(), kBodyOpset);
  EXPECT_EQ(after.outputs()[0]->name(), "y");
}

TEST(ExpandComposites, KeepsWhatNeighboursSay) {
  const Graph before = LoadMicrosoft(R"(
      net (float[2, 3, 4] x, float[2, 3, 4] s, float[4] g) => (float[2, 3, 4] z, float[2, 3, 4] t) {
        y, m, d, t = com.microsoft.SkipLayerNormalization(x, s, g)
        z = com.microsoft.SkipLayerNormalization(y, t, g)
      })",
                                     17);
  const Graph after = RunPass(before, ExpandComposites);
  EXPECT_EQ(OpsOf(after), "Add LayerNormalization Add LayerNormalization");
}

TEST(ExpandComposites, RaisesEarlyLayerNormalization) {
  Graph graph = LoadText(
      "net (float[2, 4] x, float[4] g) => (float[2, 4] y) { y = LayerNormalization(x, g) }", 12);
  HT_ASSERT_OK_AND_ASSIGN(const bool changed, ExpandComposites(graph));
  EXPECT_EQ(changed, false);
  EXPECT_GE(graph.opset(), 17);
}

TEST(ExpandComposites, LeavesGraphsWithoutCompositesAlone) {
  Graph graph = LoadText("net (float[2] x) => (float[2] y) { y = Relu(x) }", 12);
  HT_ASSERT_OK_AND_ASSIGN(const bool changed, ExpandComposites(graph));
  EXPECT_EQ(changed, false);
  EXPECT_EQ(graph.opset(), 12);
}

constexpr absl::string_view kConvolution = R"(
    net (uint8[1, 1, 3, 3] x%s) => (uint8[1, 1, 2, 2] y)
    <float s = {0.5}, uint8 z = {3}, int8[1, 1, 2, 2] k = {1, -2, 3, 4}, int8 kz = {0}%s> {
      y = QLinearConv(x, %s, z, k, s, kz, s, z)
    })";

TEST(ExpandComposites, IntegerConvolutionOfConstantsBecomesQdq) {
  Graph graph = LoadText(absl::StrFormat(kConvolution, "", "", "s"), 13);
  HT_ASSERT_OK_AND_ASSIGN(const bool changed, ExpandComposites(graph));
  EXPECT_EQ(changed, true);
  EXPECT_THAT(graph.SortTopologically(), IsOk());
  EXPECT_EQ(OpsOf(graph), "DequantizeLinear DequantizeLinear Conv QuantizeLinear");
}

TEST(ExpandComposites, IntegerConvolutionWithAnyScaleStaysExact) {
  Graph graph = LoadText(absl::StrFormat(kConvolution, ", float scale", "", "scale"), 13);
  HT_ASSERT_OK_AND_ASSIGN(const bool changed, ExpandComposites(graph));
  EXPECT_EQ(changed, false);
  EXPECT_EQ(OpsOf(graph), "QLinearConv");
}

}  // namespace
}  // namespace halftone
