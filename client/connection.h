// The server at the other end: one channel, the stubs of its services, deadlines, and gRPC errors
// as absl::Status.
//
//   Connection server({.address = "localhost:8001"});
//   std::unique_ptr<grpc::ClientContext> context = server.NewContext();
//   HT_RETURN_IF_ERROR(server.ToStatus(server.models().GetModel(context.get(), request, &model)));
//
// Thread-safe. Nothing happens on the network before the first call.
#ifndef HALFTONE_CLIENT_CONNECTION_H_
#define HALFTONE_CLIENT_CONNECTION_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "halftone/v1/inference_service.grpc.pb.h"
#include "halftone/v1/model_service.grpc.pb.h"
#include "halftone/v1/quantization_service.grpc.pb.h"
#include "inference/open_inference.grpc.pb.h"

namespace halftone {

struct ConnectionOptions {
  std::string address = "localhost:8001";
  absl::Duration timeout = absl::InfiniteDuration();  // of each call
};

class Connection {
 public:
  explicit Connection(ConnectionOptions options);

  v1::ModelService::Stub& models() { return *models_; }
  v1::QuantizationService::Stub& quantization() { return *quantization_; }
  v1::InferenceService::Stub& inference() { return *inference_; }
  inference::GRPCInferenceService::Stub& open_inference() { return *open_inference_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  const ConnectionOptions& options() const { return options_; }

  // A context for one call, with the deadline set.
  std::unique_ptr<grpc::ClientContext> NewContext() const;

  // UNAVAILABLE when the server cannot be reached within the timeout. For callers that measure:
  // the first call then pays for no connection.
  absl::Status Connect() const;

  // The same code, the server's message as it is. Errors of a connection that never came about
  // carry a hint, see HintOf.
  absl::Status ToStatus(const grpc::Status& status) const;

 private:
  const ConnectionOptions options_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::ModelService::Stub> models_;
  std::unique_ptr<v1::QuantizationService::Stub> quantization_;
  std::unique_ptr<v1::InferenceService::Stub> inference_;
  std::unique_ptr<inference::GRPCInferenceService::Stub> open_inference_;
};

// Advice that belongs to an error; empty when there is none.
absl::Status WithHint(absl::Status status, absl::string_view hint);
std::string HintOf(const absl::Status& status);

}  // namespace halftone

#endif  // HALFTONE_CLIENT_CONNECTION_H_
