// Runs a plan that was just loaded once on every worker, before requests come: their contexts are
// there, pages of arenas are touched, teams of threads formed. The first answer is then as fast as
// later ones.
#ifndef HALFTONE_SERVER_WARM_UP_H_
#define HALFTONE_SERVER_WARM_UP_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "core/exec/plan.h"
#include "core/tensor/tensor.h"
#include "server/scheduler.h"

namespace halftone {

struct WarmUpLimits {
  // Of all contexts of all workers: one more is made only below it.
  int64_t arena_bytes = 0;
  // Until the first worker has time for it. A busy server does not wait.
  absl::Duration start = absl::Milliseconds(250);
  absl::Duration finish = absl::Seconds(5);  // until all are done
};

// Blocks. `inputs` own their bytes. Returns on how many workers it ran to the end; workers whose
// contexts are all in use, or that are busy, are left out. Thread-safe.
int WarmUpWorkers(Scheduler& scheduler, const std::string& variant_id,
                  const std::shared_ptr<const Plan>& plan, const std::vector<Tensor>& inputs,
                  const WarmUpLimits& limits);

}  // namespace halftone

#endif  // HALFTONE_SERVER_WARM_UP_H_
