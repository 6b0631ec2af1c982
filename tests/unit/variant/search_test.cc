#include "core/variant/search.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>

#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;
using Goal = Objective::Goal;

QuantSpec Spec(const std::string& text) { return *QuantSpec::Parse(text); }
Candidate Make(const std::string& spec, int64_t bytes, double seconds, double sqnr,
               double agreement = -1) {
  return {Spec(spec), bytes, seconds, sqnr, agreement};
}

// A model of which it is known what each spec gives; unknown ones cannot be built.
struct World {
  std::map<std::string, Candidate> results;
  std::vector<std::string> built;

  std::vector<Candidate> Search(const Objective& objective, bool has_samples = true) {
    std::vector<Candidate> tried = {Make("fp32", 400, 4, 999, 1)};
    while (const auto next = Next(objective, tried, has_samples)) {
      built.push_back(next->ToString());
      EXPECT_LE(built.size(), 20) << "does not end";
      if (built.size() > 20) break;
      const auto found = results.find(next->ToString());
      // What cannot be built is tried once, and is never the best.
      tried.push_back(found != results.end() ? found->second
                                             : Candidate{*next, INT64_MAX, 1e9, -999, 0});
    }
    return tried;
  }
};

World Typical() {
  World w;
  for (const Candidate& c :
       {Make("int8/per-channel/static", 100, 1, 18, 0.97), Make("fp16", 200, 4, 60, 1),
        Make("int8/per-channel/dynamic", 100, 1.5, 25, 0.98), Make("bf16", 200, 2, 35, 0.99),
        Make("int8/per-channel/weight-only", 100, 4, 40, 0.995), Make("int4", 60, 5, 15, 0.9),
        Make("int8/per-channel/static/better", 100, 1, 22, 0.98),
        Make("int8/per-channel/static/best", 130, 1.2, 36, 0.998),
        Make("int4/best", 70, 5, 30, 0.98)}) {
    w.results[c.spec.ToString()] = c;
  }
  return w;
}

TEST(Search, TheSmallestThatIsGoodEnough) {
  World w = Typical();
  const Objective objective{.goal = Goal::kSmallest, .min_sqnr_db = 28};
  const std::vector<Candidate> tried = w.Search(objective);
  EXPECT_EQ(Best(objective, tried)->spec.ToString(), "int4/best");
  EXPECT_THAT(w.built, Not(Contains("ternary"))) << "int4 lost too much already";
}

TEST(Search, TheFastestThatIsGoodEnough) {
  World w = Typical();
  const Objective objective{
      .goal = Goal::kFastest, .max_disagreement = 0.005, .limits_disagreement = true};
  const std::vector<Candidate> tried = w.Search(objective);
  EXPECT_EQ(Best(objective, tried)->spec.ToString(), "int8/per-channel/static/best");
  EXPECT_THAT(w.built, Not(Contains("int4"))) << "no way to be faster";
}

TEST(Search, BetterLevelsAreTriedOnlyWhereThePlainOneFails) {
  World w = Typical();
  w.Search({.goal = Goal::kFastest, .min_sqnr_db = 10});
  EXPECT_THAT(w.built, Not(Contains("int8/per-channel/static/better")));
}

// Where int8 is slower than f32 in some layers, mixing is the fastest; it is never the smallest.
TEST(Search, LayersThatDoNotPayStayFloatWhereSpeedIsTheGoal) {
  World w = Typical();
  w.results["int8/per-channel/static/speed"] = Make("int8/per-channel/static/speed", 150, 0.8, 20);
  const Objective fastest{.goal = Goal::kFastest, .min_sqnr_db = 10};
  EXPECT_EQ(Best(fastest, w.Search(fastest))->spec.ToString(), "int8/per-channel/static/speed");
  World small = Typical();
  small.Search({.goal = Goal::kSmallest, .min_sqnr_db = 10});
  EXPECT_THAT(small.built, Not(Contains("int8/per-channel/static/speed")));
}

TEST(Search, AScalePerTokenWhereOnePerTensorLosesTooMuch) {
  World w = Typical();
  w.results["int8/per-channel/dynamic-per-token"] =
      Make("int8/per-channel/dynamic-per-token", 100, 1.6, 29);
  const Objective objective{.goal = Goal::kFastest, .min_sqnr_db = 28};
  EXPECT_EQ(Best(objective, w.Search(objective, false))->spec.ToString(),
            "int8/per-channel/dynamic-per-token");
  World easy = Typical();
  easy.Search({.goal = Goal::kFastest, .min_sqnr_db = 10}, false);
  EXPECT_THAT(easy.built, Not(Contains("int8/per-channel/dynamic-per-token")));
}

TEST(Search, WithoutSamplesNothingStatic) {
  World w = Typical();
  w.Search({.goal = Goal::kFastest, .min_sqnr_db = 30}, /*has_samples=*/false);
  for (const std::string& spec : w.built) EXPECT_EQ(spec.find("static"), std::string::npos);
}

VariantReport ReportOf(const Candidate& c) {
  VariantReport r;
  r.resident_bytes = c.resident_bytes;
  r.latency_seconds = c.latency_seconds;
  r.sqnr_db = c.sqnr_db;
  r.top1_agreement = c.top1_agreement;
  r.fp32_resident_bytes = 400;
  r.fp32_latency_seconds = 4;
  return r;
}

struct Searching {
  World world = Typical();
  int builds = 0, stop_after = 100;
  std::vector<std::string> bests;

  absl::StatusOr<SearchState> Search(const Objective& objective) {
    const auto build = [&](const QuantSpec& spec) -> absl::StatusOr<VariantReport> {
      ++builds;
      const auto found = world.results.find(spec.ToString());
      if (found == world.results.end())
        return absl::FailedPreconditionError("no node would change");
      return ReportOf(found->second);
    };
    return SearchVariants(
        objective, true, build, [&] { return builds >= stop_after; },
        [&](const SearchState& s) { bests.push_back(s.best.spec.ToString()); });
  }
};

TEST(SearchVariants, FindsTheBestAndShowsTheWay) {
  Searching run;
  HT_ASSERT_OK_AND_ASSIGN(const SearchState got, run.Search({.min_sqnr_db = 28}));
  EXPECT_EQ(got.best.spec.ToString(), "int4/best");
  EXPECT_TRUE(got.met);
  EXPECT_THAT(run.bests, Contains("bf16")) << "the best so far on the way";
  EXPECT_THAT(got.front, Contains(Make("fp32", 400, 4, 999, 1)));
}

TEST(SearchVariants, WhenTimeIsOverTheBestSoFarAndNeverNothing) {
  Searching none;
  none.stop_after = 0;
  HT_ASSERT_OK_AND_ASSIGN(const SearchState nothing, none.Search({.min_sqnr_db = 28}));
  EXPECT_EQ(nothing.best.spec.ToString(), "fp32");
  EXPECT_TRUE(nothing.met) << "the model itself loses nothing";
  HT_ASSERT_OK_AND_ASSIGN(const SearchState small, none.Search({.max_resident_bytes = 10}));
  EXPECT_FALSE(small.met);
  Searching one;
  one.stop_after = 1;
  HT_ASSERT_OK_AND_ASSIGN(const SearchState first, one.Search({.min_sqnr_db = 28}));
  EXPECT_EQ(first.best.spec.ToString(), "fp32") << "int8 loses too much, fp32 does not";
  HT_ASSERT_OK_AND_ASSIGN(const SearchState easy, [] {
    Searching run;
    run.stop_after = 1;
    return run.Search({.min_sqnr_db = 10});
  }());
  EXPECT_EQ(easy.best.spec.ToString(), "int8/per-channel/static");
}

TEST(SearchVariants, WhereNoLayerPaysTheModelItselfIsTheAnswer) {
  Searching run;
  run.world.results = {
      {"int8/per-channel/static/speed", Make("int8/per-channel/static/speed", 400, 3.9, 999, 1)}};
  HT_ASSERT_OK_AND_ASSIGN(const SearchState got, run.Search({.goal = Goal::kFastest}));
  EXPECT_EQ(got.best.spec.ToString(), "fp32");
  EXPECT_EQ(got.front.size(), 1u);
}

TEST(SearchVariants, WhatCannotBeBuiltIsSaidAndPassedOver) {
  Searching run;
  run.world.results.erase("bf16");
  HT_ASSERT_OK_AND_ASSIGN(const SearchState got, run.Search({.min_sqnr_db = 28}));
  EXPECT_THAT(got.failures, Contains(testing::HasSubstr("bf16: no node would change")));
  EXPECT_EQ(got.best.spec.ToString(), "int4/best");
  const auto gone = [](const QuantSpec&) -> absl::StatusOr<VariantReport> {
    return absl::NotFoundError("no model 'm'");
  };
  EXPECT_THAT(SearchVariants(
                  {}, true, gone, [] { return false; }, [](const SearchState&) {}),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST(Best, WhereNothingMeetsTheObjectiveTheLeastBad) {
  const std::vector<Candidate> all = {Make("fp32", 400, 4, 999, 1), Make("int8", 100, 1, 20, 0.9),
                                      Make("fp16", 200, 4, 60, 1)};
  EXPECT_EQ(Best({.min_sqnr_db = 30, .max_resident_bytes = 150}, all)->spec.ToString(), "fp16")
      << "quality first, then memory";
  EXPECT_FALSE(Meets({.min_sqnr_db = 30, .max_resident_bytes = 150}, all[2]));
  EXPECT_EQ(Best({.min_sqnr_db = 1000}, {all[1], all[2]})->spec.ToString(), "fp16");
  EXPECT_EQ(Best({}, {}), nullptr);
}

TEST(ParetoFront, KeepsWhatNothingBeats) {
  const Candidate fp32 = Make("fp32", 400, 4, 999), int8 = Make("int8", 100, 1, 20);
  const Candidate fp16 = Make("fp16", 200, 4, 60), slow = Make("int4", 120, 5, 15);
  EXPECT_THAT(ParetoFront({fp32, slow, int8, fp16}), ElementsAre(int8, fp16, fp32));
}

TEST(Objective, RefusesWhatMakesNoSense) {
  HT_EXPECT_OK(Objective{}.Validate());
  EXPECT_THAT((Objective{.min_sqnr_db = -1}.Validate()),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT((Objective{.max_disagreement = 1.5}.Validate()),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT((Objective{.max_resident_bytes = -5}.Validate()),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace halftone
