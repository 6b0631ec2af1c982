#include "server/call_util.h"

namespace halftone {

grpc::ServerUnaryReactor* AnswerOnPool(TaskPool& pool, Metrics& metrics, absl::string_view method,
                                       grpc::CallbackServerContext* context,
                                       std::function<absl::Status(CallLabels&)> answer) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto finish = [&metrics, method, context, reactor](const CallLabels& labels,
                                                           const absl::Status& status) {
    metrics.CountRequest(method, labels.model, labels.variant, status.code());
    reactor->Finish(ToGrpcStatus(status, context));
  };
  const bool accepted = pool.Submit([finish, answer = std::move(answer)] {
    CallLabels labels;
    const absl::Status status = answer(labels);
    finish(labels, status);
  });
  if (!accepted) finish({}, TaskPoolFull());
  return reactor;
}

}  // namespace halftone
