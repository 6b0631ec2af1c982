#include "server/reservoir.h"

#include <gmock/gmock.h>

#include <cmath>
#include <thread>
#include <vector>

namespace halftone {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

// A request of `floats` numbers, all of them `value`.
std::vector<Tensor> Request(float value, int64_t floats = 1) {
  return {Tensor::Of<float>({floats}, std::vector<float>(static_cast<size_t>(floats), value))};
}

std::vector<float> ValuesOf(const Reservoir& r) {
  std::vector<float> out;
  for (const auto& sample : r.Snapshot()) out.push_back(sample[0].data<float>()[0]);
  return out;
}

TEST(Reservoir, HoldsAllThatFitsAndThenAsMany) {
  Reservoir r({.max_samples = 5});
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(r.Offer(Request(static_cast<float>(i))));
  EXPECT_THAT(ValuesOf(r), testing::ElementsAre(0, 1, 2, 3, 4));
  for (int i = 5; i < 1000; ++i) r.Offer(Request(static_cast<float>(i)));
  EXPECT_THAT(ValuesOf(r), SizeIs(5));
  EXPECT_EQ(r.seen(), 1000);
}

TEST(Reservoir, EveryRequestIsEquallyLikelyToBeThere) {
  constexpr int kRounds = 20000, kRequests = 40, kSamples = 10;
  std::vector<int> times(kRequests);
  for (int round = 0; round < kRounds; ++round) {
    Reservoir r({.max_samples = kSamples, .seed = static_cast<uint32_t>(round)});
    for (int i = 0; i < kRequests; ++i) r.Offer(Request(static_cast<float>(i)));
    for (const float v : ValuesOf(r)) ++times[static_cast<size_t>(v)];
  }
  constexpr double kWant = 1.0 * kRounds * kSamples / kRequests;
  const double sigma = std::sqrt(kWant * (1 - 1.0 * kSamples / kRequests));
  for (int i = 0; i < kRequests; ++i) EXPECT_NEAR(times[i], kWant, 4.5 * sigma) << i;
}

TEST(Reservoir, EqualRequestsGiveEqualSamplesPerModel) {
  const auto run = [](absl::string_view model) {
    Reservoir r({.max_samples = 8, .seed = SeedFor(model)});
    for (int i = 0; i < 500; ++i) r.Offer(Request(static_cast<float>(i)));
    return ValuesOf(r);
  };
  EXPECT_EQ(run("a"), run("a"));
  EXPECT_NE(run("a"), run("b"));
}

TEST(Reservoir, KeepsItsOwnCopies) {
  Reservoir r({.max_samples = 1});
  std::vector<float> bytes = {7};
  r.Offer({Tensor::Borrow(DataType::kF32, {1}, bytes.data())});
  bytes[0] = 8;
  EXPECT_THAT(ValuesOf(r), testing::ElementsAre(7));
}

TEST(Reservoir, NeverHoldsMoreBytesThanAllowed) {
  Reservoir r({.max_samples = 100, .max_bytes = 4000});
  EXPECT_FALSE(r.Offer(Request(1, 1001)));  // alone too large
  std::mt19937 rng(1);
  for (int i = 0; i < 5000; ++i) {
    r.Offer(Request(1, 1 + static_cast<int64_t>(rng() % 400)));
    int64_t held = 0;
    for (const auto& sample : r.Snapshot()) held += sample[0].num_bytes();
    ASSERT_EQ(held, r.bytes());
    ASSERT_LE(held, 4000);
  }
  EXPECT_GE(r.Snapshot().size(), 2u);
}

TEST(Reservoir, WithoutRoomItTakesNothing) {
  Reservoir r({.max_samples = 0});
  EXPECT_FALSE(r.Offer(Request(1)));
  EXPECT_THAT(r.Snapshot(), IsEmpty());
}

TEST(Reservoir, WipedItBeginsAgain) {
  Reservoir r({.max_samples = 4}), fresh({.max_samples = 4});
  for (int i = 0; i < 100; ++i) r.Offer(Request(-1));
  r.Wipe();
  EXPECT_THAT(r.Snapshot(), IsEmpty());
  EXPECT_EQ(r.bytes(), 0);
  EXPECT_EQ(r.seen(), 0);
  for (int i = 0; i < 100; ++i) {
    r.Offer(Request(static_cast<float>(i)));
    fresh.Offer(Request(static_cast<float>(i)));
  }
  EXPECT_EQ(ValuesOf(r), ValuesOf(fresh));
}

TEST(Reservoir, ManyThreadsOfferAndWipe) {
  Reservoir r({.max_samples = 16, .max_bytes = 1000});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&r, t] {
      for (int i = 0; i < 2000; ++i) {
        r.Offer(Request(static_cast<float>(i), 1 + i % 30));
        if (t == 0 && i % 500 == 0) r.Wipe();
        if (t == 1) r.Snapshot();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  int64_t held = 0;
  for (const auto& sample : r.Snapshot()) held += sample[0].num_bytes();
  EXPECT_EQ(held, r.bytes());
  EXPECT_LE(held, 1000);
}

}  // namespace
}  // namespace halftone
