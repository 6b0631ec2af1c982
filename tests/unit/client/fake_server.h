// A Halftone server for tests of the client: real gRPC on a free port, answers that tests choose.
#ifndef HALFTONE_TESTS_UNIT_CLIENT_FAKE_SERVER_H_
#define HALFTONE_TESTS_UNIT_CLIENT_FAKE_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/sha256.h"
#include "halftone/v1/inference_service.grpc.pb.h"
#include "halftone/v1/model_service.grpc.pb.h"
#include "halftone/v1/quantization_service.grpc.pb.h"
#include "inference/open_inference.grpc.pb.h"

namespace halftone {

// A model named "m" with input "x" FP32[batch,2] and output "y".
inline v1::Model ModelM() {
  v1::Model model;
  model.set_name("m");
  model.set_version(1);
  model.set_bytes(1234);
  v1::TensorSignature* x = model.mutable_signature()->add_inputs();
  x->set_name("x");
  x->set_type(v1::DATA_TYPE_FP32);
  v1::Dimension* batch = x->add_shape();
  batch->set_size(-1);
  batch->set_symbol("batch");
  x->add_shape()->set_size(2);
  *model.mutable_signature()->add_outputs() = *x;
  model.mutable_signature()->mutable_outputs(0)->set_name("y");
  return model;
}

// Keeps what arrives; breaks the first `break_uploads` uploads after `break_after_bytes`, or before
// anything is kept when that is 0.
class FakeModels : public v1::ModelService::Service {
 public:
  int break_uploads = 0;
  int64_t break_after_bytes = 0;
  std::vector<std::string> files;  // bytes received, by index
  v1::UploadHeader header;

  grpc::Status GetUpload(grpc::ServerContext*, const v1::GetUploadRequest* request,
                         v1::Upload* upload) override {
    files.resize(request->header().files_size());
    for (const std::string& file : files) upload->add_received_bytes(file.size());
    return grpc::Status::OK;
  }

  grpc::Status UploadModel(grpc::ServerContext*, grpc::ServerReader<v1::UploadModelRequest>* reader,
                           v1::UploadModelResponse* response) override {
    v1::UploadModelRequest request;
    if (!reader->Read(&request) || !request.has_header()) {
      return {grpc::StatusCode::INVALID_ARGUMENT, "no header"};
    }
    header = request.header();
    files.resize(header.files_size());
    int64_t taken = 0;
    if (break_uploads > 0 && break_after_bytes == 0) {
      --break_uploads;
      return {grpc::StatusCode::UNAVAILABLE, "connection broken"};
    }
    while (reader->Read(&request)) {
      const v1::FileChunk& chunk = request.chunk();
      std::string& file = files.at(chunk.file_index());
      if (chunk.offset() != static_cast<int64_t>(file.size())) {
        return {grpc::StatusCode::FAILED_PRECONDITION, "the offset does not continue the file"};
      }
      file += chunk.data();
      taken += chunk.data().size();
      if (break_uploads > 0 && taken >= break_after_bytes) {
        --break_uploads;
        return {grpc::StatusCode::UNAVAILABLE, "connection broken"};
      }
    }
    for (int i = 0; i < header.files_size(); ++i) {
      if (Sha256Hex(files[i]) != header.files(i).sha256()) {
        return {grpc::StatusCode::DATA_LOSS, "wrong digest"};
      }
    }
    *response->mutable_model() = ModelM();
    return grpc::Status::OK;
  }

  grpc::Status ListModels(grpc::ServerContext*, const v1::ListModelsRequest*,
                          v1::ListModelsResponse* response) override {
    *response->add_models() = ModelM();
    return grpc::Status::OK;
  }

  grpc::Status GetModel(grpc::ServerContext*, const v1::GetModelRequest* request,
                        v1::Model* model) override {
    if (request->name() != "m") {
      return {grpc::StatusCode::NOT_FOUND, absl::StrCat("model '", request->name(), "': unknown")};
    }
    *model = ModelM();
    return grpc::Status::OK;
  }

  grpc::Status DeleteModel(grpc::ServerContext*, const v1::DeleteModelRequest*,
                           v1::DeleteModelResponse*) override {
    return grpc::Status::OK;
  }
};

class FakeQuantization : public v1::QuantizationService::Service {
 public:
  std::string spec_text;                        // of the latest Quantize
  std::string set_name;                         // of the latest calibration set
  std::vector<v1::CalibrationSample> samples;   // of it
  std::map<std::string, std::string> exported;  // files that ExportVariant sends
  std::string wrong_digest;                     // sent instead of the right ones when not empty

  grpc::Status Quantize(grpc::ServerContext*, const v1::QuantizeRequest* request,
                        grpc::ServerWriter<v1::QuantizeEvent>* writer) override {
    spec_text = request->spec_text();
    if (spec_text == "int9") {
      return {grpc::StatusCode::INVALID_ARGUMENT, "spec 'int9': got 'int9' at 0, want a type"};
    }
    v1::QuantizeEvent event;
    event.mutable_progress()->set_stage("quantize");
    event.mutable_progress()->set_fraction(0.5);
    writer->Write(event);
    event.mutable_result()->mutable_variant()->set_id(std::string(64, 'a'));
    event.mutable_result()->mutable_variant()->set_spec_text(spec_text);
    event.mutable_result()->mutable_report()->set_spec_text(spec_text);
    event.mutable_result()->mutable_report()->set_sqnr_db(37.25);
    writer->Write(event);
    return grpc::Status::OK;
  }

  grpc::Status UploadCalibration(grpc::ServerContext*,
                                 grpc::ServerReader<v1::UploadCalibrationRequest>* reader,
                                 v1::UploadCalibrationResponse* response) override {
    v1::UploadCalibrationRequest request;
    samples.clear();
    while (reader->Read(&request)) {
      if (request.has_header()) set_name = request.header().set_name();
      if (request.has_sample()) samples.push_back(request.sample());
    }
    response->set_model("m");
    response->set_set_name(set_name.empty() ? "default" : set_name);
    response->set_sample_count(samples.size());
    return grpc::Status::OK;
  }

  grpc::Status ListVariants(grpc::ServerContext*, const v1::ListVariantsRequest*,
                            v1::ListVariantsResponse* response) override {
    v1::Variant* variant = response->add_variants();
    variant->set_spec_text("fp32");
    variant->set_state(v1::VARIANT_STATE_LOADED);
    variant->mutable_memory()->set_weight_bytes(1000);
    variant->mutable_memory()->set_packed_bytes(500);
    return grpc::Status::OK;
  }

  grpc::Status GetReport(grpc::ServerContext*, const v1::GetReportRequest* request,
                         v1::Report* report) override {
    report->set_spec_text(request->variant().spec_text());
    v1::OperatorCoverage* coverage = report->add_coverage();
    coverage->set_op("Conv");
    coverage->set_total(3);
    coverage->set_quantized(2);
    v1::LayerReport* layer = report->add_layers();
    layer->set_node("conv1");
    layer->set_op("Conv");
    layer->set_reason("its weights are no constant");
    layer->set_sqnr_db(21.5);
    if (request->html()) report->set_html("<html>page</html>");
    return grpc::Status::OK;
  }

  grpc::Status ExportVariant(grpc::ServerContext*, const v1::ExportVariantRequest*,
                             grpc::ServerWriter<v1::ExportVariantResponse>* writer) override {
    v1::ExportVariantResponse header, footer;
    std::vector<v1::ExportVariantResponse> chunks;
    for (const auto& [name, bytes] : exported) {
      for (v1::File* file :
           {header.mutable_header()->add_files(), footer.mutable_footer()->add_files()}) {
        file->set_name(name);
        file->set_bytes(bytes.size());
      }
      const int index = header.header().files_size() - 1;
      footer.mutable_footer()->mutable_files(index)->set_sha256(
          wrong_digest.empty() ? Sha256Hex(bytes) : wrong_digest);
      for (size_t at = 0; at < bytes.size(); at += 4) {
        v1::FileChunk* chunk = chunks.emplace_back().mutable_chunk();
        chunk->set_file_index(index);
        chunk->set_offset(at);
        chunk->set_data(bytes.substr(at, 4));
      }
    }
    writer->Write(header);
    for (const v1::ExportVariantResponse& chunk : chunks) writer->Write(chunk);
    writer->Write(footer);
    return grpc::Status::OK;
  }
};

// Echoes input "x" as output "y".
class FakeInference : public v1::InferenceService::Service {
 public:
  grpc::Status Infer(grpc::ServerContext*, const v1::InferRequest* request,
                     v1::InferResponse* response) override {
    response->set_model(request->model());
    response->set_version(1);
    response->set_spec_text(
        request->variant().spec_text().empty() ? "fp32" : request->variant().spec_text());
    response->set_fell_back(request->when_missing() == v1::WHEN_MISSING_FALLBACK);
    *response->add_outputs() = request->inputs(0);
    response->mutable_outputs(0)->set_name("y");
    if (request->report_timings()) {
      response->mutable_timings()->mutable_compute()->set_nanos(2'000'000);
    }
    return grpc::Status::OK;
  }
};

class FakeOpenInference : public inference::GRPCInferenceService::Service {
 public:
  grpc::Status ServerMetadata(grpc::ServerContext*, const inference::ServerMetadataRequest*,
                              inference::ServerMetadataResponse* response) override {
    response->set_name("halftone");
    response->set_version("9.9");
    return grpc::Status::OK;
  }
};

class FakeServer {
 public:
  FakeModels models;
  FakeQuantization quantization;
  FakeInference inference;
  FakeOpenInference open_inference;

  FakeServer() {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.SetMaxReceiveMessageSize(-1);
    builder.RegisterService(&models);
    builder.RegisterService(&quantization);
    builder.RegisterService(&inference);
    builder.RegisterService(&open_inference);
    server_ = builder.BuildAndStart();
  }
  ~FakeServer() { server_->Shutdown(); }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  grpc::Server& grpc_server() { return *server_; }

 private:
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace halftone

#endif  // HALFTONE_TESTS_UNIT_CLIENT_FAKE_SERVER_H_
