#include "server/live_samples.h"

#include <gmock/gmock.h>

#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<Tensor> Request(float x) { return {Tensor::Of<float>({1, 2}, {x, x})}; }

TEST(LiveSamples, NothingIsKeptUntilSomebodyStarts) {
  LiveSamples live(1000);
  live.Offer("m", 1, Request(1));
  EXPECT_FALSE(live.StateOf("m").on);
  EXPECT_THAT(live.Snapshot("m"), IsEmpty());
  live.Wipe("m");
  live.Stop("m");
}

TEST(LiveSamples, KeepsRequestsOfItsModelAndVersionAlone) {
  LiveSamples live(1000);
  HT_ASSERT_OK(live.Start("m", 2, {.max_samples = 4, .max_bytes = 100}));
  live.Offer("m", 1, Request(1));
  live.Offer("other", 2, Request(2));
  live.Offer("m", 2, Request(3));
  const LiveSamples::State state = live.StateOf("m");
  EXPECT_TRUE(state.on);
  EXPECT_EQ(state.version, 2);
  EXPECT_EQ(state.max_samples, 4);
  EXPECT_EQ(state.seen, 1);
  EXPECT_EQ(state.held, 1);
  EXPECT_EQ(state.bytes, 8);
  const auto samples = live.Snapshot("m");
  ASSERT_EQ(samples.size(), 1);
  EXPECT_EQ(samples[0][0].data<float>()[0], 3);
  EXPECT_EQ(live.States().size(), 1);
}

TEST(LiveSamples, KeepsToItsLimits) {
  LiveSamples live(1000);
  HT_ASSERT_OK(live.Start("m", 1, {.max_samples = 5, .max_bytes = 1000}));
  for (int i = 0; i < 100; ++i) live.Offer("m", 1, Request(static_cast<float>(i)));
  EXPECT_EQ(live.StateOf("m").held, 5);
  EXPECT_EQ(live.StateOf("m").seen, 100);
}

TEST(LiveSamples, WipingForgetsAndGoesOnStoppingEnds) {
  LiveSamples live(1000);
  HT_ASSERT_OK(live.Start("m", 1, {.max_samples = 5, .max_bytes = 1000}));
  live.Offer("m", 1, Request(1));
  live.Wipe("m");
  EXPECT_THAT(live.Snapshot("m"), IsEmpty());
  live.Offer("m", 1, Request(2));
  EXPECT_EQ(live.StateOf("m").held, 1);
  HT_ASSERT_OK(live.Start("m", 1, {.max_samples = 5, .max_bytes = 1000}));
  EXPECT_EQ(live.StateOf("m").held, 0) << "started anew";
  live.Offer("m", 1, Request(3));
  live.Stop("m");
  EXPECT_FALSE(live.StateOf("m").on);
  EXPECT_THAT(live.Snapshot("m"), IsEmpty());
  EXPECT_THAT(live.States(), IsEmpty());
}

TEST(LiveSamples, ModelsShareTheServersLimit) {
  LiveSamples live(100);
  HT_ASSERT_OK(live.Start("a", 1, {.max_samples = 1, .max_bytes = 60}));
  EXPECT_THAT(live.Start("b", 1, {.max_samples = 1, .max_bytes = 60}),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("at most 40")));
  HT_EXPECT_OK(live.Start("a", 1, {.max_samples = 1, .max_bytes = 100}));
  live.Stop("a");
  HT_EXPECT_OK(live.Start("b", 1, {.max_samples = 1, .max_bytes = 100}));
  EXPECT_THAT(live.Start("c", 1, {.max_samples = -1}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("want at least 1")));
}

}  // namespace
}  // namespace halftone
