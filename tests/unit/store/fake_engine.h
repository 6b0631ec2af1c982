// A StoreEngine that does next to nothing, counts what it did, and waits when a test says so.
//
// A "model" is a text: how many bytes its weights have ("100"), or "bad …", which does not import,
// or "unknown …", which has an unknown operator. A built variant has half the bytes.
#ifndef HALFTONE_TESTS_UNIT_STORE_FAKE_ENGINE_H_
#define HALFTONE_TESTS_UNIT_STORE_FAKE_ENGINE_H_

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "core/base/file_system.h"
#include "core/store/engine.h"

namespace halftone {

// Threads pass while it is open. Open at first.
class Gate {
 public:
  void Close();
  void Open();
  // Waits for the gate to open or for `give_up`; false: gave up.
  bool Pass(const std::function<bool()>& give_up = {});
  // Returns when somebody waits in front of the closed gate.
  void AwaitSomebody();

 private:
  absl::Mutex mu_;
  bool open_ ABSL_GUARDED_BY(mu_) = true;
  int waiting_ ABSL_GUARDED_BY(mu_) = 0;
};

class FakeEngine {
 public:
  explicit FakeEngine(FileSystem& files) : files_(files) {}
  StoreEngine Table();

  Gate build_gate;
  Gate load_gate;
  std::atomic<int> imports{0};
  std::atomic<int> builds{0};
  std::atomic<int> loads{0};
  std::atomic<ComputeType> loaded_compute{ComputeType::kAuto};  // of the last load
  std::atomic<int64_t> growth{0};  // added to every plan's packed bytes
  std::atomic<bool> reports_progress{false};
  // Set before the first build: sees every build's options, from the build lane.
  std::function<void(const BuildOptions&)> on_build;

  void FailBuilds(absl::Status error);  // OK: they succeed again
  // Threads on which plans were destroyed, in order.
  std::vector<std::thread::id> destructions() const;
  std::vector<std::string> built_specs() const;
  std::vector<std::string> sample_digests() const;  // parallel; empty: no samples

 private:
  absl::StatusOr<Graph> Open(const std::string& path) const;
  absl::StatusOr<BuiltVariant> Build(const Graph& graph, const QuantSpec& spec,
                                     const BuildOptions& options);
  absl::StatusOr<std::shared_ptr<const Plan>> Load(const std::string& path);

  FileSystem& files_;
  mutable absl::Mutex mu_;
  absl::Status build_error_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread::id> destructions_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> built_specs_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> sample_digests_ ABSL_GUARDED_BY(mu_);
};

}  // namespace halftone

#endif  // HALFTONE_TESTS_UNIT_STORE_FAKE_ENGINE_H_
