// Receiving models and importing them.
#include <utility>

#include "absl/log/log.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/store/model_store_impl.h"

namespace halftone {
namespace {

constexpr size_t kMaxUploads = 1000;

ModelStore::UploadStatus StatusOf(const Upload& upload) {
  ModelStore::UploadStatus status{
      .upload_id = upload.header.id, .received_bytes = upload.received, .complete = true};
  for (size_t i = 0; i < upload.received.size(); ++i) {
    status.complete &= upload.received[i] == upload.header.files[i].bytes;
  }
  return status;
}

absl::Status NoSuchUpload(const std::string& id) {
  return absl::NotFoundError(
      absl::StrCat("upload '", absl::string_view(id).substr(0, 100), "': not found"));
}

}  // namespace

std::optional<ModelInfo> ModelStore::Impl::FindFinished(const std::string& upload_id) {
  for (const auto& [name, family] : families_) {
    for (const auto& [number, version] : family.versions) {
      if (version.stored.upload_id == upload_id) return InfoOf(family, version);
    }
  }
  return std::nullopt;
}

absl::StatusOr<ModelStore::UploadStatus> ModelStore::Impl::BeginUpload(
    const std::string& model, std::vector<FileInfo> files) {
  HT_ASSIGN_OR_RETURN(UploadHeader header, MakeUploadHeader(model, std::move(files), clock_.Now()));
  const int64_t total = header.total_bytes();
  if (total > options_.max_upload_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("model '", model, "': needs ", total,
                                                     " bytes, uploads may have at most ",
                                                     options_.max_upload_bytes));
  }
  absl::MutexLock disk(&disk_mu_);
  {
    absl::MutexLock lock(&mu_);
    if (FindFinished(header.id)) {
      UploadStatus status{.upload_id = header.id, .complete = true};
      for (const FileInfo& file : header.files) status.received_bytes.push_back(file.bytes);
      return status;
    }
    const auto it = uploads_.find(header.id);
    if (it != uploads_.end()) return StatusOf(it->second);
    if (uploads_.size() >= kMaxUploads) {
      return absl::ResourceExhaustedError(
          absl::StrCat("store: ", uploads_.size(), " uploads are unfinished already"));
    }
  }
  // On the way there are two copies: what was received and the portable form.
  HT_RETURN_IF_ERROR(MakeRoom(total, total > (int64_t{1} << 62) ? total : 2 * total));
  HT_RETURN_IF_ERROR(upload_area_.Create(header));
  absl::MutexLock lock(&mu_);
  Upload& upload = uploads_[header.id];
  upload.received.assign(header.files.size(), 0);
  upload.header = std::move(header);
  return StatusOf(upload);
}

absl::StatusOr<Upload*> ModelStore::Impl::ClaimUpload(const std::string& id) {
  const auto it = uploads_.find(id);
  if (it == uploads_.end()) return NoSuchUpload(id);
  if (it->second.busy) {
    return absl::AbortedError(absl::StrCat("upload '", id, "': another call works on it"));
  }
  return &it->second;
}

absl::Status ModelStore::Impl::AppendUpload(const std::string& id, int file_index, int64_t offset,
                                            absl::Span<const std::byte> chunk) {
  UploadHeader header;
  {
    absl::MutexLock lock(&mu_);
    HT_ASSIGN_OR_RETURN(Upload* const upload, ClaimUpload(id));
    if (file_index < 0 || file_index >= static_cast<int>(upload->received.size())) {
      return absl::InvalidArgumentError(absl::StrCat("upload '", id, "': got file index ",
                                                     file_index, ", want 0 to ",
                                                     upload->received.size() - 1));
    }
    const FileInfo& file = upload->header.files[file_index];
    const int64_t received = upload->received[file_index];
    const std::string where = absl::StrCat("upload '", id, "', file '", file.name, "'");
    if (offset != received) {
      return absl::FailedPreconditionError(absl::StrCat(where, ": got a chunk at offset ", offset,
                                                        ", want ", received,
                                                        ", which is what was received"));
    }
    if (static_cast<int64_t>(chunk.size()) > file.bytes - received) {
      return absl::InvalidArgumentError(absl::StrCat(
          where, ": got ", chunk.size(), " more bytes, want at most ", file.bytes - received));
    }
    upload->busy = true;
    header = upload->header;
  }
  const absl::Status written = upload_area_.Append(
      header, file_index,
      absl::string_view(reinterpret_cast<const char*>(chunk.data()), chunk.size()));
  // A failed write may have left a part of the chunk; the file knows.
  absl::StatusOr<std::vector<int64_t>> received = upload_area_.Received(header);
  absl::MutexLock lock(&mu_);
  const auto it = uploads_.find(id);
  it->second.busy = false;
  if (received.ok()) it->second.received = *std::move(received);
  return written.ok() ? received.status() : written;
}

absl::StatusOr<ModelStore::UploadStatus> ModelStore::Impl::GetUpload(const std::string& id) {
  absl::MutexLock lock(&mu_);
  const auto it = uploads_.find(id);
  if (it == uploads_.end()) return NoSuchUpload(id);
  return StatusOf(it->second);
}

absl::StatusOr<ModelInfo> ModelStore::Impl::FinishUpload(const std::string& id) {
  UploadHeader header;
  {
    absl::MutexLock lock(&mu_);
    if (std::optional<ModelInfo> finished = FindFinished(id)) return *std::move(finished);
    HT_ASSIGN_OR_RETURN(Upload* const upload, ClaimUpload(id));
    for (size_t i = 0; i < upload->received.size(); ++i) {
      const FileInfo& file = upload->header.files[i];
      if (upload->received[i] != file.bytes) {
        return absl::FailedPreconditionError(absl::StrCat("upload '", id, "', file '", file.name,
                                                          "': received ", upload->received[i],
                                                          " of ", file.bytes, " bytes"));
      }
    }
    upload->busy = true;
    header = upload->header;
  }
  absl::StatusOr<ModelInfo> result = ImportUpload(header);
  const absl::Status removed = upload_area_.Remove(header);
  if (!removed.ok()) LOG(WARNING) << "store: " << removed;
  absl::MutexLock lock(&mu_);
  uploads_.erase(id);
  return result;
}

absl::StatusOr<ModelInfo> ModelStore::Impl::ImportUpload(const UploadHeader& header) {
  absl::MutexLock one_at_a_time(&import_mu_);
  HT_RETURN_IF_ERROR(upload_area_.Verify(header));
  StoredModel stored{.info = {.name = header.model,
                              .digest = ModelDigest(header.files),
                              .bytes = header.total_bytes(),
                              .created = clock_.Now()},
                     .upload_id = header.id};
  {
    absl::MutexLock lock(&mu_);
    if (const absl::StatusOr<Family*> family = FindFamily(header.model); family.ok()) {
      for (const auto& [number, version] : (*family)->versions) {
        if (version.stored.info.digest == stored.info.digest) return InfoOf(**family, version);
      }
    }
  }
  std::unique_ptr<BundleWriter> bundle;
  {
    // The graph and its mapped weights go before anything else happens.
    HT_ASSIGN_OR_RETURN(const Graph graph, engine_.import_model(upload_area_.OnnxPath(header)));
    HT_ASSIGN_OR_RETURN(stored.info.signature, SignatureOf(graph));
    HT_ASSIGN_OR_RETURN(bundle, repository_->WriteModel(stored, [&](const auto& write) {
      return engine_.export_model(graph, write);
    }));
  }
  stored.disk_bytes = bundle->bytes();
  absl::MutexLock disk(&disk_mu_);
  // The uploaded bytes make room for the portable form.
  HT_RETURN_IF_ERROR(MakeRoom(stored.disk_bytes - header.total_bytes(), 0));
  {
    absl::MutexLock lock(&mu_);
    const absl::StatusOr<Family*> family = FindFamily(header.model);
    stored.info.version = family.ok() ? (*family)->versions.rbegin()->first + 1 : 1;
  }
  HT_RETURN_IF_ERROR(bundle->Commit(repository_->ModelFolder(header.model, stored.info.version)));
  absl::MutexLock lock(&mu_);
  Family& family = families_[header.model];
  const int number = stored.info.version;
  const auto [it, is_new] = family.versions.emplace(number, MakeVersion(std::move(stored)));
  return InfoOf(family, it->second);
}

}  // namespace halftone
