// Deleting, damage, restarts, crashes, calibration and the disk budget.
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
using ::testing::SizeIs;

class LifecycleTest : public StoreTest {
 protected:
  void SetUp() override {
    HT_ASSERT_OK(Open());
    HT_ASSERT_OK(Upload("m", "1000"));
  }
  std::string VariantFolder(const std::string& variant) {
    return absl::StrCat("/store/models/m/1/variants/", store_->GetVariant("m", variant)->id);
  }
};

// --- quantize ---

TEST_F(LifecycleTest, QuantizeStoresAVariantWithItsReport) {
  HT_ASSERT_OK_AND_ASSIGN(const VariantInfo v, Quantize("m", "fp16"));
  EXPECT_EQ(v.state, VariantState::kStored);
  EXPECT_EQ(v.spec, "fp16");
  EXPECT_GT(v.disk_bytes, 500);
  EXPECT_EQ(v.memory.weight_bytes, 0);
  EXPECT_EQ(store_->GetReport("m", v.id)->spec, "fp16");
  EXPECT_THAT(
      *store_->VariantFiles("m", v.id),
      ElementsAre(VariantFolder("fp16") + "/model.onnx", VariantFolder("fp16") + "/weights.bin"));
  EXPECT_THAT(ListedSpecs("m"), ElementsAre("fp32", "fp16"));
  EXPECT_EQ(Quantize("m", "fp16")->id, v.id);
  EXPECT_EQ(engine_.builds, 1);
}

TEST_F(LifecycleTest, TheOriginalIsAVariantThatExportsButHasNoReport) {
  EXPECT_EQ(Quantize("m", "fp32")->spec, "fp32");
  EXPECT_THAT(*store_->VariantFiles("m", "fp32"), Contains("/store/models/m/1/model.onnx"));
  EXPECT_THAT(store_->GetReport("m", "fp32"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(store_->DeleteVariant("m", "fp32"),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("delete the model")));
  EXPECT_EQ(engine_.builds, 0);
}

TEST_F(LifecycleTest, ReportsProgressToEveryCaller) {
  engine_.reports_progress = true;
  std::vector<std::string> stages;
  HT_ASSERT_OK(store_->Quantize("m", *QuantSpec::Parse("fp16"), [&](const Progress& progress) {
    stages.push_back(absl::StrCat(progress.stage, " ", progress.fraction));
  }));
  EXPECT_THAT(stages, ElementsAre("calibrate 0.25", "compare 0.75"));
}

// Callers look every 50 ms whether they were cancelled: somebody must move the clock.
class TickingClock {
 public:
  explicit TickingClock(FakeClock& clock)
      : thread_([this, &clock] {
          while (!stop_) {
            clock.Advance(absl::Milliseconds(50));
            std::this_thread::yield();
          }
        }) {}
  ~TickingClock() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

TEST_F(LifecycleTest, CancellingTheOnlyCallerCancelsTheBuild) {
  engine_.build_gate.Close();
  const TickingClock ticking(clock_);
  EXPECT_THAT(store_->Quantize("m", *QuantSpec::Parse("fp16"), {},
                               [&] {
                                 engine_.build_gate.AwaitSomebody();
                                 return true;
                               }),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(ListedSpecs("m"), ElementsAre("fp32"));
  engine_.build_gate.Open();
  HT_EXPECT_OK(Quantize("m", "fp16"));
}

TEST_F(LifecycleTest, CancellingOneCallerDoesNotDisturbTheOthers) {
  engine_.build_gate.Close();
  const auto waiting = Ask("m", "fp16");
  {
    const TickingClock ticking(clock_);
    EXPECT_THAT(store_->Quantize("m", *QuantSpec::Parse("fp16"), {}, [] { return true; }),
                StatusIs(absl::StatusCode::kCancelled));
  }
  EXPECT_EQ(store_->GetVariant("m", "fp16")->state, VariantState::kBuilding);
  engine_.build_gate.Open();
  HT_EXPECT_OK(waiting->Wait());
}

// --- calibration ---

TEST_F(LifecycleTest, SamplesMakeInt8StaticAndTheNewestSetCounts) {
  HT_ASSERT_OK(Get("m", "int8"));
  HT_ASSERT_OK(Calibrate("m", "first", 1));
  EXPECT_EQ(Get("m", "int8")->info().spec, "int8/per-channel/static");
  const std::string first = store_->GetVariant("m", "int8")->id;
  HT_ASSERT_OK(Calibrate("m", "second", 2));
  EXPECT_NE(Quantize("m", "int8")->id, first);
  EXPECT_EQ(Quantize("m", "int8/per-channel/static/calib=first")->id, first);
  EXPECT_THAT(store_->GetModel("m")->calibration_sets, ElementsAre("first", "second"));
  EXPECT_THAT(engine_.sample_digests(), SizeIs(3));
  EXPECT_EQ(engine_.sample_digests()[0], "");
  EXPECT_NE(engine_.sample_digests()[1], engine_.sample_digests()[2]);
}

TEST_F(LifecycleTest, ASetOfTheSameNameIsReplaced) {
  HT_ASSERT_OK(Calibrate("m", "a", 1));
  HT_ASSERT_OK(Calibrate("m", "b", 2));
  HT_ASSERT_OK(Calibrate("m", "a", 3));
  EXPECT_THAT(store_->GetModel("m")->calibration_sets, ElementsAre("b", "a"));
  EXPECT_THAT(*files_.List("/store/models/m/calibration"), ElementsAre("2", "3"));
  HT_ASSERT_OK(Calibrate("m", "a", 3));
  EXPECT_THAT(*files_.List("/store/models/m/calibration"), ElementsAre("2", "3"));
  HT_ASSERT_OK(Open());
  EXPECT_THAT(store_->GetModel("m")->calibration_sets, ElementsAre("b", "a"));
}

TEST_F(LifecycleTest, EqualSamplesGiveEqualVariantsUnderAnyName) {
  HT_ASSERT_OK(Calibrate("m", "a", 1));
  const std::string id = Quantize("m", "int8")->id;
  HT_ASSERT_OK(Calibrate("m", "b", 1));
  EXPECT_EQ(Quantize("m", "int8")->id, id);
}

TEST_F(LifecycleTest, RefusesSamplesThatDoNotFit) {
  EXPECT_THAT(store_->PutCalibration("m", "a", {{Tensor::Of<float>({1, 3}, {0, 0, 0})}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("'m'"), HasSubstr("sample 0"), HasSubstr("f32[batch,2]"))));
  EXPECT_THAT(store_->PutCalibration("m", "../a", {}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Calibrate("nobody", "a", 1), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(LifecycleTest, RangesAreRememberedBesideTheirSamples) {
  const std::string key(64, 'a'), other(64, 'b');
  std::vector<std::string> found;
  std::string digest;
  engine_.on_build = [&](const BuildOptions& options) {
    ASSERT_NE(options.calibration_cache, nullptr);
    digest = options.graph_digest;
    found.push_back(options.calibration_cache->find(key).value_or("nothing"));
    options.calibration_cache->put(key, options.samples->digest);
    options.calibration_cache->put(other, "to be forgotten");
    options.calibration_cache->put(other, "");
  };
  HT_ASSERT_OK(Calibrate("m", "a", 1));
  HT_ASSERT_OK(Quantize("m", "int8"));
  EXPECT_EQ(digest, store_->GetModel("m")->digest);
  HT_ASSERT_OK(Quantize("m", "int8/per-tensor/static"));
  const std::string ranges = "/store/models/m/calibration/1/ranges";
  EXPECT_THAT(*files_.List(ranges), ElementsAre(key));
  HT_ASSERT_OK(Open());  // a restart keeps them, damage does not pass
  HT_ASSERT_OK(Quantize("m", "int8/per-tensor/static;op=Conv=fp32"));
  files_.Damage(ranges + "/" + key + "/ranges.bin", 3);
  HT_ASSERT_OK(Quantize("m", "int8/per-channel/static;op=Conv=fp32"));
  ASSERT_THAT(found, SizeIs(4));
  EXPECT_EQ(found[0], "nothing");
  EXPECT_THAT(found[1], SizeIs(64));
  EXPECT_EQ(found[2], found[1]);
  EXPECT_EQ(found[3], "nothing");
}

TEST_F(LifecycleTest, RangesGoWithTheirSamples) {
  engine_.on_build = [&](const BuildOptions& options) {
    HT_EXPECT_OK(Calibrate("m", "a", 2));  // replaces the set that is being used
    options.calibration_cache->put(std::string(64, 'a'), "ranges");
    EXPECT_EQ(options.calibration_cache->find(std::string(64, 'a')), std::nullopt);
  };
  HT_ASSERT_OK(Calibrate("m", "a", 1));
  HT_ASSERT_OK(Quantize("m", "int8"));
  EXPECT_THAT(*files_.List("/store/models/m/calibration"), ElementsAre("2"));
  EXPECT_FALSE(files_.Exists("/store/models/m/calibration/2/ranges"));
}

TEST_F(LifecycleTest, SyntheticSamplesAreAskedForByName) {
  engine_.on_build = [](const BuildOptions& options) {
    EXPECT_EQ(options.calibration_cache, nullptr);
  };
  EXPECT_EQ(Quantize("m", "int8/calib=synthetic")->spec, "int8/per-channel/static/calib=synthetic");
  EXPECT_THAT(Calibrate("m", "synthetic", 1), StatusIs(absl::StatusCode::kInvalidArgument));
}

// --- deleting ---

TEST_F(LifecycleTest, AHandleOutlivesItsDeletedVariant) {
  HT_ASSERT_OK_AND_ASSIGN(const VariantHandle handle, Get("m", "fp16"));
  const std::string folder = VariantFolder("fp16");
  HT_ASSERT_OK(store_->DeleteVariant("m", handle.info().id));
  EXPECT_THAT(ListedSpecs("m"), ElementsAre("fp32"));
  EXPECT_THAT(LoadedSpecs(), IsEmpty());
  EXPECT_FALSE(files_.Exists(folder));
  EXPECT_THAT(engine_.destructions(), IsEmpty());
  EXPECT_NE(handle.plan(), nullptr);
  EXPECT_THAT(store_->GetVariant("m", "fp16"), StatusIs(absl::StatusCode::kNotFound));
  HT_EXPECT_OK(Get("m", "fp16"));
  EXPECT_EQ(engine_.builds, 2);
}

TEST_F(LifecycleTest, DeletingAModelTakesEverythingWithIt) {
  HT_ASSERT_OK(Calibrate("m", "a", 1));
  HT_ASSERT_OK(Get("m", "int8"));
  HT_ASSERT_OK(Upload("m", "2000"));
  HT_ASSERT_OK(store_->DeleteModel("m"));
  EXPECT_THAT(files_.Files(), IsEmpty());
  EXPECT_THAT(store_->ListModels(), IsEmpty());
  EXPECT_THAT(store_->ListVariants(), IsEmpty());
  EXPECT_THAT(Get("m"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(store_->DeleteModel("m"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(Upload("m", "1000")->version, 1);
  HT_EXPECT_OK(Get("m"));
}

TEST_F(LifecycleTest, DeletingOneVersionKeepsTheOthers) {
  HT_ASSERT_OK(Upload("m", "2000"));
  EXPECT_THAT(store_->DeleteModel("m", 5), StatusIs(absl::StatusCode::kNotFound));
  HT_ASSERT_OK(store_->DeleteModel("m", 1));
  EXPECT_EQ(store_->GetModel("m")->version, 2);
  EXPECT_EQ(Get("m")->info().memory.weight_bytes, 2000);
  HT_ASSERT_OK(Open());
  EXPECT_THAT(store_->ListModels(), SizeIs(1));
}

TEST_F(LifecycleTest, DeletingAModelCancelsItsBuild) {
  engine_.build_gate.Close();
  const auto waiting = Ask("m", "fp16");
  engine_.build_gate.AwaitSomebody();
  HT_ASSERT_OK(store_->DeleteModel("m"));
  EXPECT_THAT(waiting->Wait(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("deleted")));
  // The lane is free again although the gate is closed: the build noticed.
  HT_ASSERT_OK(Upload("n", "100"));
  const auto next = Ask("n", "fp16");
  engine_.build_gate.Open();
  HT_EXPECT_OK(next->Wait());
  EXPECT_THAT(files_.Files(), Not(Contains(HasSubstr("/m/"))));
}

TEST_F(LifecycleTest, DeletingWhileLoadingFailsTheWaitersOnly) {
  engine_.load_gate.Close();
  const auto waiting = Ask("m", "");
  engine_.load_gate.AwaitSomebody();
  HT_ASSERT_OK(store_->DeleteModel("m"));
  EXPECT_THAT(waiting->Wait(), StatusIs(absl::StatusCode::kNotFound));
  HT_ASSERT_OK(Upload("n", "100"));
  engine_.load_gate.Open();
  HT_EXPECT_OK(Get("n"));
  EXPECT_THAT(LoadedSpecs(), ElementsAre("n fp32"));
  EXPECT_THAT(store_->damaged(), IsEmpty());
}

// --- restarts and damage ---

TEST_F(LifecycleTest, EverythingIsThereAfterARestart) {
  HT_ASSERT_OK(Calibrate("m", "a", 1));
  clock_.Advance(absl::Seconds(5));
  HT_ASSERT_OK(Quantize("m", "int8"));
  const ModelInfo model = *store_->GetModel("m");
  const VariantInfo variant = *store_->GetVariant("m", "int8");
  HT_ASSERT_OK(Open());
  const ModelInfo same = *store_->GetModel("m");
  EXPECT_EQ(same.digest, model.digest);
  EXPECT_EQ(same.created, model.created);
  EXPECT_EQ(same.calibration_sets, model.calibration_sets);
  EXPECT_EQ(ToString(SymbolicShape(same.signature.outputs[0].shape)), "[batch,2]");
  EXPECT_EQ(store_->GetVariant("m", "int8")->id, variant.id);
  EXPECT_EQ(store_->GetVariant("m", "int8")->created, variant.created);
  HT_EXPECT_OK(store_->GetReport("m", "int8"));
  HT_EXPECT_OK(Get("m", "int8"));
  EXPECT_EQ(engine_.builds, 1);
}

TEST_F(LifecycleTest, OneProcessPerDirectory) {
  EXPECT_THAT(
      ModelStore::Open(options_, {.engine = engine_.Table(), .files = files_, .clock = clock_}),
      StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(LifecycleTest, ADamagedVariantIsBuiltAgainForThoseWhoWait) {
  HT_ASSERT_OK(Quantize("m", "fp16"));
  files_.Damage(VariantFolder("fp16") + "/weights.bin", 17);
  HT_ASSERT_OK(Get("m", "fp16"));
  EXPECT_EQ(engine_.builds, 2);
  EXPECT_THAT(store_->damaged(), ElementsAre(AllOf(HasSubstr("/store/damaged/1-models-m-1-"),
                                                   HasSubstr("weights.bin has SHA-256"))));
  HT_ASSERT_OK(Open());
  EXPECT_THAT(store_->damaged(), SizeIs(1));
}

TEST_F(LifecycleTest, ADamagedManifestIsSetAsideAtOpen) {
  HT_ASSERT_OK(Quantize("m", "fp16"));
  files_.Damage(VariantFolder("fp16") + "/manifest.json", 40);
  HT_ASSERT_OK(Upload("n", "100"));
  files_.Damage("/store/models/n/1/manifest.json", 40);
  HT_ASSERT_OK(Open());
  EXPECT_THAT(ListedSpecs("m"), ElementsAre("fp32"));
  EXPECT_THAT(store_->ListModels(), SizeIs(1));
  EXPECT_THAT(store_->damaged(), SizeIs(2));
  HT_EXPECT_OK(Get("m", "fp16"));
  EXPECT_EQ(Upload("n", "100")->version, 1);
}

TEST_F(LifecycleTest, ADamagedModelIsSetAsideAndTheOthersServe) {
  HT_ASSERT_OK(Upload("n", "100"));
  files_.Damage("/store/models/m/1/weights.bin", 3);
  EXPECT_THAT(Get("m"), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("weights.bin")));
  EXPECT_THAT(store_->GetModel("m"), StatusIs(absl::StatusCode::kNotFound));
  HT_EXPECT_OK(Get("n"));
  HT_ASSERT_OK(Upload("m", "1000"));
  HT_EXPECT_OK(Get("m"));
}

TEST_F(LifecycleTest, ADamagedModelFailsItsBuilds) {
  files_.Damage("/store/models/m/1/weights.bin", 3);
  EXPECT_THAT(Get("m", "fp16"), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(Quantize("m", "fp16"), StatusIs(absl::StatusCode::kNotFound));
}

class CrashTest : public LifecycleTest {
 protected:
  void SetUp() override {}
  // What clients do in a day. Goes on after errors; returns the first.
  absl::Status Day() {
    absl::Status first = Open();
    if (!first.ok()) return first;
    first.Update(Upload("m", "1000").status());
    first.Update(Calibrate("m", "a", 1));
    first.Update(Quantize("m", "int8").status());
    first.Update(Calibrate("m", "a", 2));
    first.Update(Quantize("m", "int8").status());
    first.Update(store_->DeleteVariant("m", "int8"));
    first.Update(Upload("m", "2000").status());
    first.Update(store_->DeleteModel("m", 1));
    return first;
  }
  void StartOver() {
    store_.reset();
    HT_ASSERT_OK(files_.RemoveAll("/store"));
  }
};

TEST_F(CrashTest, AfterAKillAtAnyMomentTheStoreOpensAndEverythingListedWorks) {
  const int before = files_.operations();
  HT_ASSERT_OK(Day());
  const int operations = files_.operations() - before;
  EXPECT_GT(operations, 50);
  for (int n = 0; n < operations; ++n) {
    SCOPED_TRACE(absl::StrCat("killed after ", n, " operations"));
    StartOver();
    files_.FailAfter(n, absl::UnavailableError("killed"));
    EXPECT_FALSE(Day().ok());
    store_.reset();
    files_.Heal();

    HT_ASSERT_OK(Open());
    EXPECT_THAT(store_->damaged(), IsEmpty());
    EXPECT_THAT(*files_.List("/store/tmp"), IsEmpty());
    for (const VariantInfo& v : store_->ListVariants()) {
      HT_EXPECT_OK(store_->AcquireBlocking(v.model, v.version, v.id));
    }
    HT_ASSERT_OK(Upload("m", "1000"));
    HT_ASSERT_OK(Calibrate("m", "a", 3));
    HT_ASSERT_OK(Get("m", "int8"));
    EXPECT_THAT(store_->damaged(), IsEmpty());
  }
}

// --- disk budget ---

TEST_F(LifecycleTest, VariantsThatCanBeBuiltAgainMakeRoomOnDisk) {
  const std::string fp16 = Quantize("m", "fp16")->id;
  const std::string bf16 = Quantize("m", "bf16")->id;
  HT_ASSERT_OK(Get("m", "fp16"));
  const int64_t variant_bytes = store_->GetVariant("m", "bf16")->disk_bytes;
  const int64_t used = 1004 + 2 * variant_bytes;
  options_.disk_budget_bytes = used + 50;
  HT_ASSERT_OK(Open());
  HT_ASSERT_OK(Get("m", "fp16"));  // used last, and loaded
  HT_ASSERT_OK(Upload("n", "100"));
  EXPECT_THAT(ListedSpecs("m"), ElementsAre("fp32", "fp16"));
  EXPECT_EQ(Quantize("m", "bf16").status().code(), absl::StatusCode::kResourceExhausted)
      << "fp16 is loaded and stays";
  EXPECT_THAT(store_->GetVariant("m", "bf16")->error,
              AllOf(HasSubstr("needs"), HasSubstr("of the budget of")));
}

TEST_F(LifecycleTest, AStaticVariantWhoseSamplesAreGoneIsNotDropped) {
  HT_ASSERT_OK(Calibrate("m", "a", 1));
  HT_ASSERT_OK(Quantize("m", "int8"));
  HT_ASSERT_OK(Calibrate("m", "a", 2));
  options_.disk_budget_bytes = 2000;
  HT_ASSERT_OK(Open());
  EXPECT_THAT(Upload("n", "1000"), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(ListedSpecs("m"), SizeIs(2));
}

TEST_F(LifecycleTest, AFullDiskFailsTheBuildAndKeepsTheRest) {
  HT_ASSERT_OK(Quantize("m", "fp16"));
  files_.set_capacity(0);
  EXPECT_THAT(Quantize("m", "bf16"), StatusIs(absl::StatusCode::kResourceExhausted));
  files_.set_capacity(int64_t{1} << 30);
  EXPECT_THAT(*files_.List("/store/tmp"), IsEmpty());
  HT_EXPECT_OK(Get("m", "fp16"));
  HT_EXPECT_OK(Get("m", "bf16"));
}

// --- the end ---

TEST_F(LifecycleTest, ClosingAnswersThoseWhoWait) {
  engine_.build_gate.Close();
  const auto building = Ask("m", "fp16");
  const auto queued = Ask("m", "bf16");
  engine_.build_gate.AwaitSomebody();
  store_.reset();
  EXPECT_THAT(building->Wait(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(queued->Wait(), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(LifecycleTest, AHandleOutlivesTheStore) {
  HT_ASSERT_OK_AND_ASSIGN(VariantHandle handle, Get("m"));
  store_.reset();
  EXPECT_THAT(engine_.destructions(), IsEmpty());
  EXPECT_NE(handle.plan(), nullptr);
}

}  // namespace
}  // namespace halftone
