// halftone.v1.QuantizationService: a thin adapter over ModelStore.
#ifndef HALFTONE_SERVER_QUANTIZATION_SERVICE_H_
#define HALFTONE_SERVER_QUANTIZATION_SERVICE_H_

#include "halftone/v1/quantization_service.grpc.pb.h"
#include "server/call_util.h"
#include "server/service_env.h"

namespace halftone {

class QuantizationService final : public v1::QuantizationService::CallbackService {
 public:
  explicit QuantizationService(ServiceEnv& env) : env_(env) {}

  grpc::ServerUnaryReactor* PlanQuantization(grpc::CallbackServerContext* context,
                                             const v1::PlanQuantizationRequest* request,
                                             v1::QuantizationPlan* response) override;
  grpc::ServerWriteReactor<v1::QuantizeEvent>* Quantize(
      grpc::CallbackServerContext* context, const v1::QuantizeRequest* request) override;
  grpc::ServerReadReactor<v1::UploadCalibrationRequest>* UploadCalibration(
      grpc::CallbackServerContext* context, v1::UploadCalibrationResponse* response) override;
  grpc::ServerUnaryReactor* SampleRequests(grpc::CallbackServerContext* context,
                                           const v1::SampleRequestsRequest* request,
                                           v1::SampleRequestsResponse* response) override;
  grpc::ServerUnaryReactor* ListVariants(grpc::CallbackServerContext* context,
                                         const v1::ListVariantsRequest* request,
                                         v1::ListVariantsResponse* response) override;
  grpc::ServerUnaryReactor* GetVariant(grpc::CallbackServerContext* context,
                                       const v1::GetVariantRequest* request,
                                       v1::Variant* response) override;
  grpc::ServerUnaryReactor* GetReport(grpc::CallbackServerContext* context,
                                      const v1::GetReportRequest* request,
                                      v1::Report* response) override;
  grpc::ServerUnaryReactor* DeleteVariant(grpc::CallbackServerContext* context,
                                          const v1::DeleteVariantRequest* request,
                                          v1::DeleteVariantResponse* response) override;
  grpc::ServerWriteReactor<v1::ExportVariantResponse>* ExportVariant(
      grpc::CallbackServerContext* context, const v1::ExportVariantRequest* request) override;

 private:
  void ToProtoWithArena(const VariantInfo& info, v1::Variant& out) const;
  absl::Status RunQuantize(const v1::QuantizeRequest& request,
                           MessageStream<v1::QuantizeEvent>& stream, CallLabels& labels);
  absl::Status RunSearch(const v1::QuantizeRequest& request,
                         MessageStream<v1::QuantizeEvent>& stream, CallLabels& labels);
  absl::Status RunExport(const v1::ExportVariantRequest& request,
                         MessageStream<v1::ExportVariantResponse>& stream, CallLabels& labels);

  ServiceEnv& env_;
};

}  // namespace halftone

#endif  // HALFTONE_SERVER_QUANTIZATION_SERVICE_H_
