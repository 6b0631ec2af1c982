#include "core/variant/build_variant.h"

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "absl/log/check.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/status_macros.h"
#include "core/graph/graph.h"
#include "core/passes/single_precision.h"
#include "core/quant/error_stats.h"
#include "core/variant/timing.h"
#include "tests/testing/status_matchers.h"
#include "tests/unit/variant/variant_test_util.h"

namespace halftone {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr CpuFeatures kVnni = {.avx2 = true, .avx512 = true, .vnni = true};
constexpr CpuFeatures kNoVnni = {.avx2 = true};

QuantSpec Spec(const std::string& text) { return QuantSpec::Parse(text).value(); }

absl::StatusOr<BuiltVariant> Build(const Graph& graph, const std::string& spec,
                                   const SampleSet* samples, CpuFeatures features = kVnni) {
  return BuildVariant(graph, Spec(spec),
                      {.features = features, .samples = samples, .runner = ReferenceRunner()});
}

TEST(ResolveSpec, AutoIsStaticWithSamplesAndDynamicWithout) {
  EXPECT_EQ(ResolveSpec(Spec("int8"), true).ToString(), "int8/per-channel/static");
  EXPECT_EQ(ResolveSpec(Spec("int8"), false).ToString(), "int8/per-channel/dynamic");
  EXPECT_EQ(ResolveSpec(Spec("fp16"), true).ToString(), "fp16");
}

TEST(BuildVariant, ReportsWhatItMeasured) {
  const Graph fp32 = ClassifierNet();
  const SampleSet samples = RealSamples(20);
  HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant built, Build(fp32, "int8", &samples));
  const VariantReport& r = built.report;
  EXPECT_EQ(r.spec, "int8/per-channel/static");
  EXPECT_EQ(r.isa_class, "avx512-vnni");
  EXPECT_EQ(r.sample_source, "calibration set 'real' (20 samples)");
  EXPECT_EQ(r.sample_count, 20);
  EXPECT_GT(r.sqnr_db, 25);
  EXPECT_LT(r.sqnr_db, 60);
  EXPECT_GE(r.top1_agreement, 0.9);
  EXPECT_GT(r.max_abs_error, 0);
  EXPECT_EQ(r.fp32_weight_bytes, 4 * (8 * 27 + 128 * 10));
  EXPECT_LT(r.weight_bytes, r.fp32_weight_bytes / 3);
  EXPECT_GT(r.latency_seconds, 0);
  EXPECT_DOUBLE_EQ(r.speedup, r.fp32_latency_seconds / r.latency_seconds);
  ASSERT_EQ(r.layers.size(), 2u);
  EXPECT_EQ(r.layers[0].node, "n_c1");
  EXPECT_EQ(r.layers[0].precision, "int8");
  for (const LayerReport& l : r.layers) {
    EXPECT_GT(l.sqnr_db, 25) << l.node;
    EXPECT_LT(l.sqnr_db, kMaxSqnrDb) << l.node;
  }
  ASSERT_EQ(r.coverage.size(), 2u);
  EXPECT_EQ(r.coverage[0].op, "Conv");
  EXPECT_EQ(r.coverage[0].quantized, 1);
}

TEST(BuildVariant, TheSqnrInTheReportIsThatOfTheGraph) {
  const Graph fp32 = ClassifierNet();
  const SampleSet samples = RealSamples(5);
  HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant built, Build(fp32, "fp16", &samples));
  ErrorStats stats;
  for (const auto& sample : samples.samples) {
    stats.Add(EvaluateGraph(fp32, sample).value()[0].data<float>(),
              EvaluateGraph(built.graph, sample).value()[0].data<float>());
  }
  EXPECT_DOUBLE_EQ(built.report.sqnr_db, stats.sqnr_db());
  EXPECT_GT(stats.sqnr_db(), 60);
}

TEST(BuildVariant, StaticWithoutSamplesIsRefused) {
  EXPECT_THAT(Build(ClassifierNet(), "int8/per-channel/static", nullptr),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("calibration samples")));
}

TEST(BuildVariant, Fp32IsNotAVariantToBuild) {
  EXPECT_THAT(Build(ClassifierNet(), "fp32", nullptr),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("the spec says fp32")));
}

TEST(BuildVariant, WithoutSamplesItSaysThatTheyWereGenerated) {
  HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant built, Build(ClassifierNet(), "bf16", nullptr));
  EXPECT_THAT(built.report.sample_source, StartsWith("GENERATED samples (8)"));
  EXPECT_THAT(built.report.warnings, Contains(HasSubstr("GENERATED")));
  EXPECT_GT(built.report.sqnr_db, 40);
}

TEST(BuildVariant, AModelThatRefusesGeneratedInputsIsBuiltAllTheSame) {
  GraphMaker m;
  Value* ids = m.graph().AddInput("ids", {DataType::kI64, Dims{1, 3}});
  // Generated indices go up to 3, this table has one row.
  Value* e = m.Node("Gather", "e", {m.Constant("table", RandomTensor({1, 4}, 1)), ids}, {1, 3, 4});
  m.Output(m.Node("MatMul", "y", {e, m.Constant("w", RandomTensor({4, 2}, 1))}, {1, 3, 2}));
  HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant built, Build(m.graph(), "fp16", nullptr));
  EXPECT_EQ(built.report.sample_count, 0);
  EXPECT_THAT(built.report.warnings, Contains(StartsWith("not compared with fp32")));
}

TEST(BuildVariant, ALossIsFlaggedAndNamesTheLayers) {
  GraphMaker m;
  Value* x = m.Input("x", {1, 3, 4, 4});
  Value* bad = m.Conv("bad", x, 3, 8);
  Tensor w = m.graph().FindValue("bad_w")->constant();
  // One huge channel ruins a per-tensor scale for the others.
  w.mutable_data<float>()[0] = 3000;
  Value* pick = m.Constant("pick_w", [] {
    Tensor t = RandomTensor({2, 8, 1, 1}, 9);
    t.mutable_data<float>()[0] = t.mutable_data<float>()[8] = 0;
    return t;
  }());
  m.Output(m.Node("Conv", "y", {bad, pick}, {1, 2, 4, 4}));
  const SampleSet samples = RealSamples(4);
  HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant built,
                          Build(m.graph(), "int8/per-tensor/weight-only", &samples));
  EXPECT_LT(built.report.sqnr_db, 20);
  EXPECT_THAT(built.report.warnings,
              Contains(AllOf(HasSubstr("output 'y': SQNR"), HasSubstr("n_y ("))));
}

TEST(BuildVariant, WithoutVnniWeightsUse7BitsAndTheReportSaysSo) {
  const SampleSet samples = RealSamples(4);
  HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant built,
                          Build(ClassifierNet(), "int8", &samples, kNoVnni));
  EXPECT_EQ(built.report.isa_class, "avx2");
  EXPECT_THAT(built.report.warnings, Contains(HasSubstr("no VNNI")));
  for (const int8_t q : built.graph.FindValue("w1_quantized")->constant().data<int8_t>()) {
    EXPECT_LE(std::abs(int{q}), 63);
  }
  HT_ASSERT_OK_AND_ASSIGN(
      const BuiltVariant weights,
      Build(ClassifierNet(), "int8/per-channel/weight-only", &samples, kNoVnni));
  EXPECT_THAT(weights.report.warnings, Not(Contains(HasSubstr("no VNNI"))));
}

TEST(BuildVariant, TheSameClassForEverySampleIsCalledOut) {
  Graph fp32 = ClassifierNet();
  SampleSet samples = RealSamples(1);
  samples.samples.push_back(samples.samples[0]);
  HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant built, Build(fp32, "fp16", &samples));
  EXPECT_THAT(built.report.warnings, Contains(HasSubstr("same class for every sample")));
}

TEST(BuildVariant, ProgressNeverGoesBackAndEndsAtOne) {
  const SampleSet samples = RealSamples(6);
  std::vector<double> fractions;
  std::vector<std::string> stages;
  HT_ASSERT_OK(BuildVariant(ClassifierNet(), Spec("int8"),
                            {.samples = &samples,
                             .progress =
                                 [&](const Progress& p) {
                                   fractions.push_back(p.fraction);
                                   if (stages.empty() || stages.back() != p.stage) {
                                     stages.push_back(p.stage);
                                   }
                                 },
                             .runner = ReferenceRunner()}));
  EXPECT_TRUE(std::is_sorted(fractions.begin(), fractions.end()));
  EXPECT_EQ(fractions.back(), 1);
  EXPECT_THAT(stages, ElementsAre("calibrate", "quantize", "compile", "compare", "measure"));
}

TEST(BuildVariant, CancellationStopsBetweenSteps) {
  const SampleSet samples = RealSamples(6);
  int polls = 0;
  EXPECT_THAT(BuildVariant(ClassifierNet(), Spec("int8"),
                           {.samples = &samples,
                            .cancelled = [&] { return ++polls == 3; },
                            .runner = ReferenceRunner()}),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("during calibrate")));
  EXPECT_EQ(polls, 3);
}

TEST(BuildVariant, AWrongSampleNamesItself) {
  SampleSet samples = RealSamples(2);
  samples.samples[1] = {};
  EXPECT_THAT(Build(ClassifierNet(), "int8", &samples),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("calibration sample 1")));
}

TEST(BuildVariant, IsDeterministic) {
  const SampleSet samples = RealSamples(6);
  HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant a, Build(ClassifierNet(), "int8", &samples));
  HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant b, Build(ClassifierNet(), "int8", &samples));
  EXPECT_EQ(a.graph.Dump(), b.graph.Dump());
  for (const Value* v : a.graph.values()) {
    if (!v->is_constant()) continue;
    EXPECT_EQ(v->constant().bytes(), b.graph.FindValue(v->name())->constant().bytes()) << v->name();
  }
}

TEST(GenerateSamples, FollowTheSignatureAndRepeat) {
  const Signature signature = {.inputs = {{"x", DataType::kF32, Dims{Dim("batch"), 3, Dim()}},
                                          {"ids", DataType::kI64, Dims{Dim("batch"), Dim("seq")}},
                                          {"more", DataType::kI32, Dims{2, Dim("seq")}}}};
  HT_ASSERT_OK_AND_ASSIGN(const SampleSet a, GenerateSamples(signature, 3));
  HT_ASSERT_OK_AND_ASSIGN(const SampleSet b, GenerateSamples(signature, 3));
  ASSERT_EQ(a.samples.size(), 3u);
  EXPECT_THAT(a.samples[0][0].shape(), ElementsAre(1, 3, 64));
  EXPECT_THAT(a.samples[0][1].shape(), ElementsAre(1, 64));
  EXPECT_THAT(a.samples[0][2].shape(), ElementsAre(2, 64));
  EXPECT_EQ(a.samples[2][0].bytes(), b.samples[2][0].bytes());
  EXPECT_NE(a.samples[0][0].bytes(), a.samples[1][0].bytes());
  EXPECT_THAT(a.samples[0][1].data<int64_t>(), ::testing::Each(AllOf(Ge(0), ::testing::Lt(4))));
}

TEST(PlanVariant, PredictsTheBytesOfTheBuild) {
  const Graph fp32 = ClassifierNet();
  const SampleSet samples = RealSamples(2);
  for (const std::string spec :
       {"fp16", "bf16", "int8/per-channel/weight-only", "int8/per-tensor/weight-only", "int16",
        "uint8", "int4/per-group-2/weight-only", "uint4", "ternary", "binary"}) {
    HT_ASSERT_OK_AND_ASSIGN(const PlanReport plan, PlanVariant(fp32, Spec(spec), kVnni, true));
    HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant built, Build(fp32, spec, &samples));
    EXPECT_EQ(plan.predicted_weight_bytes, built.report.weight_bytes) << spec;
    EXPECT_EQ(plan.layers.size(), built.report.layers.size());
    const bool coarse = BitsOf(Spec(spec).weights) < 8;
    EXPECT_GT(plan.layers[0].sqnr_db, coarse ? 0 : 20) << spec;
    EXPECT_EQ(plan.layers[0].precision, built.report.layers[0].precision);
  }
}

// As a variant that was loaded from its file: nobody keeps the f32 weights, or two copies.
// One product of a row with 512 × `outputs` weights.
Graph WideNet(int64_t outputs) {
  Graph g("wide");
  g.opsets()[""] = 17;
  Value* x = g.AddInput("x", {DataType::kF32, Symbolic(Shape{1, 512})});
  Tensor w = Tensor::Create(DataType::kF32, {512, outputs}).value();
  const auto values = w.mutable_data<float>();
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 7919 % 201) - 100;
  Value* weights = g.AddConstant("w", std::move(w));
  g.AddOutput(g.AddNode({.op = "MatMul", .name = "m", .inputs = {x, weights}, .outputs = {"y"}})
                  ->output(0));
  CHECK_OK(InferShapes(g));
  return g;
}

TEST(BuildVariant, ReportsTheBytesThatStayAfterLoading) {
  const Graph fp32 = WideNet(1088);
  for (const auto& [spec, share] :
       std::vector<std::pair<std::string, double>>{{"fp16", 0.51},
                                                   {"int8/per-channel/weight-only", 0.27},
                                                   {"int4", 0.17},
                                                   {"ternary", 0.08},
                                                   {"binary", 0.05}}) {
    HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant built,
                            BuildVariant(fp32, Spec(spec), {.features = kVnni}));
    const VariantReport& r = built.report;
    EXPECT_LE(static_cast<double>(r.resident_bytes),
              share * static_cast<double>(r.fp32_resident_bytes))
        << spec;
    EXPECT_GT(r.resident_bytes, 0) << spec;
  }
}

// So few f16 weights are f32 once they are loaded, see PlanOptions::max_widened_bytes.
TEST(BuildVariant, ReportsThatFewHalfWeightsStayAsWideAsTheyAreInFp32) {
  HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant built,
                          BuildVariant(WideNet(1024), Spec("fp16"), {.features = kVnni}));
  EXPECT_EQ(built.report.resident_bytes, built.report.fp32_resident_bytes);
  EXPECT_LT(built.report.weight_bytes, built.report.fp32_weight_bytes);
}

TEST(BuildVariant, ComputeHintTakesEffectOrSaysThatItDoesNot) {
  const Graph fp32 = ClassifierNet();
  const SampleSet samples = RealSamples(4);
  const CpuFeatures here = DetectCpuFeatures();
  for (const char* spec : {"fp32/compute=bf16", "fp32/compute=tf32", "fp32/compute=f32"}) {
    HT_ASSERT_OK_AND_ASSIGN(
        const BuiltVariant built,
        BuildVariant(fp32, Spec(spec), {.features = here, .samples = &samples}));
    const bool bf16 = here.bf16 && built.spec.compute == ComputeType::kBF16;
    EXPECT_EQ(built.report.spec, spec);
    EXPECT_EQ(built.report.layers[0].precision, bf16 ? "f32 weights, bf16 compute" : "f32");
    const bool no_effect = !bf16 && built.spec.compute != ComputeType::kF32;
    EXPECT_EQ(std::any_of(built.report.warnings.begin(), built.report.warnings.end(),
                          [](const std::string& w) { return w.find("no effect") != w.npos; }),
              no_effect)
        << spec;
    // Products of bf16 leave about 50 dB.
    EXPECT_GT(built.report.sqnr_db, bf16 ? 40 : 120) << spec;
    EXPECT_LT(built.report.sqnr_db, bf16 ? 70 : kMaxSqnrDb + 1) << spec << " had no effect";
  }
  HT_ASSERT_OK_AND_ASSIGN(
      const BuiltVariant old,
      BuildVariant(fp32, Spec("fp32/compute=bf16"),
                   {.features = kNoVnni, .samples = &samples, .runner = ReferenceRunner()}));
  EXPECT_THAT(old.report.warnings, Contains(HasSubstr("compute=bf16 has no effect")));
}

// As ClassifierNet, in f64.
Graph DoubleNet() {
  Graph g("doubles");
  g.opsets()[""] = 17;
  Value* x = g.AddInput("x", {DataType::kF64, Dims{Dim("batch"), 12}});
  const auto weights = [&](const std::string& name, const Shape& shape, int seed) {
    return g.AddConstant(name, Convert(RandomTensor(shape, seed), DataType::kF64).value());
  };
  Value* h = g.AddNode({.op = "MatMul",
                        .name = "m",
                        .inputs = {x, weights("w1", {12, 32}, 1)},
                        .outputs = {"h"}})
                 ->output(0);
  Value* r = g.AddNode({.op = "Relu", .name = "r", .inputs = {h}, .outputs = {"a"}})->output(0);
  g.AddOutput(
      g.AddNode(
           {.op = "Gemm", .name = "f", .inputs = {r, weights("w2", {32, 10}, 2)}, .outputs = {"y"}})
          ->output(0));
  CHECK_OK(InferShapes(g));
  return g;
}

TEST(BuildVariant, ComputesFp64ModelsInFp32AndSaysSo) {
  const Graph doubles = DoubleNet();
  SampleSet samples{.name = "real", .digest = "d"};
  for (int i = 0; i < 6; ++i) {
    samples.samples.push_back({Convert(RandomTensor({2, 12}, 50 + i), DataType::kF64).value()});
  }
  for (const char* spec : {"int8/static", "int8/dynamic", "int4", "fp16"}) {
    HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant built,
                            BuildVariant(doubles, Spec(spec), {.samples = &samples}));
    EXPECT_THAT(built.report.warnings, Contains(StartsWith("fp64 model computed in fp32"))) << spec;
    ASSERT_EQ(built.report.layers.size(), 2u);
    for (const LayerReport& layer : built.report.layers) EXPECT_EQ(layer.reason, "") << spec;
    EXPECT_GT(built.report.sqnr_db, 15) << spec;
    EXPECT_LT(built.report.sqnr_db, kMaxSqnrDb) << spec << ": nothing was compared";
    HT_ASSERT_OK_AND_ASSIGN(const Signature signature, SignatureOf(built.graph));
    EXPECT_EQ(signature.inputs[0].type, DataType::kF64);
    EXPECT_EQ(signature.outputs[0].type, DataType::kF64);
    EXPECT_EQ(signature.outputs[0].name, "y");
    HT_ASSERT_OK_AND_ASSIGN(const auto want, EvaluateGraph(doubles, samples.samples[0]));
    HT_ASSERT_OK_AND_ASSIGN(const auto got, EvaluateGraph(built.graph, samples.samples[0]));
    ErrorStats stats;
    stats.Add(Convert(want[0], DataType::kF32)->data<float>(),
              Convert(got[0], DataType::kF32)->data<float>());
    EXPECT_GT(stats.sqnr_db(), 15) << spec;
  }
  // Nothing but single precision.
  HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant single,
                          BuildVariant(doubles, Spec("fp32/compute=f32"), {.samples = &samples}));
  EXPECT_THAT(single.report.warnings, Contains(StartsWith("fp64 model computed in fp32")));
  EXPECT_FALSE(ComputesInDoubles(single.graph));
  HT_ASSERT_OK_AND_ASSIGN(const PlanReport plan, PlanVariant(doubles, Spec("int8"), kVnni, false));
  EXPECT_THAT(plan.risks, Contains(StartsWith("fp64 model computed in fp32")));
  EXPECT_EQ(plan.layers.size(), 2u);
}

TEST(PlanVariant, NamesRisksAndWhatIsNotAvailable) {
  const Graph fp32 = ClassifierNet();
  HT_ASSERT_OK_AND_ASSIGN(const PlanReport risky, PlanVariant(fp32, Spec("int8"), kNoVnni, false));
  EXPECT_EQ(risky.spec, "int8/per-channel/dynamic");
  EXPECT_THAT(risky.risks, Contains(HasSubstr("no VNNI")));
  EXPECT_THAT(risky.risks, Contains(HasSubstr("no calibration samples")));
  HT_ASSERT_OK_AND_ASSIGN(const PlanReport wide,
                          PlanVariant(fp32, Spec("int8/static/affine"), kVnni, true));
  EXPECT_THAT(wide.unsupported, ElementsAre(HasSubstr("affine")));
}

TEST(BuildVariant, SaysThatSixteenBitActivationsAreComputedInFloat) {
  const Graph fp32 = ClassifierNet();
  const SampleSet samples = RealSamples(4);
  for (const auto& [spec, precision, float_note] :
       {std::tuple{"int8/static/act=int8", "int8", false},
        std::tuple{"int8/static/act=int16", "int8 weights, int16 activations, f32 compute", true},
        std::tuple{"int8/static/act=uint16", "int8 weights, uint16 activations, f32 compute",
                   true}}) {
    // Without VNNI, 8-bit products want narrower weights; float arithmetic does not.
    HT_ASSERT_OK_AND_ASSIGN(
        const BuiltVariant built,
        BuildVariant(fp32, Spec(spec),
                     {.features = kNoVnni, .samples = &samples, .runner = ReferenceRunner()}));
    EXPECT_EQ(built.report.layers[0].precision, precision);
    EXPECT_THAT(built.report.warnings,
                Contains(HasSubstr(float_note ? "activations are computed in f32" : "no VNNI")));
    EXPECT_THAT(built.report.warnings,
                Not(Contains(HasSubstr(float_note ? "no VNNI" : "computed in f32"))));
    EXPECT_GT(built.report.sqnr_db, 28) << spec;
  }
}

TEST(BuildVariant, PerTokenActivationsNeedNoSamples) {
  const Graph fp32 = ClassifierNet();
  HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant built,
                          BuildVariant(fp32, Spec("int8/dynamic-per-token"),
                                       {.features = kVnni, .runner = ReferenceRunner()}));
  EXPECT_EQ(built.report.spec, "int8/per-channel/dynamic-per-token");
  EXPECT_NE(built.graph.Dump().find("DynamicQuantizeRows"), std::string::npos);
  EXPECT_GT(built.report.sqnr_db, 30);
  for (const LayerReport& layer : built.report.layers) EXPECT_EQ(layer.precision, "int8");
}

TEST(BuildVariant, RemembersRangesAndBuildsTheSameFromThem) {
  const Graph fp32 = ClassifierNet();
  const SampleSet samples = RealSamples(6);
  std::map<std::string, std::string> memory;
  int found = 0;
  const CalibrationCache cache{
      .find = [&](const std::string& key) -> std::optional<std::string> {
        if (!memory.contains(key)) return std::nullopt;
        ++found;
        return memory.at(key);
      },
      .put = [&](const std::string& key,
                 absl::string_view value) { memory[key] = std::string(value); }};
  std::vector<std::string> dumps;
  for (const char* digest : {"g1", "g1", "g2", ""}) {
    HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant built, BuildVariant(fp32, Spec("int8"),
                                                                   {.features = kVnni,
                                                                    .samples = &samples,
                                                                    .calibration_cache = &cache,
                                                                    .graph_digest = digest,
                                                                    .runner = ReferenceRunner()}));
    dumps.push_back(built.graph.Dump());
  }
  EXPECT_EQ(found, 1);
  EXPECT_EQ(memory.size(), 2u);
  EXPECT_THAT(dumps, testing::Each(dumps[0]));
}

TEST(BuildVariant, SyntheticSamplesDoWhereThereAreNoneAndTheReportSaysSo) {
  const Graph fp32 = ClassifierNet();
  HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant built, Build(fp32, "int8/calib=synthetic", nullptr));
  EXPECT_EQ(built.spec.activations, ActivationMode::kStatic);
  EXPECT_THAT(built.report.warnings,
              Contains(StartsWith("activation ranges come from GENERATED samples")));
  EXPECT_GT(built.report.sqnr_db, 25);
}

TEST(BuildVariant, SyntheticRangesAreComparedOnRealSamples) {
  const Graph fp32 = ClassifierNet();
  SampleSet loud = RealSamples(6);  // far beyond what is generated
  for (auto& sample : loud.samples) {
    for (float& v : sample[0].mutable_data<float>()) v *= 50;
  }
  HT_ASSERT_OK_AND_ASSIGN(const BuiltVariant built, Build(fp32, "int8/calib=synthetic", &loud));
  EXPECT_EQ(built.report.sample_source, "calibration set 'real' (6 samples)");
  EXPECT_LT(built.report.sqnr_db, 10);
}

// The reference evaluation, at the pace that `seconds` says of layers in fp32 and narrow form.
GraphRunner PacedRunner(std::map<std::string, LayerSeconds> seconds) {
  return [seconds](Graph graph) -> absl::StatusOr<RunnableGraph> {
    std::vector<StepInfo> steps;
    double total = 0;
    for (const Node* node : graph.nodes()) {
      const auto it = seconds.find(node->name());
      if (it == seconds.end()) continue;
      const bool narrow = !node->input(1)->is_constant();
      steps.push_back(
          {.node = node->name(), .seconds = narrow ? it->second.variant : it->second.fp32});
      total += steps.back().seconds;
    }
    HT_ASSIGN_OR_RETURN(RunnableGraph runnable, ReferenceRunner()(std::move(graph)));
    runnable.run = [run = std::move(runnable.run), total](absl::Span<const Tensor> inputs) {
      absl::SleepFor(absl::Seconds(total));
      return run(inputs);
    };
    runnable.profile = [steps](absl::Span<const Tensor>) -> absl::StatusOr<std::vector<StepInfo>> {
      return steps;
    };
    return runnable;
  };
}
absl::StatusOr<BuiltVariant> BuildPaced(const Graph& graph, const std::string& spec,
                                        const std::map<std::string, LayerSeconds>& seconds) {
  const SampleSet samples = RealSamples(4);
  return BuildVariant(graph, Spec(spec),
                      {.features = kVnni, .samples = &samples, .runner = PacedRunner(seconds)});
}

TEST(BuildVariant, LayersThatAreSlowerStayFloatUnderThePolicySpeed) {
  const Graph fp32 = ClassifierNet();
  HT_ASSERT_OK_AND_ASSIGN(
      const BuiltVariant built,
      BuildPaced(fp32, "int8/speed", {{"n_c1", {.008, .002}}, {"n_y", {.002, .012}}}));
  const VariantReport& r = built.report;
  EXPECT_EQ(r.spec, "int8/per-channel/static/speed;node=n_y=fp32");
  ASSERT_EQ(r.layers.size(), 2u);
  EXPECT_EQ(r.layers[0].reason, "");
  EXPECT_DOUBLE_EQ(r.layers[0].seconds, .002);
  EXPECT_DOUBLE_EQ(r.layers[0].fp32_seconds, .008);
  EXPECT_EQ(r.layers[1].precision, "f32");
  EXPECT_EQ(r.layers[1].reason,
            "slower as int8 on this machine (12.0 ms, f32 2.00 ms), and the policy is speed");
  EXPECT_THAT(r.notes, Contains("policy speed: 1 of 2 layers stay f32"));
  EXPECT_GT(r.speedup, 1.5);
  EXPECT_TRUE(QuantSpec::Parse(r.spec).ok());
}

TEST(BuildVariant, WhereNothingPaysThePolicySpeedServesFp32) {
  const Graph fp32 = ClassifierNet();
  HT_ASSERT_OK_AND_ASSIGN(
      const BuiltVariant built,
      BuildPaced(fp32, "int8/speed", {{"n_c1", {.002, .006}}, {"n_y", {.001, .003}}}));
  EXPECT_EQ(built.report.sqnr_db, kMaxSqnrDb);
  EXPECT_EQ(built.report.weight_bytes, built.report.fp32_weight_bytes);
  EXPECT_THAT(built.report.notes, Contains("policy speed: int8 is not faster than fp32 here, so "
                                           "every layer stays f32"));
  for (const LayerReport& layer : built.report.layers) {
    EXPECT_THAT(layer.reason, StartsWith("slower as int8")) << layer.node;
  }
}

TEST(BuildVariant, ThePolicySizeKeepsSlowLayersAndNamesThem) {
  const Graph fp32 = ClassifierNet();
  HT_ASSERT_OK_AND_ASSIGN(
      const BuiltVariant built,
      BuildPaced(fp32, "int8", {{"n_c1", {.004, .001}}, {"n_y", {.001, .006}}}));
  EXPECT_EQ(built.report.layers[1].reason, "");
  EXPECT_THAT(built.report.warnings,
              Contains("layers slower than in fp32 on this machine: n_y (6.00 ms, f32 1.00 ms); "
                       "with the policy speed such layers stay f32"));
  EXPECT_THAT(built.report.warnings, Contains(StartsWith("slower than fp32 on this machine")));
}

}  // namespace
}  // namespace halftone
