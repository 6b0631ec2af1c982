#include "core/variant/graph_runner.h"

#include <memory>
#include <utility>

#include "core/base/status_macros.h"

namespace halftone {
namespace {

std::function<absl::Status()> StopWhen(std::function<bool()> cancelled) {
  return [cancelled = std::move(cancelled)] {
    return cancelled && cancelled() ? absl::CancelledError("the run was cancelled")
                                    : absl::OkStatus();
  };
}

}  // namespace

GraphRunner PlanRunner(int threads, std::function<bool()> cancelled, ComputeType compute) {
  const auto stop = StopWhen(std::move(cancelled));
  return [threads, stop, compute](Graph graph) -> absl::StatusOr<RunnableGraph> {
    SetIntraOpThreads(threads);
    // Inputs of few shapes come here; what is measured is one specialisation.
    HT_ASSIGN_OR_RETURN(std::shared_ptr<const Plan> plan,
                        Plan::Create(std::move(graph), {.threads = threads, .compute = compute}));
    auto context = std::make_shared<Context>(plan);
    return RunnableGraph{
        .run = [context,
                stop](absl::Span<const Tensor> inputs) { return context->Run(inputs, stop); },
        .resident_bytes =
            [plan] {
              const PlanMemory memory = plan->memory();
              return memory.in_place_bytes + memory.packed_bytes;
            },
        .profile =
            [profiled = std::shared_ptr<Context>(), plan, stop](
                absl::Span<const Tensor> inputs) mutable -> absl::StatusOr<std::vector<StepInfo>> {
          // A context of its own: clock reads would burden ordinary runs.
          if (profiled == nullptr) profiled = std::make_shared<Context>(plan);
          profiled->EnableProfile();
          HT_RETURN_IF_ERROR(profiled->Run(inputs, stop).status());
          return profiled->Profile();
        }};
  };
}

GraphWatcher PlanWatcher(int threads, std::function<bool()> cancelled) {
  const auto stop = StopWhen(std::move(cancelled));
  return [threads, stop](Graph graph) -> absl::StatusOr<WatchableGraph> {
    SetIntraOpThreads(threads);
    HT_ASSIGN_OR_RETURN(std::shared_ptr<const Plan> plan,
                        Plan::Create(std::move(graph), {.threads = threads, .show_outputs = true}));
    auto context = std::make_shared<Context>(std::move(plan));
    return WatchableGraph{
        [context, stop](absl::Span<const Tensor> inputs, const OutputWatcher& show) {
          return context->Watch(inputs, show, stop);
        }};
  };
}

GraphWatcher WatcherOf(GraphRunner runner) {
  return [runner = std::move(runner)](Graph graph) -> absl::StatusOr<WatchableGraph> {
    HT_ASSIGN_OR_RETURN(RunnableGraph ready, runner(std::move(graph)));
    return WatchableGraph{[run = std::move(ready.run)](absl::Span<const Tensor> inputs,
                                                       const OutputWatcher& show) -> absl::Status {
      HT_ASSIGN_OR_RETURN(const std::vector<Tensor> outputs, run(inputs));
      for (size_t i = 0; i < outputs.size(); ++i) show(static_cast<int>(i), outputs[i]);
      return absl::OkStatus();
    }};
  };
}

}  // namespace halftone
