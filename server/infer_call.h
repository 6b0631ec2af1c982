// A unary call that waits for the engine: shared by Infer and ModelInfer.
#ifndef HALFTONE_SERVER_INFER_CALL_H_
#define HALFTONE_SERVER_INFER_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/call_util.h"
#include "server/inference_engine.h"
#include "server/status_mapping.h"

namespace halftone {

// Deletes itself when the call is over. Construct with `new`, call Run, give to gRPC.
class InferCall final : public grpc::ServerUnaryReactor {
 public:
  // Fills in the response, on the worker's thread.
  using Encode = std::function<void(const InferOutcome&)>;

  InferCall(grpc::CallbackServerContext* context, Encode encode)
      : context_(context), encode_(std::move(encode)) {}

  void Run(InferenceEngine& engine, absl::StatusOr<InferTask> task) {
    if (!task.ok()) {
      Finish(ToGrpcStatus(task.status(), context_));
      return;
    }
    // Whoever comes last of OnDone and the end of this function must not find a dead object: the
    // call may be over before Start returns.
    auto slot = slot_;
    auto ticket = engine.Start(*std::move(task), [this](absl::StatusOr<InferOutcome> outcome) {
      if (outcome.ok()) encode_(*outcome);
      Finish(ToGrpcStatus(outcome.status(), context_));
    });
    slot->Set(std::move(ticket));
  }

  void OnCancel() override { slot_->Cancel(); }
  void OnDone() override { delete this; }

 private:
  // The ticket, or the wish to cancel it as soon as it is there.
  class Slot {
   public:
    void Set(std::shared_ptr<InferTicket> ticket) {
      bool cancel = false;
      {
        absl::MutexLock lock(&mu_);
        ticket_ = ticket;
        cancel = cancelled_;
      }
      if (cancel) ticket->Cancel();
    }
    void Cancel() {
      std::shared_ptr<InferTicket> ticket;
      {
        absl::MutexLock lock(&mu_);
        cancelled_ = true;
        ticket = ticket_;
      }
      if (ticket != nullptr) ticket->Cancel();
    }

   private:
    absl::Mutex mu_;
    std::shared_ptr<InferTicket> ticket_ ABSL_GUARDED_BY(mu_);
    bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  };

  grpc::CallbackServerContext* const context_;
  const Encode encode_;
  const std::shared_ptr<Slot> slot_ = std::make_shared<Slot>();
};

}  // namespace halftone

#endif  // HALFTONE_SERVER_INFER_CALL_H_
