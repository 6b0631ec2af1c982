// Building variants: one at a time, once for all who ask.
#include <algorithm>
#include <utility>

#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/store/model_store_impl.h"

namespace halftone {
namespace {

// Failed builds that are still listed, per model version.
constexpr size_t kMaxFailuresListed = 16;
// How often a caller that waits for a build looks whether it was cancelled itself.
constexpr absl::Duration kCancelPoll = absl::Milliseconds(50);

}  // namespace

void BuildListener::Report(const Progress& progress) {
  absl::MutexLock lock(&mu_);
  if (progress_) progress_(progress);
}

void BuildListener::Finish(absl::Status status) {
  absl::MutexLock lock(&mu_);
  done_ = true;
  status_ = std::move(status);
}

std::optional<absl::Status> BuildListener::Await(const Clock& clock, absl::Time until) {
  absl::MutexLock lock(&mu_);
  if (!clock.AwaitUntil(mu_, absl::Condition(&done_), until)) return std::nullopt;
  return status_;
}

void BuildListener::Leave() {
  absl::MutexLock lock(&mu_);
  progress_ = nullptr;
}

absl::StatusOr<VariantInfo> ModelStore::Impl::Quantize(
    const std::string& model, const QuantSpec& spec, std::function<void(const Progress&)> progress,
    const std::function<bool()>& cancelled) {
  VariantPtr v;
  const auto listener = std::make_shared<BuildListener>(std::move(progress));
  {
    absl::MutexLock lock(&mu_);
    if (stopping_) return absl::UnavailableError("the store is shutting down");
    HT_ASSIGN_OR_RETURN(v, ResolveSpecFor(model, 0, spec));
    if (v->stage == Stage::kStored || v->stage == Stage::kLoaded) return InfoOf(*v);
    if (v->stage == Stage::kAbsent) StartBuild(v);
    v->flight->listeners.push_back(listener);
  }
  std::optional<absl::Status> result;
  while (!result) {
    result =
        listener->Await(clock_, cancelled ? clock_.Now() + kCancelPoll : absl::InfiniteFuture());
    if (!result && cancelled()) {
      LeaveBuild(v, listener);
      result = absl::CancelledError(
          absl::StrCat("model '", model, "', variant '", v->text, "': cancelled by the caller"));
    }
  }
  listener->Leave();
  HT_RETURN_IF_ERROR(*result);
  absl::MutexLock lock(&mu_);
  return InfoOf(*v);
}

void ModelStore::Impl::LeaveBuild(const VariantPtr& v,
                                  const std::shared_ptr<BuildListener>& listener) {
  absl::MutexLock lock(&mu_);
  const FlightPtr flight = v->flight;
  if (flight == nullptr) return;
  std::erase(flight->listeners, listener);
  if (flight->keep || flight->committing || !flight->listeners.empty()) return;
  flight->cancelled = true;
  v->flight = nullptr;
  v->stage = Stage::kAbsent;
  v->last_used = ++tick_;
}

void ModelStore::Impl::StartBuild(const VariantPtr& v) {
  v->flight = std::make_shared<Flight>();
  v->flight->variant = v;
  v->stage = Stage::kBuilding;
  v->error = absl::OkStatus();
  build_queue_.push_back(v->flight);
  build_cv_.Signal();
}

void ModelStore::Impl::RunBuildLane() {
  if (engine_.enter_build_lane) engine_.enter_build_lane();
  while (true) {
    FlightPtr flight;
    {
      absl::MutexLock lock(&mu_);
      building_ = nullptr;
      while (build_queue_.empty() && !stopping_) build_cv_.Wait(&mu_);
      if (build_queue_.empty()) return;
      flight = std::move(build_queue_.front());
      build_queue_.pop_front();
      if (stopping_) flight->cancelled = true;
      building_ = flight;
    }
    const absl::Time started = clock_.Now();
    // Arguments are evaluated in any order: the clock is read after the build.
    const absl::StatusOr<StoredVariant> result = Build(flight);
    FinishBuild(flight, result, clock_.Now() - started);
    if (engine_.release_memory) engine_.release_memory();
  }
}

absl::StatusOr<StoredVariant> ModelStore::Impl::Build(const FlightPtr& flight) {
  const Variant& v = *flight->variant;
  if (flight->cancelled) return absl::CancelledError("the build was cancelled");
  const std::string source = repository_->ModelFolder(v.model, v.version);
  std::string model_digest;
  {
    absl::MutexLock lock(&mu_);
    HT_ASSIGN_OR_RETURN(const Version* version, FindVersion(v.model, v.version));
    model_digest = version->stored.info.digest;
  }
  if (const absl::Status intact = repository_->Verify(source); !intact.ok()) {
    if (absl::IsDataLoss(intact)) {
      VariantPtr original;
      {
        absl::MutexLock lock(&mu_);
        HT_ASSIGN_OR_RETURN(const Version* version, FindVersion(v.model, v.version));
        original = version->original;
      }
      SetAside(original, intact);
    }
    return intact;
  }
  HT_ASSIGN_OR_RETURN(const std::optional<SampleSet> samples, SamplesFor(v));
  HT_ASSIGN_OR_RETURN(const Graph graph, engine_.open_model(source + "/model.onnx"));
  CalibrationCache cache;
  BuildOptions options;
  if (samples) {
    cache = CacheBeside(v.model, samples->digest);
    options.calibration_cache = &cache;
    options.graph_digest = model_digest;
  }
  options.threads = options_.build_threads;
  options.samples = samples ? &*samples : nullptr;
  options.progress = [&](const Progress& progress) { ReportProgress(flight, progress); };
  options.cancelled = [&] { return flight->cancelled.load(); };
  HT_ASSIGN_OR_RETURN(const BuiltVariant built, engine_.build(graph, v.spec, options));
  StoredVariant stored{.id = v.id,
                       .spec = v.text,
                       .created = clock_.Now(),
                       .calibration_digest = v.calibration_digest,
                       .resident_bytes = built.report.resident_bytes};
  HT_ASSIGN_OR_RETURN(const auto bundle, repository_->WriteVariant(
                                             stored, ToJson(built.report), [&](const auto& write) {
                                               return engine_.export_model(built.graph, write);
                                             }));
  stored.disk_bytes = bundle->bytes();
  HT_RETURN_IF_ERROR(CommitVariant(flight, *bundle));
  return stored;
}

absl::StatusOr<std::optional<SampleSet>> ModelStore::Impl::SamplesFor(const Variant& v) {
  std::optional<CalibrationRef> ref;
  Signature signature;
  {
    absl::MutexLock lock(&mu_);
    HT_ASSIGN_OR_RETURN(const Family* family, FindFamily(v.model));
    HT_ASSIGN_OR_RETURN(const Version* version, FindVersion(v.model, v.version));
    signature = version->stored.info.signature;
    for (const StoredCalibration& set : family->calibration) {
      if (v.calibration_digest.empty() || set.ref.digest == v.calibration_digest) ref = set.ref;
    }
  }
  const bool required = !v.calibration_digest.empty();
  if (!ref && required) {
    return absl::FailedPreconditionError(
        absl::StrCat("model '", v.model, "': the calibration set with digest ",
                     v.calibration_digest.substr(0, 12), " was replaced meanwhile"));
  }
  if (!ref) return std::nullopt;
  absl::StatusOr<Samples> samples =
      repository_->ReadCalibration(repository_->CalibrationFolder(v.model, ref->sequence));
  absl::Status usable = samples.status();
  if (usable.ok()) {
    // The set may have been made for another version with another signature.
    if (const absl::Status fits = CheckSamples(signature, *samples); !fits.ok()) {
      usable = absl::FailedPreconditionError(fits.message());
    }
  }
  if (usable.ok()) return SampleSet{ref->name, ref->digest, *std::move(samples)};
  usable = Annotate(usable, absl::StrCat("calibration set '", ref->name, "'"));
  if (required) return usable;
  LOG(WARNING) << "store: report without samples: " << usable;
  return std::nullopt;
}

absl::Status ModelStore::Impl::CommitVariant(const FlightPtr& flight, BundleWriter& bundle) {
  const Variant& v = *flight->variant;
  absl::MutexLock disk(&disk_mu_);
  HT_RETURN_IF_ERROR(MakeRoom(bundle.bytes(), 0));
  {
    absl::MutexLock lock(&mu_);
    if (flight->cancelled || v.removed) return absl::CancelledError("the build was cancelled");
    flight->committing = true;
  }
  return bundle.Commit(v.folder);
}

void ModelStore::Impl::FinishBuild(const FlightPtr& flight,
                                   const absl::StatusOr<StoredVariant>& result,
                                   absl::Duration duration) {
  Variant& v = *flight->variant;
  Deferred after;
  std::vector<std::shared_ptr<BuildListener>> listeners;
  absl::Status status = result.status();
  // Before anybody can see the variant: observers see a build before the load that follows it.
  if (options_.observer.build_done) options_.observer.build_done(v.text, status, duration);
  if (result.ok()) Notify(CacheEvent::kBuild, v.model, v.text);
  {
    absl::MutexLock lock(&mu_);
    listeners = std::move(flight->listeners);
    if (v.flight == flight) {
      v.flight = nullptr;
      if (result.ok()) {
        v.stage = Stage::kStored;
        v.created = result->created;
        v.disk_bytes = result->disk_bytes;
        v.resident_bytes = result->resident_bytes > 0 ? result->resident_bytes : result->disk_bytes;
        v.last_used = ++tick_;
        PokeLoadLane();
      } else {
        if (stopping_) status = absl::UnavailableError("the store is shutting down");
        v.stage = Stage::kAbsent;
        v.error = status;
        v.wanted = false;
        v.last_used = ++tick_;
        FailWaiters(v, status, after);
        const absl::StatusOr<Version*> version = FindVersion(v.model, v.version);
        if (version.ok()) ForgetOldFailures(**version, after);
      }
    }
  }
  for (const auto& listener : listeners) listener->Finish(status);
  after.Run();
}

void ModelStore::Impl::ForgetOldFailures(Version& version, Deferred& after) {
  std::vector<VariantPtr> absent;
  for (const auto& [id, v] : version.variants) {
    if (v->stage == Stage::kAbsent) absent.push_back(v);
  }
  if (absent.size() <= kMaxFailuresListed) return;
  const auto oldest = *std::min_element(
      absent.begin(), absent.end(),
      [](const VariantPtr& a, const VariantPtr& b) { return a->last_used < b->last_used; });
  Remove(oldest, absl::NotFoundError("the variant is not there"), after);
}

void ModelStore::Impl::ReportProgress(const FlightPtr& flight, const Progress& progress) {
  std::vector<std::shared_ptr<BuildListener>> listeners;
  {
    absl::MutexLock lock(&mu_);
    listeners = flight->listeners;
  }
  for (const auto& listener : listeners) listener->Report(progress);
}

}  // namespace halftone
