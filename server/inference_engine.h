// What all inference calls share: acquire a variant, decode, queue, run, count.
//
//   auto ticket = engine.Start({.model = "m", .decode = …}, [](absl::StatusOr<InferOutcome> o)
//   {…}); ticket->Cancel();      // when the client left
//
// Thread-safe.
#ifndef HALFTONE_SERVER_INFERENCE_ENGINE_H_
#define HALFTONE_SERVER_INFERENCE_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/store/model_store.h"
#include "server/live_samples.h"
#include "server/metrics.h"
#include "server/scheduler.h"
#include "server/tensor_codec.h"
#include "server/wide_trials.h"

namespace halftone {

// What a request's tensors mean for a signature. Inputs may borrow from the request.
struct DecodedRequest {
  std::vector<Tensor> inputs;
  std::vector<OutputPick> picks;
};

struct InferTask {
  absl::string_view method;  // metric label; a literal
  std::string model;
  int version = 0;
  std::string variant;  // as ModelStore::Acquire
  WhenMissing when_missing = WhenMissing::kWait;
  absl::Time deadline = absl::InfiniteFuture();
  int64_t request_bytes = 0;  // of its tensors; counted while it is under way
  // Called once, with the variant's signature. What it borrows must live until `done`.
  std::function<absl::StatusOr<DecodedRequest>(const Signature&)> decode;
};

struct InferOutput {
  std::string name;
  Tensor tensor;
};

struct InferOutcome {
  VariantInfo variant;  // that answered
  bool fell_back = false;
  std::vector<InferOutput> outputs;
  absl::Duration acquire;
  absl::Duration queue;
  absl::Duration compute;
};

// One request under way.
class InferTicket {
 public:
  virtual ~InferTicket() = default;
  // `done` is called soon with CANCELLED, unless the run is almost over; at most once in any case.
  virtual void Cancel() = 0;
};

struct InferenceEngineOptions {
  // Of all requests under way together, wherever they wait. A single one always fits.
  int64_t max_inflight_bytes = int64_t{1} << 30;
  const Clock* clock = &RealClock();
};

class InferenceEngine {
 public:
  InferenceEngine(InferenceEngineOptions options, ModelStore& store, Scheduler& scheduler,
                  WideTrials& wide_trials, Metrics& metrics, LiveSamples& live_samples)
      : options_(options),
        store_(store),
        scheduler_(scheduler),
        wide_trials_(wide_trials),
        metrics_(metrics),
        live_samples_(live_samples),
        clock_(*options.clock) {}

  // `done` is called exactly once: from the caller's, a store's or a worker's thread. Afterwards
  // nothing reads what `decode` borrowed.
  using Done = absl::AnyInvocable<void(absl::StatusOr<InferOutcome>)>;
  std::shared_ptr<InferTicket> Start(InferTask task, Done done);

 private:
  class Call;

  const InferenceEngineOptions options_;
  ModelStore& store_;
  Scheduler& scheduler_;
  WideTrials& wide_trials_;
  Metrics& metrics_;
  LiveSamples& live_samples_;
  const Clock& clock_;
  std::atomic<int64_t> inflight_bytes_{0};
};

}  // namespace halftone

#endif  // HALFTONE_SERVER_INFERENCE_ENGINE_H_
