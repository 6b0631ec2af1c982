// Samples of the requests that models answer, to calibrate with what really comes. Off until
// somebody turns it on for a model; in memory only, capped, gone when wiped or stopped.
//
//   HT_RETURN_IF_ERROR(live.Start("m", /*version=*/3, {.max_samples = 128}));
//   live.Offer("m", 3, inputs);                     // by whoever decodes requests
//   store.PutCalibration("m", "live", live.Snapshot("m"));
//
// Thread-safe.
#ifndef HALFTONE_SERVER_LIVE_SAMPLES_H_
#define HALFTONE_SERVER_LIVE_SAMPLES_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "core/tensor/tensor.h"
#include "server/reservoir.h"

namespace halftone {

class LiveSamples {
 public:
  struct Limits {
    int max_samples = 128;
    int64_t max_bytes = int64_t{64} << 20;
  };
  struct State {
    bool on = false;
    int version = 0;  // of the model whose requests are sampled
    int max_samples = 0;
    int64_t seen = 0;   // requests since it began or was wiped
    int held = 0;       // of them
    int64_t bytes = 0;  // held
  };

  // `max_bytes`: what all models together may reserve.
  explicit LiveSamples(int64_t max_bytes) : max_bytes_(max_bytes) {}

  // Begins, or begins anew: what was held of the model is gone. INVALID_ARGUMENT for limits below
  // 1; RESOURCE_EXHAUSTED when the limits of all models would pass the server's.
  absl::Status Start(const std::string& model, int version, const Limits& limits);
  void Wipe(const std::string& model);  // goes on from nothing
  void Stop(const std::string& model);
  State StateOf(const std::string& model) const;
  std::map<std::string, State> States() const;
  // What is held now, each with the inputs of one request; shares bytes.
  std::vector<std::vector<Tensor>> Snapshot(const std::string& model) const;
  // A request of this version of the model. Copies the inputs if it is taken; costs next to nothing
  // where no model is sampled.
  void Offer(const std::string& model, int version, absl::Span<const Tensor> inputs);

 private:
  struct Sampled {
    int version = 0;
    Limits limits;
    std::unique_ptr<Reservoir> reservoir;
  };
  static State StateOf(const Sampled& sampled);
  std::shared_ptr<const Sampled> Find(const std::string& model) const ABSL_LOCKS_EXCLUDED(mu_);

  const int64_t max_bytes_;
  std::atomic<bool> any_{false};
  mutable absl::Mutex mu_;
  std::map<std::string, std::shared_ptr<const Sampled>> models_ ABSL_GUARDED_BY(mu_);
};

}  // namespace halftone

#endif  // HALFTONE_SERVER_LIVE_SAMPLES_H_
