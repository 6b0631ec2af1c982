// halftone.v1.ModelService: a thin adapter over ModelStore.
#ifndef HALFTONE_SERVER_MODEL_SERVICE_H_
#define HALFTONE_SERVER_MODEL_SERVICE_H_

#include "halftone/v1/model_service.grpc.pb.h"
#include "server/service_env.h"

namespace halftone {

class ModelService final : public v1::ModelService::CallbackService {
 public:
  explicit ModelService(ServiceEnv& env) : env_(env) {}

  grpc::ServerReadReactor<v1::UploadModelRequest>* UploadModel(
      grpc::CallbackServerContext* context, v1::UploadModelResponse* response) override;
  grpc::ServerUnaryReactor* GetUpload(grpc::CallbackServerContext* context,
                                      const v1::GetUploadRequest* request,
                                      v1::Upload* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::Model* response) override;
  grpc::ServerUnaryReactor* DeleteModel(grpc::CallbackServerContext* context,
                                        const v1::DeleteModelRequest* request,
                                        v1::DeleteModelResponse* response) override;

 private:
  ServiceEnv& env_;
};

}  // namespace halftone

#endif  // HALFTONE_SERVER_MODEL_SERVICE_H_
