// The heavy work that the store delegates: a table of functions, so that tests of the store's
// decisions need neither models nor oneDNN.
#ifndef HALFTONE_CORE_STORE_ENGINE_H_
#define HALFTONE_CORE_STORE_ENGINE_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/clock.h"
#include "core/base/file_system.h"
#include "core/exec/cpu_features.h"
#include "core/exec/plan.h"
#include "core/graph/graph.h"
#include "core/onnx/export.h"
#include "core/quant/quant_spec.h"
#include "core/store/model_store.h"
#include "core/variant/build_variant.h"

namespace halftone {

// Every function is called from one or more of the store's or its callers' threads, never under a
// lock of the store except `memory`'s caller's own.
struct StoreEngine {
  // An uploaded .onnx (external data beside it) → portable graph.
  std::function<absl::StatusOr<Graph>(const std::string& onnx_path)> import_model;
  // A stored file → graph, weights mapped.
  std::function<absl::StatusOr<Graph>(const std::string& onnx_path)> open_model;
  std::function<absl::StatusOr<ExportedModel>(
      const Graph&, const std::function<absl::Status(absl::string_view)>& write)>
      export_model;
  std::function<absl::StatusOr<BuiltVariant>(const Graph&, const QuantSpec&, const BuildOptions&)>
      build;
  std::function<absl::StatusOr<PlanReport>(const Graph&, const QuantSpec&, bool has_samples)>
      predict;
  // A stored file → plan, which computes as the variant's spec says.
  std::function<absl::StatusOr<std::shared_ptr<const Plan>>(const std::string& onnx_path,
                                                            const QuantSpec& spec)>
      load;
  std::function<PlanMemory(const Plan&)> memory;
  // Runs a plan that was just loaded, so that the first request finds what later ones do. From the
  // load lane, before anybody gets the plan. May be empty.
  std::function<void(const std::string& variant_id, const std::shared_ptr<const Plan>&)> warm_up;
  // Gives freed memory, and threads that wait for more work, back to the system: on the thread that
  // had them, after builds, loads and evictions. May be empty.
  std::function<void()> release_memory;
  // First call on the respective thread: priority, intra-op threads.
  std::function<void()> enter_build_lane;
  std::function<void()> enter_load_lane;
  std::string isa_class;
};

// Import, passes, quantizer and executor of this program. `features`: what builds and plans count
// on; this CPU's or less.
StoreEngine DefaultEngine(const ModelStoreOptions& options,
                          const CpuFeatures& features = DetectCpuFeatures());

struct StoreEnvironment {
  StoreEngine engine;
  FileSystem& files;   // outlives the store
  const Clock& clock;  // outlives the store
};

}  // namespace halftone

#endif  // HALFTONE_CORE_STORE_ENGINE_H_
