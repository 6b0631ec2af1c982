// Small helpers for gRPC callback handlers.
#ifndef HALFTONE_SERVER_CALL_UTIL_H_
#define HALFTONE_SERVER_CALL_UTIL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/metrics.h"
#include "server/status_mapping.h"
#include "server/task_pool.h"

namespace halftone {

// The client's deadline; InfiniteFuture without one.
inline absl::Time DeadlineOf(const grpc::ServerContextBase& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteFuture();
  return absl::FromChrono(deadline);
}

// Labels of one finished call; both must exist or be empty.
struct CallLabels {
  std::string model;
  std::string variant;
};

// Answers a unary call from a thread that may block. `answer` fills in the response, which it has
// captured, and may set the labels.
grpc::ServerUnaryReactor* AnswerOnPool(TaskPool& pool, Metrics& metrics, absl::string_view method,
                                       grpc::CallbackServerContext* context,
                                       std::function<absl::Status(CallLabels&)> answer);

// A server stream that other threads write. One producer; deletes itself when the call is over.
//
//   auto* stream = new MessageStream<Event>(context);   // returned to gRPC
//   stream->Send(event) …; stream->Close(status);       // from one other thread, Close exactly
//   once
template <typename Message>
class MessageStream final : public grpc::ServerWriteReactor<Message> {
 public:
  explicit MessageStream(grpc::CallbackServerContext* context) : context_(context) {}

  // Waits until few messages are on their way. False: the client is gone.
  bool Send(Message message) {
    {
      absl::MutexLock lock(&mu_);
      const auto can_send = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
        return gone_ || queue_.size() < kMaxQueued;
      };
      mu_.Await(absl::Condition(&can_send));
      if (gone_) return false;
      queue_.push_back(std::move(message));
    }
    WriteNext();
    return true;
  }

  // Never waits: a message that has not left yet is replaced. Any thread, but not with Send.
  void Offer(Message message) {
    {
      absl::MutexLock lock(&mu_);
      if (gone_ || closing_) return;
      queue_.clear();
      queue_.push_back(std::move(message));
    }
    WriteNext();
  }

  // Ends the call after what is queued. Nobody may touch the stream afterwards.
  void Close(const absl::Status& status) {
    const grpc::Status final_status = ToGrpcStatus(status, context_);
    {
      absl::MutexLock lock(&mu_);
      closing_ = final_status;
    }
    WriteNext();
  }

  bool gone() const {
    absl::MutexLock lock(&mu_);
    return gone_;
  }

  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mu_);
      writing_ = false;
      if (!ok) gone_ = true;
    }
    WriteNext();
  }
  void OnCancel() override {
    absl::MutexLock lock(&mu_);
    gone_ = true;
  }
  void OnDone() override { delete this; }

 private:
  static constexpr size_t kMaxQueued = 4;

  // Starts the next write, or finishes. gRPC is called without the lock: it may call back at once.
  void WriteNext() {
    const Message* message = nullptr;
    std::optional<grpc::Status> final_status;
    {
      absl::MutexLock lock(&mu_);
      if (writing_ || finished_) return;
      if (!gone_ && !queue_.empty()) {
        current_ = std::move(queue_.front());
        queue_.pop_front();
        writing_ = true;
        message = &current_;
      } else if (closing_) {
        finished_ = true;
        final_status = closing_;
      }
    }
    if (message != nullptr) this->StartWrite(message);
    if (final_status) this->Finish(*final_status);
  }

  grpc::CallbackServerContext* const context_;
  mutable absl::Mutex mu_;
  std::deque<Message> queue_ ABSL_GUARDED_BY(mu_);
  Message current_;  // belongs to gRPC while writing_
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool gone_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<grpc::Status> closing_ ABSL_GUARDED_BY(mu_);
};

// A client stream that is worked off message by message on a pool, in order.
//
//   auto read = [state](const Request& r) { return state->Take(r); };       // OK: go on
//   auto end = [state](Response* response) { return state->Finish(response); };
//   return new RequestStream<Request>(context, pool, read, end);
//
// `end` runs after the client half-closed; it and `read` never run at the same time. An error from
// either ends the call. Deletes itself.
template <typename Request>
class RequestStream final : public grpc::ServerReadReactor<Request> {
 public:
  struct Handlers {
    std::function<absl::Status(const Request&)> read;
    std::function<absl::Status()> end;
    std::function<void(const absl::Status&)> finished;  // for counting; before the client hears it
  };
  RequestStream(grpc::CallbackServerContext* context, TaskPool& read_pool, TaskPool& end_pool,
                Handlers handlers)
      : context_(context),
        read_pool_(read_pool),
        end_pool_(end_pool),
        handlers_(std::move(handlers)) {
    this->StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    if (ok) {
      const bool accepted = read_pool_.Submit([this] {
        const absl::Status status = handlers_.read(request_);
        if (!status.ok()) return End(status);
        this->StartRead(&request_);
      });
      if (!accepted) End(TaskPoolFull());
      return;
    }
    // Half-closed or broken; a broken one has nobody to answer to.
    if (context_->IsCancelled()) return End(absl::CancelledError("the client left"));
    if (!end_pool_.Submit([this] { End(handlers_.end()); })) End(TaskPoolFull());
  }
  void OnDone() override { delete this; }

 private:
  void End(const absl::Status& status) {
    handlers_.finished(status);
    this->Finish(ToGrpcStatus(status, context_));
  }

  grpc::CallbackServerContext* const context_;
  TaskPool& read_pool_;
  TaskPool& end_pool_;
  const Handlers handlers_;
  Request request_;
};

}  // namespace halftone

#endif  // HALFTONE_SERVER_CALL_UTIL_H_
