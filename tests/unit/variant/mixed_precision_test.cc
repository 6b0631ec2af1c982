#include "core/variant/mixed_precision.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A model whose layers bring noise of their own, which adds up.
class Noisy {
 public:
  explicit Noisy(std::map<std::string, double> noise) : noise_(std::move(noise)) {}

  absl::StatusOr<WideLayers> Choose(const QualityTarget& target) {
    std::vector<std::string> layers;
    for (const auto& [name, noise] : noise_) layers.push_back(name);
    const auto attempt = [&](const std::vector<std::string>& wide) -> absl::StatusOr<Comparison> {
      ++attempts;
      double total = 1e-12;
      for (const auto& [name, noise] : noise_) {
        if (std::find(wide.begin(), wide.end(), name) == wide.end()) total += noise;
      }
      Comparison c;
      c.sqnr_db = -10 * std::log10(total);
      c.top1_agreement = 1 - total;
      return c;
    };
    return ChooseWideLayers(layers, target, attempt, [](int done, int total) {
      EXPECT_LE(done, total);
      return absl::OkStatus();
    });
  }
  int attempts = 0;

 private:
  std::map<std::string, double> noise_;
};

TEST(ChooseWideLayers, NothingToDoWhereTheTargetIsMet) {
  Noisy model({{"a", 1e-4}, {"b", 1e-5}});
  HT_ASSERT_OK_AND_ASSIGN(const WideLayers got, model.Choose({.min_sqnr_db = 30}));
  EXPECT_TRUE(got.met);
  EXPECT_THAT(got.layers, IsEmpty());
  EXPECT_EQ(model.attempts, 1);
}

TEST(ChooseWideLayers, TheFewestOfTheNoisiestStayWide) {
  Noisy model({{"a", 1e-5}, {"b", 0.2}, {"c", 1e-5}, {"d", 0.01}, {"e", 1e-4}, {"f", 1e-6}});
  HT_ASSERT_OK_AND_ASSIGN(const WideLayers got, model.Choose({.min_sqnr_db = 35}));
  EXPECT_TRUE(got.met);
  EXPECT_THAT(got.layers, ElementsAre("b", "d"));
  EXPECT_EQ(got.sensitivity.size(), 6);
  HT_ASSERT_OK_AND_ASSIGN(const WideLayers by_agreement, model.Choose({.min_agreement = 0.98}));
  EXPECT_THAT(by_agreement.layers, ElementsAre("b"));
}

TEST(ChooseWideLayers, OneLayerStaysNarrowEvenWhereThatIsNotEnough) {
  Noisy model({{"a", 0.5}, {"b", 0.6}, {"c", 0.7}});
  HT_ASSERT_OK_AND_ASSIGN(const WideLayers got, model.Choose({.min_sqnr_db = 20}));
  EXPECT_FALSE(got.met);
  EXPECT_THAT(got.layers, ElementsAre("c", "b"));
}

TEST(ChooseWideLayers, EverySizeOfTheAnswerIsFound) {
  for (int want = 0; want < 12; ++want) {
    std::map<std::string, double> noise;
    for (int i = 0; i < 13; ++i) {
      noise[std::string(1, static_cast<char>('a' + i))] = i < want ? 0.01 + i * 0.001 : 1e-9;
    }
    Noisy model(noise);
    HT_ASSERT_OK_AND_ASSIGN(const WideLayers got, model.Choose({.min_sqnr_db = 40}));
    EXPECT_EQ(static_cast<int>(got.layers.size()), want);
    EXPECT_LE(model.attempts, 13 + 6);
  }
}

TEST(ChooseWideLayers, ErrorsEndIt) {
  const auto fail = [](const std::vector<std::string>&) -> absl::StatusOr<Comparison> {
    return absl::CancelledError("enough");
  };
  EXPECT_THAT(ChooseWideLayers({"a", "b"}, {}, fail, [](int, int) { return absl::OkStatus(); }),
              StatusIs(absl::StatusCode::kCancelled));
}

}  // namespace
}  // namespace halftone
