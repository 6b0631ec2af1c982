#include <thread>

#include "tests/unit/store/store_fixture.h"

namespace halftone {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

class AcquireTest : public StoreTest {
 protected:
  void SetUp() override {
    HT_ASSERT_OK(Open());
    HT_ASSERT_OK(Upload("m", "1000"));
  }
};

TEST_F(AcquireTest, TheDefaultIsFp32AndTheSecondCallIsAHit) {
  HT_ASSERT_OK_AND_ASSIGN(const VariantHandle first, Get("m"));
  EXPECT_EQ(first.info().spec, "fp32");
  EXPECT_EQ(first.info().state, VariantState::kLoaded);
  EXPECT_EQ(first.info().memory.weight_bytes, 1000);
  HT_ASSERT_OK_AND_ASSIGN(const VariantHandle second, Get("m", "fp32"));
  HT_ASSERT_OK_AND_ASSIGN(const VariantHandle third, Get("m", first.info().id));
  EXPECT_EQ(first.plan(), second.plan());
  EXPECT_EQ(first.plan(), third.plan());
  EXPECT_EQ(engine_.loads, 1);
  EXPECT_THAT(TakeEvents(),
              UnorderedElementsAre("miss m fp32", "load m fp32", "hit m fp32", "hit m fp32"));
}

TEST_F(AcquireTest, BuildsWhatIsNotThereYet) {
  HT_ASSERT_OK_AND_ASSIGN(const VariantHandle v, Get("m", "int8"));
  EXPECT_EQ(v.info().spec, "int8/per-channel/dynamic");
  EXPECT_EQ(v.info().memory.weight_bytes, 500);
  EXPECT_THAT(
      TakeEvents(),
      UnorderedElementsAre("miss m int8/per-channel/dynamic", "built int8/per-channel/dynamic OK",
                           "build m int8/per-channel/dynamic", "load m int8/per-channel/dynamic"));
}

TEST_F(AcquireTest, PlansComputeAsTheSpecSays) {
  HT_ASSERT_OK(Get("m", "fp16/compute=bf16").status());
  EXPECT_EQ(engine_.loaded_compute, ComputeType::kBF16);
  HT_ASSERT_OK(Get("m", "fp16").status());
  EXPECT_EQ(engine_.loaded_compute, ComputeType::kAuto);
}

TEST_F(AcquireTest, FindsVariantsByTheBeginningOfTheirId) {
  const std::string id = Quantize("m", "fp16")->id;
  EXPECT_EQ(Get("m", id.substr(0, 8))->info().id, id);
  EXPECT_THAT(Get("m", "00000000"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no variant with id '00000000'")));
}

TEST_F(AcquireTest, ExplainsWhatItCannotFind) {
  EXPECT_THAT(Get("nobody"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("'nobody'")));
  EXPECT_THAT(Get("m", "int9"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(store_->AcquireBlocking("m", 7, ""),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no version 7")));
  EXPECT_THAT(Get("m", "int8/per-channel/static"),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("calibration")));
}

TEST_F(AcquireTest, ServesTheNewestVersionAndOlderOnesByNumber) {
  HT_ASSERT_OK(Upload("m", "3000"));
  EXPECT_EQ(Get("m")->info().memory.weight_bytes, 3000);
  EXPECT_EQ(store_->AcquireBlocking("m", 1, "")->info().memory.weight_bytes, 1000);
  EXPECT_EQ(Get("m")->info().version, 2);
}

TEST_F(AcquireTest, OneBuildServesAllWhoWait) {
  engine_.build_gate.Close();
  std::vector<std::unique_ptr<Pending>> pending;
  for (int i = 0; i < 20; ++i) {
    pending.push_back(Ask("m", i % 2 == 0 ? "int8" : "int8/per-channel/dynamic"));
  }
  std::thread quantizer([&] { HT_EXPECT_OK(Quantize("m", "int8")); });
  engine_.build_gate.AwaitSomebody();
  for (const auto& p : pending) EXPECT_FALSE(p->answered());
  engine_.build_gate.Open();
  for (const auto& p : pending) {
    HT_ASSERT_OK(p->Wait());
    EXPECT_EQ((*p->Wait()).plan(), (*pending[0]->Wait()).plan());
  }
  quantizer.join();
  EXPECT_EQ(engine_.builds, 1);
  EXPECT_EQ(engine_.loads, 1);
}

TEST_F(AcquireTest, AFailedBuildFailsItsWaitersAndTheNextCallTriesAgain) {
  engine_.FailBuilds(absl::FailedPreconditionError("nothing to quantize"));
  engine_.build_gate.Close();
  const auto a = Ask("m", "fp16");
  const auto b = Ask("m", "fp16");
  engine_.build_gate.AwaitSomebody();
  EXPECT_EQ(store_->GetVariant("m", "fp16")->state, VariantState::kBuilding);
  engine_.build_gate.Open();
  EXPECT_THAT(a->Wait(), StatusIs(absl::StatusCode::kFailedPrecondition, "nothing to quantize"));
  EXPECT_THAT(b->Wait(), StatusIs(absl::StatusCode::kFailedPrecondition, "nothing to quantize"));
  const VariantInfo failed = *store_->GetVariant("m", "fp16");
  EXPECT_EQ(failed.state, VariantState::kFailed);
  EXPECT_EQ(failed.error, "nothing to quantize");
  EXPECT_THAT(store_->GetReport("m", "fp16"), StatusIs(absl::StatusCode::kFailedPrecondition));
  engine_.FailBuilds(absl::OkStatus());
  HT_EXPECT_OK(Get("m", "fp16"));
  EXPECT_EQ(engine_.builds, 2);
  EXPECT_EQ(store_->GetVariant("m", "fp16")->error, "");
}

TEST_F(AcquireTest, ManyFailuresDoNotPileUp) {
  engine_.FailBuilds(absl::InternalError("no"));
  for (int i = 0; i < 40; ++i) {
    EXPECT_FALSE(Get("m", absl::StrCat("fp16;node=n", i, "=fp32")).ok());
  }
  EXPECT_LT(store_->ListVariants("m").size(), 20u);
}

TEST_F(AcquireTest, UnavailableNowAndThereLater) {
  engine_.build_gate.Close();
  EXPECT_THAT(Ask("m", "int8", WhenMissing::kUnavailable)->Wait(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("being built")));
  engine_.build_gate.AwaitSomebody();
  engine_.build_gate.Open();
  HT_ASSERT_OK(Get("m", "int8"));
  HT_EXPECT_OK(Ask("m", "int8", WhenMissing::kUnavailable)->Wait());
  EXPECT_EQ(engine_.builds, 1);
}

TEST_F(AcquireTest, Fp32AnswersWhileTheVariantIsBuilt) {
  engine_.build_gate.Close();
  const auto fallback = Ask("m", "int8", WhenMissing::kFallback);
  HT_ASSERT_OK(fallback->Wait());
  EXPECT_TRUE(fallback->fell_back());
  EXPECT_EQ((*fallback->Wait()).info().spec, "fp32");
  const auto loaded = Ask("m", "int8", WhenMissing::kFallback);
  EXPECT_TRUE(loaded->answered()) << "fp32 is in memory";
  EXPECT_TRUE(loaded->fell_back());
  engine_.build_gate.Open();
  HT_ASSERT_OK(Get("m", "int8"));
  const auto direct = Ask("m", "int8", WhenMissing::kFallback);
  EXPECT_FALSE(direct->fell_back());
  EXPECT_EQ((*direct->Wait()).info().spec, "int8/per-channel/dynamic");
}

TEST_F(AcquireTest, AStoredVariantIsLoadedRatherThanFp32) {
  HT_ASSERT_OK(Quantize("m", "fp16"));
  const auto p = Ask("m", "fp16", WhenMissing::kFallback);
  HT_ASSERT_OK(p->Wait());
  EXPECT_FALSE(p->fell_back());
  EXPECT_THAT(LoadedSpecs(), ElementsAre("m fp16"));
}

TEST_F(AcquireTest, WaitersGiveUpExactlyAtTheirDeadlineAndTheBuildGoesOn) {
  engine_.build_gate.Close();
  const auto early = Ask("m", "int8", WhenMissing::kWait, clock_.Now() + absl::Milliseconds(5));
  const auto late = Ask("m", "int8", WhenMissing::kWait, clock_.Now() + absl::Milliseconds(50));
  engine_.build_gate.AwaitSomebody();
  clock_.Advance(absl::Milliseconds(5));
  EXPECT_THAT(early->Wait(), StatusIs(absl::StatusCode::kDeadlineExceeded,
                                      AllOf(HasSubstr("'m'"), HasSubstr("being built"))));
  EXPECT_FALSE(late->answered());
  engine_.build_gate.Open();
  HT_EXPECT_OK(late->Wait());
}

TEST_F(AcquireTest, APastDeadlineStillStartsTheBuild) {
  engine_.build_gate.Close();
  EXPECT_THAT(store_->AcquireBlocking("m", 0, "int8", clock_.Now()),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  engine_.build_gate.Open();
  HT_EXPECT_OK(Get("m", "int8"));
  EXPECT_EQ(engine_.builds, 1);
}

TEST_F(AcquireTest, ALoadDoesNotWaitBehindALongBuild) {
  HT_ASSERT_OK(Quantize("m", "fp16"));
  engine_.build_gate.Close();
  const auto slow = Ask("m", "int8");
  engine_.build_gate.AwaitSomebody();
  HT_EXPECT_OK(Get("m", "fp16"));
  EXPECT_FALSE(slow->answered());
  engine_.build_gate.Open();
  HT_EXPECT_OK(slow->Wait());
}

TEST_F(AcquireTest, CallbacksMayUseTheStore) {
  absl::Notification done;
  store_->Acquire("m", 0, "int8", WhenMissing::kWait, absl::InfiniteFuture(),
                  [&](absl::StatusOr<VariantHandle> handle, bool) {
                    HT_EXPECT_OK(handle);
                    HT_EXPECT_OK(store_->DeleteModel("m"));
                    done.Notify();
                  });
  done.WaitForNotification();
  EXPECT_THAT(store_->ListModels(), IsEmpty());
}

TEST_F(AcquireTest, ManyThreadsAskForManyThings) {
  HT_ASSERT_OK(Upload("n", "600"));
  options_.resident_budget_bytes = 2000;
  HT_ASSERT_OK(Open());
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      static constexpr const char* kSpecs[] = {"", "fp16", "bf16", "int8"};
      for (int i = 0; i < 60; ++i) {
        const auto handle = Get((t + i) % 2 == 0 ? "m" : "n", kSpecs[(t * 7 + i / 2) % 4]);
        // Everything may be in use by the others.
        if (!handle.ok()) {
          EXPECT_THAT(handle, StatusIs(absl::StatusCode::kResourceExhausted));
        }
        if (i % 10 == 0) store_->LoadedVariants();
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(engine_.builds, 6);
  int64_t resident = 0;
  for (const VariantInfo& v : store_->LoadedVariants()) resident += v.memory.weight_bytes;
  EXPECT_LE(resident, 2000);
}

// --- memory ---

class EvictionTest : public AcquireTest {
 protected:
  void SetUp() override {
    options_.resident_budget_bytes = 2500;
    AcquireTest::SetUp();
    HT_ASSERT_OK(Upload("n", "1000"));
    HT_ASSERT_OK(Upload("o", "1000"));
    TakeEvents();
  }
};

TEST_F(EvictionTest, TheLeastRecentlyUsedLeavesAndComesBackFromDisk) {
  HT_ASSERT_OK(Get("m"));
  HT_ASSERT_OK(Get("n"));
  HT_ASSERT_OK(Get("m"));
  HT_ASSERT_OK(Get("o"));
  EXPECT_THAT(LoadedSpecs(), UnorderedElementsAre("m fp32", "o fp32"));
  EXPECT_THAT(TakeEvents(), Contains("evict n fp32"));
  HT_ASSERT_OK(Get("n"));
  EXPECT_THAT(LoadedSpecs(), UnorderedElementsAre("n fp32", "o fp32"));
  EXPECT_EQ(engine_.loads, 4);
  EXPECT_THAT(TakeEvents(), UnorderedElementsAre("miss n fp32", "evict m fp32", "load n fp32"));
}

TEST_F(EvictionTest, WhatIsHeldStays) {
  HT_ASSERT_OK_AND_ASSIGN(const VariantHandle held, Get("m"));
  HT_ASSERT_OK(Get("n"));
  HT_ASSERT_OK(Get("o"));
  EXPECT_THAT(LoadedSpecs(), UnorderedElementsAre("m fp32", "o fp32"));
}

TEST_F(EvictionTest, ACopyOfThePlanHoldsItToo) {
  const std::shared_ptr<const Plan> plan = Get("m")->plan();
  HT_ASSERT_OK(Get("n"));
  HT_ASSERT_OK(Get("o"));
  EXPECT_THAT(LoadedSpecs(), Contains("m fp32"));
}

TEST_F(EvictionTest, SaysBytesNeededAndAvailable) {
  HT_ASSERT_OK(Upload("huge", "2501"));
  EXPECT_THAT(Get("huge"), StatusIs(absl::StatusCode::kResourceExhausted,
                                    AllOf(HasSubstr("needs 25"), HasSubstr("2500 of 2500"))));
  HT_ASSERT_OK_AND_ASSIGN(const VariantHandle m, Get("m"));
  HT_ASSERT_OK_AND_ASSIGN(const VariantHandle n, Get("n"));
  EXPECT_THAT(Get("o"), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("500 of 2500")));
  EXPECT_THAT(LoadedSpecs(), UnorderedElementsAre("m fp32", "n fp32"));
}

TEST_F(EvictionTest, APlanLargerThanItsFileIsNotKept) {
  engine_.growth = 2000;
  EXPECT_THAT(Get("m"), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("needs 3000")));
  EXPECT_THAT(LoadedSpecs(), IsEmpty());
  EXPECT_EQ(engine_.destructions().size(), 1u);
}

TEST_F(EvictionTest, PlansThatGrewBeyondTheBudgetLeaveWhenTheyAreNoticed) {
  HT_ASSERT_OK(Get("m"));
  HT_ASSERT_OK(Get("n"));
  engine_.growth = 1000;
  // The lane tells of an eviction after it released the lock under which the plan left.
  std::vector<std::string> events;
  while (events.empty() || events.back() != "evict m fp32") {
    LoadedSpecs();
    for (std::string& event : TakeEvents()) events.push_back(std::move(event));
    std::this_thread::yield();
  }
  EXPECT_THAT(LoadedSpecs(), UnorderedElementsAre("n fp32"));
}

TEST_F(EvictionTest, PlansAreNotDestroyedOnTheCallersThread) {
  for (const char* model : {"m", "n", "o", "m"}) HT_ASSERT_OK(Get(model));
  const std::vector<std::thread::id> threads = engine_.destructions();
  EXPECT_EQ(threads.size(), 2u);
  EXPECT_THAT(threads, Not(Contains(std::this_thread::get_id())));
}

}  // namespace
}  // namespace halftone
