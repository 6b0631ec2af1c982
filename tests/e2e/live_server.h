// A server in this process on free ports, with what tests need to talk to it.
#ifndef HALFTONE_TESTS_E2E_LIVE_SERVER_H_
#define HALFTONE_TESTS_E2E_LIVE_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "halftone/v1/inference_service.grpc.pb.h"
#include "halftone/v1/model_service.grpc.pb.h"
#include "halftone/v1/quantization_service.grpc.pb.h"
#include "inference/open_inference.grpc.pb.h"
#include "server/server.h"

namespace halftone {

// Starts a server with a fresh store and removes the store at the end.
class LiveServer {
 public:
  explicit LiveServer(ServerConfig config = {});
  ~LiveServer();

  Server& server() { return *server_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  // The body of GET /metrics.
  std::string Scrape() const;
  // The sample's value, -1 when there is no such line.
  double Metric(const std::string& series) const;

  // Restarts on the same store.
  void Restart();

  // One call each; the status is the call's.
  grpc::Status Upload(const std::string& model, const std::string& onnx, v1::Model* out = nullptr);
  grpc::Status Quantize(const std::string& model, const std::string& spec, v1::QuantizeResult* out,
                        std::vector<v1::QuantizeProgress>* progress = nullptr);
  grpc::Status Quantize(const v1::QuantizeRequest& request, v1::QuantizeResult* out,
                        std::vector<v1::QuantizeProgress>* progress = nullptr);
  grpc::Status Infer(const v1::InferRequest& request, v1::InferResponse* response);

  std::unique_ptr<v1::ModelService::Stub> models;
  std::unique_ptr<v1::QuantizationService::Stub> quantization;
  std::unique_ptr<v1::InferenceService::Stub> inference;
  std::unique_ptr<inference::GRPCInferenceService::Stub> open_inference;

 private:
  void Start();

  ServerConfig config_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

// x: f32[batch,4] → scores: f32[batch,3]: two layers with Relu, about 200 weights, always the same.
std::string TinyMlp();
// The same in double precision, straight from the definition.
std::vector<double> TinyMlpScores(const std::vector<float>& x);

// A request with one FP32 input "x" of `rows` rows; element i is a fixed function of i and seed.
v1::InferRequest MlpRequest(const std::string& model, int64_t rows, int seed = 0);
std::vector<float> Floats(const std::string& bytes);

v1::UploadHeader HeaderFor(const std::string& model, const std::string& onnx);
v1::UploadModelRequest HeaderMessage(const v1::UploadHeader& header);
v1::UploadModelRequest ChunkMessage(int64_t offset, const std::string& data, int file_index = 0);

// A call of a method that has no stub here. Streams: one message out, then reads.
class RawStream {
 public:
  RawStream(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
            const std::string& request);
  ~RawStream();
  // The next message; empty optional at the end.
  bool Read(std::string* message);
  grpc::Status Finish();

 private:
  void Wait();
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace halftone

#endif  // HALFTONE_TESTS_E2E_LIVE_SERVER_H_
