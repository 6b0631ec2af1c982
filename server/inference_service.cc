#include "server/inference_service.h"

#include <deque>
#include <map>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"
#include "server/call_util.h"
#include "server/infer_call.h"
#include "server/proto_convert.h"

namespace halftone {
namespace {

absl::StatusOr<WhenMissing> PolicyOf(v1::WhenMissing policy) {
  switch (policy) {
    case v1::WHEN_MISSING_UNSPECIFIED:
    case v1::WHEN_MISSING_WAIT:
      return WhenMissing::kWait;
    case v1::WHEN_MISSING_FALLBACK:
      return WhenMissing::kFallback;
    case v1::WHEN_MISSING_UNAVAILABLE:
      return WhenMissing::kUnavailable;
    default:
      return absl::InvalidArgumentError(absl::StrCat(
          "when_missing: got enum value ", static_cast<int>(policy), ", which has no meaning"));
  }
}

absl::StatusOr<DecodedRequest> Decode(const v1::InferRequest& request, const Signature& signature) {
  DecodedRequest decoded;
  std::vector<WantedOutput> wanted;
  for (const v1::RequestedOutput& output : request.outputs()) {
    WantedOutput& want = wanted.emplace_back(WantedOutput{.name = output.name()});
    if (output.type() != v1::DATA_TYPE_UNSPECIFIED) {
      HT_ASSIGN_OR_RETURN(want.type, FromProto(output.type(), "output: type"));
    }
  }
  HT_ASSIGN_OR_RETURN(decoded.picks, PickOutputs(signature, wanted));
  HT_ASSIGN_OR_RETURN(const std::vector<WireTensor> wire, ToWire(request.inputs()));
  HT_ASSIGN_OR_RETURN(decoded.inputs, DecodeInputs(signature, wire));
  return decoded;
}

int64_t TensorBytes(const v1::InferRequest& request) {
  int64_t bytes = 0;
  for (const v1::Tensor& tensor : request.inputs()) {
    bytes += static_cast<int64_t>(tensor.data().size());
  }
  return bytes;
}

// `request` must live until the task is done.
absl::StatusOr<InferTask> TaskOf(const v1::InferRequest& request, absl::string_view method,
                                 absl::Time deadline) {
  HT_ASSIGN_OR_RETURN(const WhenMissing policy, PolicyOf(request.when_missing()));
  HT_ASSIGN_OR_RETURN(std::string variant, SelectorText(request.variant()));
  return InferTask{
      .method = method,
      .model = request.model(),
      .version = request.version(),
      .variant = std::move(variant),
      .when_missing = policy,
      .deadline = deadline,
      .request_bytes = TensorBytes(request),
      .decode = [&request](const Signature& signature) { return Decode(request, signature); }};
}

void Encode(const v1::InferRequest& request, const InferOutcome& outcome,
            v1::InferResponse& response) {
  response.set_id(request.id());
  response.set_model(outcome.variant.model);
  response.set_version(outcome.variant.version);
  response.set_variant_id(outcome.variant.id);
  response.set_spec_text(outcome.variant.spec);
  response.set_fell_back(outcome.fell_back);
  for (const InferOutput& output : outcome.outputs) {
    ToProto(output.name, output.tensor, *response.add_outputs());
  }
  if (request.report_timings()) {
    v1::InferTimings& timings = *response.mutable_timings();
    ToProto(outcome.acquire, *timings.mutable_acquire());
    ToProto(outcome.queue, *timings.mutable_queue());
    ToProto(outcome.compute, *timings.mutable_compute());
  }
}

void EncodeError(const absl::Status& status, v1::InferError& error) {
  error.set_code(static_cast<int32_t>(status.code()));
  error.set_message(Utf8(status.message()));
  if (const auto retry = RetryAfter(status)) ToProto(*retry, *error.mutable_retry_after());
}

// One InferStream call. Requests run side by side; responses are written one by one as they come.
class StreamCall final : public grpc::ServerBidiReactor<v1::InferRequest, v1::InferStreamResponse> {
 public:
  StreamCall(grpc::CallbackServerContext* context, ServiceEnv& env)
      : env_(env), deadline_(DeadlineOf(*context)) {
    reading_ = std::make_unique<v1::InferRequest>();
    StartRead(reading_.get());
  }

  void OnReadDone(bool ok) override {
    std::unique_ptr<v1::InferRequest> request;
    uint64_t key = 0;
    {
      absl::MutexLock lock(&mu_);
      if (ok) {
        request = std::move(reading_);
        key = next_key_++;
        tickets_[key] = nullptr;
        ++inflight_;
      } else {
        read_over_ = true;
      }
    }
    if (ok) {
      Begin(key, std::move(request));
      ReadMore();
    }
    Advance();
  }

  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mu_);
      writing_ = false;
      if (!ok) gone_ = true;
    }
    ReadMore();
    Advance();
  }

  void OnCancel() override {
    std::map<uint64_t, std::shared_ptr<InferTicket>> tickets;
    {
      absl::MutexLock lock(&mu_);
      gone_ = true;
      tickets = tickets_;
    }
    for (const auto& [key, ticket] : tickets) {
      if (ticket != nullptr) ticket->Cancel();
    }
    Advance();
  }

  void OnDone() override { delete this; }

 private:
  void Begin(uint64_t key, std::unique_ptr<v1::InferRequest> request) {
    absl::StatusOr<InferTask> task = TaskOf(*request, "InferStream", deadline_);
    // Lives until the answer: the tensors are borrowed from it.
    std::shared_ptr<v1::InferRequest> kept = std::move(request);
    if (!task.ok()) {
      env_.metrics.CountRequest("InferStream", "", "", task.status().code());
      return Answer(key, *kept, task.status());
    }
    auto ticket = env_.engine.Start(*std::move(task),
                                    [this, key, kept](absl::StatusOr<InferOutcome> outcome) {
                                      Answer(key, *kept, std::move(outcome));
                                    });
    // This object is alive even if the answer is out: gRPC waits for the end of OnReadDone.
    bool cancel = false;
    {
      absl::MutexLock lock(&mu_);
      if (const auto it = tickets_.find(key); it != tickets_.end()) it->second = ticket;
      cancel = gone_;
    }
    if (cancel) ticket->Cancel();
  }

  void Answer(uint64_t key, const v1::InferRequest& request, absl::StatusOr<InferOutcome> outcome) {
    v1::InferStreamResponse response;
    response.set_id(request.id());
    if (outcome.ok()) {
      Encode(request, *outcome, *response.mutable_response());
    } else {
      EncodeError(outcome.status(), *response.mutable_error());
    }
    Action action;
    {
      absl::MutexLock lock(&mu_);
      tickets_.erase(key);
      ready_.push_back(std::move(response));
      action = NextAction();
    }
    // Without an action this object may be gone by now.
    Do(action);
  }

  // Reads on unless enough is under way: requests that run and responses that wait to be written.
  void ReadMore() {
    v1::InferRequest* next = nullptr;
    {
      absl::MutexLock lock(&mu_);
      if (reading_ == nullptr && !read_over_ && !gone_ &&
          inflight_ < env_.config.max_stream_inflight) {
        reading_ = std::make_unique<v1::InferRequest>();
        next = reading_.get();
      }
    }
    if (next != nullptr) StartRead(next);
  }

  enum class Action : uint8_t { kNone, kWrite, kFinish };

  // Write the next response, or end the call when nothing is left to come.
  Action NextAction() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (writing_ || finished_) return Action::kNone;
    if (gone_) {
      inflight_ -= static_cast<int>(ready_.size());
      ready_.clear();
    }
    if (!ready_.empty()) {
      current_ = std::move(ready_.front());
      ready_.pop_front();
      --inflight_;
      writing_ = true;
      return Action::kWrite;
    }
    if (inflight_ > 0 || !(read_over_ || (gone_ && reading_ == nullptr))) return Action::kNone;
    finished_ = true;
    return Action::kFinish;
  }

  // Without the lock: gRPC may call back at once.
  void Do(Action action) {
    if (action == Action::kWrite) StartWrite(&current_);
    if (action == Action::kFinish) Finish(grpc::Status::OK);
  }

  // From gRPC's callbacks only, during which this object is alive.
  void Advance() {
    Action action;
    {
      absl::MutexLock lock(&mu_);
      action = NextAction();
    }
    Do(action);
  }

  ServiceEnv& env_;
  const absl::Time deadline_;
  absl::Mutex mu_;
  std::unique_ptr<v1::InferRequest> reading_ ABSL_GUARDED_BY(mu_);  // gRPC fills it in
  v1::InferStreamResponse current_;                                 // gRPC's while writing_
  std::deque<v1::InferStreamResponse> ready_ ABSL_GUARDED_BY(mu_);
  // Of the requests that are not answered; null until it is known.
  std::map<uint64_t, std::shared_ptr<InferTicket>> tickets_ ABSL_GUARDED_BY(mu_);
  uint64_t next_key_ ABSL_GUARDED_BY(mu_) = 0;
  int inflight_ ABSL_GUARDED_BY(mu_) = 0;  // read and not yet written
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool read_over_ ABSL_GUARDED_BY(mu_) = false;
  bool gone_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace

grpc::ServerUnaryReactor* InferenceService::Infer(grpc::CallbackServerContext* context,
                                                  const v1::InferRequest* request,
                                                  v1::InferResponse* response) {
  auto* call = new InferCall(context, [request, response](const InferOutcome& outcome) {
    Encode(*request, outcome, *response);
  });
  absl::StatusOr<InferTask> task = TaskOf(*request, "Infer", DeadlineOf(*context));
  if (!task.ok()) env_.metrics.CountRequest("Infer", "", "", task.status().code());
  call->Run(env_.engine, std::move(task));
  return call;
}

grpc::ServerBidiReactor<v1::InferRequest, v1::InferStreamResponse>* InferenceService::InferStream(
    grpc::CallbackServerContext* context) {
  return new StreamCall(context, env_);
}

}  // namespace halftone
