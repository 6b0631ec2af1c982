// inference.GRPCInferenceService: the Open Inference Protocol over the same engine.
#ifndef HALFTONE_SERVER_OPEN_INFERENCE_SERVICE_H_
#define HALFTONE_SERVER_OPEN_INFERENCE_SERVICE_H_

#include <atomic>

#include "inference/open_inference.grpc.pb.h"
#include "server/service_env.h"

namespace halftone {

class OpenInferenceService final : public inference::GRPCInferenceService::CallbackService {
 public:
  // `ready` says whether the server accepts requests.
  OpenInferenceService(ServiceEnv& env, const std::atomic<bool>& ready)
      : env_(env), ready_(ready) {}

  grpc::ServerUnaryReactor* ServerLive(grpc::CallbackServerContext* context,
                                       const inference::ServerLiveRequest* request,
                                       inference::ServerLiveResponse* response) override;
  grpc::ServerUnaryReactor* ServerReady(grpc::CallbackServerContext* context,
                                        const inference::ServerReadyRequest* request,
                                        inference::ServerReadyResponse* response) override;
  grpc::ServerUnaryReactor* ModelReady(grpc::CallbackServerContext* context,
                                       const inference::ModelReadyRequest* request,
                                       inference::ModelReadyResponse* response) override;
  grpc::ServerUnaryReactor* ServerMetadata(grpc::CallbackServerContext* context,
                                           const inference::ServerMetadataRequest* request,
                                           inference::ServerMetadataResponse* response) override;
  grpc::ServerUnaryReactor* ModelMetadata(grpc::CallbackServerContext* context,
                                          const inference::ModelMetadataRequest* request,
                                          inference::ModelMetadataResponse* response) override;
  grpc::ServerUnaryReactor* ModelInfer(grpc::CallbackServerContext* context,
                                       const inference::ModelInferRequest* request,
                                       inference::ModelInferResponse* response) override;

 private:
  ServiceEnv& env_;
  const std::atomic<bool>& ready_;
};

}  // namespace halftone

#endif  // HALFTONE_SERVER_OPEN_INFERENCE_SERVICE_H_
