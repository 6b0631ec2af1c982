#include <malloc.h>

#include <utility>

#include "absl/log/log.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/status_macros.h"
#include "core/base/thread_priority.h"
#include "core/exec/team.h"
#include "core/onnx/import.h"
#include "core/passes/pass.h"
#include "core/store/engine.h"

namespace halftone {
namespace {

absl::StatusOr<Graph> ImportPortable(const std::string& path) {
  HT_ASSIGN_OR_RETURN(Graph graph, ImportOnnxFile(path));
  HT_RETURN_IF_ERROR(RunPasses(graph, PortablePasses()));
  return graph;
}

// Builds the primitives and touches every weight, so that the first request finds what the second
// does. Where more than the batch is unknown, only requests know what to build.
void WarmUp(const std::string& variant_id, const std::shared_ptr<const Plan>& plan,
            const StoreObserver& observer) {
  for (const TensorSignature& input : plan->signature().inputs) {
    for (size_t i = 1; i < input.shape.size(); ++i) {
      if (!input.shape[i].known()) return;
    }
  }
  const absl::StatusOr<SampleSet> row = GenerateSamples(plan->signature(), 1);
  if (!row.ok()) return;  // requests can say what such a model takes
  std::vector<Shape> shapes;
  for (const Tensor& t : row->samples[0]) shapes.push_back(t.shape());
  if (absl::Status built = plan->Prepare(shapes); !built.ok()) {
    LOG(INFO) << "store: warm-up of a plan: " << built;
    return;
  }
  if (observer.warm_up && observer.warm_up(variant_id, plan, row->samples[0])) return;
  const absl::Time end = absl::Now() + absl::Seconds(5);
  const auto stop = [end] {
    return absl::Now() < end ? absl::OkStatus() : absl::DeadlineExceededError("warm-up");
  };
  const absl::Status status = Context(plan).Run(row->samples[0], stop).status();
  if (!status.ok()) LOG(INFO) << "store: warm-up of a plan: " << status;
}

}  // namespace

StoreEngine DefaultEngine(const ModelStoreOptions& options, const CpuFeatures& features) {
  StoreEngine engine;
  engine.import_model = ImportPortable;
  engine.open_model = [](const std::string& path) { return ImportOnnxFile(path); };
  engine.export_model = [](const Graph& graph, const auto& write) {
    return ExportOnnx(graph, {}, write);
  };
  engine.build = [features](const Graph& graph, const QuantSpec& spec, BuildOptions build) {
    build.features = features;
    return BuildVariant(graph, spec, build);
  };
  engine.predict = [features](const Graph& graph, const QuantSpec& spec, bool has_samples) {
    return PlanVariant(graph, spec, features, has_samples);
  };
  engine.load = [features, threads = options.threads_per_plan](
                    const std::string& path,
                    const QuantSpec& spec) -> absl::StatusOr<std::shared_ptr<const Plan>> {
    HT_ASSIGN_OR_RETURN(Graph graph, ImportOnnxFile(path));
    return Plan::Create(std::move(graph),
                        {.threads = threads, .compute = spec.compute, .features = features});
  };
  engine.warm_up = [observer = options.observer](const std::string& variant_id,
                                                 const std::shared_ptr<const Plan>& plan) {
    WarmUp(variant_id, plan, observer);
  };
  engine.memory = [](const Plan& plan) { return plan.memory(); };
  engine.release_memory = [] {
    EndTeamOfThisThread();
    malloc_trim(0);
  };
  engine.enter_build_lane = [threads = options.build_threads] {
    LowerPriorityOfThisThread();
    SetIntraOpThreads(threads);
  };
  engine.enter_load_lane = [threads = options.threads_per_plan] { SetIntraOpThreads(threads); };
  engine.isa_class = IsaClass(features);
  return engine;
}

absl::StatusOr<std::unique_ptr<ModelStore>> ModelStore::Open(ModelStoreOptions options) {
  StoreEngine engine = DefaultEngine(options);
  return Open(std::move(options),
              StoreEnvironment{
                  .engine = std::move(engine), .files = RealFileSystem(), .clock = RealClock()});
}

}  // namespace halftone
