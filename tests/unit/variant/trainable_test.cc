#include "core/variant/trainable.h"

#include <gmock/gmock.h>

#include "core/ops/evaluate.h"
#include "core/passes/pass.h"
#include "core/variant/build_variant.h"
#include "tests/testing/status_matchers.h"
#include "tests/unit/variant/variant_test_util.h"

namespace halftone {
namespace {

using ::testing::AnyOf;

absl::StatusOr<Graph> Quantized(const Graph& fp32, const std::string& spec,
                                CpuFeatures features = {.vnni = true}) {
  const SampleSet samples = RealSamples(4);
  absl::StatusOr<BuiltVariant> built =
      BuildVariant(fp32, QuantSpec::Parse(spec).value(),
                   {.features = features, .samples = &samples, .runner = ReferenceRunner()});
  if (!built.ok()) return built.status();
  return std::move(built->graph);
}

std::vector<Tensor> Answer(const Graph& graph) {
  return EvaluateGraph(graph, RealSamples(1).samples[0]).value();
}

TEST(MakeTrainable, AnswersLikeTheVariantWithTheWeightsOfTheModel) {
  const Graph fp32 = ClassifierNet();
  for (const char* spec :
       {"int8/per-channel/static", "int8/per-tensor/static", "int8/per-channel/dynamic",
        "int8/per-channel/weight-only", "int8/per-channel/weight-only/affine", "int4", "uint8",
        "int8/per-group-32/weight-only", "int16", "ternary", "ternary/per-group-32"}) {
    for (const bool vnni : {true, false}) {
      SCOPED_TRACE(spec);
      HT_ASSERT_OK_AND_ASSIGN(const Graph variant, Quantized(fp32, spec, {.vnni = vnni}));
      HT_ASSERT_OK_AND_ASSIGN(const Graph trainable, MakeTrainable(fp32, variant));
      EXPECT_EQ(Answer(trainable)[0].ToString(1000), Answer(variant)[0].ToString(1000));
      // All weights and scales are floats that training may move, weights those of the model.
      int weights = 0;
      for (const Node* node : trainable.nodes()) {
        if (node->op() != "QuantizeLinear" || !node->input(0)->is_constant()) continue;
        ++weights;
        EXPECT_EQ(node->input(0)->constant().type(), DataType::kF32);
        EXPECT_EQ(node->input(1)->constant().type(), DataType::kF32);
        const Tensor& got = node->input(0)->constant();
        EXPECT_THAT(got.ToString(10000), AnyOf(fp32.FindValue("w1")->constant().ToString(10000),
                                               fp32.FindValue("w2")->constant().ToString(10000)));
        const Node* dequantize = node->output(0)->uses()[0];
        if (dequantize->op() == "Clip") dequantize = dequantize->output(0)->uses()[0];
        EXPECT_EQ(dequantize->input(1), node->input(1)) << "one scale for both";
        EXPECT_EQ(dequantize->input(2), node->input(2)) << "one zero point for both";
      }
      EXPECT_EQ(weights, 2);
    }
  }
}

// One bit is a sign; folded again after training, the codes are one bit again.
TEST(MakeTrainable, BinaryWeightsAreSignsOfTheModelsWeights) {
  const Graph fp32 = ClassifierNet();
  for (const char* spec : {"binary", "ternary"}) {
    HT_ASSERT_OK_AND_ASSIGN(const Graph variant, Quantized(fp32, spec));
    HT_ASSERT_OK_AND_ASSIGN(Graph trainable, MakeTrainable(fp32, variant));
    EXPECT_EQ(Answer(trainable)[0].ToString(1000), Answer(variant)[0].ToString(1000)) << spec;
    EXPECT_EQ(trainable.FindValue("w2_dequantized_weights")->constant().ToString(10000),
              fp32.FindValue("w2")->constant().ToString(10000))
        << spec;
    HT_ASSERT_OK(InferShapes(trainable));
    HT_ASSERT_OK(RunPasses(trainable, PortablePasses()));
    EXPECT_EQ(Answer(trainable)[0].ToString(1000), Answer(variant)[0].ToString(1000)) << spec;
  }
}

// What a technique rounded elsewhere keeps its integer: the float is then the integer's own value.
TEST(MakeTrainable, KeepsIntegersThatRoundingWouldNotGive) {
  const Graph fp32 = ClassifierNet();
  HT_ASSERT_OK_AND_ASSIGN(Graph variant, Quantized(fp32, "int8/per-tensor/static"));
  Value* stored = variant.FindValue("w2_quantized");
  HT_ASSERT_OK_AND_ASSIGN(Tensor moved, stored->constant().Clone());
  const int8_t was = moved.data<int8_t>()[7];
  moved.mutable_data<int8_t>()[7] = static_cast<int8_t>(was > 0 ? was - 3 : was + 3);
  variant.SetConstant(stored, moved);
  HT_ASSERT_OK_AND_ASSIGN(const Graph trainable, MakeTrainable(fp32, variant));
  EXPECT_EQ(Answer(trainable)[0].ToString(1000), Answer(variant)[0].ToString(1000));
  const Tensor& weights = trainable.FindValue("w2_dequantized_weights")->constant();
  const Tensor& scale = trainable.FindValue("w2_scale")->constant();
  const Tensor& original = fp32.FindValue("w2")->constant();
  EXPECT_EQ(weights.data<float>()[7], moved.data<int8_t>()[7] * scale.data<float>()[0]);
  EXPECT_EQ(weights.data<float>()[8], original.data<float>()[8]);
}

// A model that was quantized elsewhere has no fp32 weights: its integers' values stand for them.
TEST(MakeTrainable, TakesModelsThatOthersQuantized) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph variant,
                          Quantized(ClassifierNet(), "int8/per-channel/static"));
  HT_ASSERT_OK_AND_ASSIGN(const Graph trainable, MakeTrainable(variant, variant));
  EXPECT_EQ(Answer(trainable)[0].ToString(1000), Answer(variant)[0].ToString(1000));
  EXPECT_TRUE(trainable.FindValue("w1_dequantized_weights")->is_constant());
}

TEST(MakeTrainable, RefusesWhatHasNoIntegers) {
  const Graph fp32 = ClassifierNet();
  HT_ASSERT_OK_AND_ASSIGN(const Graph other, Quantized(fp32, "fp16"));
  EXPECT_THAT(MakeTrainable(fp32, other), StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace halftone
