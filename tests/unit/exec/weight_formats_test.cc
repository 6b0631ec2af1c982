// Integer weights of every format on every kind of layer: a plan computes what the reference does,
// and keeps no more bytes than the bits promise.
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "core/passes/quantize_graph.h"
#include "core/quant/quant_spec.h"
#include "tests/testing/weight_layers.h"
#include "tests/unit/exec/lowering_util.h"

namespace halftone {
namespace {

Graph Quantized(const Graph& fp32, absl::string_view text) {
  const absl::StatusOr<QuantSpec> spec = QuantSpec::Parse(text);
  CHECK_OK(spec.status());
  Graph g = fp32.Clone();
  CHECK_OK(PrepareForQuantization(g, *spec));
  CHECK_OK(QuantizeGraph(g, *spec, {}).status()) << text;
  CHECK_OK(InferShapes(g, {.fold_elements = 0}));
  return g;
}

class WeightFormats : public testing::TestWithParam<WeightLayer> {};

TEST_P(WeightFormats, PlansComputeWhatTheReferenceDoes) {
  const WeightLayer& layer = GetParam();
  const bool matrix = IsMatrixLayer(layer);
  const Graph fp32 = LayerGraph(layer, /*with_tail=*/true);
  const std::vector<Tensor> x = {RandomF32(layer.x, 3)};
  for (const std::string& text : WeightSpecs()) {
    // The passes have these; for a plan they are like another group, or like per channel.
    if (absl::StrContains(text, "per-group-16/") || absl::StrContains(text, "per-group-4096")) {
      continue;
    }
    const Outcome o = Compare(Quantized(fp32, text), x, kAccumulate);
    EXPECT_LE(o.disagreement, 1) << text << "\n" << Steps(o);
    EXPECT_TRUE(Uses(o, matrix               ? "matmul"
                        : layer.op == "Conv" ? "conv"
                                             : "conv_transpose"))
        << text << "\n"
        << Steps(o);
    EXPECT_FALSE(Uses(o, "reference")) << text << "\n" << Steps(o);
  }
}

INSTANTIATE_TEST_SUITE_P(Layers, WeightFormats, testing::ValuesIn(WeightLayers()),
                         [](const auto& info) { return info.param.name; });

struct ResidentCase {
  std::string spec;
  double share;
};

// As if the variant were mapped from its file: what a plan itself keeps.
TEST(WeightFormats, PlansKeepTheBytesThatTheBitsPromise) {
  for (const WeightLayer& layer :
       {WeightLayer{"Matrix", "MatMul", {1, 768}, {768, 768}},
        WeightLayer{"Conv",
                    "Conv",
                    {1, 128, 7, 7},
                    {128, 128, 3, 3},
                    {{"pads", std::vector<int64_t>{1, 1, 1, 1}}}},
        WeightLayer{"Pointwise", "Conv", {1, 256, 7, 7}, {256, 256, 1, 1}}}) {
    const Graph fp32 = LayerGraph(layer);
    const double fp32_bytes = 4.0 * static_cast<double>(ElementCount(layer.w));
    for (const ResidentCase& c :
         {ResidentCase{"fp16", 0.57}, ResidentCase{"bf16", 0.57}, ResidentCase{"int16", 0.51},
          ResidentCase{"int8/per-channel/weight-only", 0.27}, ResidentCase{"uint8", 0.27},
          ResidentCase{"int4", 0.17}, ResidentCase{"ternary", 0.08},
          ResidentCase{"binary", 0.05}}) {
      HT_ASSERT_OK_AND_ASSIGN(const auto plan,
                              Plan::Create(Quantized(fp32, c.spec), {.max_widened_bytes = 0}));
      Context context(plan);
      HT_ASSERT_OK(context.Run({RandomF32(layer.x, 1)}).status());
      const double share = static_cast<double>(plan->memory().packed_bytes) / fp32_bytes;
      EXPECT_LE(share, c.share) << layer.name << " " << c.spec;
      EXPECT_GT(share, 0) << layer.name << " " << c.spec << ": nothing was packed";
    }
  }
}

// Weights of 16 bits that together are nothing beside a run's own memory run like f32 ones; the
// plan says so, and counts what it keeps. bf16 as on a CPU that does not compute in it.
TEST(WeightFormats, FewHalfWeightsAreWidenedOnce) {
  CpuFeatures features = DetectCpuFeatures();
  features.bf16 = false;
  for (const WeightLayer& layer :
       {WeightLayer{"Small", "MatMul", {1, 512}, {512, 1024}},
        WeightLayer{"Large", "MatMul", {1, 512}, {512, 1088}},
        WeightLayer{"Conv", "Conv", {1, 64, 7, 7}, {64, 64, 3, 3}},
        WeightLayer{"Pointwise", "Conv", {1, 256, 7, 7}, {256, 256, 1, 1}}}) {
    for (const std::string spec : {"fp16", "bf16"}) {
      const bool widened = layer.name != "Large";
      const Outcome o = Compare(Quantized(LayerGraph(layer), spec), {RandomF32(layer.x, 1)},
                                kAccumulate, {.features = features});
      EXPECT_LE(o.disagreement, 1) << layer.name << "\n" << Steps(o);
      const auto step = std::find_if(o.steps.begin(), o.steps.end(),
                                     [&](const StepInfo& s) { return s.op == layer.op; });
      ASSERT_NE(step, o.steps.end()) << Steps(o);
      EXPECT_EQ(step->detail, widened ? "weights widened once" : "") << layer.name;
      EXPECT_EQ(step->precision,
                (spec == "fp16" ? "f16" : "bf16") + std::string(" weights, f32 compute"));
      // Blocks of 24 channels, which CPUs without AVX-512 like, are padded.
      const double share = static_cast<double>(o.packed_bytes) / (4.0 * ElementCount(layer.w));
      EXPECT_NEAR(share, widened ? 1.0 : 0.5, 0.1) << layer.name;
    }
  }
}

TEST(WeightFormats, AFewRowsAreMultipliedPacked) {
  for (const int64_t rows : {1, 4, 7, 16, 17}) {
    const Graph fp32 = LayerGraph({"m", "MatMul", {rows, 256}, {256, 64}});
    const Outcome o = Compare(Quantized(fp32, "int4"), {RandomF32({rows, 256}, 1)}, kAccumulate);
    EXPECT_LE(o.disagreement, 1);
    EXPECT_EQ(o.steps[0].implementation == "gemv", rows <= 16) << Steps(o);
    EXPECT_EQ(o.steps[0].precision, "i4 weights, f32 compute");
  }
}

}  // namespace
}  // namespace halftone
