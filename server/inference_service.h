// halftone.v1.InferenceService: requests in, InferenceEngine, responses out.
#ifndef HALFTONE_SERVER_INFERENCE_SERVICE_H_
#define HALFTONE_SERVER_INFERENCE_SERVICE_H_

#include "halftone/v1/inference_service.grpc.pb.h"
#include "server/service_env.h"

namespace halftone {

class InferenceService final : public v1::InferenceService::CallbackService {
 public:
  explicit InferenceService(ServiceEnv& env) : env_(env) {}

  grpc::ServerUnaryReactor* Infer(grpc::CallbackServerContext* context,
                                  const v1::InferRequest* request,
                                  v1::InferResponse* response) override;
  grpc::ServerBidiReactor<v1::InferRequest, v1::InferStreamResponse>* InferStream(
      grpc::CallbackServerContext* context) override;

 private:
  ServiceEnv& env_;
};

}  // namespace halftone

#endif  // HALFTONE_SERVER_INFERENCE_SERVICE_H_
