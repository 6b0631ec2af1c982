// Ranges that earlier builds found, beside the samples that they come from.
#include "absl/log/log.h"
#include "core/store/model_store_impl.h"

namespace halftone {

std::optional<std::string> ModelStore::Impl::FolderOfSet(const std::string& model,
                                                         const std::string& set_digest) {
  absl::MutexLock lock(&mu_);
  const absl::StatusOr<Family*> family = FindFamily(model);
  if (!family.ok()) return std::nullopt;
  for (const StoredCalibration& set : (*family)->calibration) {
    if (set.ref.digest == set_digest) {
      return repository_->CalibrationFolder(model, set.ref.sequence);
    }
  }
  return std::nullopt;
}

CalibrationCache ModelStore::Impl::CacheBeside(const std::string& model,
                                               const std::string& set_digest) {
  return {.find = [=, this](const std::string& key) -> std::optional<std::string> {
            const auto folder = FolderOfSet(model, set_digest);
            if (!folder) return std::nullopt;
            return repository_->ReadRanges(*folder, key);
          },
          .put =
              [=, this](const std::string& key, absl::string_view bytes) {
                absl::MutexLock disk(&disk_mu_);  // the set is not removed meanwhile
                const auto folder = FolderOfSet(model, set_digest);
                if (!folder) return;
                const absl::Status written = repository_->WriteRanges(*folder, key, bytes);
                if (!written.ok()) LOG(WARNING) << "store: ranges are not cached: " << written;
              }};
}

}  // namespace halftone
