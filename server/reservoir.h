// A fair sample of a stream of requests, of bounded size. In memory only: what clients sent is
// never written anywhere by it.
//
//   Reservoir r({.max_samples = 128, .max_bytes = 64 << 20, .seed = SeedFor("model")});
//   if (r.Offer(inputs)) …                 // now one of the samples
//   auto live = r.Snapshot();              // shares bytes with the reservoir, which goes on
#ifndef HALFTONE_SERVER_RESERVOIR_H_
#define HALFTONE_SERVER_RESERVOIR_H_

#include <cstdint>
#include <random>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "core/tensor/tensor.h"

namespace halftone {

struct ReservoirOptions {
  int max_samples = 128;                  // 0: takes nothing
  int64_t max_bytes = int64_t{64} << 20;  // of all samples together
  uint32_t seed = 0;
};

// The same for equal names on every machine.
uint32_t SeedFor(absl::string_view model);

// Vitter 1985, "Random Sampling with a Reservoir", algorithm R: after n requests each of them is in
// the reservoir with the same probability, if all have the same size. Where the bytes run out
// first, the reservoir stays as large as it is then; a request that does not fit in the place of
// the one it would replace is passed over, so that larger ones are rarer than they should be. Equal
// requests in equal order give equal samples. Thread-safe; a request that is not taken costs a
// random number, one that is taken a copy.
class Reservoir {
 public:
  explicit Reservoir(ReservoirOptions options);

  // True when the request was taken. Copies it, outside the lock: the inputs may be borrowed.
  bool Offer(absl::Span<const Tensor> inputs) ABSL_LOCKS_EXCLUDED(mu_);
  std::vector<std::vector<Tensor>> Snapshot() const ABSL_LOCKS_EXCLUDED(mu_);
  // Forgets everything, also what is being copied at this moment, and begins again.
  void Wipe() ABSL_LOCKS_EXCLUDED(mu_);

  int64_t seen() const ABSL_LOCKS_EXCLUDED(mu_);   // since the beginning or Wipe
  int64_t bytes() const ABSL_LOCKS_EXCLUDED(mu_);  // held now
  int held() const ABSL_LOCKS_EXCLUDED(mu_);       // samples now

 private:
  struct Sample {
    std::vector<Tensor> inputs;
    int64_t bytes = 0;
    int64_t number = -1;  // of the request that it is or will be
  };

  const ReservoirOptions options_;
  mutable absl::Mutex mu_;
  std::mt19937_64 rng_ ABSL_GUARDED_BY(mu_);
  std::vector<Sample> samples_ ABSL_GUARDED_BY(mu_);
  int64_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t seen_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t wipes_ ABSL_GUARDED_BY(mu_) = 0;
  bool full_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace halftone

#endif  // HALFTONE_SERVER_RESERVOIR_H_
