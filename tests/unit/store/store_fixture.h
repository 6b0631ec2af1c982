// A store over fakes, with the few lines that most of its tests need.
#ifndef HALFTONE_TESTS_UNIT_STORE_STORE_FIXTURE_H_
#define HALFTONE_TESTS_UNIT_STORE_STORE_FIXTURE_H_

#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "core/base/sha256.h"
#include "core/store/model_store.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/memory_file_system.h"
#include "tests/testing/status_matchers.h"
#include "tests/unit/store/fake_engine.h"

namespace halftone {

// An answer of Acquire that may come later.
class Pending {
 public:
  ModelStore::AcquireCallback Callback() {
    return [this](absl::StatusOr<VariantHandle> result, bool fell_back) {
      result_ = std::move(result);
      fell_back_ = fell_back;
      answered_.Notify();
    };
  }
  bool answered() const { return answered_.HasBeenNotified(); }
  absl::StatusOr<VariantHandle>& Wait() {
    answered_.WaitForNotification();
    return result_;
  }
  bool fell_back() {
    answered_.WaitForNotification();
    return fell_back_;
  }

 private:
  absl::Notification answered_;
  absl::StatusOr<VariantHandle> result_ = absl::UnknownError("not answered");
  bool fell_back_ = false;
};

class StoreTest : public ::testing::Test {
 protected:
  StoreTest() : engine_(files_) {
    options_.directory = "/store";
    options_.observer.cache_event = [this](CacheEvent event, const std::string& model,
                                           const std::string& variant) {
      static constexpr const char* kNames[] = {"hit", "miss", "load", "evict", "build"};
      absl::MutexLock lock(&events_mu_);
      events_.push_back(absl::StrCat(kNames[static_cast<int>(event)], " ", model, " ", variant));
    };
    options_.observer.build_done = [this](const std::string& spec, const absl::Status& status,
                                          absl::Duration) {
      absl::MutexLock lock(&events_mu_);
      events_.push_back(absl::StrCat("built ", spec, " ", absl::StatusCodeToString(status.code())));
    };
  }

  absl::Status Open() {
    store_.reset();
    auto store =
        ModelStore::Open(options_, {.engine = engine_.Table(), .files = files_, .clock = clock_});
    if (!store.ok()) return store.status();
    store_ = *std::move(store);
    return absl::OkStatus();
  }
  void SetUp() override { HT_ASSERT_OK(Open()); }

  static std::vector<FileInfo> OneFile(const std::string& text) {
    return {
        {.name = "m.onnx", .bytes = static_cast<int64_t>(text.size()), .sha256 = Sha256Hex(text)}};
  }
  static absl::Span<const std::byte> Bytes(const std::string& text) {
    return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size());
  }
  // `text`: see FakeEngine.
  absl::StatusOr<ModelInfo> Upload(const std::string& model, const std::string& text) {
    const auto status = store_->BeginUpload(model, OneFile(text));
    if (!status.ok()) return status.status();
    if (!status->complete) {
      if (auto s = store_->AppendUpload(status->upload_id, 0, 0, Bytes(text)); !s.ok()) return s;
    }
    return store_->FinishUpload(status->upload_id);
  }
  absl::Status Calibrate(const std::string& model, const std::string& set, float value) {
    return store_->PutCalibration(model, set, {{Tensor::Of<float>({1, 2}, {value, value})}});
  }
  absl::StatusOr<VariantInfo> Quantize(const std::string& model, const std::string& spec) {
    return store_->Quantize(model, *QuantSpec::Parse(spec), {});
  }
  absl::StatusOr<VariantHandle> Get(const std::string& model, const std::string& variant = "") {
    return store_->AcquireBlocking(model, 0, variant);
  }
  std::unique_ptr<Pending> Ask(const std::string& model, const std::string& variant,
                               WhenMissing policy = WhenMissing::kWait,
                               absl::Time deadline = absl::InfiniteFuture()) {
    auto pending = std::make_unique<Pending>();
    store_->Acquire(model, 0, variant, policy, deadline, pending->Callback());
    return pending;
  }
  // What the observer saw since the last call.
  std::vector<std::string> TakeEvents() {
    absl::MutexLock lock(&events_mu_);
    return std::exchange(events_, {});
  }
  std::vector<std::string> LoadedSpecs() const {
    std::vector<std::string> out;
    for (const VariantInfo& v : store_->LoadedVariants()) {
      out.push_back(absl::StrCat(v.model, " ", v.spec));
    }
    return out;
  }
  std::vector<std::string> ListedSpecs(const std::string& model) const {
    std::vector<std::string> out;
    for (const VariantInfo& v : store_->ListVariants(model)) out.push_back(v.spec);
    return out;
  }

  MemoryFileSystem files_;
  FakeClock clock_;
  FakeEngine engine_;
  ModelStoreOptions options_;
  absl::Mutex events_mu_;
  std::vector<std::string> events_;
  std::unique_ptr<ModelStore> store_;
};

}  // namespace halftone

#endif  // HALFTONE_TESTS_UNIT_STORE_STORE_FIXTURE_H_
