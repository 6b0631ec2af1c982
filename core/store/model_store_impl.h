// Inside of the store: the catalogue in memory, and the two lanes that change it.
//
//   build lane  low priority; imports, quantizes, stores: one variant at a time
//   load lane   loads and evicts plans; the only thread that destroys them as a rule
//   deadlines   fails waiters whose time is over
//
// A variant's life:   absent → building → stored ⇄ loaded       (building → absent: failed)
//
// Locks, in the order in which they may nest: import_mu_ (one import at a time), disk_mu_ (renames
// and removals in the repository), mu_ (the catalogue; no I/O and no callback under it).
#ifndef HALFTONE_CORE_STORE_MODEL_STORE_IMPL_H_
#define HALFTONE_CORE_STORE_MODEL_STORE_IMPL_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "core/store/deadline_queue.h"
#include "core/store/engine.h"
#include "core/store/eviction_policy.h"
#include "core/store/model_store.h"
#include "core/store/repository.h"
#include "core/store/upload_area.h"
#include "core/store/variant_id.h"

namespace halftone {

// What must happen after mu_ is released: callbacks to run, memory to free.
class Deferred {
 public:
  void Call(absl::AnyInvocable<void()> call) { calls_.push_back(std::move(call)); }
  void Free(std::shared_ptr<const void> object) { garbage_.push_back(std::move(object)); }
  bool frees() const { return !garbage_.empty(); }
  void Run() {
    garbage_.clear();
    for (auto& call : calls_) call();
    calls_.clear();
  }

 private:
  std::vector<std::shared_ptr<const void>> garbage_;
  std::vector<absl::AnyInvocable<void()>> calls_;
};

// Handles share it: while somebody else does, the plan is in use. Readers of metrics hold the plan
// itself and so do not count.
struct Lease {
  std::shared_ptr<const Plan> plan;
};

struct Waiter {
  uint64_t id = 0;
  DeadlineQueue::Ticket ticket;
  ModelStore::AcquireCallback done;
  bool fell_back = false;
};

// One caller of Quantize. Its own lock makes sure that progress is not called after it left.
class BuildListener {
 public:
  explicit BuildListener(std::function<void(const Progress&)> progress)
      : progress_(std::move(progress)) {}

  void Report(const Progress& progress) ABSL_LOCKS_EXCLUDED(mu_);
  void Finish(absl::Status status) ABSL_LOCKS_EXCLUDED(mu_);
  // The result, or nullopt at `until`.
  std::optional<absl::Status> Await(const Clock& clock, absl::Time until) ABSL_LOCKS_EXCLUDED(mu_);
  void Leave() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  absl::Mutex mu_;
  std::function<void(const Progress&)> progress_ ABSL_GUARDED_BY(mu_);
  bool done_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

struct Flight;

enum class Stage : uint8_t { kAbsent, kBuilding, kStored, kLoaded };

struct Variant {
  // Constant after creation.
  std::string id;
  std::string model;
  int version = 0;
  std::string text;  // canonical spec
  QuantSpec spec;
  std::string calibration_digest;  // empty: needs none
  std::string folder;
  bool is_original = false;

  // Guarded by the store's mu_.
  Stage stage = Stage::kAbsent;
  bool removed = false;       // from the catalogue: nothing may happen to it any more
  bool wanted = false;        // to be loaded
  uint64_t wanted_since = 0;  // tick
  uint64_t last_used = 0;     // tick
  bool rebuilt = false;       // once already, because its files were damaged
  absl::Status error;         // of the last build
  absl::Time created;
  int64_t disk_bytes = 0;
  int64_t resident_bytes = 0;  // estimated until it was loaded once
  PlanMemory memory;
  std::shared_ptr<const Lease> lease;      // kLoaded
  std::shared_ptr<const Lease> candidate;  // loaded, not yet admitted to the budget
  std::vector<Waiter> waiters;
  std::shared_ptr<Flight> flight;  // kBuilding
};
using VariantPtr = std::shared_ptr<Variant>;

// One build that all interested callers share.
struct Flight {
  VariantPtr variant;
  std::atomic<bool> cancelled = false;
  // Guarded by the store's mu_.
  bool keep = false;        // somebody other than the listeners wants it: never cancel for them
  bool committing = false;  // too late to cancel
  std::vector<std::shared_ptr<BuildListener>> listeners;
};
using FlightPtr = std::shared_ptr<Flight>;

struct Version {
  StoredModel stored;
  VariantPtr original;
  std::map<std::string, VariantPtr> variants;  // by id, the original included
  // What callers said → what it means now. Emptied whenever a meaning may change.
  absl::flat_hash_map<std::string, VariantPtr> aliases;
};

struct Family {
  std::map<int, Version> versions;             // never empty
  std::vector<StoredCalibration> calibration;  // newest last

  std::vector<CalibrationRef> Sets() const;
  bool HasCalibration(const std::string& digest) const;
};

struct Upload {
  UploadHeader header;
  std::vector<int64_t> received;
  bool busy = false;  // a call works on its files
};

class ModelStore::Impl {
 public:
  Impl(ModelStoreOptions options, StoreEnvironment environment,
       std::unique_ptr<Repository> repository);
  ~Impl();
  // Fills the catalogue from the repository and starts the lanes.
  void Start();

  // uploads.cc
  absl::StatusOr<UploadStatus> BeginUpload(const std::string& model, std::vector<FileInfo> files);
  absl::Status AppendUpload(const std::string& id, int file_index, int64_t offset,
                            absl::Span<const std::byte> chunk);
  absl::StatusOr<UploadStatus> GetUpload(const std::string& id);
  absl::StatusOr<ModelInfo> FinishUpload(const std::string& id);

  // catalogue.cc
  std::vector<ModelInfo> ListModels();
  absl::StatusOr<ModelInfo> GetModel(const std::string& name, int version);
  absl::Status DeleteModel(const std::string& name, int version);
  absl::Status PutCalibration(const std::string& model, const std::string& set_name,
                              const Samples& samples);
  absl::StatusOr<PlanReport> PlanQuantization(const std::string& model, const QuantSpec& spec);
  std::vector<VariantInfo> ListVariants(const std::string& model);
  absl::StatusOr<VariantInfo> GetVariant(const std::string& model, const std::string& id);
  absl::StatusOr<VariantReport> GetReport(const std::string& model, const std::string& id);
  absl::Status DeleteVariant(const std::string& model, const std::string& id);
  absl::StatusOr<std::vector<std::string>> VariantFiles(const std::string& model,
                                                        const std::string& id);
  absl::StatusOr<TemporaryFiles> TrainingFiles(const std::string& model, const std::string& id);
  std::vector<std::string> damaged();

  // acquire.cc
  void Acquire(const std::string& model, int version, const std::string& text, WhenMissing policy,
               absl::Time deadline, AcquireCallback done);

  // build_lane.cc
  absl::StatusOr<VariantInfo> Quantize(const std::string& model, const QuantSpec& spec,
                                       std::function<void(const Progress&)> progress,
                                       const std::function<bool()>& cancelled);

  // load_lane.cc
  std::vector<VariantInfo> LoadedVariants();

 private:
  // --- catalogue.cc ---
  absl::StatusOr<Family*> FindFamily(const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<Version*> FindVersion(const std::string& name, int version)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // By id, beginning of one, or spec text. NOT_FOUND unless it would be listed.
  absl::StatusOr<VariantPtr> FindListed(const std::string& model, const std::string& id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // As above; FAILED_PRECONDITION unless its files are there.
  absl::StatusOr<VariantPtr> FindOnDisk(const std::string& model, const std::string& id)
      ABSL_LOCKS_EXCLUDED(mu_);
  ModelInfo InfoOf(const Family& family, const Version& version) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  VariantInfo InfoOf(const Variant& v) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Version MakeVersion(StoredModel stored);
  // Takes the variant out of the catalogue: cancels its build, fails its waiters.
  void Remove(const VariantPtr& v, const absl::Status& why, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RemoveVersion(const std::string& name, int version, const absl::Status& why, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // A bundle whose bytes are wrong: moves it away and takes it out of the catalogue. A variant that
  // can be built again is, once, for those who wait.
  void SetAside(const VariantPtr& v, const absl::Status& why) ABSL_LOCKS_EXCLUDED(mu_, disk_mu_);
  bool CanBuild(const Variant& v) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // --- disk_space.cc ---
  int64_t DiskUsed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Drops stored variants that can be built again until `budget_bytes` more fit into the disk
  // budget and `disk_bytes` more onto the disk. RESOURCE_EXHAUSTED, then nothing is dropped.
  absl::Status MakeRoom(int64_t budget_bytes, int64_t disk_bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(disk_mu_) ABSL_LOCKS_EXCLUDED(mu_);

  // --- acquire.cc ---
  // The variant whose id begins with `text`: NOT_FOUND, INVALID_ARGUMENT when there are several.
  static absl::StatusOr<VariantPtr> FindById(const Version& version, const std::string& text);
  // What `text` means for the model now; adds the variant to the catalogue when it is new.
  absl::StatusOr<VariantPtr> Resolve(const std::string& model, int version, const std::string& text)
      ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<VariantPtr> ResolveSpecFor(const std::string& model, int version,
                                            const QuantSpec& spec)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Want(const VariantPtr& v) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AddWaiter(const VariantPtr& v, absl::Time deadline, AcquireCallback done, bool fell_back)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Lend(const VariantPtr& v, WhenMissing policy, absl::Time deadline, AcquireCallback done,
            Deferred& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  VariantHandle MakeHandle(Variant& v) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AnswerWaiters(Variant& v, Deferred& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FailWaiters(Variant& v, const absl::Status& why, Deferred& after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Expire(const VariantPtr& v, uint64_t waiter_id) ABSL_LOCKS_EXCLUDED(mu_);
  void Notify(CacheEvent event, const std::string& model, const std::string& text) const;

  // --- build_lane.cc ---
  void StartBuild(const VariantPtr& v) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RunBuildLane() ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<StoredVariant> Build(const FlightPtr& flight) ABSL_LOCKS_EXCLUDED(mu_);
  // The set that the variant needs, else the newest that fits (for the report), else none.
  absl::StatusOr<std::optional<SampleSet>> SamplesFor(const Variant& v) ABSL_LOCKS_EXCLUDED(mu_);
  // Ranges cached beside the model's set with this digest, as long as it is there.
  CalibrationCache CacheBeside(const std::string& model, const std::string& set_digest);
  std::optional<std::string> FolderOfSet(const std::string& model, const std::string& set_digest)
      ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status CommitVariant(const FlightPtr& flight, BundleWriter& bundle)
      ABSL_LOCKS_EXCLUDED(mu_, disk_mu_);
  void FinishBuild(const FlightPtr& flight, const absl::StatusOr<StoredVariant>& result,
                   absl::Duration duration) ABSL_LOCKS_EXCLUDED(mu_);
  void ForgetOldFailures(Version& version, Deferred& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ReportProgress(const FlightPtr& flight, const Progress& progress) ABSL_LOCKS_EXCLUDED(mu_);
  void LeaveBuild(const VariantPtr& v, const std::shared_ptr<BuildListener>& listener)
      ABSL_LOCKS_EXCLUDED(mu_);

  // --- load_lane.cc ---
  void RunLoadLane() ABSL_LOCKS_EXCLUDED(mu_);
  // Asks the loaded plans, which grow with the shapes that they meet, for their size now. May wait
  // for the plans' own locks.
  void RefreshMemory() ABSL_LOCKS_EXCLUDED(mu_);
  // Performs the next action that needs no I/O; returns the variant to load if that is next.
  VariantPtr StepLoadLane(Deferred& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Load(const VariantPtr& v) ABSL_LOCKS_EXCLUDED(mu_);
  void PokeLoadLane() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // --- uploads.cc ---
  absl::StatusOr<ModelInfo> ImportUpload(const UploadHeader& header)
      ABSL_LOCKS_EXCLUDED(mu_, disk_mu_, import_mu_);
  std::optional<ModelInfo> FindFinished(const std::string& upload_id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Marks the upload as being worked on; ABORTED when it is already.
  absl::StatusOr<Upload*> ClaimUpload(const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const ModelStoreOptions options_;
  const StoreEngine engine_;
  const Clock& clock_;
  const std::unique_ptr<Repository> repository_;
  UploadArea upload_area_;

  absl::Mutex import_mu_;
  absl::Mutex disk_mu_ ABSL_ACQUIRED_AFTER(import_mu_);
  absl::Mutex mu_ ABSL_ACQUIRED_AFTER(disk_mu_);
  absl::flat_hash_map<std::string, Family> families_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, Upload> uploads_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> damaged_ ABSL_GUARDED_BY(mu_);
  uint64_t tick_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::deque<FlightPtr> build_queue_ ABSL_GUARDED_BY(mu_);
  FlightPtr building_ ABSL_GUARDED_BY(mu_);
  absl::CondVar build_cv_;
  bool load_poked_ ABSL_GUARDED_BY(mu_) = false;
  absl::CondVar load_cv_;

  DeadlineQueue deadlines_;
  std::thread build_lane_;
  std::thread load_lane_;
};

}  // namespace halftone

#endif  // HALFTONE_CORE_STORE_MODEL_STORE_IMPL_H_
