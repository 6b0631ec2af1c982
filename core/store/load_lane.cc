// Loading and evicting plans: one thread that does what NextAction says.
#include <utility>

#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/store/model_store_impl.h"

namespace halftone {
namespace {

int64_t Total(const PlanMemory& memory) { return memory.weight_bytes + memory.packed_bytes; }

}  // namespace

void ModelStore::Impl::PokeLoadLane() {
  load_poked_ = true;
  load_cv_.Signal();
}

void ModelStore::Impl::RunLoadLane() {
  if (engine_.enter_load_lane) engine_.enter_load_lane();
  while (true) {
    Deferred after;
    VariantPtr to_load;
    {
      absl::MutexLock lock(&mu_);
      while (!load_poked_ && !stopping_) load_cv_.Wait(&mu_);
      if (stopping_) return;
    }
    RefreshMemory();
    {
      absl::MutexLock lock(&mu_);
      to_load = StepLoadLane(after);
    }
    // Not beside the first request for what was just loaded: malloc waits for it.
    const bool release = to_load != nullptr || after.frees();
    after.Run();
    if (to_load != nullptr) Load(to_load);
    if (engine_.release_memory && release) engine_.release_memory();
  }
}

VariantPtr ModelStore::Impl::StepLoadLane(Deferred& after) {
  std::vector<VariantPtr> variants;
  std::vector<ResidentSnapshot> snapshot;
  for (auto& [name, family] : families_) {
    for (auto& [number, version] : family.versions) {
      for (auto& [id, v] : version.variants) {
        const bool loaded = v->stage == Stage::kLoaded;
        const bool wanted = v->wanted && v->stage == Stage::kStored;
        if (!loaded && !wanted) continue;
        variants.push_back(v);
        snapshot.push_back({.loaded = loaded,
                            .wanted = wanted,
                            .in_use = loaded && v->lease.use_count() > 1,
                            .bytes = v->resident_bytes,
                            .last_used = loaded ? v->last_used : v->wanted_since});
      }
    }
  }
  const std::optional<ResidentAction> action = NextAction(snapshot, options_.resident_budget_bytes);
  if (!action) {
    load_poked_ = false;
    return nullptr;
  }
  const VariantPtr& v = variants[action->index];
  const auto notify = [&](CacheEvent event) {
    after.Call([this, event, v] { Notify(event, v->model, v->text); });
  };
  switch (action->kind) {
    case ResidentActionKind::kEvict:
      after.Free(std::exchange(v->lease, nullptr));
      v->stage = Stage::kStored;
      v->memory = {};
      notify(CacheEvent::kEvict);
      return nullptr;
    case ResidentActionKind::kRefuse:
      after.Free(std::exchange(v->candidate, nullptr));
      v->wanted = false;
      v->memory = {};
      FailWaiters(*v,
                  absl::ResourceExhaustedError(absl::StrCat(
                      "model '", v->model, "', variant '", v->text, "': needs ",
                      action->bytes_needed, " bytes of memory, ", action->bytes_available, " of ",
                      options_.resident_budget_bytes, " are available")),
                  after);
      return nullptr;
    case ResidentActionKind::kLoad:
      if (v->candidate == nullptr) return v;
      v->lease = std::exchange(v->candidate, nullptr);
      v->stage = Stage::kLoaded;
      v->wanted = false;
      v->last_used = ++tick_;
      notify(CacheEvent::kLoad);
      AnswerWaiters(*v, after);
      return nullptr;
  }
  return nullptr;
}

void ModelStore::Impl::Load(const VariantPtr& v) {
  const auto load = [&]() -> absl::StatusOr<std::shared_ptr<const Lease>> {
    HT_RETURN_IF_ERROR(repository_->Verify(v->folder));
    HT_ASSIGN_OR_RETURN(std::shared_ptr<const Plan> plan,
                        engine_.load(v->folder + "/model.onnx", v->spec));
    if (engine_.warm_up) engine_.warm_up(v->id, plan);
    return std::make_shared<const Lease>(Lease{std::move(plan)});
  };
  absl::StatusOr<std::shared_ptr<const Lease>> lease = load();
  if (absl::IsDataLoss(lease.status())) return SetAside(v, lease.status());
  PlanMemory memory;
  if (lease.ok()) memory = engine_.memory(*(*lease)->plan);
  Deferred after;
  {
    absl::MutexLock lock(&mu_);
    if (!lease.ok()) {
      v->wanted = false;
      FailWaiters(*v, lease.status(), after);
    } else if (v->removed || !v->wanted) {
      after.Free(*std::move(lease));
    } else {
      // NextAction decides once more, now with the true size.
      v->candidate = *std::move(lease);
      v->memory = memory;
      v->resident_bytes = Total(memory);
    }
  }
  after.Run();
}

void ModelStore::Impl::RefreshMemory() {
  struct Item {
    VariantPtr variant;
    std::shared_ptr<const Plan> plan;
    PlanMemory memory;
  };
  std::vector<Item> items;
  {
    absl::MutexLock lock(&mu_);
    for (auto& [name, family] : families_) {
      for (auto& [number, version] : family.versions) {
        for (auto& [id, v] : version.variants) {
          if (v->stage == Stage::kLoaded) items.push_back({v, v->lease->plan, {}});
        }
      }
    }
  }
  for (Item& item : items) item.memory = engine_.memory(*item.plan);
  absl::MutexLock lock(&mu_);
  for (Item& item : items) {
    Variant& v = *item.variant;
    if (v.stage != Stage::kLoaded || v.lease->plan != item.plan) continue;
    v.memory = item.memory;
    v.resident_bytes = Total(item.memory);
  }
}

std::vector<VariantInfo> ModelStore::Impl::LoadedVariants() {
  RefreshMemory();
  std::vector<VariantInfo> out;
  int64_t total = 0;
  absl::MutexLock lock(&mu_);
  for (auto& [name, family] : families_) {
    for (auto& [number, version] : family.versions) {
      for (auto& [id, v] : version.variants) {
        if (v->stage != Stage::kLoaded) continue;
        total += v->resident_bytes;
        out.push_back(InfoOf(*v));
      }
    }
  }
  if (total > options_.resident_budget_bytes) PokeLoadLane();
  return out;
}

}  // namespace halftone
