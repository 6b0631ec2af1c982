// Random numbers, losses, sets and counts, and old spellings, worked out by hand.
#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

#include "core/ops/random.h"
#include "tests/testing/status_matchers.h"
#include "tests/unit/ops/ops_testing.h"

namespace halftone {
namespace {

using testing::Not;

using Ints = std::vector<int64_t>;
using Floats = std::vector<float>;

class StatisticsCase : public testing::TestWithParam<NodeCase> {};
TEST_P(StatisticsCase, GivesTheExpectedOutputs) { ExpectOutputs(GetParam()); }
std::string CaseName(const testing::TestParamInfo<NodeCase>& info) { return info.param.name; }

const Tensor kLogs = F({2, 2}, {-1, -2, -3, -4});

INSTANTIATE_TEST_SUITE_P(
    Loss, StatisticsCase,
    testing::Values(
        NodeCase{
            "Mean", "NegativeLogLikelihoodLoss", 13, {}, {kLogs, I({2}, {0, 1})}, {F({}, {2.5})}},
        NodeCase{"WeightedMean",
                 "NegativeLogLikelihoodLoss",
                 22,
                 {},
                 {kLogs, I({2}, {0, 1}), F({2}, {1, 3})},
                 {F({}, {3.25})}},
        NodeCase{"IgnoredClassesDoNotCount",
                 "NegativeLogLikelihoodLoss",
                 13,
                 {{"ignore_index", int64_t{-7}}},
                 {kLogs, I({2}, {0, -7})},
                 {F({}, {1})}},
        NodeCase{"PerPixel",
                 "NegativeLogLikelihoodLoss",
                 12,
                 {{"reduction", std::string("none")}},
                 {F({1, 2, 2}, {-1, -2, -3, -4}), I({1, 2}, {1, 0})},
                 {F({1, 2}, {3, 2})}},
        NodeCase{
            "CrossEntropy",  // probabilities 1/2 and 3/4
            "SoftmaxCrossEntropyLoss",
            13,
            {{"reduction", std::string("sum")}},
            {F({2, 2}, {0, 0, 0, 1.0986123f}), I({2}, {0, 1})},
            {F({}, {0.9808293f}), F({2, 2}, {-0.6931472f, -0.6931472f, -1.3862944f, -0.2876821f})},
            1e-6f}),
    CaseName);

const Attributes kGrams = {{"mode", std::string("TF")},      {"min_gram_length", int64_t{1}},
                           {"max_gram_length", int64_t{2}},  {"max_skip_count", int64_t{1}},
                           {"ngram_counts", Ints{0, 2}},     {"ngram_indexes", Ints{0, 1, 2}},
                           {"pool_int64s", Ints{2, 3, 5, 4}}};
Attributes With(Attributes a, const std::string& name, Attribute value) {
  a.Set(name, std::move(value));
  return a;
}

INSTANTIATE_TEST_SUITE_P(
    Sets, StatisticsCase,
    testing::Values(NodeCase{"UniqueSorted",
                             "Unique",
                             11,
                             {},
                             {F({6}, {2, 1, 1, 3, 4, 3})},
                             {F({4}, {1, 2, 3, 4}), I({4}, {1, 0, 3, 4}),
                              I({6}, {1, 0, 0, 2, 3, 2}), I({4}, {2, 1, 2, 1})}},
                    NodeCase{"UniqueInOrderOfAppearance",
                             "Unique",
                             11,
                             {{"sorted", int64_t{0}}},
                             {I({6}, {2, 1, 1, 3, 4, 3})},
                             {I({4}, {2, 1, 3, 4}), I({4}, {0, 1, 3, 4}),
                              I({6}, {0, 1, 1, 2, 3, 2}), I({4}, {1, 2, 2, 1})}},
                    NodeCase{"UniqueRows",
                             "Unique",
                             11,
                             {{"axis", int64_t{0}}},
                             {I({3, 2}, {2, 3, 1, 0, 2, 3})},
                             {I({2, 2}, {1, 0, 2, 3}), I({2}, {1, 0}), I({3}, {1, 0, 1})}},
                    NodeCase{"UniqueColumns",
                             "Unique",
                             11,
                             {{"axis", int64_t{-1}}},
                             {I({2, 3}, {1, 1, 0, 2, 2, 5})},
                             {I({2, 2}, {0, 1, 5, 2})}},
                    NodeCase{"GramsWithASkip",
                             "TfIdfVectorizer",
                             9,
                             kGrams,
                             {I({2, 3}, {5, 1, 4, 2, 2, 5})},
                             {F({2, 3}, {0, 0, 1, 2, 0, 0})}},
                    NodeCase{"GramsWeighted",
                             "TfIdfVectorizer",
                             9,
                             With(With(kGrams, "mode", std::string("TFIDF")), "weights",
                                  Floats{3, 1, 5}),
                             {I({4}, {2, 5, 4, 2})},
                             {F({3}, {6, 0, 5})}},
                    NodeCase{"GramsThere",
                             "TfIdfVectorizer",
                             9,
                             With(kGrams, "mode", std::string("IDF")),
                             {Tensor::Of<int32_t>({3}, {2, 2, 3})},
                             {F({3}, {1, 1, 0})}}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    OldSpellings, StatisticsCase,
    testing::Values(NodeCase{"UpsampleByAttribute",
                             "Upsample",
                             7,
                             {{"scales", Floats{1, 2}}},
                             {F({1, 2}, {1, 2})},
                             {F({1, 4}, {1, 1, 2, 2})}},
                    NodeCase{"UpsampleByInput",
                             "Upsample",
                             9,
                             {{"mode", std::string("linear")}},
                             {F({1, 2}, {1, 2}), F({2}, {1, 2})},
                             {F({1, 4}, {1, 1.5, 2, 2})}},
                    NodeCase{"UpsampleOutlivesItsTime",
                             "Upsample",
                             12,
                             {},
                             {F({1, 2}, {1, 2}), F({2}, {1, 2})},
                             {F({1, 4}, {1, 1, 2, 2})}},
                    NodeCase{"Scatter",
                             "Scatter",
                             9,
                             {{"axis", int64_t{1}}},
                             {F({1, 3}, {1, 2, 3}), I({1, 1}, {2}), F({1, 1}, {9})},
                             {F({1, 3}, {1, 2, 9})}},
                    NodeCase{"AddAlongAnAxis",
                             "Add",
                             6,
                             {{"broadcast", int64_t{1}}, {"axis", int64_t{0}}},
                             {F({2, 2}, {1, 2, 3, 4}), F({2}, {10, 20})},
                             {F({2, 2}, {11, 12, 23, 24})}},
                    NodeCase{"DropoutKeepsAll",
                             "Dropout",
                             6,
                             {{"is_test", int64_t{1}}},
                             {F({2}, {1, 2})},
                             {F({2}, {1, 2})}},
                    NodeCase{"GemmBroadcasts",
                             "Gemm",
                             6,
                             {{"broadcast", int64_t{1}}},
                             {F({1, 2}, {1, 2}), F({2, 2}, {1, 0, 0, 1}), F({2}, {10, 20})},
                             {F({1, 2}, {11, 22})}},
                    NodeCase{"BatchNormByRunningStatistics",
                             "BatchNormalization",
                             6,
                             {{"is_test", int64_t{1}}, {"epsilon", 0.0f}},
                             {F({1, 2}, {5, 7}), F({2}, {1, 2}), F({2}, {0, 1}), F({2}, {1, 3}),
                              F({2}, {4, 16})},
                             {F({1, 2}, {2, 3})}},
                    NodeCase{"SlopesPerChannel",
                             "PRelu",
                             6,
                             {},
                             {F({1, 2, 2}, {-1, -2, -3, -4}), F({2}, {1, 2})},
                             {F({1, 2, 2}, {-1, -2, -6, -8})}}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    Determinants, StatisticsCase,
    testing::Values(
        NodeCase{"TwoByTwo", "Det", 11, {}, {F({2, 2}, {1, 2, 3, 4})}, {F({}, {-2})}, 1e-6f},
        NodeCase{"PivotsAndSingularOnes",
                 "Det",
                 22,
                 {},
                 {F({2, 2, 2}, {0, 1, 1, 0, 1, 2, 2, 4})},
                 {F({2}, {-1, 0})}}),
    CaseName);

TEST(Statistics, RefusesWhatMakesNoSense) {
  const auto run = [](const NodeCase& c) { return Evaluate(c).status(); };
  EXPECT_THAT(run({"", "NegativeLogLikelihoodLoss", 13, {}, {kLogs, I({2}, {0, 2})}}), Not(IsOk()));
  EXPECT_THAT(run({"", "NegativeLogLikelihoodLoss", 13, {}, {kLogs, I({3}, {0, 1, 1})}}),
              Not(IsOk()));
  EXPECT_THAT(run({"", "Det", 11, {}, {F({1, 2}, {1, 2})}}), Not(IsOk()));
  EXPECT_THAT(
      run({"", "TfIdfVectorizer", 9, With(kGrams, "ngram_counts", Ints{0, 3}), {I({1}, {2})}}),
      Not(IsOk()));
  EXPECT_THAT(run({"",
                   "TfIdfVectorizer",
                   9,
                   With(kGrams, "ngram_indexes", Ints{0, 1, int64_t{1} << 60}),
                   {I({1}, {2})}}),
              Not(IsOk()));
}

// Each gives what opset 7 gives with the second operand aligned by hand.
struct OldRow {
  const char* op;
  int opset;
  bool is_bool = false;
};
constexpr OldRow kOldRows[] = {{"Add", 6},      {"Sub", 6},         {"Mul", 6},
                               {"Div", 6},      {"Pow", 6},         {"Less", 6},
                               {"Greater", 6},  {"Equal", 6, true}, {"And", 6, true},
                               {"Or", 6, true}, {"Xor", 6, true}};

TEST(OldSpelling, OperandsLieAlongAnAxis) {
  for (const OldRow& row : kOldRows) {
    const Tensor a = row.is_bool ? B({2, 2}, {true, false, true, false}) : F({2, 2}, {1, 2, 3, 4});
    const Tensor b = row.is_bool ? B({2}, {true, false}) : F({2}, {2, 3});
    const Tensor aligned = b.Reshaped({2, 1});
    const auto old = Evaluate(
        {"", row.op, row.opset, {{"broadcast", int64_t{1}}, {"axis", int64_t{0}}}, {a, b}});
    const auto modern = Evaluate({"", row.op, 7, {}, {a, aligned}});
    ASSERT_TRUE(old.ok() && modern.ok()) << row.op << ": " << old.status();
    EXPECT_EQ((*old)[0].bytes(), (*modern)[0].bytes()) << row.op;
    EXPECT_THAT(
        Evaluate({"", row.op, row.opset, {{"broadcast", int64_t{1}}, {"axis", int64_t{2}}}, {a, b}})
            .status(),
        Not(IsOk()))
        << row.op;
  }
}

// --- random numbers ------------------------------------------------------------------------------

std::vector<float> Draw(const std::string& op, Attributes attributes,
                        std::vector<Tensor> inputs = {}) {
  const auto got = Evaluate({"", op, 15, std::move(attributes), std::move(inputs)});
  if (!got.ok()) {
    ADD_FAILURE() << got.status();
    return {};
  }
  const Tensor values = *Convert((*got)[0], DataType::kF32);
  return {values.data<float>().begin(), values.data<float>().end()};
}

double Mean(const std::vector<float>& x) {
  return std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
}

TEST(Random, TheStreamIsThatOfNumPy) {
  RandomStream stream(0);  // np.random.seed(0); np.random.random_sample(3)
  EXPECT_NEAR(stream.Uniform(), 0.5488135039273248, 1e-15);
  EXPECT_NEAR(stream.Uniform(), 0.7151893663724195, 1e-15);
  EXPECT_NEAR(stream.Uniform(), 0.6027633760716439, 1e-15);
}

TEST(Random, SeedsFixTheNumbers) {
  const Attributes one = {{"shape", Ints{8}}, {"seed", 1.0f}};
  const Attributes two = {{"shape", Ints{8}}, {"seed", 2.0f}};
  EXPECT_EQ(Draw("RandomUniform", one), Draw("RandomUniform", one));
  EXPECT_NE(Draw("RandomUniform", one), Draw("RandomUniform", two));
  EXPECT_EQ(Draw("RandomNormal", {{"shape", Ints{8}}}), Draw("RandomNormal", {{"shape", Ints{8}}}));
}

struct RandomRow {
  const char* op;
  int opset;
};
constexpr RandomRow kRandomRows[] = {{"RandomNormal", 7},     {"RandomUniform", 7},
                                     {"RandomNormalLike", 7}, {"RandomUniformLike", 7},
                                     {"Bernoulli", 15},       {"Multinomial", 7}};

TEST(Random, EveryOneGivesTheSameNumbersForTheSameSeed) {
  for (const RandomRow& row : kRandomRows) {
    const bool has_input =
        !std::string(row.op).ends_with("Normal") && !std::string(row.op).ends_with("Uniform");
    NodeCase c = {"", row.op, row.opset, {{"seed", 5.0f}, {"sample_size", int64_t{64}}}};
    if (has_input) c.inputs = {F({2, 4}, {.5, .5, .5, .5, .5, .5, .5, .5})};
    if (!has_input) c.attributes.Set("shape", Ints{2, 4});
    const auto first = Evaluate(c), second = Evaluate(c);
    ASSERT_TRUE(first.ok()) << row.op << ": " << first.status();
    EXPECT_EQ((*first)[0].bytes(), (*second)[0].bytes()) << row.op;
    c.attributes.Set("seed", 6.0f);
    EXPECT_NE((*first)[0].bytes(), (*Evaluate(c))[0].bytes()) << row.op;
  }
}

TEST(Random, NumbersAreSpreadAsAsked) {
  const int64_t n = 20000;
  const auto uniform =
      Draw("RandomUniform", {{"shape", Ints{n}}, {"low", 2.0f}, {"high", 4.0f}, {"seed", 3.0f}});
  EXPECT_THAT(uniform, testing::Each(testing::AllOf(testing::Ge(2.0f), testing::Le(4.0f))));
  EXPECT_NEAR(Mean(uniform), 3, 0.02);
  auto normal = Draw("RandomNormal", {{"shape", Ints{n}}, {"mean", 5.0f}, {"scale", 2.0f}});
  EXPECT_NEAR(Mean(normal), 5, 0.06);
  for (float& x : normal) x = (x - 5) * (x - 5);
  EXPECT_NEAR(Mean(normal), 4, 0.2);
  const Tensor p = Tensor::Of<float>({n}, absl::MakeConstSpan(Floats(n, 0.25f)));
  EXPECT_NEAR(Mean(Draw("Bernoulli", {}, {p})), 0.25, 0.02);
  const Tensor weights = F({1, 3}, {std::log(1.0f), std::log(3.0f), -1e30f});
  const auto classes = Draw("Multinomial", {{"sample_size", n}, {"dtype", int64_t{7}}}, {weights});
  EXPECT_NEAR(Mean(classes), 0.75, 0.02);
  EXPECT_THAT(classes, testing::Each(testing::Lt(2.0f)));
}

TEST(Random, TypesComeFromTheAttributeOrTheInput) {
  const Tensor half = *Convert(F({2}, {1, 0}), DataType::kF16);
  const auto type = [&](const std::string& op, Attributes attributes) {
    return (*Evaluate({"", op, 15, std::move(attributes), {half}}))[0].type();
  };
  EXPECT_EQ(type("RandomNormalLike", {}), DataType::kF16);
  EXPECT_EQ(type("RandomUniformLike", {{"dtype", int64_t{11}}}), DataType::kF64);
  EXPECT_EQ(type("Bernoulli", {{"dtype", int64_t{9}}}), DataType::kBool);
}

TEST(Random, InferenceDoesNotFoldThem) {
  Graph g("random");
  g.opsets()[""] = 17;
  Node* draw =
      g.AddNode({.op = "RandomNormal", .outputs = {"r"}, .attributes = {{"shape", Ints{2}}}});
  Value* p = g.AddConstant("p", F({2}, {0.5, 0.5}));
  Node* toss = g.AddNode({.op = "Bernoulli", .inputs = {p}, .outputs = {"b"}});
  g.AddOutput(
      g.AddNode({.op = "Add", .inputs = {draw->output(0), toss->output(0)}, .outputs = {"y"}})
          ->output(0));
  HT_ASSERT_OK(InferShapes(g));
  EXPECT_EQ(g.nodes().size(), 3);
}

}  // namespace
}  // namespace halftone
