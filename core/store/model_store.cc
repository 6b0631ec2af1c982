#include "core/store/model_store.h"

#include <utility>

#include "absl/log/log.h"
#include "absl/synchronization/notification.h"
#include "core/base/status_macros.h"
#include "core/store/model_store_impl.h"

namespace halftone {

ModelStore::Impl::Impl(ModelStoreOptions options, StoreEnvironment environment,
                       std::unique_ptr<Repository> repository)
    : options_(std::move(options)),
      engine_(std::move(environment.engine)),
      clock_(environment.clock),
      repository_(std::move(repository)),
      upload_area_(*repository_),
      deadlines_(clock_) {}

void ModelStore::Impl::Start() {
  std::vector<std::string> damaged;
  std::map<std::string, StoredFamily> found = repository_->Scan(damaged);
  std::vector<UploadHeader> uploads = upload_area_.Scan(clock_.Now() - options_.upload_ttl);
  absl::MutexLock lock(&mu_);
  damaged_ = std::move(damaged);
  for (auto& [name, stored] : found) {
    Family& family = families_[name];
    family.calibration = std::move(stored.calibration);
    for (auto& [number, stored_version] : stored.versions) {
      Version version = MakeVersion(std::move(stored_version.model));
      for (StoredVariant& s : stored_version.variants) {
        absl::StatusOr<QuantSpec> spec = QuantSpec::Parse(s.spec);
        if (!spec.ok()) {
          LOG(WARNING) << "store: ignoring variant " << s.id << ": " << spec.status();
          continue;
        }
        auto v = std::make_shared<Variant>();
        v->id = s.id;
        v->model = name;
        v->version = number;
        v->text = s.spec;
        v->spec = *std::move(spec);
        v->calibration_digest = s.calibration_digest;
        v->folder = repository_->VariantFolder(name, number, s.id);
        v->stage = Stage::kStored;
        v->created = s.created;
        v->disk_bytes = s.disk_bytes;
        v->resident_bytes = s.resident_bytes;
        version.variants[s.id] = std::move(v);
      }
      family.versions.emplace(number, std::move(version));
    }
  }
  for (UploadHeader& header : uploads) {
    absl::StatusOr<std::vector<int64_t>> received = upload_area_.Received(header);
    if (!received.ok()) continue;
    const std::string id = header.id;
    uploads_[id] = {.header = std::move(header), .received = *std::move(received)};
  }
  build_lane_ = std::thread([this] { RunBuildLane(); });
  load_lane_ = std::thread([this] { RunLoadLane(); });
}

ModelStore::Impl::~Impl() {
  Deferred after;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    if (building_ != nullptr) building_->cancelled = true;
    for (const FlightPtr& flight : build_queue_) flight->cancelled = true;
    for (auto& [name, family] : families_) {
      for (auto& [number, version] : family.versions) {
        for (auto& [id, v] : version.variants) {
          FailWaiters(*v, absl::UnavailableError("the store is shutting down"), after);
        }
      }
    }
    build_cv_.SignalAll();
    load_cv_.SignalAll();
  }
  after.Run();
  if (build_lane_.joinable()) build_lane_.join();
  if (load_lane_.joinable()) load_lane_.join();
}

absl::StatusOr<std::unique_ptr<ModelStore>> ModelStore::Open(ModelStoreOptions options,
                                                             StoreEnvironment environment) {
  HT_ASSIGN_OR_RETURN(auto repository, Repository::Open(environment.files, options.directory));
  auto impl =
      std::make_unique<Impl>(std::move(options), std::move(environment), std::move(repository));
  impl->Start();
  return std::unique_ptr<ModelStore>(new ModelStore(std::move(impl)));
}

ModelStore::ModelStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ModelStore::~ModelStore() = default;

absl::StatusOr<ModelStore::UploadStatus> ModelStore::BeginUpload(
    const std::string& model, const std::vector<FileInfo>& files) {
  return impl_->BeginUpload(model, files);
}
absl::Status ModelStore::AppendUpload(const std::string& upload_id, int file_index, int64_t offset,
                                      absl::Span<const std::byte> chunk) {
  return impl_->AppendUpload(upload_id, file_index, offset, chunk);
}
absl::StatusOr<ModelStore::UploadStatus> ModelStore::GetUpload(const std::string& upload_id) const {
  return impl_->GetUpload(upload_id);
}
absl::StatusOr<ModelInfo> ModelStore::FinishUpload(const std::string& upload_id) {
  return impl_->FinishUpload(upload_id);
}

std::vector<ModelInfo> ModelStore::ListModels() const { return impl_->ListModels(); }
absl::StatusOr<ModelInfo> ModelStore::GetModel(const std::string& name, int version) const {
  return impl_->GetModel(name, version);
}
absl::Status ModelStore::DeleteModel(const std::string& name, int version) {
  return impl_->DeleteModel(name, version);
}
absl::Status ModelStore::PutCalibration(const std::string& model, const std::string& set_name,
                                        std::vector<std::vector<Tensor>> samples) {
  return impl_->PutCalibration(model, set_name, samples);
}

absl::StatusOr<PlanReport> ModelStore::PlanQuantization(const std::string& model,
                                                        const QuantSpec& spec) const {
  return impl_->PlanQuantization(model, spec);
}
absl::StatusOr<VariantInfo> ModelStore::Quantize(const std::string& model, const QuantSpec& spec,
                                                 std::function<void(const Progress&)> progress,
                                                 std::function<bool()> cancelled) {
  return impl_->Quantize(model, spec, std::move(progress), cancelled);
}
std::vector<VariantInfo> ModelStore::ListVariants(const std::string& model) const {
  return impl_->ListVariants(model);
}
absl::StatusOr<VariantInfo> ModelStore::GetVariant(const std::string& model,
                                                   const std::string& id) const {
  return impl_->GetVariant(model, id);
}
absl::StatusOr<VariantReport> ModelStore::GetReport(const std::string& model,
                                                    const std::string& id) const {
  return impl_->GetReport(model, id);
}
absl::Status ModelStore::DeleteVariant(const std::string& model, const std::string& id) {
  return impl_->DeleteVariant(model, id);
}
absl::StatusOr<std::vector<std::string>> ModelStore::VariantFiles(const std::string& model,
                                                                  const std::string& id) const {
  return impl_->VariantFiles(model, id);
}

void ModelStore::Acquire(const std::string& model, int version, const std::string& variant,
                         WhenMissing policy, absl::Time deadline, AcquireCallback done) {
  impl_->Acquire(model, version, variant, policy, deadline, std::move(done));
}
absl::StatusOr<VariantHandle> ModelStore::AcquireBlocking(const std::string& model, int version,
                                                          const std::string& variant,
                                                          absl::Time deadline) {
  absl::Notification answered;
  absl::StatusOr<VariantHandle> result = absl::UnknownError("");
  Acquire(model, version, variant, WhenMissing::kWait, deadline,
          [&](absl::StatusOr<VariantHandle> handle, bool) {
            result = std::move(handle);
            answered.Notify();
          });
  answered.WaitForNotification();
  return result;
}
std::vector<VariantInfo> ModelStore::LoadedVariants() const { return impl_->LoadedVariants(); }
absl::StatusOr<ModelStore::TemporaryFiles> ModelStore::TrainingFiles(const std::string& model,
                                                                     const std::string& id) const {
  return impl_->TrainingFiles(model, id);
}

std::vector<std::string> ModelStore::damaged() const { return impl_->damaged(); }

}  // namespace halftone
