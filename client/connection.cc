#include "client/connection.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/types/optional.h"

namespace halftone {
namespace {

constexpr absl::string_view kHintUrl = "halftone/hint";

std::shared_ptr<grpc::Channel> NewChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  // Connections with equal arguments would share one TCP connection; concurrent clients of `bench`
  // shall each have their own.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

std::chrono::system_clock::time_point DeadlineAfter(absl::Duration timeout) {
  return timeout == absl::InfiniteDuration() ? std::chrono::system_clock::time_point::max()
                                             : absl::ToChronoTime(absl::Now() + timeout);
}

}  // namespace

Connection::Connection(ConnectionOptions options)
    : options_(std::move(options)),
      channel_(NewChannel(options_.address)),
      models_(v1::ModelService::NewStub(channel_)),
      quantization_(v1::QuantizationService::NewStub(channel_)),
      inference_(v1::InferenceService::NewStub(channel_)),
      open_inference_(inference::GRPCInferenceService::NewStub(channel_)) {}

std::unique_ptr<grpc::ClientContext> Connection::NewContext() const {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(DeadlineAfter(options_.timeout));
  return context;
}

absl::Status Connection::Connect() const {
  const absl::Duration patience = std::min(options_.timeout, absl::Seconds(10));
  if (channel_->WaitForConnected(DeadlineAfter(patience))) return absl::OkStatus();
  return ToStatus(grpc::Status(grpc::StatusCode::UNAVAILABLE,
                               absl::StrCat("no connection to ", options_.address, " within ",
                                            absl::FormatDuration(patience))));
}

absl::Status Connection::ToStatus(const grpc::Status& status) const {
  if (status.ok()) return absl::OkStatus();
  absl::Status error(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  if (status.error_code() != grpc::StatusCode::UNAVAILABLE ||
      channel_->GetState(/*try_to_connect=*/false) == GRPC_CHANNEL_READY) {
    return error;
  }
  return WithHint(std::move(error),
                  absl::StrCat("is halftone-server running at ", options_.address,
                               "? `--server HOST:PORT` or HALFTONE_SERVER names another address"));
}

absl::Status WithHint(absl::Status status, absl::string_view hint) {
  status.SetPayload(kHintUrl, absl::Cord(hint));
  return status;
}

std::string HintOf(const absl::Status& status) {
  const absl::optional<absl::Cord> hint = status.GetPayload(kHintUrl);
  return hint ? std::string(*hint) : "";
}

}  // namespace halftone
