#include "core/quant/quant_spec.h"

#include <random>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::HasSubstr;

TEST(QuantSpec, Int8AloneIsPerChannelAndAuto) {
  HT_ASSERT_OK_AND_ASSIGN(const QuantSpec spec, QuantSpec::Parse("int8"));
  EXPECT_EQ(spec, (QuantSpec{.weights = WeightType::kI8}));
  HT_ASSERT_OK_AND_ASSIGN(const QuantSpec longer, QuantSpec::Parse("int8/per-channel/auto"));
  EXPECT_EQ(longer, spec);
  EXPECT_EQ(longer.ToString(), "int8");
}

struct FieldsCase {
  std::string text;
  QuantSpec want;
};
class QuantSpecFields : public ::testing::TestWithParam<FieldsCase> {};

TEST_P(QuantSpecFields, ParsesAndPrintsBack) {
  HT_ASSERT_OK_AND_ASSIGN(const QuantSpec got, QuantSpec::Parse(GetParam().text));
  EXPECT_EQ(got, GetParam().want);
  EXPECT_EQ(got.ToString(), GetParam().text);
}

INSTANTIATE_TEST_SUITE_P(
    Canonical, QuantSpecFields,
    ::testing::Values(
        FieldsCase{"fp32", {}}, FieldsCase{"fp16", {.weights = WeightType::kF16}},
        FieldsCase{"bf16", {.weights = WeightType::kBF16}},
        FieldsCase{"int8/per-tensor/static",
                   {.weights = WeightType::kI8,
                    .activations = ActivationMode::kStatic,
                    .granularity = PerTensor{}}},
        FieldsCase{"int8/per-group-64/weight-only/affine",
                   {.weights = WeightType::kI8,
                    .activations = ActivationMode::kWeightOnly,
                    .granularity = PerGroup{64},
                    .scheme = QuantScheme::kAffine}},
        FieldsCase{"int8/per-channel/static/calib=a%2Fb",
                   {.weights = WeightType::kI8,
                    .activations = ActivationMode::kStatic,
                    .calibration_set = "a/b"}},
        FieldsCase{"int4",
                   {.weights = WeightType::kI4,
                    .activations = ActivationMode::kWeightOnly,
                    .granularity = PerGroup{32}}},
        FieldsCase{"uint4/per-group-128/weight-only/symmetric",
                   {.weights = WeightType::kU4,
                    .activations = ActivationMode::kWeightOnly,
                    .granularity = PerGroup{128}}},
        FieldsCase{"ternary/per-channel-axis-0/weight-only",
                   {.weights = WeightType::kTernary,
                    .activations = ActivationMode::kWeightOnly,
                    .granularity = PerChannel{0}}},
        FieldsCase{"int8/per-tensor/static/act=uint16/percentile-99.9/better/"
                   "without=smooth/with=adaround/speed/compute=bf16",
                   {.weights = WeightType::kI8,
                    .activations = ActivationMode::kStatic,
                    .granularity = PerTensor{},
                    .activation_type = ActivationType::kU16,
                    .calibration = CalibrationMethod::kPercentile,
                    .percentile = 99.9,
                    .level = Level::kBetter,
                    .techniques = {{Technique::kSmooth, false}, {Technique::kAdaRound, true}},
                    .policy = Policy::kSpeed,
                    .compute = ComputeType::kBF16}},
        FieldsCase{"bf16/best", {.weights = WeightType::kBF16, .level = Level::kBest}},
        FieldsCase{"int8;node=/block1/conv=fp32;node=a%3Bb%3D%25%20=bf16;op=Gemm=fp16",
                   {.weights = WeightType::kI8,
                    .op_overrides = {{"Gemm", WeightType::kF16}},
                    .node_overrides = {{"/block1/conv", WeightType::kF32},
                                       {"a;b=% ", WeightType::kBF16}}}}));

struct BadCase {
  std::string name, text, want;
};
class QuantSpecErrors : public ::testing::TestWithParam<BadCase> {};

TEST_P(QuantSpecErrors, SayWhatWasExpectedAndWhere) {
  EXPECT_THAT(QuantSpec::Parse(GetParam().text),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(GetParam().want)));
}

INSTANTIATE_TEST_SUITE_P(
    Bad, QuantSpecErrors,
    ::testing::Values(
        BadCase{"Empty", "", "position 0: got '', want fp32, fp16, bf16, int16, int8"},
        BadCase{"Type", "int7", "position 0: got 'int7', want fp32, fp16, bf16, int16, int8"},
        BadCase{"Granularity", "int8/per-row/static", "position 5: got 'per-row', want per-tensor"},
        BadCase{"GroupOfZero", "int8/per-group-0/static", "N > 0"},
        BadCase{"GroupNotCanonical", "int8/per-group-064/static", "N > 0"},
        BadCase{"Mode", "int8/per-tensor/sometimes", "position 16: got 'sometimes', want a gran"},
        BadCase{"Option", "int8/per-tensor/static/quick", "position 23: got 'quick', want a gran"},
        BadCase{"TwoModes", "int8/static/dynamic", "position 12: got 'dynamic', want each kind"},
        BadCase{"TwoMethods", "int8/mse/percentile-99", "position 9: got 'percentile-99', want ea"},
        BadCase{"PercentileTooLow", "int8/percentile-50", "P above 50"},
        BadCase{"PercentileNotCanonical", "int8/percentile-99.90", "P above 50"},
        BadCase{"PercentileIsNoNumber", "int8/percentile-nan", "P above 50"},
        BadCase{"Technique", "int8/with=magic", "position 10: got 'magic', want clip, equalize"},
        BadCase{"TechniqueTwice", "int8/with=clip/without=clip", "each technique only once"},
        BadCase{"OptionsOfFloat", "fp16/per-tensor/static",
                "position 5: got 'per-tensor', want nothing of that kind after 'fp16'"},
        BadCase{"CalibrationName",
                "int8/per-tensor/static/calib=", "position 29: got '', want a name"},
        BadCase{"OverrideForm", "int8;op=Conv", "position 5: got 'op=Conv', want op=OP_TYPE=TYPE"},
        BadCase{"OverrideKind", "int8;layer=Conv=fp32", "want op=OP_TYPE=TYPE or node="},
        BadCase{"OverrideType", "int8;op=Conv=int4",
                "position 13: got 'int4', want fp32, fp16, bf16 or"},
        BadCase{"OverrideToInt8", "fp16;op=Conv=int8", "needs a spec of int8"},
        BadCase{"OverrideTwice", "int8;op=Conv=fp32;op=Conv=fp16", "position 18"},
        BadCase{"EscapeCutShort", "int8;node=a%3=fp32", "position 10: got 'a%3', want a name"},
        BadCase{"RawSpace", "int8;node=a b=fp32", "position 10: got 'a b', want a name"}),
    [](const auto& info) { return info.param.name; });

QuantSpec RandomSpec(std::mt19937& rng) {
  const auto pick = [&](int n) { return static_cast<int>(rng() % n); };
  const auto name = [&] {
    std::string s(1 + pick(6), ' ');
    for (char& c : s) c = static_cast<char>(pick(256));
    return s;
  };
  QuantSpec spec;
  spec.weights = static_cast<WeightType>(pick(10));
  if (IsInteger(spec.weights)) {
    spec.activations = static_cast<ActivationMode>(pick(5));
    const std::vector<Granularity> all = {PerTensor{}, PerChannel{}, PerChannel{pick(4)},
                                          PerGroup{1 + pick(1000)}};
    spec.granularity = all[pick(4)];
    spec.scheme = static_cast<QuantScheme>(pick(2));
    spec.activation_type = static_cast<ActivationType>(pick(4));
    spec.calibration = static_cast<CalibrationMethod>(pick(5));
    if (spec.calibration == CalibrationMethod::kPercentile) spec.percentile = 100 - 0.01 * pick(99);
    if (pick(2) == 0) spec.calibration_set = name();
  }
  spec.level = static_cast<Level>(pick(3));
  for (int t = 0; t < kTechniques; ++t) {
    const auto technique = static_cast<Technique>(t);
    if (pick(3) == 0) spec.techniques[technique] = !Uses(spec, technique);
  }
  spec.policy = static_cast<Policy>(pick(2));
  spec.compute = static_cast<ComputeType>(pick(4));
  const auto override_type = [&] {
    const auto type = static_cast<WeightType>(pick(4));
    return type == WeightType::kI16 ? spec.weights : type;
  };
  for (int i = pick(3); i > 0; --i) spec.op_overrides[name()] = override_type();
  for (int i = pick(3); i > 0; --i) spec.node_overrides[name()] = override_type();
  return spec;
}

TEST(QuantSpec, RandomSpecsRoundTrip) {
  std::mt19937 rng(20);
  for (int i = 0; i < 2000; ++i) {
    const QuantSpec spec = RandomSpec(rng);
    const std::string text = spec.ToString();
    HT_ASSERT_OK_AND_ASSIGN(const QuantSpec back, QuantSpec::Parse(text));
    EXPECT_EQ(back, spec) << text;
    EXPECT_EQ(back.ToString(), text);
  }
}

TEST(QuantSpec, WordsComeInAnyOrderAndDefaultsMayBeSaid) {
  HT_ASSERT_OK_AND_ASSIGN(const QuantSpec a, QuantSpec::Parse("int8/best/static/per-tensor"));
  EXPECT_EQ(a.ToString(), "int8/per-tensor/static/best");
  HT_ASSERT_OK_AND_ASSIGN(const QuantSpec b, QuantSpec::Parse("int8/minmax/fast/size/with=mixed"));
  EXPECT_EQ(b.ToString(), "int8/with=mixed");
  HT_ASSERT_OK_AND_ASSIGN(const QuantSpec c, QuantSpec::Parse("int8/with=mixed/best"));
  EXPECT_EQ(c.ToString(), "int8/best") << "the level says so already";
  HT_ASSERT_OK_AND_ASSIGN(const QuantSpec d, QuantSpec::Parse("int8/percentile-99.999"));
  EXPECT_EQ(d.ToString(), "int8/percentile");
}

TEST(QuantSpec, LevelsAndSwitchesDecideTogether) {
  HT_ASSERT_OK_AND_ASSIGN(const QuantSpec spec,
                          QuantSpec::Parse("int8/better/with=mixed/without=clip"));
  EXPECT_TRUE(Uses(spec, Technique::kMixed));
  EXPECT_FALSE(Uses(spec, Technique::kClip));
  EXPECT_TRUE(Uses(spec, Technique::kSmooth));
  EXPECT_FALSE(Uses(spec, Technique::kGptq));
}

TEST(QuantSpec, ParsingRandomTextNeverDoesMoreThanFail) {
  std::mt19937 rng(21);
  const std::string alphabet = "int8fp16/per-tensor;=%calib23nodewith best";
  for (int i = 0; i < 5000; ++i) {
    std::string text(rng() % 40, ' ');
    for (char& c : text) c = alphabet[rng() % alphabet.size()];
    const auto spec = QuantSpec::Parse(text);
    if (spec.ok()) continue;
    EXPECT_THAT(spec, StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

TEST(QuantSpec, ValidateRefusesContradictions) {
  EXPECT_THAT((QuantSpec{.weights = WeightType::kF16, .granularity = PerTensor{}}.Validate()),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT((QuantSpec{.weights = WeightType::kI8,
                         .activations = ActivationMode::kDynamic,
                         .calibration_set = "x"}
                   .Validate()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("belongs to static")));
  EXPECT_THAT((QuantSpec{.weights = WeightType::kF16, .op_overrides = {{"Conv", WeightType::kI8}}}
                   .Validate()),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(QuantSpec, ValidateNamesWhatIsNotAvailable) {
  EXPECT_THAT((QuantSpec{.weights = WeightType::kI8, .granularity = PerGroup{}}.Validate()),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("per-group")));
  EXPECT_THAT((QuantSpec{.weights = WeightType::kI8, .scheme = QuantScheme::kAffine}.Validate()),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("affine")));
  HT_EXPECT_OK((QuantSpec{.weights = WeightType::kI8,
                          .activations = ActivationMode::kWeightOnly,
                          .scheme = QuantScheme::kAffine}
                    .Validate()));
}

TEST(QuantSpec, ActivationsAndComputeTypesAreAvailable) {
  for (const char* text :
       {"int8/dynamic-per-token", "int8/per-tensor/dynamic-per-token", "int8/static/act=int8",
        "int8/static/act=int16", "int8/act=uint16/static", "fp32/compute=f32", "fp32/compute=bf16",
        "bf16/compute=f32", "int8/static/compute=tf32"}) {
    HT_ASSERT_OK_AND_ASSIGN(const QuantSpec spec, QuantSpec::Parse(text));
    HT_EXPECT_OK(spec.Validate()) << text;
  }
  // Not integers that products of 8 bits take.
  EXPECT_FALSE(UsesIntegerArithmetic(*QuantSpec::Parse("int8/static/act=int16")));
  EXPECT_TRUE(UsesIntegerArithmetic(*QuantSpec::Parse("int8/static/act=int8")));
  EXPECT_THAT(QuantSpec::Parse("int8/dynamic-per-token/act=int16")->Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("belongs to static")));
}

TEST(QuantSpec, EveryIntegerFormatIsAvailableForWeightOnly) {
  for (const char* type : {"int16", "int8", "uint8", "int4", "uint4", "ternary", "binary"}) {
    for (const char* granularity :
         {"per-tensor", "per-channel", "per-channel-axis-0", "per-group-64"}) {
      for (const char* scheme : {"symmetric", "affine"}) {
        const std::string text = std::string(type) + "/" + granularity + "/weight-only/" + scheme;
        HT_ASSERT_OK_AND_ASSIGN(const QuantSpec spec, QuantSpec::Parse(text));
        const bool around_zero = BitsOf(spec.weights) < 4;
        if (around_zero && spec.scheme == QuantScheme::kAffine) {
          EXPECT_THAT(spec.Validate(),
                      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("symmetric")))
              << text;
        } else {
          HT_EXPECT_OK(spec.Validate()) << text;
        }
      }
    }
    HT_ASSERT_OK_AND_ASSIGN(const QuantSpec alone, QuantSpec::Parse(type));
    HT_EXPECT_OK(alone.Validate()) << type;
  }
  HT_ASSERT_OK_AND_ASSIGN(const QuantSpec spec, QuantSpec::Parse("int4/per-channel/static"));
  EXPECT_THAT(spec.Validate(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("int4")));
}

TEST(PrecisionFor, NodeBeatsOperatorBeatsWeights) {
  const QuantSpec spec{.weights = WeightType::kI8,
                       .op_overrides = {{"Conv", WeightType::kF16}},
                       .node_overrides = {{"c1", WeightType::kF32}}};
  EXPECT_EQ(PrecisionFor(spec, "Conv", "c1"), WeightType::kF32);
  EXPECT_EQ(PrecisionFor(spec, "Conv", "c2"), WeightType::kF16);
  EXPECT_EQ(PrecisionFor(spec, "Gemm", "g"), WeightType::kI8);
}

}  // namespace
}  // namespace halftone
