// health: the standard gRPC health check and who answers.
#include <grpcpp/generic/generic_stub.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "client/inference_commands.h"
#include "client/table.h"
#include "client/wire_reader.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

constexpr absl::string_view kStatusNames[] = {"UNKNOWN", "SERVING", "NOT_SERVING",
                                              "SERVICE_UNKNOWN"};

std::string BytesOf(grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

// grpc.health.v1.Health/Check. The messages have one field each: the service's name, the status.
absl::StatusOr<std::string> CheckHealth(Connection& server, const std::string& service) {
  std::string message;
  if (!service.empty()) AppendBytesField(message, 1, service);
  const grpc::Slice slice(message);
  const grpc::ByteBuffer request(&slice, 1);
  grpc::ByteBuffer response;
  grpc::GenericStub stub(server.channel());
  const std::unique_ptr<grpc::ClientContext> context = server.NewContext();
  absl::Notification done;
  grpc::Status status;
  stub.UnaryCall(context.get(), "/grpc.health.v1.Health/Check", grpc::StubOptions(), &request,
                 &response, [&](grpc::Status s) {
                   status = std::move(s);
                   done.Notify();
                 });
  done.WaitForNotification();
  HT_RETURN_IF_ERROR(server.ToStatus(status));
  const std::string bytes = BytesOf(response);
  WireReader reader(bytes);
  uint64_t value = 0;
  while (const std::optional<WireField> field = reader.Next()) {
    if (field->number == 1) value = field->value;
  }
  return std::string(kStatusNames[value < std::size(kStatusNames) ? value : 0]);
}

absl::Status Health(const std::string& service, CommandContext& context) {
  // A probe that hangs is a failed probe.
  if (context.connection.timeout == absl::InfiniteDuration()) {
    context.connection.timeout = absl::Seconds(5);
  }
  Connection server(context.connection);
  HT_ASSIGN_OR_RETURN(const std::string status, CheckHealth(server, service));
  inference::ServerMetadataResponse metadata;
  HT_RETURN_IF_ERROR(server.ToStatus(
      server.open_inference().ServerMetadata(server.NewContext().get(), {}, &metadata)));
  if (context.json) {
    PrintJson(context, {{"status", status},
                        {"name", metadata.name()},
                        {"version", metadata.version()},
                        {"extensions", ToJson(metadata)["extensions"]}});
  } else {
    context.terminal.out << absl::StrCat(metadata.name(), " ", metadata.version(), " at ",
                                         context.connection.address, ": ", status, "\n");
  }
  if (status == "SERVING") return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("the server is ", status));
}

}  // namespace

CommandRunner BindHealth(CLI::App& app) {
  auto service = std::make_shared<std::string>();
  app.add_option("--service", *service, "Name of a gRPC service; default: the whole server");
  return [service](CommandContext& context) { return Health(*service, context); };
}

}  // namespace halftone
