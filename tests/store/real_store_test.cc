// The store with the real engine, the real disk and the model of examples/digits.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/file_system.h"
#include "core/base/sha256.h"
#include "core/exec/cpu_features.h"
#include "core/exec/plan.h"
#include "core/quant/error_stats.h"
#include "core/store/engine.h"
#include "core/store/model_store.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kModelPath[] = "examples/digits/model.onnx";
constexpr char kChildFolder[] = "HALFTONE_TEST_STORE";  // set for the process that will be killed

std::string ModelBytes() {
  std::ifstream in(kModelPath, std::ios::binary);
  std::ostringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

absl::StatusOr<ModelInfo> Upload(ModelStore& store, const std::string& name,
                                 const std::string& bytes) {
  const auto upload = store.BeginUpload(name, {{.name = "model.onnx",
                                                .bytes = static_cast<int64_t>(bytes.size()),
                                                .sha256 = Sha256Hex(bytes)}});
  if (!upload.ok()) return upload.status();
  for (size_t at = upload->received_bytes[0]; at < bytes.size(); at += 1 << 20) {
    const absl::string_view chunk = absl::string_view(bytes).substr(at, 1 << 20);
    const absl::Status appended = store.AppendUpload(
        upload->upload_id, 0, static_cast<int64_t>(at),
        absl::MakeConstSpan(reinterpret_cast<const std::byte*>(chunk.data()), chunk.size()));
    if (!appended.ok()) return appended;
  }
  return store.FinishUpload(upload->upload_id);
}

Tensor InputFor(const Signature& signature, float value) {
  Shape shape;
  for (const Dim& d : signature.inputs[0].shape) shape.push_back(d.known() ? d.value : 1);
  Tensor t = *Tensor::Create(DataType::kF32, shape);
  for (float& x : t.mutable_data<float>()) x = value;
  return t;
}

absl::StatusOr<std::vector<float>> Classify(const VariantHandle& handle) {
  Context context(handle.plan());
  const auto out = context.Run({InputFor(handle.plan()->signature(), 0.25f)});
  if (!out.ok()) return out.status();
  const auto values = (*out)[0].data<float>();
  return std::vector<float>(values.begin(), values.end());
}

class RealStore : public ::testing::Test {
 protected:
  RealStore() : folder_(absl::StrCat(::testing::TempDir(), "/halftone_store_", getpid())) {}
  void SetUp() override {
    model_ = ModelBytes();
    if (model_.empty()) GTEST_SKIP() << kModelPath << " is not there: run from the project's root";
    HT_ASSERT_OK(RealFileSystem().RemoveAll(folder_));
  }
  void TearDown() override { HT_EXPECT_OK(RealFileSystem().RemoveAll(folder_)); }

  const std::string folder_;
  std::string model_;
};

TEST_F(RealStore, ServesEveryPrecisionAndTheSameNumbersAfterARestart) {
  const std::vector<std::string> specs = {"fp32", "fp16", "bf16", "int8",
                                          "int8/per-channel/weight-only"};
  std::vector<std::vector<float>> before;
  {
    HT_ASSERT_OK_AND_ASSIGN(const auto store, ModelStore::Open({.directory = folder_}));
    HT_ASSERT_OK_AND_ASSIGN(const ModelInfo info, Upload(*store, "digits", model_));
    HT_ASSERT_OK(store->PutCalibration(
        "digits", "grey", {{InputFor(info.signature, 0.25f)}, {InputFor(info.signature, 0.75f)}}));
    for (const std::string& spec : specs) {
      SCOPED_TRACE(spec);
      HT_ASSERT_OK_AND_ASSIGN(const VariantHandle handle,
                              store->AcquireBlocking("digits", 0, spec));
      HT_ASSERT_OK_AND_ASSIGN(before.emplace_back(), Classify(handle));
      EXPECT_THAT(before.back(), SizeIs(10));
    }
    EXPECT_EQ(store->GetReport("digits", "int8")->sample_count, 2);
    EXPECT_LT(store->GetVariant("digits", "int8")->disk_bytes,
              store->GetVariant("digits", "fp32")->disk_bytes / 2);
    EXPECT_THAT(store->LoadedVariants(), SizeIs(specs.size()));
  }
  int loads = 0;
  HT_ASSERT_OK_AND_ASSIGN(
      const auto store,
      ModelStore::Open({.directory = folder_,
                        .observer = {.cache_event = [&](CacheEvent event, const std::string&,
                                                        const std::string&) {
                          EXPECT_NE(event, CacheEvent::kBuild);
                          if (event == CacheEvent::kLoad) ++loads;
                        }}}));
  for (size_t i = 0; i < specs.size(); ++i) {
    SCOPED_TRACE(specs[i]);
    HT_ASSERT_OK_AND_ASSIGN(const VariantHandle handle,
                            store->AcquireBlocking("digits", 0, specs[i]));
    HT_ASSERT_OK_AND_ASSIGN(const std::vector<float> after, Classify(handle));
    EXPECT_EQ(after, before[i]);
  }
  EXPECT_EQ(loads, static_cast<int>(specs.size()));
}

TEST_F(RealStore, RefusesATruncatedModelAndLeavesNothing) {
  HT_ASSERT_OK_AND_ASSIGN(const auto store, ModelStore::Open({.directory = folder_}));
  EXPECT_THAT(Upload(*store, "digits", model_.substr(0, model_.size() / 2)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(*RealFileSystem().List(folder_ + "/uploads"), IsEmpty());
  EXPECT_THAT(*RealFileSystem().List(folder_ + "/models"), IsEmpty());
}

// --- kill -9 ---

// Works on the store for ever; writes a byte to standard output after each step.
TEST(RealStoreChild, DISABLED_WorksUntilItIsKilled) {
  const std::string model = ModelBytes();
  HT_ASSERT_OK_AND_ASSIGN(const auto store,
                          ModelStore::Open({.directory = std::getenv(kChildFolder)}));
  const auto step = [](const absl::Status& status) {
    const char byte = status.ok() ? '+' : '-';
    if (write(STDOUT_FILENO, &byte, 1) != 1) std::abort();
  };
  while (true) {
    step(Upload(*store, "digits", model).status());
    const auto info = store->GetModel("digits");
    if (info.ok()) step(store->PutCalibration("digits", "a", {{InputFor(info->signature, 0.1f)}}));
    for (const char* spec : {"fp16", "int8/per-channel/weight-only"}) {
      step(store->Quantize("digits", *QuantSpec::Parse(spec), {}).status());
    }
    step(store->DeleteModel("digits"));
  }
}

// Starts this program again as the child above and kills it during its step number `step`.
void RunAndKill(const std::string& folder, int step) {
  int pipe_ends[2];
  ASSERT_EQ(pipe2(pipe_ends, O_CLOEXEC), 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], STDOUT_FILENO);
  std::string program = "/proc/self/exe";
  std::string filter = "--gtest_filter=RealStoreChild.*";
  std::string disabled = "--gtest_also_run_disabled_tests";
  std::string brief = "--gtest_brief=1";
  char* const arguments[] = {program.data(), filter.data(), disabled.data(), brief.data(), nullptr};
  ASSERT_EQ(setenv(kChildFolder, folder.c_str(), 1), 0);
  pid_t child = 0;
  ASSERT_EQ(posix_spawn(&child, "/proc/self/exe", &actions, nullptr, arguments, environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  close(pipe_ends[1]);
  int steps = 0;
  char byte = 0;
  while (steps < step && read(pipe_ends[0], &byte, 1) == 1) steps += byte == '+' ? 1 : 0;
  EXPECT_EQ(steps, step);
  ASSERT_EQ(kill(child, SIGKILL), 0);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status)) << "the child ended by itself";
  close(pipe_ends[0]);
}

// A store as a server has it on a CPU with these features.
absl::StatusOr<std::unique_ptr<ModelStore>> OpenOn(const std::string& folder,
                                                   const CpuFeatures& features,
                                                   std::vector<std::string>* builds) {
  ModelStoreOptions options = {.directory = folder};
  options.observer.build_done = [builds](const std::string& spec, const absl::Status& status,
                                         absl::Duration) {
    HT_EXPECT_OK(status);
    builds->push_back(spec);
  };
  StoreEngine engine = DefaultEngine(options, features);
  return ModelStore::Open(
      options, {.engine = std::move(engine), .files = RealFileSystem(), .clock = RealClock()});
}

// Precisions of the multiply-accumulate steps of a lent plan.
std::set<std::string> Precisions(const VariantHandle& handle) {
  Shape shape;
  for (const Dim& d : handle.plan()->signature().inputs[0].shape) {
    shape.push_back(d.known() ? d.value : 1);
  }
  std::set<std::string> out;
  const auto steps = handle.plan()->Describe({shape});
  HT_EXPECT_OK(steps.status());
  for (const StepInfo& step : *steps) {
    if (step.rule == "conv" || step.rule == "depthwise" || step.rule == "matmul") {
      out.insert(step.precision);
    }
  }
  return out;
}

double Sqnr(const std::vector<float>& want, const std::vector<float>& got) {
  ErrorStats stats;
  stats.Add(want, got);
  return stats.sqnr_db();
}

// A data directory moves from a machine with VNNI to one without, and back.
TEST_F(RealStore, AnotherIsaClassDerivesItsOwnVariants) {
  const CpuFeatures here = DetectCpuFeatures();
  if (!here.vnni) GTEST_SKIP() << "this CPU has no VNNI to take away";
  CpuFeatures old = here;
  old.vnni = old.bf16 = old.f16 = false;
  const std::string int8 = "int8/per-channel/static";
  std::vector<std::string> builds;
  std::string vnni_id, old_id, half_id;
  std::vector<float> fp32, vnni_answer;
  {
    HT_ASSERT_OK_AND_ASSIGN(const auto store, OpenOn(folder_, here, &builds));
    HT_ASSERT_OK_AND_ASSIGN(const ModelInfo info, Upload(*store, "digits", model_));
    HT_ASSERT_OK(store->PutCalibration(
        "digits", "grey", {{InputFor(info.signature, 0.25f)}, {InputFor(info.signature, 0.75f)}}));
    HT_ASSERT_OK_AND_ASSIGN(const VariantHandle original,
                            store->AcquireBlocking("digits", 0, "fp32"));
    HT_ASSERT_OK_AND_ASSIGN(fp32, Classify(original));
    HT_ASSERT_OK_AND_ASSIGN(const VariantHandle handle, store->AcquireBlocking("digits", 0, int8));
    HT_ASSERT_OK_AND_ASSIGN(vnni_answer, Classify(handle));
    EXPECT_THAT(Precisions(handle), ElementsAre("u8s8"));
    vnni_id = handle.info().id;
    HT_ASSERT_OK_AND_ASSIGN(const VariantHandle half, store->AcquireBlocking("digits", 0, "fp16"));
    half_id = half.info().id;
  }
  EXPECT_THAT(builds, ElementsAre(int8, "fp16"));
  builds.clear();
  {
    HT_ASSERT_OK_AND_ASSIGN(const auto store, OpenOn(folder_, old, &builds));
    // What the other machine built is there, but it is not what the spec means here.
    EXPECT_THAT(store->GetVariant("digits", int8), StatusIs(absl::StatusCode::kNotFound));
    HT_ASSERT_OK_AND_ASSIGN(const VariantHandle own, store->AcquireBlocking("digits", 0, int8));
    old_id = own.info().id;
    EXPECT_NE(old_id, vnni_id);
    EXPECT_THAT(builds, ElementsAre(int8));
    EXPECT_EQ(store->GetReport("digits", int8)->isa_class, IsaClass(old));
    EXPECT_THAT(Precisions(own), ElementsAre("u8s8")) << "7-bit weights fit";
    HT_ASSERT_OK_AND_ASSIGN(const std::vector<float> answer, Classify(own));
    EXPECT_GT(Sqnr(fp32, answer), 15);
    // Its id still means its bytes: 8-bit weights, which this CPU multiplies as floats.
    HT_ASSERT_OK_AND_ASSIGN(const VariantHandle foreign,
                            store->AcquireBlocking("digits", 0, vnni_id));
    EXPECT_THAT(Precisions(foreign), ElementsAre("i8 weights, f32 compute"));
    HT_ASSERT_OK_AND_ASSIGN(const std::vector<float> same, Classify(foreign));
    EXPECT_GT(Sqnr(vnni_answer, same), 25);
    // Halves do not depend on it.
    HT_ASSERT_OK_AND_ASSIGN(const VariantHandle half, store->AcquireBlocking("digits", 0, "fp16"));
    EXPECT_EQ(half.info().id, half_id);
    EXPECT_THAT(builds, ElementsAre(int8));
  }
  builds.clear();
  HT_ASSERT_OK_AND_ASSIGN(const auto store, OpenOn(folder_, here, &builds));
  HT_ASSERT_OK_AND_ASSIGN(const VariantHandle back, store->AcquireBlocking("digits", 0, int8));
  EXPECT_EQ(back.info().id, vnni_id);
  EXPECT_EQ(*Classify(back), vnni_answer);
  EXPECT_THAT(builds, IsEmpty());
}

int64_t ResidentSet() {
  std::ifstream statm("/proc/self/statm");
  int64_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

TEST_F(RealStore, LoadingAndUnloadingLeavesTheResidentSetWhereItWas) {
  std::atomic<int> evictions{0};
  HT_ASSERT_OK_AND_ASSIGN(
      const auto store,
      ModelStore::Open({.directory = folder_,
                        .resident_budget_bytes = int64_t{11} << 19,  // any one of them, not two
                        .observer = {.cache_event = [&](CacheEvent event, const std::string&,
                                                        const std::string&) {
                          if (event == CacheEvent::kEvict) ++evictions;
                        }}}));
  HT_ASSERT_OK(Upload(*store, "digits", model_).status());
  const auto cycle = [&](int rounds) {
    for (int i = 0; i < rounds; ++i) {
      const char* specs[] = {"fp32", "fp16", "bf16", "int8/per-channel/weight-only", "int4"};
      HT_ASSERT_OK_AND_ASSIGN(const VariantHandle handle,
                              store->AcquireBlocking("digits", 0, specs[i % 5]));
      HT_ASSERT_OK(Classify(handle).status());
    }
  };
  cycle(15);  // builds, and what allocators and oneDNN keep for good
  const int64_t before = ResidentSet();
  const int evictions_before = evictions;
  cycle(60);
  EXPECT_GE(evictions - evictions_before, 50);
  EXPECT_NEAR(static_cast<double>(ResidentSet()) / static_cast<double>(before), 1, 0.05);
}

// Primitives are built and weights are packed before anybody asks.
TEST_F(RealStore, WhatIsLoadedIsReadyForItsFirstRequest) {
  HT_ASSERT_OK_AND_ASSIGN(const auto store, ModelStore::Open({.directory = folder_}));
  HT_ASSERT_OK(Upload(*store, "digits", model_).status());
  for (const char* spec : {"fp32", "fp16", "int8/per-channel/weight-only"}) {
    HT_ASSERT_OK_AND_ASSIGN(const VariantHandle handle, store->AcquireBlocking("digits", 0, spec));
    const int64_t packed = handle.plan()->memory().packed_bytes;
    EXPECT_GT(packed, 0) << spec;
    HT_ASSERT_OK(Classify(handle).status());
    EXPECT_EQ(handle.plan()->memory().packed_bytes, packed) << spec;
  }
}

TEST_F(RealStore, TrainingFilesLiveAsLongAsTheyAreHeld) {
  HT_ASSERT_OK_AND_ASSIGN(const auto store, ModelStore::Open({.directory = folder_}));
  HT_ASSERT_OK_AND_ASSIGN(const ModelInfo info, Upload(*store, "digits", model_));
  HT_ASSERT_OK_AND_ASSIGN(const VariantInfo v,
                          store->Quantize("digits", *QuantSpec::Parse("int8"), nullptr));
  {
    HT_ASSERT_OK_AND_ASSIGN(const ModelStore::TemporaryFiles files,
                            store->TrainingFiles("digits", v.id));
    ASSERT_THAT(files.paths, SizeIs(2));
    EXPECT_THAT(files.paths[0], ::testing::EndsWith("/model.onnx"));
    // Floats again: four times the bytes of the variant's.
    HT_ASSERT_OK_AND_ASSIGN(const int64_t bytes, RealFileSystem().FileSize(files.paths[1]));
    EXPECT_GT(bytes, 3 * v.disk_bytes);
    EXPECT_FALSE(RealFileSystem().List(folder_ + "/tmp")->empty());
  }
  EXPECT_THAT(*RealFileSystem().List(folder_ + "/tmp"), IsEmpty());
  HT_ASSERT_OK_AND_ASSIGN(const VariantInfo half,
                          store->Quantize("digits", *QuantSpec::Parse("fp16"), nullptr));
  EXPECT_THAT(store->TrainingFiles("digits", half.id).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(*RealFileSystem().List(folder_ + "/tmp"), IsEmpty());
}

TEST_F(RealStore, SurvivesKillMinusNine) {
  for (int step = 0; step < 6; ++step) {
    SCOPED_TRACE(absl::StrCat("killed after step ", step));
    RunAndKill(folder_, step);
    HT_ASSERT_OK_AND_ASSIGN(const auto store, ModelStore::Open({.directory = folder_}));
    EXPECT_THAT(store->damaged(), IsEmpty());
    EXPECT_THAT(*RealFileSystem().List(folder_ + "/tmp"), IsEmpty());
    for (const VariantInfo& v : store->ListVariants()) {
      HT_ASSERT_OK_AND_ASSIGN(const VariantHandle handle,
                              store->AcquireBlocking(v.model, v.version, v.id));
      HT_EXPECT_OK(Classify(handle));
    }
  }
}

}  // namespace
}  // namespace halftone
