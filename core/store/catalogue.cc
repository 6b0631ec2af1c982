// What there is: listings, calibration sets, removal.
#include <algorithm>
#include <utility>

#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/store/model_store_impl.h"
#include "core/variant/trainable.h"

namespace halftone {
namespace {

VariantState ToState(Stage stage) {
  switch (stage) {
    case Stage::kAbsent:
      return VariantState::kFailed;
    case Stage::kBuilding:
      return VariantState::kBuilding;
    case Stage::kStored:
      return VariantState::kStored;
    case Stage::kLoaded:
      return VariantState::kLoaded;
  }
  return VariantState::kFailed;
}

// An absent variant shows only as a failure that somebody should see.
bool Listed(const Variant& v) { return v.stage != Stage::kAbsent || !v.error.ok(); }

}  // namespace

std::vector<CalibrationRef> Family::Sets() const {
  std::vector<CalibrationRef> out;
  for (const StoredCalibration& set : calibration) out.push_back(set.ref);
  return out;
}

bool Family::HasCalibration(const std::string& digest) const {
  return std::any_of(calibration.begin(), calibration.end(),
                     [&](const auto& set) { return set.ref.digest == digest; });
}

absl::StatusOr<Family*> ModelStore::Impl::FindFamily(const std::string& name) {
  const auto it = families_.find(name);
  if (it != families_.end()) return &it->second;
  return absl::NotFoundError(
      absl::StrCat("model '", absl::string_view(name).substr(0, 200), "': not found"));
}

absl::StatusOr<Version*> ModelStore::Impl::FindVersion(const std::string& name, int version) {
  HT_ASSIGN_OR_RETURN(Family* const family, FindFamily(name));
  auto& versions = family->versions;
  const auto it = version == 0 ? std::prev(versions.end()) : versions.find(version);
  if (it != versions.end()) return &it->second;
  return absl::NotFoundError(absl::StrCat("model '", name, "': has no version ", version,
                                          ", the newest is ", versions.rbegin()->first));
}

absl::StatusOr<VariantPtr> ModelStore::Impl::FindListed(const std::string& model,
                                                        const std::string& id) {
  HT_ASSIGN_OR_RETURN(const Family* const family, FindFamily(model));
  const absl::StatusOr<QuantSpec> spec = QuantSpec::Parse(id);
  absl::StatusOr<VariantPtr> found = absl::NotFoundError("");
  if (spec.ok()) {
    const Version& newest = family->versions.rbegin()->second;
    if (IsOriginal(*spec)) return newest.original;
    HT_ASSIGN_OR_RETURN(
        const ResolvedVariant resolved,
        ResolveVariant(newest.stored.info.digest, family->Sets(), engine_.isa_class, *spec));
    found = FindById(newest, resolved.id);
  } else if (LooksLikeVariantId(id)) {
    for (auto it = family->versions.rbegin(); it != family->versions.rend(); ++it) {
      found = FindById(it->second, id);
      if (!absl::IsNotFound(found.status())) break;
    }
  } else {
    return spec.status();
  }
  if (found.ok() && Listed(**found)) return found;
  if (!found.ok() && !absl::IsNotFound(found.status())) return found;
  return absl::NotFoundError(absl::StrCat("model '", model, "': has no variant '", id, "'"));
}

absl::StatusOr<VariantPtr> ModelStore::Impl::FindOnDisk(const std::string& model,
                                                        const std::string& id) {
  absl::MutexLock lock(&mu_);
  HT_ASSIGN_OR_RETURN(VariantPtr v, FindListed(model, id));
  if (v->stage == Stage::kStored || v->stage == Stage::kLoaded) return v;
  return absl::FailedPreconditionError(absl::StrCat(
      "model '", model, "', variant '", v->text, "': ",
      v->stage == Stage::kBuilding ? absl::string_view("is being built") : v->error.message()));
}

ModelInfo ModelStore::Impl::InfoOf(const Family& family, const Version& version) {
  ModelInfo info = version.stored.info;
  for (const StoredCalibration& set : family.calibration) {
    info.calibration_sets.push_back(set.ref.name);
  }
  return info;
}

VariantInfo ModelStore::Impl::InfoOf(const Variant& v) {
  return {.id = v.id,
          .model = v.model,
          .version = v.version,
          .spec = v.text,
          .state = ToState(v.stage),
          .error = std::string(v.error.message()),
          .disk_bytes = v.disk_bytes,
          .memory = v.stage == Stage::kLoaded ? v.memory : PlanMemory{},
          .created = v.created};
}

Version ModelStore::Impl::MakeVersion(StoredModel stored) {
  auto v = std::make_shared<Variant>();
  // fp32 needs neither samples nor an ISA class, so it always resolves.
  v->id = ResolveVariant(stored.info.digest, {}, engine_.isa_class, QuantSpec())->id;
  v->model = stored.info.name;
  v->version = stored.info.version;
  v->text = QuantSpec().ToString();
  v->folder = repository_->ModelFolder(v->model, v->version);
  v->is_original = true;
  v->stage = Stage::kStored;
  v->created = stored.info.created;
  v->disk_bytes = stored.disk_bytes;
  v->resident_bytes = stored.disk_bytes;
  Version version;
  version.stored = std::move(stored);
  version.original = v;
  version.variants[v->id] = v;
  return version;
}

std::vector<ModelInfo> ModelStore::Impl::ListModels() {
  std::vector<ModelInfo> out;
  absl::MutexLock lock(&mu_);
  for (const auto& [name, family] : families_) {
    for (const auto& [number, version] : family.versions) out.push_back(InfoOf(family, version));
  }
  std::sort(out.begin(), out.end(), [](const ModelInfo& a, const ModelInfo& b) {
    return std::tie(a.name, a.version) < std::tie(b.name, b.version);
  });
  return out;
}

absl::StatusOr<ModelInfo> ModelStore::Impl::GetModel(const std::string& name, int version) {
  absl::MutexLock lock(&mu_);
  HT_ASSIGN_OR_RETURN(const Family* const family, FindFamily(name));
  HT_ASSIGN_OR_RETURN(const Version* const found, FindVersion(name, version));
  return InfoOf(*family, *found);
}

std::vector<VariantInfo> ModelStore::Impl::ListVariants(const std::string& model) {
  std::vector<VariantInfo> out;
  absl::MutexLock lock(&mu_);
  for (const auto& [name, family] : families_) {
    if (!model.empty() && name != model) continue;
    for (const auto& [number, version] : family.versions) {
      for (const auto& [id, v] : version.variants) {
        if (Listed(*v)) out.push_back(InfoOf(*v));
      }
    }
  }
  const auto key = [](const VariantInfo& v) {
    return std::tuple(v.model, v.version, v.spec != "fp32", v.spec, v.created);
  };
  std::sort(out.begin(), out.end(),
            [&](const VariantInfo& a, const VariantInfo& b) { return key(a) < key(b); });
  return out;
}

absl::StatusOr<VariantInfo> ModelStore::Impl::GetVariant(const std::string& model,
                                                         const std::string& id) {
  absl::MutexLock lock(&mu_);
  HT_ASSIGN_OR_RETURN(const VariantPtr v, FindListed(model, id));
  return InfoOf(*v);
}

absl::StatusOr<VariantReport> ModelStore::Impl::GetReport(const std::string& model,
                                                          const std::string& id) {
  HT_ASSIGN_OR_RETURN(const VariantPtr v, FindOnDisk(model, id));
  if (v->is_original) {
    return absl::NotFoundError(absl::StrCat(
        "model '", model, "', variant 'fp32': is what reports compare with, it has none"));
  }
  HT_ASSIGN_OR_RETURN(const std::string text, repository_->ReadReport(v->folder));
  return ReportFromJson(text);
}

absl::StatusOr<std::vector<std::string>> ModelStore::Impl::VariantFiles(const std::string& model,
                                                                        const std::string& id) {
  HT_ASSIGN_OR_RETURN(const VariantPtr v, FindOnDisk(model, id));
  return repository_->ModelFiles(v->folder);
}

absl::StatusOr<ModelStore::TemporaryFiles> ModelStore::Impl::TrainingFiles(const std::string& model,
                                                                           const std::string& id) {
  HT_ASSIGN_OR_RETURN(const VariantPtr v, FindOnDisk(model, id));
  HT_RETURN_IF_ERROR(repository_->Verify(v->folder));
  const std::string original = repository_->ModelFolder(v->model, v->version);
  HT_ASSIGN_OR_RETURN(const Graph fp32, engine_.open_model(original + "/model.onnx"));
  HT_ASSIGN_OR_RETURN(const Graph variant, engine_.open_model(v->folder + "/model.onnx"));
  HT_ASSIGN_OR_RETURN(const Graph trainable, MakeTrainable(fp32, variant));
  HT_ASSIGN_OR_RETURN(std::shared_ptr<BundleWriter> files,
                      repository_->WriteTemporary([&](const auto& write) {
                        return engine_.export_model(trainable, write);
                      }));
  HT_ASSIGN_OR_RETURN(std::vector<std::string> paths, repository_->ModelFiles(files->folder()));
  return TemporaryFiles{std::move(paths), std::move(files)};
}

std::vector<std::string> ModelStore::Impl::damaged() {
  absl::MutexLock lock(&mu_);
  return damaged_;
}

absl::StatusOr<PlanReport> ModelStore::Impl::PlanQuantization(const std::string& model,
                                                              const QuantSpec& spec) {
  std::string folder;
  bool has_samples = false;
  {
    absl::MutexLock lock(&mu_);
    HT_ASSIGN_OR_RETURN(const Family* const family, FindFamily(model));
    folder = family->versions.rbegin()->second.original->folder;
    has_samples = !family->calibration.empty();
  }
  HT_ASSIGN_OR_RETURN(const Graph graph, engine_.open_model(folder + "/model.onnx"));
  return engine_.predict(graph, spec, has_samples);
}

bool ModelStore::Impl::CanBuild(const Variant& v) {
  if (v.is_original) return false;
  if (v.calibration_digest.empty()) return true;
  const absl::StatusOr<Family*> family = FindFamily(v.model);
  return family.ok() && (*family)->HasCalibration(v.calibration_digest);
}

absl::Status ModelStore::Impl::PutCalibration(const std::string& model, const std::string& set_name,
                                              const Samples& samples) {
  HT_RETURN_IF_ERROR(CheckName("calibration set", set_name));
  if (set_name == kSyntheticSet) {
    return absl::InvalidArgumentError(absl::StrCat("calibration set: '", set_name,
                                                   "' means generated samples, want another name"));
  }
  HT_ASSIGN_OR_RETURN(const ModelInfo info, GetModel(model, 0));
  HT_RETURN_IF_ERROR(Annotate(CheckSamples(info.signature, samples),
                              absl::StrCat("model '", model, "', set '", set_name, "'")));
  CalibrationRef ref{.name = set_name, .digest = DigestOf(samples)};
  {
    absl::MutexLock lock(&mu_);
    HT_ASSIGN_OR_RETURN(const Family* const family, FindFamily(model));
    const auto& sets = family->calibration;
    if (!sets.empty() && sets.back().ref.name == ref.name && sets.back().ref.digest == ref.digest) {
      return absl::OkStatus();
    }
  }
  HT_ASSIGN_OR_RETURN(const auto bundle, repository_->WriteCalibration(ref, samples));
  std::vector<std::string> replaced;
  absl::MutexLock disk(&disk_mu_);
  HT_RETURN_IF_ERROR(MakeRoom(bundle->bytes(), 0));
  {
    absl::MutexLock lock(&mu_);
    HT_ASSIGN_OR_RETURN(const Family* const family, FindFamily(model));
    const auto& sets = family->calibration;
    ref.sequence = sets.empty() ? 1 : sets.back().ref.sequence + 1;
  }
  HT_RETURN_IF_ERROR(bundle->Commit(repository_->CalibrationFolder(model, ref.sequence)));
  {
    absl::MutexLock lock(&mu_);
    HT_ASSIGN_OR_RETURN(Family* const family, FindFamily(model));
    std::erase_if(family->calibration, [&](const StoredCalibration& set) {
      if (set.ref.name != set_name) return false;
      replaced.push_back(repository_->CalibrationFolder(model, set.ref.sequence));
      return true;
    });
    family->calibration.push_back({.ref = ref, .disk_bytes = bundle->bytes()});
    for (auto& [number, version] : family->versions) version.aliases.clear();
  }
  for (const std::string& folder : replaced) {
    // The new set is in place; a leftover of the old one goes when the store opens next.
    if (const absl::Status s = repository_->Remove(folder); !s.ok()) LOG(WARNING) << "store: " << s;
  }
  return absl::OkStatus();
}

void ModelStore::Impl::Remove(const VariantPtr& v, const absl::Status& why, Deferred& after) {
  v->removed = true;
  v->wanted = false;
  v->stage = Stage::kAbsent;
  if (v->flight != nullptr) v->flight->cancelled = true;
  v->flight = nullptr;
  FailWaiters(*v, why, after);
  after.Free(std::exchange(v->lease, nullptr));
  after.Free(std::exchange(v->candidate, nullptr));
  if (const absl::StatusOr<Version*> version = FindVersion(v->model, v->version); version.ok()) {
    after.Free(v);
    (*version)->aliases.clear();
    const std::string id = v->id;  // `v` may be the map's own
    (*version)->variants.erase(id);
  }
}

void ModelStore::Impl::RemoveVersion(const std::string& name, int version, const absl::Status& why,
                                     Deferred& after) {
  const auto family = families_.find(name);
  if (family == families_.end()) return;
  const auto it = family->second.versions.find(version);
  if (it == family->second.versions.end()) return;
  std::vector<VariantPtr> variants;
  for (const auto& [id, v] : it->second.variants) variants.push_back(v);
  for (const VariantPtr& v : variants) Remove(v, why, after);
  family->second.versions.erase(it);
  if (family->second.versions.empty()) families_.erase(family);
}

absl::Status ModelStore::Impl::DeleteModel(const std::string& name, int version) {
  Deferred after;
  absl::Status result;
  {
    absl::MutexLock disk(&disk_mu_);
    std::vector<std::string> folders;
    {
      absl::MutexLock lock(&mu_);
      HT_ASSIGN_OR_RETURN(const Family* const family, FindFamily(name));
      std::vector<int> numbers;
      for (const auto& [number, v] : family->versions) {
        if (version == 0 || version == number) numbers.push_back(number);
      }
      if (numbers.empty()) return FindVersion(name, version).status();
      if (numbers.size() == family->versions.size()) {
        for (const StoredCalibration& set : family->calibration) {
          folders.push_back(repository_->CalibrationFolder(name, set.ref.sequence));
        }
      }
      const auto why = absl::NotFoundError(absl::StrCat("model '", name, "': was deleted"));
      for (const int number : numbers) {
        folders.push_back(repository_->ModelFolder(name, number));
        RemoveVersion(name, number, why, after);
      }
    }
    for (const std::string& folder : folders) result.Update(repository_->Remove(folder));
  }
  after.Run();
  return result;
}

absl::Status ModelStore::Impl::DeleteVariant(const std::string& model, const std::string& id) {
  Deferred after;
  absl::Status result;
  {
    absl::MutexLock disk(&disk_mu_);
    VariantPtr v;
    {
      absl::MutexLock lock(&mu_);
      HT_ASSIGN_OR_RETURN(v, FindListed(model, id));
      if (v->is_original) {
        return absl::FailedPreconditionError(absl::StrCat(
            "model '", model, "', variant 'fp32': is the model itself, delete the model"));
      }
      Remove(v,
             absl::NotFoundError(
                 absl::StrCat("model '", model, "', variant '", v->text, "': was deleted")),
             after);
    }
    result = repository_->Remove(v->folder);
  }
  after.Run();
  return result;
}

void ModelStore::Impl::SetAside(const VariantPtr& v, const absl::Status& why) {
  Deferred after;
  {
    absl::MutexLock disk(&disk_mu_);
    {
      absl::MutexLock lock(&mu_);
      if (v->removed) return;
    }
    const std::string where = repository_->SetAside(v->folder);
    LOG(ERROR) << "store: " << why << "; now in " << where;
    absl::MutexLock lock(&mu_);
    damaged_.push_back(absl::StrCat(where, ": ", why.message()));
    if (v->is_original) {
      RemoveVersion(v->model, v->version, why, after);
    } else if (v->wanted && !v->rebuilt && CanBuild(*v)) {
      v->rebuilt = true;
      StartBuild(v);
      v->flight->keep = true;
    } else {
      Remove(v, why, after);
    }
  }
  after.Run();
}

}  // namespace halftone
