// The disk budget: what may be dropped because it can be built again.
#include <algorithm>
#include <utility>

#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/store/model_store_impl.h"

namespace halftone {

int64_t ModelStore::Impl::DiskUsed() {
  int64_t used = 0;
  for (const auto& [id, upload] : uploads_) used += upload.header.total_bytes();
  for (const auto& [name, family] : families_) {
    for (const StoredCalibration& set : family.calibration) used += set.disk_bytes;
    for (const auto& [number, version] : family.versions) {
      for (const auto& [id, v] : version.variants) {
        if (v->stage == Stage::kStored || v->stage == Stage::kLoaded) used += v->disk_bytes;
      }
    }
  }
  return used;
}

absl::Status ModelStore::Impl::MakeRoom(int64_t budget_bytes, int64_t disk_bytes) {
  HT_ASSIGN_OR_RETURN(const int64_t free_bytes,
                      repository_->files().FreeBytes(repository_->directory()));
  Deferred after;
  std::vector<std::string> folders;
  {
    absl::MutexLock lock(&mu_);
    std::vector<VariantPtr> variants;
    std::vector<StoredSnapshot> snapshot;
    int64_t droppable_bytes = 0;
    for (const auto& [name, family] : families_) {
      for (const auto& [number, version] : family.versions) {
        for (const auto& [id, v] : version.variants) {
          const bool droppable = v->stage == Stage::kStored && !v->wanted && CanBuild(*v);
          variants.push_back(v);
          snapshot.push_back({.droppable = droppable, .last_used = v->last_used});
          if (droppable) droppable_bytes += v->disk_bytes;
        }
      }
    }
    int64_t budget_left = options_.disk_budget_bytes - DiskUsed();
    int64_t disk_left = free_bytes;
    if (budget_bytes > budget_left + droppable_bytes || disk_bytes > disk_left + droppable_bytes) {
      const bool budget = budget_bytes > budget_left + droppable_bytes;
      return absl::ResourceExhaustedError(
          absl::StrCat("store: needs ", budget ? budget_bytes : disk_bytes, " bytes of disk, ",
                       std::max<int64_t>(0, (budget ? budget_left : disk_left) + droppable_bytes),
                       budget ? absl::StrCat(" of the budget of ", options_.disk_budget_bytes)
                              : std::string(" of the file system"),
                       " are available"));
    }
    while (budget_bytes > budget_left || disk_bytes > disk_left) {
      const std::optional<size_t> victim = NextDrop(snapshot);
      if (!victim) break;
      const VariantPtr& v = variants[*victim];
      snapshot[*victim].droppable = false;
      LOG(INFO) << "store: dropping variant " << v->text << " of " << v->model << " to make room";
      budget_left += v->disk_bytes;
      disk_left += v->disk_bytes;
      folders.push_back(v->folder);
      Remove(v, absl::NotFoundError("dropped to make room on disk"), after);
    }
  }
  after.Run();  // only memory: droppable variants have no waiters
  for (const std::string& folder : folders) HT_RETURN_IF_ERROR(repository_->Remove(folder));
  return absl::OkStatus();
}

}  // namespace halftone
