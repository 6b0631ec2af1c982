#include "server/model_service.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "server/call_util.h"
#include "server/proto_convert.h"

namespace halftone {
namespace {

constexpr size_t kMaxChunkBytes = size_t{4} << 20;

// One UploadModel call: header, chunks, end.
class UploadSession {
 public:
  explicit UploadSession(ModelStore& store) : store_(store) {}

  absl::Status Take(const v1::UploadModelRequest& request) {
    if (request.part_case() == v1::UploadModelRequest::kHeader) return TakeHeader(request.header());
    if (request.part_case() != v1::UploadModelRequest::kChunk) {
      return absl::InvalidArgumentError("upload: a message has neither a header nor a chunk");
    }
    if (upload_id_.empty()) {
      return absl::InvalidArgumentError("upload: got a chunk first, want the header first");
    }
    return TakeChunk(request.chunk());
  }

  absl::StatusOr<ModelInfo> Finish() {
    if (upload_id_.empty()) {
      return absl::InvalidArgumentError("upload: got no message, want a header and chunks");
    }
    HT_ASSIGN_OR_RETURN(const ModelStore::UploadStatus status, store_.GetUpload(upload_id_));
    for (size_t i = 0; i < files_.size() && i < status.received_bytes.size(); ++i) {
      if (status.received_bytes[i] == files_[i].bytes) continue;
      return absl::FailedPreconditionError(
          absl::StrCat("upload of '", model_, "': the client ended after ",
                       status.received_bytes[i], " of ", files_[i].bytes, " bytes of '",
                       files_[i].name, "'; upload with the same header to continue there"));
    }
    return store_.FinishUpload(upload_id_);
  }

  const std::string& model() const { return model_; }

 private:
  absl::Status TakeHeader(const v1::UploadHeader& header) {
    if (!upload_id_.empty()) {
      return absl::InvalidArgumentError("upload: got a second header, want one");
    }
    files_ = FilesOf(header);
    HT_ASSIGN_OR_RETURN(const ModelStore::UploadStatus status,
                        store_.BeginUpload(header.model(), files_));
    upload_id_ = status.upload_id;
    model_ = header.model();
    return absl::OkStatus();
  }

  absl::Status TakeChunk(const v1::FileChunk& chunk) {
    if (chunk.file_index() < 0 || chunk.file_index() >= static_cast<int>(files_.size())) {
      return absl::InvalidArgumentError(absl::StrCat("upload: chunk for file ", chunk.file_index(),
                                                     ", the header has ", files_.size(), " files"));
    }
    const std::string& name = files_[chunk.file_index()].name;
    if (chunk.data().empty() || chunk.data().size() > kMaxChunkBytes) {
      return absl::InvalidArgumentError(absl::StrCat("upload: chunk of '", name, "' at ",
                                                     chunk.offset(), " has ", chunk.data().size(),
                                                     " bytes, want 1 to ", kMaxChunkBytes));
    }
    return store_.AppendUpload(
        upload_id_, chunk.file_index(), chunk.offset(),
        absl::MakeConstSpan(reinterpret_cast<const std::byte*>(chunk.data().data()),
                            chunk.data().size()));
  }

  ModelStore& store_;
  std::string upload_id_;
  std::string model_;
  std::vector<FileInfo> files_;
};

}  // namespace

grpc::ServerReadReactor<v1::UploadModelRequest>* ModelService::UploadModel(
    grpc::CallbackServerContext* context, v1::UploadModelResponse* response) {
  auto session = std::make_shared<UploadSession>(env_.store);
  auto model = std::make_shared<std::string>();  // once it exists
  return new RequestStream<v1::UploadModelRequest>(
      context, env_.quick_pool, env_.slow_pool,
      {.read = [session](const v1::UploadModelRequest& r) { return session->Take(r); },
       .end = [session, model, response]() -> absl::Status {
         HT_ASSIGN_OR_RETURN(const ModelInfo info, session->Finish());
         *model = info.name;
         ToProto(info, *response->mutable_model());
         return absl::OkStatus();
       },
       .finished =
           [this, model](const absl::Status& status) {
             env_.metrics.CountRequest("UploadModel", *model, "", status.code());
           }});
}

grpc::ServerUnaryReactor* ModelService::GetUpload(grpc::CallbackServerContext* context,
                                                  const v1::GetUploadRequest* request,
                                                  v1::Upload* response) {
  return AnswerOnPool(
      env_.quick_pool, env_.metrics, "GetUpload", context,
      [this, request, response](CallLabels&) -> absl::Status {
        absl::StatusOr<ModelStore::UploadStatus> status = absl::InvalidArgumentError(
            "GetUpload: the request names no upload, want a header or an upload_id");
        if (request->has_header()) {
          status = env_.store.BeginUpload(request->header().model(), FilesOf(request->header()));
        } else if (!request->upload_id().empty()) {
          status = env_.store.GetUpload(request->upload_id());
        }
        if (status.ok()) ToProto(*status, *response);
        return status.status();
      });
}

grpc::ServerUnaryReactor* ModelService::ListModels(grpc::CallbackServerContext* context,
                                                   const v1::ListModelsRequest* request,
                                                   v1::ListModelsResponse* response) {
  return AnswerOnPool(
      env_.quick_pool, env_.metrics, "ListModels", context, [this, request, response](CallLabels&) {
        std::vector<ModelInfo> models = env_.store.ListModels();
        std::sort(models.begin(), models.end(), [](const ModelInfo& a, const ModelInfo& b) {
          return a.name != b.name ? a.name < b.name : a.version > b.version;
        });
        for (const ModelInfo& info : models) {
          if (request->name().empty() || request->name() == info.name) {
            ToProto(info, *response->add_models());
          }
        }
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ModelService::GetModel(grpc::CallbackServerContext* context,
                                                 const v1::GetModelRequest* request,
                                                 v1::Model* response) {
  return AnswerOnPool(env_.quick_pool, env_.metrics, "GetModel", context,
                      [this, request, response](CallLabels& labels) -> absl::Status {
                        HT_ASSIGN_OR_RETURN(
                            const ModelInfo info,
                            env_.store.GetModel(request->name(), request->version()));
                        labels.model = info.name;
                        ToProto(info, *response);
                        return absl::OkStatus();
                      });
}

grpc::ServerUnaryReactor* ModelService::DeleteModel(grpc::CallbackServerContext* context,
                                                    const v1::DeleteModelRequest* request,
                                                    v1::DeleteModelResponse*) {
  return AnswerOnPool(
      env_.quick_pool, env_.metrics, "DeleteModel", context,
      [this, request](CallLabels&) -> absl::Status {
        HT_RETURN_IF_ERROR(env_.store.DeleteModel(request->name(), request->version()));
        if (!env_.store.GetModel(request->name()).ok()) {
          env_.metrics.ForgetModel(request->name());
          env_.live_samples.Stop(request->name());
        }
        env_.scheduler.DropUnusedContexts();
        return absl::OkStatus();
      });
}

}  // namespace halftone
