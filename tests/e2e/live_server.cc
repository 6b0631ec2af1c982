#include "tests/e2e/live_server.h"

#include <arpa/inet.h>
#include <grpcpp/generic/generic_stub.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "absl/log/check.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/sha256.h"
#include "core/graph/graph.h"
#include "core/onnx/export.h"

namespace halftone {
namespace {

constexpr int kIn = 4, kHidden = 32, kOut = 3;

// Deterministic, spread over about [-1, 1], never the same pattern in two layers.
float Weight(int layer, int i) { return std::sin(0.7f * i + 1.3f * layer + 0.1f * (i % 7)); }

std::vector<float> Weights(int layer, int count) {
  std::vector<float> values(count);
  for (int i = 0; i < count; ++i) values[i] = Weight(layer, i);
  return values;
}

std::string FreshFolder() {
  std::string path = (std::filesystem::temp_directory_path() / "halftone-e2e-XXXXXX").string();
  CHECK(mkdtemp(path.data()) != nullptr);
  return path;
}

}  // namespace

LiveServer::LiveServer(ServerConfig config) : config_(std::move(config)) {
  config_.host = "127.0.0.1";
  config_.metrics_host = "127.0.0.1";
  config_.port = 0;
  config_.metrics_port = 0;
  config_.store = FreshFolder();
  Start();
}

LiveServer::~LiveServer() {
  server_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(config_.store, ignored);
}

void LiveServer::Start() {
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(config_);
  CHECK_OK(server.status());
  server_ = *std::move(server);
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  channel_ = grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", server_->port()),
                                       grpc::InsecureChannelCredentials(), arguments);
  models = v1::ModelService::NewStub(channel_);
  quantization = v1::QuantizationService::NewStub(channel_);
  inference = v1::InferenceService::NewStub(channel_);
  open_inference = inference::GRPCInferenceService::NewStub(channel_);
}

void LiveServer::Restart() {
  server_.reset();
  Start();
}

std::string LiveServer::Scrape() const {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_GE(fd, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(server_->metrics_port()));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  const std::string request = "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n";
  CHECK_EQ(write(fd, request.data(), request.size()), static_cast<ssize_t>(request.size()));
  std::string response;
  char buffer[4096];
  ssize_t n = 0;
  while ((n = read(fd, buffer, sizeof(buffer))) > 0) response.append(buffer, n);
  close(fd);
  const size_t body = response.find("\r\n\r\n");
  CHECK(absl::StartsWith(response, "HTTP/1.") && body != std::string::npos) << response;
  return response.substr(body + 4);
}

double LiveServer::Metric(const std::string& series) const {
  for (absl::string_view line : absl::StrSplit(Scrape(), '\n')) {
    double value = 0;
    if (absl::StartsWith(line, series + " ") &&
        absl::SimpleAtod(line.substr(series.size() + 1), &value)) {
      return value;
    }
  }
  return -1;
}

grpc::Status LiveServer::Upload(const std::string& model, const std::string& onnx, v1::Model* out) {
  grpc::ClientContext context;
  v1::UploadModelResponse response;
  const auto writer = models->UploadModel(&context, &response);
  bool ok = writer->Write(HeaderMessage(HeaderFor(model, onnx)));
  constexpr size_t kChunk = 1000;  // small: several chunks even for tiny models
  for (size_t offset = 0; ok && offset < onnx.size(); offset += kChunk) {
    ok = writer->Write(ChunkMessage(static_cast<int64_t>(offset), onnx.substr(offset, kChunk)));
  }
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  if (out != nullptr) *out = response.model();
  return status;
}

grpc::Status LiveServer::Quantize(const std::string& model, const std::string& spec,
                                  v1::QuantizeResult* out,
                                  std::vector<v1::QuantizeProgress>* progress) {
  v1::QuantizeRequest request;
  request.set_model(model);
  request.set_spec_text(spec);
  return Quantize(request, out, progress);
}

grpc::Status LiveServer::Quantize(const v1::QuantizeRequest& request, v1::QuantizeResult* out,
                                  std::vector<v1::QuantizeProgress>* progress) {
  grpc::ClientContext context;
  const auto reader = quantization->Quantize(&context, request);
  v1::QuantizeEvent event;
  while (reader->Read(&event)) {
    if (event.has_result() && out != nullptr) *out = event.result();
    if (event.has_progress() && progress != nullptr) progress->push_back(event.progress());
  }
  return reader->Finish();
}

grpc::Status LiveServer::Infer(const v1::InferRequest& request, v1::InferResponse* response) {
  grpc::ClientContext context;
  return inference->Infer(&context, request, response);
}

std::string TinyMlp() {
  Graph g("tiny_mlp");
  g.opsets()[""] = 17;
  const auto constant = [&](const char* name, int layer, std::vector<int64_t> shape, int count) {
    return g.AddConstant(name, Tensor::Of<float>(shape, Weights(layer, count)));
  };
  Value* x = g.AddInput("x", {DataType::kF32, Dims{Dim("batch"), kIn}});
  Value* w1 = constant("w1", 1, {kIn, kHidden}, kIn * kHidden);
  Value* b1 = constant("b1", 2, {kHidden}, kHidden);
  Value* w2 = constant("w2", 3, {kHidden, kOut}, kHidden * kOut);
  Value* b2 = constant("b2", 4, {kOut}, kOut);
  Value* h =
      g.AddNode({.op = "Gemm", .name = "fc1", .inputs = {x, w1, b1}, .outputs = {"h"}})->output(0);
  Value* r = g.AddNode({.op = "Relu", .name = "relu", .inputs = {h}, .outputs = {"r"}})->output(0);
  Value* y = g.AddNode({.op = "Gemm", .name = "fc2", .inputs = {r, w2, b2}, .outputs = {"scores"}})
                 ->output(0);
  y->set_type({DataType::kF32, Dims{Dim("batch"), kOut}});
  g.AddOutput(y);
  absl::StatusOr<std::string> onnx = ExportOnnxInline(g);
  CHECK_OK(onnx.status());
  return *std::move(onnx);
}

std::vector<double> TinyMlpScores(const std::vector<float>& x) {
  const std::vector<float> w1 = Weights(1, kIn * kHidden), b1 = Weights(2, kHidden);
  const std::vector<float> w2 = Weights(3, kHidden * kOut), b2 = Weights(4, kOut);
  std::vector<double> scores;
  for (size_t row = 0; row < x.size() / kIn; ++row) {
    std::vector<double> hidden(kHidden);
    for (int j = 0; j < kHidden; ++j) {
      double sum = b1[j];
      for (int i = 0; i < kIn; ++i)
        sum += static_cast<double>(x[row * kIn + i]) * w1[i * kHidden + j];
      hidden[j] = std::max(sum, 0.0);
    }
    for (int k = 0; k < kOut; ++k) {
      double sum = b2[k];
      for (int j = 0; j < kHidden; ++j) sum += hidden[j] * w2[j * kOut + k];
      scores.push_back(sum);
    }
  }
  return scores;
}

v1::InferRequest MlpRequest(const std::string& model, int64_t rows, int seed) {
  std::vector<float> x(static_cast<size_t>(rows * kIn));
  for (size_t i = 0; i < x.size(); ++i) x[i] = Weight(10 + seed, static_cast<int>(i)) * 2;
  v1::InferRequest request;
  request.set_model(model);
  v1::Tensor& input = *request.add_inputs();
  input.set_name("x");
  input.set_type(v1::DATA_TYPE_FP32);
  input.add_shape(rows);
  input.add_shape(kIn);
  input.set_data(x.data(), x.size() * sizeof(float));
  return request;
}

std::vector<float> Floats(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

v1::UploadHeader HeaderFor(const std::string& model, const std::string& onnx) {
  v1::UploadHeader header;
  header.set_model(model);
  v1::File& file = *header.add_files();
  file.set_name("model.onnx");
  file.set_bytes(static_cast<int64_t>(onnx.size()));
  file.set_sha256(Sha256Hex(onnx));
  return header;
}

v1::UploadModelRequest HeaderMessage(const v1::UploadHeader& header) {
  v1::UploadModelRequest message;
  *message.mutable_header() = header;
  return message;
}

v1::UploadModelRequest ChunkMessage(int64_t offset, const std::string& data, int file_index) {
  v1::UploadModelRequest message;
  message.mutable_chunk()->set_file_index(file_index);
  message.mutable_chunk()->set_offset(offset);
  message.mutable_chunk()->set_data(data);
  return message;
}

struct RawStream::State {
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call;
  bool ok = true;
};

RawStream::RawStream(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                     const std::string& request)
    : state_(std::make_unique<State>()) {
  grpc::GenericStub stub(channel);
  state_->call = stub.PrepareCall(&context_, method, &queue_);
  state_->call->StartCall(this);
  Wait();
  const grpc::Slice slice(request);
  const grpc::ByteBuffer buffer(&slice, 1);
  state_->call->WriteLast(buffer, grpc::WriteOptions(), this);
  Wait();
}

RawStream::~RawStream() {
  context_.TryCancel();
  queue_.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) {
  }
}

void RawStream::Wait() {
  void* tag = nullptr;
  CHECK(queue_.Next(&tag, &state_->ok));
}

bool RawStream::Read(std::string* message) {
  grpc::ByteBuffer buffer;
  state_->call->Read(&buffer, this);
  Wait();
  if (!state_->ok) return false;
  std::vector<grpc::Slice> slices;
  CHECK(buffer.Dump(&slices).ok());
  message->clear();
  for (const grpc::Slice& s : slices) {
    message->append(reinterpret_cast<const char*>(s.begin()), s.size());
  }
  return true;
}

grpc::Status RawStream::Finish() {
  grpc::Status status;
  state_->call->Finish(&status, this);
  Wait();
  return status;
}

}  // namespace halftone
