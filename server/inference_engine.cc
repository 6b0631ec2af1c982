#include "server/inference_engine.h"

#include <atomic>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/status_mapping.h"

namespace halftone {
namespace {

// What a request costs besides its tensors, roughly.
constexpr int64_t kRequestOverheadBytes = 4096;

std::optional<RejectReason> ReasonOf(absl::StatusCode code, bool was_queued) {
  switch (code) {
    case absl::StatusCode::kResourceExhausted:
      return was_queued ? RejectReason::kQueueFull : RejectReason::kMemory;
    case absl::StatusCode::kDeadlineExceeded:
      return RejectReason::kDeadline;
    case absl::StatusCode::kCancelled:
      return RejectReason::kCancelled;
    case absl::StatusCode::kUnavailable:
      return RejectReason::kUnavailable;
    default:
      return std::nullopt;
  }
}

}  // namespace

// Lives as long as the store, the queue or the caller may still touch it.
class InferenceEngine::Call final : public InferTicket,
                                    public std::enable_shared_from_this<InferenceEngine::Call> {
 public:
  Call(InferenceEngine& engine, InferTask task, Done done)
      : engine_(engine),
        task_(std::move(task)),
        done_(std::move(done)),
        cost_(task_.request_bytes + kRequestOverheadBytes),
        start_(engine.clock_.Now()) {}

  void Begin() {
    engine_.metrics_.AddInflight(1);
    if (const absl::Status status = Reserve(); !status.ok()) {
      if (LeaveAcquiring()) Finish(status);
      return;
    }
    engine_.store_.Acquire(
        task_.model, task_.version, task_.variant, task_.when_missing, task_.deadline,
        [self = shared_from_this()](absl::StatusOr<VariantHandle> handle, bool fell_back) {
          self->OnAcquired(std::move(handle), fell_back);
        });
  }

  void Cancel() override {
    cancelled_ = true;
    // Whoever leaves the acquiring stage first owns the call. In the queue, the scheduler looks at
    // cancelled_ before it runs anything.
    if (!LeaveAcquiring()) return;
    // gRPC reports an expired deadline as a cancellation too.
    if (engine_.clock_.Now() >= task_.deadline) {
      Finish(absl::DeadlineExceededError(
          absl::StrCat("the request's deadline passed while its variant was awaited, after ",
                       absl::FormatDuration(engine_.clock_.Now() - start_))));
    } else {
      Finish(
          absl::CancelledError("the client cancelled the request while its variant was awaited"));
    }
  }

 private:
  absl::Status Reserve() {
    const int64_t before = engine_.inflight_bytes_.fetch_add(cost_);
    const int64_t limit = engine_.options_.max_inflight_bytes;
    if (before == 0 || before + cost_ <= limit) return absl::OkStatus();
    return WithRetryAfter(absl::ResourceExhaustedError(absl::StrCat(
                              "requests under way hold ", before, " bytes, this one needs ", cost_,
                              ", want at most ", limit, " together (setting max_inflight_bytes)")),
                          absl::Milliseconds(100));
  }

  bool LeaveAcquiring() { return !left_acquiring_.exchange(true); }

  void OnAcquired(absl::StatusOr<VariantHandle> handle, bool fell_back) {
    if (!LeaveAcquiring()) return;
    if (!handle.ok()) return Finish(handle.status());
    handle_.emplace(*std::move(handle));
    outcome_.variant = handle_->info();
    outcome_.fell_back = fell_back;
    outcome_.acquire = engine_.clock_.Now() - start_;
    const std::shared_ptr<const Plan> plan = handle_->plan();
    absl::StatusOr<DecodedRequest> decoded = task_.decode(plan->signature());
    if (!decoded.ok()) return Finish(decoded.status());
    engine_.live_samples_.Offer(outcome_.variant.model, outcome_.variant.version, decoded->inputs);
    picks_ = std::move(decoded->picks);
    queued_ = true;
    narrow_time_ = engine_.wide_trials_.NarrowTime(outcome_.variant.id, plan, decoded->inputs);
    engine_.scheduler_.Submit({
        .plan = plan,
        .variant_id = outcome_.variant.id,
        .inputs = std::move(decoded->inputs),
        .wide_pays = narrow_time_ > absl::ZeroDuration(),
        .deadline = task_.deadline,
        .cancelled = [self = shared_from_this()] { return self->cancelled_.load(); },
        .done = [self = shared_from_this()](WorkResult result) { self->OnRun(std::move(result)); },
    });
  }

  void OnRun(WorkResult result) {
    outcome_.queue = result.queue;
    outcome_.compute = result.compute;
    if (result.wide) engine_.wide_trials_.Observe(narrow_time_, result.compute);
    ran_ = result.compute > absl::ZeroDuration();
    if (!result.outputs.ok()) return Finish(result.outputs.status());
    absl::StatusOr<std::vector<Tensor>> encoded = EncodeOutputs(picks_, *std::move(result.outputs));
    if (!encoded.ok()) return Finish(encoded.status());
    const Signature& signature = handle_->plan()->signature();
    for (size_t i = 0; i < picks_.size(); ++i) {
      outcome_.outputs.push_back(
          {.name = signature.outputs[picks_[i].index].name, .tensor = std::move((*encoded)[i])});
    }
    Finish(absl::OkStatus());
  }

  void Finish(const absl::Status& status) {
    CountFinished(status);
    // The variant may leave memory now: outputs own their bytes.
    handle_.reset();
    Done done = std::move(done_);
    if (status.ok()) {
      done(std::move(outcome_));
    } else {
      done(status);
    }
  }

  void CountFinished(const absl::Status& status) {
    Metrics& metrics = engine_.metrics_;
    metrics.AddInflight(-1);
    engine_.inflight_bytes_.fetch_sub(cost_);
    // What a client asked for is a label only if it exists.
    std::string model = outcome_.variant.model;
    if (model.empty() && engine_.store_.GetModel(task_.model).ok()) model = task_.model;
    metrics.CountRequest(task_.method, model, outcome_.variant.spec, status.code());
    if (status.ok()) {
      metrics.ObserveInference(model, outcome_.variant.spec,
                               {.total = engine_.clock_.Now() - start_,
                                .queue = outcome_.queue,
                                .compute = outcome_.compute});
    } else if (const auto reason = ReasonOf(status.code(), queued_); reason && !ran_) {
      metrics.CountRejected(*reason);
    }
  }

  InferenceEngine& engine_;
  const InferTask task_;
  Done done_;
  const int64_t cost_;
  const absl::Time start_;
  std::atomic<bool> left_acquiring_{false};
  std::atomic<bool> cancelled_{false};
  // From here on: the current owner of the call alone.
  std::optional<VariantHandle> handle_;
  std::vector<OutputPick> picks_;
  InferOutcome outcome_;
  absl::Duration narrow_time_;
  bool queued_ = false;
  bool ran_ = false;
};

std::shared_ptr<InferTicket> InferenceEngine::Start(InferTask task, Done done) {
  auto call = std::make_shared<Call>(*this, std::move(task), std::move(done));
  call->Begin();
  return call;
}

}  // namespace halftone
