#include "server/open_inference_service.h"

#include <algorithm>
#include <list>
#include <memory>
#include <set>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"
#include "server/call_util.h"
#include "server/infer_call.h"
#include "server/open_inference_codec.h"
#include "server/proto_convert.h"
#include "server/version.h"

namespace halftone {
namespace {

using TensorMetadata = inference::ModelMetadataResponse::TensorMetadata;

bool CanAnswer(VariantState state) {
  return state == VariantState::kStored || state == VariantState::kLoaded;
}

// The variant that `version` names; nullopt: a good spec that has no variant yet.
absl::StatusOr<std::optional<VariantInfo>> FindVersion(const ModelStore& store,
                                                       const std::string& model,
                                                       const std::string& version) {
  absl::StatusOr<VariantInfo> found = store.GetVariant(model, version.empty() ? "fp32" : version);
  if (found.ok()) return std::optional<VariantInfo>(*std::move(found));
  if (absl::IsNotFound(found.status()) && QuantSpec::Parse(version).ok()) return std::nullopt;
  return found.status();
}

void Describe(const TensorSignature& tensor, TensorMetadata& out) {
  out.set_name(Utf8(tensor.name));
  out.set_datatype(std::string(Info(tensor.type).wire_name));
  for (const Dim& dim : tensor.shape) out.add_shape(dim.known() ? dim.value : -1);
}

void DescribeVariant(const ModelStore& store, const VariantInfo& info,
                     google::protobuf::Map<std::string, std::string>& properties) {
  properties["precision"] = info.spec;
  properties["variant_id"] = info.id;
  properties["disk_bytes"] = absl::StrCat(info.disk_bytes);
  const absl::StatusOr<VariantReport> report = store.GetReport(info.model, info.id);
  if (!report.ok() || info.spec == "fp32") return;
  properties["sqnr_db"] = absl::StrCat(report->sqnr_db);
  properties["speedup_ratio"] = absl::StrCat(report->speedup);
  if (report->top1_agreement >= 0) {
    properties["top1_agreement_ratio"] = absl::StrCat(report->top1_agreement);
  }
}

}  // namespace

grpc::ServerUnaryReactor* OpenInferenceService::ServerLive(
    grpc::CallbackServerContext* context, const inference::ServerLiveRequest*,
    inference::ServerLiveResponse* response) {
  response->set_live(true);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* OpenInferenceService::ServerReady(
    grpc::CallbackServerContext* context, const inference::ServerReadyRequest*,
    inference::ServerReadyResponse* response) {
  response->set_ready(ready_);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* OpenInferenceService::ModelReady(
    grpc::CallbackServerContext* context, const inference::ModelReadyRequest* request,
    inference::ModelReadyResponse* response) {
  return AnswerOnPool(env_.quick_pool, env_.metrics, "ModelReady", context,
                      [this, request, response](CallLabels& labels) -> absl::Status {
                        HT_RETURN_IF_ERROR(env_.store.GetModel(request->name()).status());
                        labels.model = request->name();
                        HT_ASSIGN_OR_RETURN(
                            const std::optional<VariantInfo> info,
                            FindVersion(env_.store, request->name(), request->version()));
                        response->set_ready(info && CanAnswer(info->state));
                        return absl::OkStatus();
                      });
}

grpc::ServerUnaryReactor* OpenInferenceService::ServerMetadata(
    grpc::CallbackServerContext* context, const inference::ServerMetadataRequest*,
    inference::ServerMetadataResponse* response) {
  response->set_name("halftone");
  response->set_version(kVersion);
  response->add_extensions("binary_tensor_data");
  response->add_extensions("parameters");
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* OpenInferenceService::ModelMetadata(
    grpc::CallbackServerContext* context, const inference::ModelMetadataRequest* request,
    inference::ModelMetadataResponse* response) {
  return AnswerOnPool(
      env_.quick_pool, env_.metrics, "ModelMetadata", context,
      [this, request, response](CallLabels& labels) -> absl::Status {
        HT_ASSIGN_OR_RETURN(ModelInfo model, env_.store.GetModel(request->name()));
        labels.model = model.name;
        HT_ASSIGN_OR_RETURN(const std::optional<VariantInfo> named,
                            FindVersion(env_.store, request->name(), request->version()));
        // A variant id may belong to an older version of the model.
        if (named && named->version != model.version) {
          HT_ASSIGN_OR_RETURN(model, env_.store.GetModel(request->name(), named->version));
        }
        response->set_name(model.name);
        response->set_platform("onednn_onnx");
        std::set<std::string> specs = {"fp32"};
        for (const VariantInfo& info : env_.store.ListVariants(model.name)) {
          if (info.version == model.version && CanAnswer(info.state)) specs.insert(info.spec);
        }
        for (const std::string& spec : specs) response->add_versions(spec);
        for (const TensorSignature& t : model.signature.inputs) {
          Describe(t, *response->add_inputs());
        }
        for (const TensorSignature& t : model.signature.outputs) {
          Describe(t, *response->add_outputs());
        }
        auto& properties = *response->mutable_properties();
        properties["digest"] = model.digest;
        properties["model_version"] = absl::StrCat(model.version);
        if (named) DescribeVariant(env_.store, *named, properties);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* OpenInferenceService::ModelInfer(
    grpc::CallbackServerContext* context, const inference::ModelInferRequest* request,
    inference::ModelInferResponse* response) {
  auto* call = new InferCall(context, [request, response](const InferOutcome& outcome) {
    EncodeResponse(*request, outcome, *response);
  });
  const absl::StatusOr<RequestParameters> parameters = ParametersOf(*request);
  if (!parameters.ok()) {
    env_.metrics.CountRequest("ModelInfer", "", "", parameters.status().code());
    call->Run(env_.engine, parameters.status());
    return call;
  }
  // Typed contents, packed; lives as long as the task.
  auto storage = std::make_shared<std::list<std::string>>();
  call->Run(env_.engine,
            InferTask{.method = "ModelInfer",
                      .model = request->model_name(),
                      .variant = request->model_version(),
                      .when_missing = parameters->when_missing,
                      .deadline = std::min(DeadlineOf(*context), absl::Now() + parameters->timeout),
                      // Typed contents exist twice from decoding on.
                      .request_bytes = 2 * static_cast<int64_t>(request->ByteSizeLong()),
                      .decode = [request, storage](
                                    const Signature& signature) -> absl::StatusOr<DecodedRequest> {
                        DecodedRequest decoded;
                        HT_ASSIGN_OR_RETURN(const std::vector<WantedOutput> wanted,
                                            WantedOutputsOf(*request));
                        HT_ASSIGN_OR_RETURN(decoded.picks, PickOutputs(signature, wanted));
                        HT_ASSIGN_OR_RETURN(const std::vector<WireTensor> wire,
                                            WireInputsOf(*request, *storage));
                        HT_ASSIGN_OR_RETURN(decoded.inputs, DecodeInputs(signature, wire));
                        return decoded;
                      }});
  return call;
}

}  // namespace halftone
