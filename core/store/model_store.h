// Which models and variants exist, who may use them, and what stays in memory.
//
//   HT_ASSIGN_OR_RETURN(auto store, ModelStore::Open({.directory = "/var/lib/halftone"}));
//   …upload…  store->Acquire("resnet", "int8", policy) → VariantHandle → handle.plan()
//
// On disk (content-addressed, survives kill -9 at any moment; see repository.h). In memory: loaded
// plans under a byte budget, least recently used and unused ones leave first and come back from
// disk when asked again. Building a variant is single flight: all callers share one build.
// Thread-safe.
#ifndef HALFTONE_CORE_STORE_MODEL_STORE_H_
#define HALFTONE_CORE_STORE_MODEL_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/exec/plan.h"
#include "core/quant/quant_spec.h"
#include "core/variant/build_variant.h"

namespace halftone {

enum class CacheEvent : uint8_t { kHit, kMiss, kLoad, kEvict, kBuild };

// Called without locks held, from any thread. All members may be empty. `variant` and `spec` are
// canonical spec texts, resolved: fit for metric labels.
struct StoreObserver {
  std::function<void(CacheEvent, const std::string& model, const std::string& variant)> cache_event;
  std::function<void(const std::string& spec, const absl::Status&, absl::Duration)> build_done;
  // Runs a plan that was just loaded and nobody has yet on generated inputs, where requests will be
  // run. Blocks the load lane. False: it could not, the load lane does it itself.
  std::function<bool(const std::string& variant_id, const std::shared_ptr<const Plan>&,
                     const std::vector<Tensor>& inputs)>
      warm_up;
};

struct ModelStoreOptions {
  std::string directory;
  int64_t resident_budget_bytes = int64_t{8} << 30;  // weights + packed of loaded plans
  int64_t max_upload_bytes = int64_t{16} << 30;
  int64_t disk_budget_bytes = int64_t{64} << 30;
  int threads_per_plan = 1;                         // intra-op threads of serving contexts
  int build_threads = 1;                            // the build lane's
  absl::Duration upload_ttl = absl::Hours(24 * 7);  // older unfinished uploads go at Open
  StoreObserver observer;
};

struct FileInfo {
  std::string name;  // "model.onnx" or an external-data file; plain file name, no folder
  int64_t bytes = 0;
  std::string sha256;  // lower-case hex; of the whole file
};

struct ModelInfo {
  std::string name;
  int version = 0;     // its n-th upload, from 1
  std::string digest;  // SHA-256 over the files' digests
  int64_t bytes = 0;   // uploaded
  absl::Time created;
  Signature signature;
  std::vector<std::string> calibration_sets;  // newest last
};

enum class VariantState : uint8_t { kBuilding, kStored, kLoaded, kFailed };

struct VariantInfo {
  std::string id;  // SHA-256 hex; short forms of >= 8 characters are accepted where unique
  std::string model;
  int version = 0;
  std::string spec;  // canonical text, resolved; "fp32" for the original
  VariantState state = VariantState::kStored;
  std::string error;  // kFailed
  int64_t disk_bytes = 0;
  PlanMemory memory;  // zero unless loaded
  absl::Time created;
};

// As long as it lives, the plan does. Move-only; cheap.
class VariantHandle {
 public:
  VariantHandle(VariantHandle&&) noexcept = default;
  VariantHandle& operator=(VariantHandle&&) noexcept = default;
  const std::shared_ptr<const Plan>& plan() const { return plan_; }
  const VariantInfo& info() const { return info_; }

 private:
  friend class ModelStore;
  VariantHandle(std::shared_ptr<const Plan> plan, VariantInfo info)
      : plan_(std::move(plan)), info_(std::move(info)) {}
  std::shared_ptr<const Plan> plan_;
  VariantInfo info_;
};

// What a request wants while its variant is not there yet.
enum class WhenMissing : uint8_t {
  kWait,         // until `deadline`, then DEADLINE_EXCEEDED; the build goes on
  kFallback,     // the fp32 variant answers now; the build starts in the background
  kUnavailable,  // UNAVAILABLE at once; the build starts in the background
};

struct StoreEnvironment;  // engine.h: what the store works with; tests replace it

class ModelStore {
 public:
  // Cleans leftovers of an interrupted process. DATA_LOSS never prevents opening: a damaged model
  // or variant is set aside, logged, and listed in `damaged()`.
  // FAILED_PRECONDITION when another process uses the directory.
  static absl::StatusOr<std::unique_ptr<ModelStore>> Open(ModelStoreOptions options);
  static absl::StatusOr<std::unique_ptr<ModelStore>> Open(ModelStoreOptions options,
                                                          StoreEnvironment environment);
  // Waits for builds to notice cancellation. Who still waits for a variant gets UNAVAILABLE.
  ~ModelStore();

  // --- uploads: resumable, kept on disk between attempts ---
  struct UploadStatus {
    std::string upload_id;                // derived from name and digests: equal headers resume
    std::vector<int64_t> received_bytes;  // parallel to the header's files
    bool complete = false;
  };
  // Model and file names: letters, digits, '.', '_' and '-', at most 128, not starting with '.';
  // exactly one file ends in ".onnx". INVALID_ARGUMENT for bad names or sizes, RESOURCE_EXHAUSTED
  // beyond max_upload_bytes or disk (says bytes needed and available). An upload that was finished
  // already is complete at once.
  absl::StatusOr<UploadStatus> BeginUpload(const std::string& model,
                                           const std::vector<FileInfo>& files);
  // Offset must equal what was received of that file so far (FAILED_PRECONDITION says both).
  // ABORTED when another call works on this upload; NOT_FOUND.
  absl::Status AppendUpload(const std::string& upload_id, int file_index, int64_t offset,
                            absl::Span<const std::byte> chunk);
  absl::StatusOr<UploadStatus> GetUpload(const std::string& upload_id) const;
  // Verifies digests (DATA_LOSS), imports (INVALID_ARGUMENT, UNIMPLEMENTED), stores the portable
  // fp32 graph; the uploaded bytes are not kept. FAILED_PRECONDITION while bytes are missing; after
  // any other failure nothing stays behind. An equal upload under the same name returns the
  // existing version. Computes: not for an RPC thread that must not block.
  absl::StatusOr<ModelInfo> FinishUpload(const std::string& upload_id);

  std::vector<ModelInfo> ListModels() const;
  absl::StatusOr<ModelInfo> GetModel(const std::string& name, int version = 0) const;  // 0: newest
  absl::Status DeleteModel(const std::string& name, int version = 0);  // 0: all versions

  // Stores samples under the model; they become the newest calibration set and replace one of the
  // same name. INVALID_ARGUMENT when they do not fit the newest version's signature,
  // RESOURCE_EXHAUSTED beyond 2 GiB or the disk.
  absl::Status PutCalibration(const std::string& model, const std::string& set_name,
                              std::vector<std::vector<Tensor>> samples);

  // --- variants ---
  // Where an `id` is asked for, a unique beginning of at least 8 digits or a spec text does too; a
  // spec means the newest version's variant.
  absl::StatusOr<PlanReport> PlanQuantization(const std::string& model,
                                              const QuantSpec& spec) const;
  // Builds (or joins, or finds) the variant and waits for it; `progress` is called from the build
  // lane. Cancelling the caller does not cancel a build that others wait for.
  absl::StatusOr<VariantInfo> Quantize(const std::string& model, const QuantSpec& spec,
                                       std::function<void(const Progress&)> progress,
                                       std::function<bool()> cancelled = {});
  std::vector<VariantInfo> ListVariants(const std::string& model = "") const;
  absl::StatusOr<VariantInfo> GetVariant(const std::string& model, const std::string& id) const;
  absl::StatusOr<VariantReport> GetReport(const std::string& model, const std::string& id) const;
  // Handles stay valid. FAILED_PRECONDITION for "fp32": that is the model itself.
  absl::Status DeleteVariant(const std::string& model, const std::string& id);
  // Paths of the variant's standard ONNX files, model.onnx first. Valid while it is not deleted.
  absl::StatusOr<std::vector<std::string>> VariantFiles(const std::string& model,
                                                        const std::string& id) const;
  // The variant's training form (core/variant/trainable.h) as standard ONNX files, model.onnx
  // first, in a folder of their own that goes with `keep`. The store must live longer. As
  // MakeTrainable and VariantFiles; RESOURCE_EXHAUSTED when the disk is full. Computes.
  struct TemporaryFiles {
    std::vector<std::string> paths;
    std::shared_ptr<const void> keep;
  };
  absl::StatusOr<TemporaryFiles> TrainingFiles(const std::string& model,
                                               const std::string& id) const;

  // Lends the plan of a variant: `variant` is a spec text, a variant id, or "" (the default: fp32).
  // Version 0 is the newest. A plan can leave memory only when no handle and no copy of its plan()
  // is held: keep them for a request, not for longer. Calls `done` exactly once, perhaps
  // before it returns, from the caller's or a store thread; `fell_back` is true when fp32 answers
  // instead. NOT_FOUND, INVALID_ARGUMENT, UNAVAILABLE, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED (says
  // bytes needed and available), or the build's own error.
  using AcquireCallback = std::function<void(absl::StatusOr<VariantHandle>, bool fell_back)>;
  void Acquire(const std::string& model, int version, const std::string& variant,
               WhenMissing policy, absl::Time deadline, AcquireCallback done);
  // The same, blocking.
  absl::StatusOr<VariantHandle> AcquireBlocking(const std::string& model, int version,
                                                const std::string& variant,
                                                absl::Time deadline = absl::InfiniteFuture());
  // Loaded plans now, for metrics.
  std::vector<VariantInfo> LoadedVariants() const;
  std::vector<std::string> damaged() const;

 private:
  class Impl;
  explicit ModelStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace halftone

#endif  // HALFTONE_CORE_STORE_MODEL_STORE_H_
