#include "core/variant/graph_runner.h"

#include <memory>
#include <utility>

#include "core/base/status_macros.h"
#include "core/exec/plan.h"

namespace halftone {

GraphRunner PlanRunner(int threads, std::function<bool()> cancelled) {
  const auto stop = [cancelled = std::move(cancelled)] {
    return cancelled && cancelled() ? absl::CancelledError("the run was cancelled")
                                    : absl::OkStatus();
  };
  return [threads, stop](Graph graph) -> absl::StatusOr<RunnableGraph> {
    SetIntraOpThreads(threads);
    // Inputs of few shapes come here; what is measured is one specialisation.
    HT_ASSIGN_OR_RETURN(std::shared_ptr<const Plan> plan,
                        Plan::Create(std::move(graph), {.threads = threads}));
    auto context = std::make_shared<Context>(plan);
    return RunnableGraph{
        .run = [context,
                stop](absl::Span<const Tensor> inputs) { return context->Run(inputs, stop); },
        .resident_bytes =
            [plan] {
              const PlanMemory memory = plan->memory();
              return memory.weight_bytes + memory.packed_bytes;
            }};
  };
}

}  // namespace halftone
