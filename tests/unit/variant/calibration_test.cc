#include "core/variant/calibration.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/base/status_macros.h"
#include "core/quant/range_choice.h"
#include "core/variant/observed_graph.h"
#include "tests/testing/status_matchers.h"
#include "tests/unit/variant/variant_test_util.h"

namespace halftone {
namespace {

using Method = CalibrationMethod;
using ::testing::IsEmpty;
using ::testing::Key;
using ::testing::UnorderedElementsAre;

constexpr Method kMethods[] = {Method::kMinMax, Method::kMovingAverage, Method::kPercentile,
                               Method::kEntropy, Method::kMse};
const std::vector<std::string>& Names() {
  static const auto& names = *new std::vector<std::string>{"flat", "r1", "x", "y"};
  return names;
}

absl::Status GoOn(int, int) { return absl::OkStatus(); }

// A memory, and how often it was asked and told.
struct FakeCache {
  std::map<std::string, std::string> values;
  CalibrationCache cache{.find = [this](const std::string& key) -> std::optional<std::string> {
                           const auto it = values.find(key);
                           if (it == values.end()) return std::nullopt;
                           return it->second;
                         },
                         .put =
                             [this](const std::string& key, absl::string_view value) {
                               if (value.empty()) {
                                 values.erase(key);
                               } else {
                                 values[key] = std::string(value);
                               }
                             }};
};

// The reference evaluation; counts runs, and breaks off run `fail_at` after its first output.
GraphWatcher Counting(int& runs, int fail_at = -1) {
  return [&runs, fail_at](Graph graph) -> absl::StatusOr<WatchableGraph> {
    HT_ASSIGN_OR_RETURN(const WatchableGraph whole, WatcherOf(ReferenceRunner())(std::move(graph)));
    return WatchableGraph{[whole, &runs, fail_at](absl::Span<const Tensor> in,
                                                  const OutputWatcher& show) -> absl::Status {
      if (runs++ != fail_at) return whole.run(in, show);
      HT_RETURN_IF_ERROR(whole.run(in, [&](int i, const Tensor& t) {
        if (i == 0) show(i, t);
      }));
      return absl::CancelledError("half way");
    }};
  };
}

TEST(Calibrate, RangesAreThoseOfTheObserversOverAllValues) {
  const Graph graph = ClassifierNet();
  SampleSet set = RealSamples(200);
  for (auto& sample : set.samples) {  // long tails, so that every method cuts elsewhere
    for (float& v : sample[0].mutable_data<float>()) v *= std::exp(3 * v * v);
  }
  HistogramObserver r1;
  MovingAverageObserver average;
  HT_ASSERT_OK_AND_ASSIGN(const ObservedGraph observed,
                          ObservedGraph::Create(graph, {"r1"}, ReferenceRunner()));
  for (const auto& sample : set.samples) {
    HT_ASSERT_OK_AND_ASSIGN(const auto values, observed.Run(sample));
    r1.Observe(values.at("r1").data<float>());
    average.Observe(values.at("r1").data<float>());
  }
  const std::map<Method, ValueRange> want = {{Method::kMinMax, r1.range()},
                                             {Method::kMovingAverage, average.range()},
                                             {Method::kPercentile, PercentileRange(r1, 90)},
                                             {Method::kEntropy, EntropyRange(r1)},
                                             {Method::kMse, MseRange(r1)}};
  std::set<float> different;
  for (const auto& [method, range] : want) {
    HT_ASSERT_OK_AND_ASSIGN(const RangeMap got, Calibrate(graph, Names(), set.samples, {method, 90},
                                                          WatcherOf(ReferenceRunner()), GoOn));
    EXPECT_THAT(got, UnorderedElementsAre(Key("flat"), Key("r1"), Key("x"), Key("y")));
    EXPECT_EQ(got.at("r1"), range) << static_cast<int>(method);
    different.insert(range.max);
  }
  EXPECT_EQ(different.size(), want.size());  // or the test could not tell the methods apart
}

TEST(Calibrate, ThePlanShowsWhatTheReferenceComputes) {
  const Graph graph = ClassifierNet();
  const SampleSet set = RealSamples(4);
  HT_ASSERT_OK_AND_ASSIGN(const RangeMap want, Calibrate(graph, Names(), set.samples, {},
                                                         WatcherOf(ReferenceRunner()), GoOn));
  HT_ASSERT_OK_AND_ASSIGN(const RangeMap got,
                          Calibrate(graph, Names(), set.samples, {}, PlanWatcher(1), GoOn));
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [name, range] : want) {
    EXPECT_NEAR(got.at(name).min, range.min, 1e-4) << name;
    EXPECT_NEAR(got.at(name).max, range.max, 1e-4) << name;
  }
}

TEST(Calibrate, GoesOnWhereItWasInterrupted) {
  const Graph graph = ClassifierNet();
  const SampleSet set = RealSamples(8);
  for (const Method method : kMethods) {
    HT_ASSERT_OK_AND_ASSIGN(const RangeMap want, Calibrate(graph, Names(), set.samples, {method},
                                                           WatcherOf(ReferenceRunner()), GoOn));
    for (const bool between_samples : {false, true}) {
      for (int stop_at = 0; stop_at < 8; ++stop_at) {
        std::string progress = "whatever was there";
        int runs = 0;
        const auto step = [&](int done, int) {
          return between_samples && done == stop_at + 1 ? absl::CancelledError("now")
                                                        : absl::OkStatus();
        };
        ASSERT_THAT(Calibrate(graph, Names(), set.samples, {method},
                              Counting(runs, between_samples ? -1 : stop_at), step, &progress),
                    StatusIs(absl::StatusCode::kCancelled));
        runs = 0;
        HT_ASSERT_OK_AND_ASSIGN(const RangeMap got, Calibrate(graph, Names(), set.samples, {method},
                                                              Counting(runs), GoOn, &progress));
        EXPECT_EQ(got, want) << static_cast<int>(method) << " from " << stop_at;
        EXPECT_EQ(runs, 8 - stop_at - (between_samples ? 1 : 0));
      }
    }
  }
}

TEST(RangeCollector, TwoHalvesMergeToTheWhole) {
  for (const Method method : kMethods) {
    RangeCollector whole(method), first(method), second(method);
    for (int i = 0; i < 20; ++i) {
      const Tensor t = RandomTensor({50}, i);
      whole.Observe("both", t.data<float>());
      (i < 10 ? first : second).Observe("both", t.data<float>());
    }
    second.Observe("one", {-1, 2});
    whole.Observe("one", {-1, 2});
    first.Merge(second);
    const RangeMap got = first.Choose({method}), want = whole.Choose({method});
    ASSERT_EQ(got.size(), 2u);
    for (const auto& [name, range] : want) {
      EXPECT_FLOAT_EQ(got.at(name).min, range.min) << static_cast<int>(method);
      EXPECT_FLOAT_EQ(got.at(name).max, range.max) << static_cast<int>(method);
    }
  }
}

TEST(RangeCollector, AValueThatNeverWasFiniteHasNoRange) {
  for (const Method method : kMethods) {
    RangeCollector collector(method);
    collector.Observe("nan", {std::nanf("")});
    EXPECT_THAT(collector.Choose({method}), IsEmpty());
  }
}

TEST(RangeCollector, ForeignStateIsDataLoss) {
  RangeCollector collector(Method::kMse);
  collector.Observe("a", {1, 2});
  const std::string state = collector.Write();
  HT_EXPECT_OK(RangeCollector::Read(Method::kMse, state).status());
  for (const std::string& bytes :
       {std::string(), std::string("text"), state + "x", state.substr(0, state.size() - 1)}) {
    EXPECT_THAT(RangeCollector::Read(Method::kMse, bytes), StatusIs(absl::StatusCode::kDataLoss));
  }
  EXPECT_THAT(RangeCollector::Read(Method::kMinMax, state), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(CalibrateCached, TheSecondTimeNothingRuns) {
  const Graph graph = ClassifierNet();
  const SampleSet set = RealSamples(3);
  FakeCache memory;
  const auto calibrate = [&](const std::string& key, int& runs) {
    return CalibrateCached({&memory.cache, key, key + "-progress"}, graph, Names(), set.samples, {},
                           Counting(runs), GoOn);
  };
  int runs = 0;
  HT_ASSERT_OK_AND_ASSIGN(const RangeMap first, calibrate("a", runs));
  EXPECT_EQ(runs, 3);
  HT_ASSERT_OK_AND_ASSIGN(const RangeMap again, calibrate("a", runs));
  EXPECT_EQ(runs, 3);
  EXPECT_EQ(again, first);
  HT_ASSERT_OK(calibrate("b", runs).status());
  EXPECT_EQ(runs, 6);
  memory.values["a"].resize(memory.values["a"].size() - 1);
  HT_ASSERT_OK_AND_ASSIGN(const RangeMap repaired, calibrate("a", runs));
  EXPECT_EQ(runs, 9);
  EXPECT_EQ(repaired, first);
}

TEST(CalibrateCached, AnInterruptedOneIsFinishedByTheNextAndLeavesOnlyRanges) {
  const Graph graph = ClassifierNet();
  const SampleSet set = RealSamples(5);
  FakeCache memory;
  const CachedCalibration cached{&memory.cache, "ranges", "progress"};
  int runs = 0;
  ASSERT_THAT(CalibrateCached(cached, graph, Names(), set.samples, {}, Counting(runs, 3), GoOn),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(memory.values, UnorderedElementsAre(Key("progress")));
  runs = 0;
  HT_ASSERT_OK(
      CalibrateCached(cached, graph, Names(), set.samples, {}, Counting(runs), GoOn).status());
  EXPECT_EQ(runs, 2);
  EXPECT_THAT(memory.values, UnorderedElementsAre(Key("ranges")));
}

TEST(CalibrationKey, DependsOnEverything) {
  const CalibrationChoice mse{Method::kMse};
  const std::set<std::string> keys = {
      CalibrationKey("ranges", "g", "d", "vnni", mse, {"a", "b"}),
      CalibrationKey("progress", "g", "d", "vnni", mse, {"a", "b"}),
      CalibrationKey("ranges", "G", "d", "vnni", mse, {"a", "b"}),
      CalibrationKey("ranges", "g", "D", "vnni", mse, {"a", "b"}),
      CalibrationKey("ranges", "g", "d", "avx2", mse, {"a", "b"}),
      CalibrationKey("ranges", "g", "d", "vnni", {Method::kMinMax}, {"a", "b"}),
      CalibrationKey("ranges", "g", "d", "vnni", {Method::kPercentile, 99}, {"a", "b"}),
      CalibrationKey("ranges", "g", "d", "vnni", {Method::kPercentile, 99.9}, {"a", "b"}),
      CalibrationKey("ranges", "g", "d", "vnni", mse, {"ab"}),
      CalibrationKey("ranges", "g", "d", "vnni", mse, {"a"})};
  EXPECT_EQ(keys.size(), 10u);
}

TEST(ChoiceFor, SixteenBitsAreNotClippedForTheirLevels) {
  QuantSpec spec{.calibration = Method::kEntropy};
  EXPECT_EQ(ChoiceFor(spec).method, Method::kEntropy);
  spec.activation_type = ActivationType::kU16;
  EXPECT_EQ(ChoiceFor(spec).method, Method::kMinMax);
  spec.calibration = Method::kPercentile;
  spec.percentile = 99;
  EXPECT_EQ(ChoiceFor(spec).method, Method::kPercentile);
  EXPECT_EQ(ChoiceFor(spec).percentile, 99);
}

}  // namespace
}  // namespace halftone
