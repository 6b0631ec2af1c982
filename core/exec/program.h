// A compiled specialisation: buffers and steps. Immutable once built; contexts bind it to their
// own memory and run the bound form.
#ifndef HALFTONE_CORE_EXEC_PROGRAM_H_
#define HALFTONE_CORE_EXEC_PROGRAM_H_

#include <cstddef>
#include <cstdint>
#include <dnnl.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/exec/plan.h"
#include "core/graph/graph.h"
#include "core/tensor/tensor.h"

namespace halftone {

using BufferId = int;

struct ProgramBuffer {
  enum class Kind : uint8_t {
    kArena,     // placed by the memory planner
    kInput,     // the caller's bytes of one run
    kConstant,  // weights, fixed
    kDynamic,   // a tensor whose shape only the run knows
  };
  Kind kind = Kind::kArena;
  int64_t bytes = 0;
  int64_t arena_offset = 0;
  // Bytes of another arena buffer, from `inside_offset` on; -1: a buffer of its own.
  BufferId inside = -1;
  int64_t inside_offset = 0;
  int input_index = -1;
  Tensor constant;
};

// What a step sees of one context: addresses that are valid during a run.
class Binding {
 public:
  Binding(dnnl::stream stream, std::vector<std::byte*> pointers, std::vector<Tensor> dynamic,
          std::byte* scratch)
      : stream_(std::move(stream)),
        pointers_(std::move(pointers)),
        dynamic_(std::move(dynamic)),
        scratch_(scratch) {}

  dnnl::stream& stream() { return stream_; }
  std::byte* pointer(BufferId id) const { return pointers_[id]; }
  template <typename T>
  T* as(BufferId id) const {
    return reinterpret_cast<T*>(pointers_[id]);
  }
  Tensor& dynamic(BufferId id) { return dynamic_[id]; }
  // Who sees the outputs of this run, see Context::Watch.
  void SetWatcher(const OutputWatcher* watcher) { watcher_ = watcher; }
  const OutputWatcher& watcher() const { return *watcher_; }
  // Shared by all steps: at least Program::scratch_bytes; its content does not survive a step.
  std::byte* scratch() const { return scratch_; }

  // A oneDNN memory for `id` from `byte_offset` on; follows the buffer when its address changes
  // between runs.
  dnnl::memory Memory(const dnnl::memory::desc& desc, BufferId id, int64_t byte_offset = 0);
  // For input buffers, before each run.
  void SetPointer(BufferId id, std::byte* p);

 private:
  dnnl::stream stream_;
  std::vector<std::byte*> pointers_;
  std::vector<Tensor> dynamic_;
  std::byte* scratch_;
  const OutputWatcher* watcher_ = nullptr;
  struct Follower {
    BufferId buffer;
    int64_t byte_offset;
    dnnl::memory memory;
  };
  std::vector<Follower> followers_;
};

using BoundStep = std::function<absl::Status()>;

struct Step {
  StepInfo info;
  // Called once per context; the result runs the step. The Binding outlives it.
  std::function<BoundStep(Binding&)> bind;
};

struct ProgramOutput {
  BufferId buffer = -1;
  DataType type = DataType::kF32;
  Shape shape;
  bool dynamic = false;
};

struct Program {
  Graph graph;                                       // the concrete graph that steps refer to
  std::vector<std::unique_ptr<const Graph>> nested;  // and its branches
  std::vector<ProgramBuffer> buffers;
  std::vector<Step> steps;
  std::vector<ProgramOutput> outputs;
  int64_t arena_bytes = 0;
  int64_t scratch_bytes = 0;
  // Constants that steps read in place, for accounting (bytes not owned by the weight store).
  int64_t inline_constant_bytes = 0;
};

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_PROGRAM_H_
