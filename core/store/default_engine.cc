#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

#include "absl/log/log.h"
#include "core/base/status_macros.h"
#include "core/onnx/import.h"
#include "core/passes/pass.h"
#include "core/store/engine.h"

namespace halftone {
namespace {

// Live traffic goes first; threads that this one starts inherit it.
void LowerPriorityOfThisThread() {
  const id_t thread = static_cast<id_t>(syscall(SYS_gettid));
  if (setpriority(PRIO_PROCESS, thread, 10) != 0) PLOG(WARNING) << "store: setpriority";
}

absl::StatusOr<Graph> ImportPortable(const std::string& path) {
  HT_ASSIGN_OR_RETURN(Graph graph, ImportOnnxFile(path));
  HT_RETURN_IF_ERROR(RunPasses(graph, PortablePasses()));
  return graph;
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
  engine.memory = [](const Plan& plan) { return plan.memory(); };
  engine.enter_build_lane = [threads = options.build_threads] {
    LowerPriorityOfThisThread();
    SetIntraOpThreads(threads);
  };
  engine.enter_load_lane = [threads = options.build_threads] { SetIntraOpThreads(threads); };
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
