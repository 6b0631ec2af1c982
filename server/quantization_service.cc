#include "server/quantization_service.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "core/base/sha256.h"
#include "core/base/status_macros.h"
#include "server/proto_convert.h"
#include "server/report_page.h"
#include "server/tensor_codec.h"
#include "server/variant_search.h"

namespace halftone {
namespace {

constexpr size_t kExportChunkBytes = size_t{1} << 20;

// A lookup never starts a build; no selector means fp32.
absl::StatusOr<VariantInfo> Lookup(const ModelStore& store, const std::string& model,
                                   const v1::VariantSelector& selector) {
  HT_ASSIGN_OR_RETURN(const std::string text, SelectorText(selector));
  return store.GetVariant(model, text.empty() ? "fp32" : text);
}

// One UploadCalibration call.
class CalibrationSession {
 public:
  CalibrationSession(ModelStore& store, int64_t max_bytes) : store_(store), max_bytes_(max_bytes) {}

  absl::Status Take(const v1::UploadCalibrationRequest& request) {
    if (request.has_header()) return TakeHeader(request.header());
    if (!request.has_sample()) {
      return absl::InvalidArgumentError("calibration: a message has neither a header nor a sample");
    }
    if (model_.empty()) {
      return absl::InvalidArgumentError("calibration: got a sample first, want the header first");
    }
    return Annotate(TakeSample(request.sample()), absl::StrCat("sample ", samples_.size()));
  }

  absl::Status Finish(v1::UploadCalibrationResponse& response) {
    if (samples_.empty()) {
      return absl::InvalidArgumentError("calibration: got no sample, want at least one");
    }
    response.set_model(model_);
    response.set_set_name(set_name_);
    response.set_sample_count(static_cast<int32_t>(samples_.size()));
    response.set_bytes(bytes_);
    return store_.PutCalibration(model_, set_name_, std::move(samples_));
  }

  const std::string& model() const { return model_; }

 private:
  absl::Status TakeHeader(const v1::CalibrationHeader& header) {
    if (!model_.empty()) {
      return absl::InvalidArgumentError("calibration: got a second header, want one");
    }
    HT_ASSIGN_OR_RETURN(const ModelInfo info, store_.GetModel(header.model()));
    signature_ = info.signature;
    set_name_ = header.set_name().empty() ? "default" : header.set_name();
    model_ = header.model();
    return absl::OkStatus();
  }

  absl::Status TakeSample(const v1::CalibrationSample& sample) {
    HT_ASSIGN_OR_RETURN(const std::vector<WireTensor> wire, ToWire(sample.inputs()));
    HT_ASSIGN_OR_RETURN(const std::vector<Tensor> borrowed, DecodeInputs(signature_, wire));
    std::vector<Tensor> owned;
    for (const Tensor& tensor : borrowed) {
      bytes_ += tensor.num_bytes();
      if (bytes_ > max_bytes_) {
        return absl::ResourceExhaustedError(
            absl::StrCat("calibration set '", set_name_, "': got more than ", max_bytes_,
                         " bytes, the server's limit (setting max_calibration_bytes)"));
      }
      HT_ASSIGN_OR_RETURN(Tensor copy, tensor.Clone());
      owned.push_back(std::move(copy));
    }
    samples_.push_back(std::move(owned));
    return absl::OkStatus();
  }

  ModelStore& store_;
  const int64_t max_bytes_;
  std::string model_;
  std::string set_name_;
  Signature signature_;
  std::vector<std::vector<Tensor>> samples_;
  int64_t bytes_ = 0;
};

absl::Status ActOnSamples(ServiceEnv& env, const ModelInfo& model,
                          const v1::SampleRequestsRequest& request,
                          v1::SampleRequestsResponse& response) {
  LiveSamples& live = env.live_samples;
  switch (request.action()) {
    case v1::SampleRequestsRequest::ACTION_START: {
      LiveSamples::Limits limits;
      if (request.max_samples() != 0) limits.max_samples = request.max_samples();
      if (request.max_bytes() != 0) limits.max_bytes = request.max_bytes();
      return live.Start(model.name, model.version, limits);
    }
    case v1::SampleRequestsRequest::ACTION_SAVE: {
      std::vector<std::vector<Tensor>> samples = live.Snapshot(model.name);
      if (samples.empty()) {
        return absl::FailedPreconditionError(
            absl::StrCat("live samples of '", model.name, "': ",
                         live.StateOf(model.name).on ? "no request came since they were started"
                                                     : "they are not kept; start them first"));
      }
      response.set_set_name(request.set_name().empty() ? "live" : request.set_name());
      return env.store.PutCalibration(model.name, response.set_name(), std::move(samples));
    }
    case v1::SampleRequestsRequest::ACTION_WIPE:
      live.Wipe(model.name);
      return absl::OkStatus();
    case v1::SampleRequestsRequest::ACTION_STOP:
      live.Stop(model.name);
      return absl::OkStatus();
    case v1::SampleRequestsRequest::ACTION_UNSPECIFIED:
      return absl::OkStatus();
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("live samples: got unknown action ", static_cast<int>(request.action())));
  }
}

// Sends one file in chunks; CANCELLED when the client left. Returns what was sent.
absl::StatusOr<v1::File> SendFile(const std::string& path, const std::string& name, int index,
                                  MessageStream<v1::ExportVariantResponse>& stream) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::InternalError(absl::StrCat("export: cannot read '", name, "'"));
  Sha256 hash;
  int64_t offset = 0;
  std::string buffer(kExportChunkBytes, '\0');
  while (file) {
    file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    const absl::string_view bytes(buffer.data(), static_cast<size_t>(file.gcount()));
    if (bytes.empty()) break;
    hash.Update(bytes);
    v1::ExportVariantResponse message;
    message.mutable_chunk()->set_file_index(index);
    message.mutable_chunk()->set_offset(offset);
    message.mutable_chunk()->set_data(bytes.data(), bytes.size());
    if (!stream.Send(std::move(message))) return absl::CancelledError("export: the client left");
    offset += static_cast<int64_t>(bytes.size());
  }
  if (file.bad())
    return absl::DataLossError(absl::StrCat("export: cannot read all of '", name, "'"));
  v1::File sent;
  sent.set_name(name);
  sent.set_bytes(offset);
  sent.set_sha256(hash.HexDigest());
  return sent;
}

}  // namespace

void QuantizationService::ToProtoWithArena(const VariantInfo& info, v1::Variant& out) const {
  const auto arenas = env_.scheduler.ArenaBytes();
  const auto found = arenas.find(info.id);
  ToProto(info, found == arenas.end() ? 0 : found->second, out);
}

grpc::ServerUnaryReactor* QuantizationService::PlanQuantization(
    grpc::CallbackServerContext* context, const v1::PlanQuantizationRequest* request,
    v1::QuantizationPlan* response) {
  return AnswerOnPool(env_.slow_pool, env_.metrics, "PlanQuantization", context,
                      [this, request, response](CallLabels& labels) -> absl::Status {
                        HT_ASSIGN_OR_RETURN(const QuantSpec spec, WishOf(*request));
                        HT_ASSIGN_OR_RETURN(const PlanReport report,
                                            env_.store.PlanQuantization(request->model(), spec));
                        labels.model = request->model();
                        ToProto(report, *response);
                        return absl::OkStatus();
                      });
}

grpc::ServerWriteReactor<v1::QuantizeEvent>* QuantizationService::Quantize(
    grpc::CallbackServerContext* context, const v1::QuantizeRequest* request) {
  auto* stream = new MessageStream<v1::QuantizeEvent>(context);
  const bool accepted = env_.slow_pool.Submit([this, request, stream] {
    CallLabels labels;
    const absl::Status status = RunQuantize(*request, *stream, labels);
    env_.metrics.CountRequest("Quantize", labels.model, labels.variant, status.code());
    stream->Close(status);
  });
  if (!accepted) {
    env_.metrics.CountRequest("Quantize", "", "", absl::StatusCode::kResourceExhausted);
    stream->Close(TaskPoolFull());
  }
  return stream;
}

absl::Status QuantizationService::RunQuantize(const v1::QuantizeRequest& request,
                                              MessageStream<v1::QuantizeEvent>& stream,
                                              CallLabels& labels) {
  if (request.has_objective()) return RunSearch(request, stream, labels);
  HT_ASSIGN_OR_RETURN(const QuantSpec spec, WishOf(request));
  const auto report_progress = [&stream](const Progress& progress) {
    v1::QuantizeEvent event;
    ToProto(progress, *event.mutable_progress());
    stream.Offer(std::move(event));
  };
  HT_ASSIGN_OR_RETURN(const VariantInfo info,
                      env_.store.Quantize(request.model(), spec, report_progress,
                                          [&stream] { return stream.gone(); }));
  labels = {.model = info.model, .variant = info.spec};
  HT_ASSIGN_OR_RETURN(const VariantReport report, env_.store.GetReport(info.model, info.id));
  v1::QuantizeEvent event;
  ToProtoWithArena(info, *event.mutable_result()->mutable_variant());
  ToProto(report, *event.mutable_result()->mutable_report());
  if (!stream.Send(std::move(event))) return absl::CancelledError("the client left");
  return absl::OkStatus();
}

absl::Status QuantizationService::RunSearch(const v1::QuantizeRequest& request,
                                            MessageStream<v1::QuantizeEvent>& stream,
                                            CallLabels& labels) {
  const auto show = [&stream](v1::QuantizeProgress progress) {
    v1::QuantizeEvent event;
    *event.mutable_progress() = std::move(progress);
    stream.Offer(std::move(event));
  };
  HT_ASSIGN_OR_RETURN(const SearchOutcome found,
                      SearchInStore(env_.store, request.model(), request.objective(), show,
                                    [&stream] { return stream.gone(); }));
  labels = {.model = found.best.model, .variant = found.best.spec};
  v1::QuantizeEvent event;
  v1::QuantizeResult& result = *event.mutable_result();
  ToProtoWithArena(found.best, *result.mutable_variant());
  ToProto(found.state, *result.mutable_search());
  const auto report = env_.store.GetReport(found.best.model, found.best.id);
  if (report.ok()) ToProto(*report, *result.mutable_report());  // fp32 has none
  if (!stream.Send(std::move(event))) return absl::CancelledError("the client left");
  return absl::OkStatus();
}

grpc::ServerReadReactor<v1::UploadCalibrationRequest>* QuantizationService::UploadCalibration(
    grpc::CallbackServerContext* context, v1::UploadCalibrationResponse* response) {
  auto session =
      std::make_shared<CalibrationSession>(env_.store, env_.config.max_calibration_bytes);
  return new RequestStream<v1::UploadCalibrationRequest>(
      context, env_.quick_pool, env_.slow_pool,
      {.read = [session](const v1::UploadCalibrationRequest& r) { return session->Take(r); },
       .end = [session, response] { return session->Finish(*response); },
       .finished =
           [this, session](const absl::Status& status) {
             env_.metrics.CountRequest("UploadCalibration", session->model(), "", status.code());
           }});
}

grpc::ServerUnaryReactor* QuantizationService::SampleRequests(
    grpc::CallbackServerContext* context, const v1::SampleRequestsRequest* request,
    v1::SampleRequestsResponse* response) {
  return AnswerOnPool(env_.slow_pool, env_.metrics, "SampleRequests", context,
                      [this, request, response](CallLabels& labels) -> absl::Status {
                        HT_ASSIGN_OR_RETURN(const ModelInfo model,
                                            env_.store.GetModel(request->model()));
                        labels.model = model.name;
                        HT_RETURN_IF_ERROR(ActOnSamples(env_, model, *request, *response));
                        ToProto(env_.live_samples.StateOf(model.name), *response);
                        return absl::OkStatus();
                      });
}

grpc::ServerUnaryReactor* QuantizationService::ListVariants(grpc::CallbackServerContext* context,
                                                            const v1::ListVariantsRequest* request,
                                                            v1::ListVariantsResponse* response) {
  return AnswerOnPool(env_.quick_pool, env_.metrics, "ListVariants", context,
                      [this, request, response](CallLabels& labels) -> absl::Status {
                        if (!request->model().empty()) {
                          HT_RETURN_IF_ERROR(env_.store.GetModel(request->model()).status());
                          labels.model = request->model();
                        }
                        std::vector<VariantInfo> variants =
                            env_.store.ListVariants(request->model());
                        std::stable_sort(variants.begin(), variants.end(),
                                         [](const VariantInfo& a, const VariantInfo& b) {
                                           if (a.model != b.model) return a.model < b.model;
                                           if (a.version != b.version) return a.version > b.version;
                                           return (a.spec != "fp32") < (b.spec != "fp32");
                                         });
                        for (const VariantInfo& info : variants)
                          ToProtoWithArena(info, *response->add_variants());
                        return absl::OkStatus();
                      });
}

grpc::ServerUnaryReactor* QuantizationService::GetVariant(grpc::CallbackServerContext* context,
                                                          const v1::GetVariantRequest* request,
                                                          v1::Variant* response) {
  return AnswerOnPool(env_.quick_pool, env_.metrics, "GetVariant", context,
                      [this, request, response](CallLabels& labels) -> absl::Status {
                        HT_ASSIGN_OR_RETURN(
                            const VariantInfo info,
                            Lookup(env_.store, request->model(), request->variant()));
                        labels = {.model = info.model, .variant = info.spec};
                        ToProtoWithArena(info, *response);
                        return absl::OkStatus();
                      });
}

grpc::ServerUnaryReactor* QuantizationService::GetReport(grpc::CallbackServerContext* context,
                                                         const v1::GetReportRequest* request,
                                                         v1::Report* response) {
  return AnswerOnPool(
      env_.quick_pool, env_.metrics, "GetReport", context,
      [this, request, response](CallLabels& labels) -> absl::Status {
        HT_ASSIGN_OR_RETURN(const VariantInfo info,
                            Lookup(env_.store, request->model(), request->variant()));
        HT_ASSIGN_OR_RETURN(const VariantReport report, env_.store.GetReport(info.model, info.id));
        labels = {.model = info.model, .variant = info.spec};
        ToProto(report, *response);
        if (request->html()) {
          HT_ASSIGN_OR_RETURN(*response->mutable_html(),
                              ReportHtml(env_.store, info.model, info.id, /*links=*/false));
        }
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* QuantizationService::DeleteVariant(
    grpc::CallbackServerContext* context, const v1::DeleteVariantRequest* request,
    v1::DeleteVariantResponse*) {
  return AnswerOnPool(
      env_.quick_pool, env_.metrics, "DeleteVariant", context,
      [this, request](CallLabels& labels) -> absl::Status {
        if (request->variant().variant_case() == v1::VariantSelector::VARIANT_NOT_SET) {
          return absl::InvalidArgumentError("DeleteVariant: the request names no variant");
        }
        HT_ASSIGN_OR_RETURN(const VariantInfo info,
                            Lookup(env_.store, request->model(), request->variant()));
        HT_RETURN_IF_ERROR(env_.store.DeleteVariant(info.model, info.id));
        labels.model = info.model;
        env_.metrics.ForgetVariant(info.model, info.spec);
        env_.scheduler.DropUnusedContexts();
        return absl::OkStatus();
      });
}

grpc::ServerWriteReactor<v1::ExportVariantResponse>* QuantizationService::ExportVariant(
    grpc::CallbackServerContext* context, const v1::ExportVariantRequest* request) {
  auto* stream = new MessageStream<v1::ExportVariantResponse>(context);
  const bool accepted = env_.slow_pool.Submit([this, request, stream] {
    CallLabels labels;
    const absl::Status status = RunExport(*request, *stream, labels);
    env_.metrics.CountRequest("ExportVariant", labels.model, labels.variant, status.code());
    stream->Close(status);
  });
  if (!accepted) {
    env_.metrics.CountRequest("ExportVariant", "", "", absl::StatusCode::kResourceExhausted);
    stream->Close(TaskPoolFull());
  }
  return stream;
}

absl::Status QuantizationService::RunExport(const v1::ExportVariantRequest& request,
                                            MessageStream<v1::ExportVariantResponse>& stream,
                                            CallLabels& labels) {
  HT_ASSIGN_OR_RETURN(const VariantInfo info,
                      Lookup(env_.store, request.model(), request.variant()));
  labels = {.model = info.model, .variant = info.spec};
  ModelStore::TemporaryFiles files_to_send;
  if (request.for_training()) {
    HT_ASSIGN_OR_RETURN(files_to_send, env_.store.TrainingFiles(info.model, info.id));
  } else {
    HT_ASSIGN_OR_RETURN(files_to_send.paths, env_.store.VariantFiles(info.model, info.id));
  }
  const std::vector<std::string>& paths = files_to_send.paths;
  v1::ExportVariantResponse header;
  ToProtoWithArena(info, *header.mutable_header()->mutable_variant());
  for (const std::string& path : paths) {
    std::error_code error;
    v1::File& file = *header.mutable_header()->add_files();
    file.set_name(std::filesystem::path(path).filename().string());
    file.set_bytes(static_cast<int64_t>(std::filesystem::file_size(path, error)));
    if (error) return absl::InternalError(absl::StrCat("export: cannot read '", file.name(), "'"));
  }
  const v1::ExportHeader files = header.header();
  if (!stream.Send(std::move(header))) return absl::CancelledError("export: the client left");
  v1::ExportVariantResponse footer;
  for (size_t i = 0; i < paths.size(); ++i) {
    HT_ASSIGN_OR_RETURN(
        *footer.mutable_footer()->add_files(),
        SendFile(paths[i], files.files(static_cast<int>(i)).name(), static_cast<int>(i), stream));
  }
  if (!stream.Send(std::move(footer))) return absl::CancelledError("export: the client left");
  return absl::OkStatus();
}

}  // namespace halftone
