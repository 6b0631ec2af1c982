#include "core/variant/speed_policy.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>

#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A chain of layers whose times add up; a float layer beside a narrow one converts in between.
class Chain {
 public:
  explicit Chain(std::vector<LayerSeconds> times, double conversion = 0)
      : times_(std::move(times)), conversion_(conversion) {
    for (size_t i = 0; i < times_.size(); ++i) layers.push_back(std::string(1, 'a' + i));
  }

  absl::StatusOr<FloatLayers> Choose() {
    return ChooseFloatLayers(
        layers, [&](const std::vector<std::string>& floats) -> absl::StatusOr<SpeedTrial> {
          return Try(floats);
        });
  }
  SpeedTrial Try(const std::vector<std::string>& floats) {
    ++trials;
    EXPECT_LT(floats.size(), layers.size()) << "nothing would be narrow";
    const auto is_float = [&](size_t i) {
      return std::find(floats.begin(), floats.end(), layers[i]) != floats.end();
    };
    double fp32 = 0, variant = 0;
    SpeedTrial trial;
    for (size_t i = 0; i < layers.size(); ++i) {
      const bool converts = i > 0 && is_float(i) != is_float(i - 1);
      LayerSeconds t = {.fp32 = times_[i].fp32,
                        .variant = (is_float(i) ? times_[i].fp32 : times_[i].variant) +
                                   (converts ? conversion_ : 0)};
      fp32 += t.fp32;
      variant += t.variant;
      trial.layers[layers[i]] = t;
    }
    trial.speedup = fp32 / variant;
    return trial;
  }

  std::vector<std::string> layers;
  int trials = 0;

 private:
  std::vector<LayerSeconds> times_;
  double conversion_;
};

TEST(ChooseFloatLayers, NoneWhereAllAreFaster) {
  Chain model({{4, 1}, {2, 1}});
  HT_ASSERT_OK_AND_ASSIGN(const FloatLayers got, model.Choose());
  EXPECT_THAT(got.layers, IsEmpty());
  EXPECT_DOUBLE_EQ(got.speedup, 3);
  EXPECT_EQ(model.trials, 1);
}

TEST(ChooseFloatLayers, SlowOnesStayFloat) {
  Chain model({{4, 1}, {1, 3}, {4, 1}});
  HT_ASSERT_OK_AND_ASSIGN(const FloatLayers got, model.Choose());
  EXPECT_THAT(got.layers, ElementsAre("b"));
  EXPECT_DOUBLE_EQ(got.speedup, 3);
}

TEST(ChooseFloatLayers, ADifferenceWithinNoiseIsNone) {
  Chain model({{4, 1}, {1, 1.02}});
  HT_ASSERT_OK_AND_ASSIGN(const FloatLayers got, model.Choose());
  EXPECT_THAT(got.layers, IsEmpty());
}

TEST(ChooseFloatLayers, NotWhereConversionsCostMore) {
  Chain model({{4, 1}, {1, 1.2}, {4, 1}}, /*conversion=*/0.5);
  HT_ASSERT_OK_AND_ASSIGN(const FloatLayers got, model.Choose());
  EXPECT_THAT(got.layers, IsEmpty());
}

TEST(ChooseFloatLayers, NeighboursFollowWhenConversionsMakeThemSlow) {
  Chain model({{9, 1}, {1, 4}, {1, 0.9}}, /*conversion=*/0.5);
  HT_ASSERT_OK_AND_ASSIGN(const FloatLayers got, model.Choose());
  EXPECT_THAT(got.layers, ElementsAre("b", "c"));
}

TEST(ChooseFloatLayers, AllWhenNothingHelps) {
  Chain model({{1, 1.5}, {1, 0.9}}, /*conversion=*/1);
  HT_ASSERT_OK_AND_ASSIGN(const FloatLayers got, model.Choose());
  EXPECT_THAT(got.layers, ElementsAre("a", "b"));
  EXPECT_DOUBLE_EQ(got.speedup, 1);
  Chain each({{1, 2}, {1, 2}});
  HT_ASSERT_OK_AND_ASSIGN(const FloatLayers all, each.Choose());
  EXPECT_THAT(all.layers, ElementsAre("a", "b"));
}

TEST(ChooseFloatLayers, TrialsAreFew) {
  std::vector<LayerSeconds> times;
  for (int i = 0; i < 20; ++i) times.push_back({1, 0.9});
  times[10].variant = 5;
  Chain model(times, /*conversion=*/0.3);  // the float island would grow by a layer each round
  HT_ASSERT_OK(model.Choose().status());
  EXPECT_LE(model.trials, 5);
}

TEST(ChooseFloatLayers, ATrialsErrorEndsTheChoice) {
  const auto fails = [](const std::vector<std::string>&) -> absl::StatusOr<SpeedTrial> {
    return absl::CancelledError("enough");
  };
  EXPECT_THAT(ChooseFloatLayers({"a"}, fails).status(),
              StatusIs(absl::StatusCode::kCancelled, ::testing::HasSubstr("enough")));
}

}  // namespace
}  // namespace halftone
