// Every integer format of weights on every kind of layer.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/match.h"
#include "core/passes/quantize_graph.h"
#include "core/passes/weight_narrower.h"
#include "core/quant/error_stats.h"
#include "core/quant/quant_spec.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/weight_layers.h"

namespace halftone {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

QuantSpec Spec(absl::string_view text) {
  absl::StatusOr<QuantSpec> spec = QuantSpec::Parse(text);
  CHECK_OK(spec.status()) << text;
  CHECK_OK(spec->Validate()) << text;
  return *std::move(spec);
}

WeightFormat FormatOf(const Graph& g, const QuantSpec& spec) {
  const Node& node = *g.nodes()[0];
  absl::StatusOr<WeightFormat> f = FormatFor(spec, spec.weights, node, *FindWeightOperand(node));
  CHECK_OK(f.status());
  return *f;
}
const Tensor& WeightsOf(const Graph& g) { return g.nodes()[0]->input(1)->constant(); }

// Steps from the zero point to the largest symmetric code, or from one end to the other.
double StepsOf(const QuantSpec& spec) {
  const double codes = std::ldexp(1.0, BitsOf(spec.weights));
  return spec.scheme == QuantScheme::kAffine ? codes - 1 : codes / 2 - 1;
}

// The scale of every single weight: what the nodes make of the code that is StepsOf from its zero.
Tensor ScalePerWeight(const Tensor& w, const NarrowWeights& narrow, const QuantSpec& spec,
                      const WeightFormat& format) {
  Tensor ones = Tensor::Create(DataType::kF32, w.shape()).value();
  for (float& v : ones.mutable_data<float>()) v = 1;
  NarrowWeights largest = NarrowTheWeights(ones, format).value();
  largest.scale = narrow.scale;
  Tensor out = WidenWeights(largest, format).value().Clone().value();
  for (float& v : out.mutable_data<float>()) v /= static_cast<float>(StepsOf(spec));
  return out;
}

class IntegerFormats : public testing::TestWithParam<WeightLayer> {};

TEST_P(IntegerFormats, WidenToWithinHalfAStep) {
  const Graph g = LayerGraph(GetParam());
  const Tensor& w = WeightsOf(g);
  for (const std::string& text : WeightSpecs()) {
    const QuantSpec spec = Spec(text);
    if (BitsOf(spec.weights) < 4) continue;
    const WeightFormat format = FormatOf(g, spec);
    HT_ASSERT_OK_AND_ASSIGN(const NarrowWeights narrow, NarrowTheWeights(w, format));
    HT_ASSERT_OK_AND_ASSIGN(const Tensor wide, WidenWeights(narrow, format));
    ASSERT_EQ(wide.shape(), w.shape()) << text;
    const Tensor scale = ScalePerWeight(w, narrow, spec, format);
    // An affine zero point is rounded too, which can cost another half step at the ends.
    const double bound = spec.scheme == QuantScheme::kAffine ? 1.0 : 0.5;
    int beyond = 0;
    for (int64_t i = 0; i < w.num_elements(); ++i) {
      const double error = std::abs(wide.data<float>()[i] - w.data<float>()[i]);
      beyond += error > bound * scale.data<float>()[i] * 1.001 + 1e-7;
    }
    EXPECT_EQ(beyond, 0) << text;
  }
}

// What the nodes compute from is itself representable: nothing is lost a second time.
TEST_P(IntegerFormats, QuantizingTwiceChangesNothing) {
  const Graph g = LayerGraph(GetParam());
  const Tensor& w = WeightsOf(g);
  for (const std::string& text : WeightSpecs()) {
    const WeightFormat format = FormatOf(g, Spec(text));
    HT_ASSERT_OK_AND_ASSIGN(const NarrowWeights once, NarrowTheWeights(w, format));
    HT_ASSERT_OK_AND_ASSIGN(const Tensor wide, WidenWeights(once, format));
    HT_ASSERT_OK_AND_ASSIGN(const NarrowWeights twice, NarrowTheWeights(wide, format));
    HT_ASSERT_OK_AND_ASSIGN(const Tensor again, WidenWeights(twice, format));
    for (int64_t i = 0; i < w.num_elements(); ++i) {
      ASSERT_NEAR(again.data<float>()[i], wide.data<float>()[i], 2e-4) << text << " at " << i;
    }
  }
}

TEST_P(IntegerFormats, AGroupOfEverythingIsPerChannel) {
  const Graph g = LayerGraph(GetParam());
  for (const char* type : {"int16", "int8", "uint8", "int4", "uint4", "ternary", "binary"}) {
    const WeightFormat channel = FormatOf(g, Spec(absl::StrCat(type, "/per-channel/weight-only")));
    for (const int64_t more : {0, 1, 1000}) {
      const auto text =
          absl::StrCat(type, "/per-group-", SummedOver(GetParam()) + more, "/weight-only");
      EXPECT_EQ(FormatOf(g, Spec(text)), channel) << text;
    }
    const auto less = absl::StrCat(type, "/per-group-", SummedOver(GetParam()) - 1, "/weight-only");
    EXPECT_NE(FormatOf(g, Spec(less)), channel) << less;
  }
}

// The graph is standard ONNX that computes nearly the same: rows, groups and axes are where they
// belong. What is in the wrong place has nothing in common with the right result.
TEST_P(IntegerFormats, TheQuantizedGraphComputesNearlyTheSame) {
  const Graph fp32 = LayerGraph(GetParam());
  const std::vector<Tensor> x = {RandomF32(GetParam().x, 3, -1, 1)};
  HT_ASSERT_OK_AND_ASSIGN(const auto want, EvaluateGraph(fp32, x));
  for (const std::string& text : WeightSpecs()) {
    const QuantSpec spec = Spec(text);
    Graph g = fp32.Clone();
    HT_ASSERT_OK(PrepareForQuantization(g, spec));
    HT_ASSERT_OK_AND_ASSIGN(const auto choices, QuantizeGraph(g, spec, {}));
    ASSERT_EQ(choices[0].format.type, spec.weights) << text << ": " << choices[0].reason;
    HT_ASSERT_OK(InferShapes(g));
    HT_ASSERT_OK_AND_ASSIGN(const auto got, EvaluateGraph(g, x));
    ErrorStats stats;
    stats.Add(want[0].data<float>(), got[0].data<float>());
    const int bits = BitsOf(spec.weights);
    const double least = bits == 16 ? 75 : bits == 8 ? 30 : bits == 4 ? 8 : bits == 2 ? 3 : 1.5;
    EXPECT_GE(stats.sqnr_db(), least) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Layers, IntegerFormats, testing::ValuesIn(WeightLayers()),
                         [](const auto& info) { return info.param.name; });

TEST(IntegerFormats, AreMonotone) {
  Graph g = LayerGraph({"m", "MatMul", {1, 500}, {500, 1}});
  const Tensor& w = WeightsOf(g);
  std::vector<int> order(500);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return w.data<float>()[a] < w.data<float>()[b]; });
  for (const std::string& text : WeightSpecs()) {
    if (!absl::StrContains(text, "per-tensor")) continue;
    const WeightFormat format = FormatOf(g, Spec(text));
    HT_ASSERT_OK_AND_ASSIGN(const NarrowWeights narrow, NarrowTheWeights(w, format));
    HT_ASSERT_OK_AND_ASSIGN(const Tensor wide, WidenWeights(narrow, format));
    for (size_t i = 1; i < order.size(); ++i) {
      ASSERT_LE(wide.data<float>()[order[i - 1]], wide.data<float>()[order[i]]) << text;
    }
  }
}

TEST(IntegerFormats, SymmetricSignedGroupsStoreNoZeroPoint) {
  const Graph g = LayerGraph({"m", "MatMul", {1, 64}, {64, 8}});
  for (const auto& [text, stored] : std::vector<std::pair<std::string, bool>>{
           {"int4/per-group-32/weight-only", false},
           {"int8/per-group-32/weight-only", false},
           {"int16/per-channel/weight-only", false},
           {"ternary/per-channel/weight-only", false},
           {"int4/per-group-32/weight-only/affine", true},
           {"uint4/per-group-32/weight-only/symmetric", true}}) {
    HT_ASSERT_OK_AND_ASSIGN(const NarrowWeights narrow,
                            NarrowTheWeights(WeightsOf(g), FormatOf(g, Spec(text))));
    EXPECT_EQ(narrow.has_zero_point(), stored) << text;
  }
}

TEST(IntegerFormats, TakeTheBytesThatTheirBitsPromise) {
  for (const WeightLayer& layer :
       {WeightLayer{"Bert", "MatMul", {1, 768}, {768, 3072}},
        WeightLayer{"ResNet", "Conv", {1, 256, 14, 14}, {256, 256, 3, 3}}}) {
    const Graph g = LayerGraph(layer);
    const Tensor& w = WeightsOf(g);
    for (const auto& [text, share] :
         std::vector<std::pair<std::string, double>>{{"int16/per-channel/weight-only", 0.51},
                                                     {"int8/per-channel/weight-only", 0.27},
                                                     {"uint8/per-channel/weight-only", 0.27},
                                                     {"int4/per-group-32/weight-only", 0.17},
                                                     {"int4/per-group-128/weight-only", 0.14},
                                                     {"ternary/per-channel/weight-only", 0.08},
                                                     {"binary/per-channel/weight-only", 0.05}}) {
      HT_ASSERT_OK_AND_ASSIGN(const NarrowWeights narrow,
                              NarrowTheWeights(w, FormatOf(g, Spec(text))));
      EXPECT_LE(static_cast<double>(narrow.bytes()), share * static_cast<double>(w.num_bytes()))
          << layer.name << " " << text;
    }
  }
}

TEST(IntegerFormats, AnAxisThatWeightsLackIsAReason) {
  const Graph g = LayerGraph({"m", "MatMul", {1, 64}, {64, 8}});
  const QuantSpec spec = Spec("int8/per-channel-axis-2/weight-only");
  const auto choices = ChooseNodes(g, spec, {});
  EXPECT_EQ(choices[0].format.type, WeightType::kF32);
  EXPECT_THAT(choices[0].reason, HasSubstr("rank 2, the spec wants scales along axis 2"));
}

TEST(IntegerFormats, ConvolutionsAreGroupedOverChannelsAndTaps) {
  const Graph g = LayerGraph({"c", "Conv", {1, 8, 4, 4}, {2, 8, 3, 3}});
  const WeightFormat format = FormatOf(g, Spec("int4/per-group-32/weight-only"));
  EXPECT_EQ(StoredShape(WeightsOf(g).shape(), format), Shape({2, 72}));
  HT_ASSERT_OK_AND_ASSIGN(const NarrowWeights narrow, NarrowTheWeights(WeightsOf(g), format));
  EXPECT_EQ(narrow.scale.shape(), Shape({2, 3}));
}

TEST(IntegerFormats, UnsignedSymmetricLiesAroundTheMiddle) {
  const Graph g = LayerGraph({"m", "MatMul", {1, 64}, {64, 8}});
  const WeightFormat format = FormatOf(g, Spec("uint8/per-tensor/weight-only/symmetric"));
  HT_ASSERT_OK_AND_ASSIGN(const NarrowWeights narrow, NarrowTheWeights(WeightsOf(g), format));
  EXPECT_THAT(narrow.zero_point.data<uint8_t>(), ElementsAreArray({128}));
  for (const uint8_t q : narrow.stored.data<uint8_t>()) EXPECT_GE(q, 1);
}

}  // namespace
}  // namespace halftone
