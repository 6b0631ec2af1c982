// Graph → Plan → answers. The only part of Halftone that uses oneDNN.
//
//   HT_ASSIGN_OR_RETURN(std::shared_ptr<const Plan> plan, Plan::Create(std::move(graph), {}));
//   Context context(plan);                                  // one per thread
//   HT_ASSIGN_OR_RETURN(std::vector<Tensor> out, context.Run(inputs));
//
// A Plan is immutable for its users and shared by all threads: packed weights exist once. Per
// concrete input shape and number of threads it holds a *specialisation* (primitives, arena
// layout), built on demand, bounded by PlanOptions::max_specializations (least recently used goes
// first; those for other numbers of threads than PlanOptions::threads have a bound of their own)
// and shared too. The numbers that it computes do not depend on the number of threads.
// A Context is one thread's scratch: arena, scratchpad, widened weights. Thread-compatible.
#ifndef HALFTONE_CORE_EXEC_PLAN_H_
#define HALFTONE_CORE_EXEC_PLAN_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/exec/cpu_features.h"
#include "core/graph/graph.h"
#include "core/quant/quant_spec.h"
#include "core/tensor/tensor.h"

namespace halftone {

struct PlanOptions {
  int threads = 1;  // intra-op threads of its contexts, unless they say otherwise
  int max_specializations = 8;
  // A batch whose activations need more than this runs in parts of as many rows as fit, where the
  // rows are independent of each other: one after the other in caches is faster than all at once
  // in memory, and a large batch does not need a large arena. Parts that threads of a team run at
  // once (see batch_parts.h) share it. 0: as the CPU's caches want it.
  int64_t max_batch_bytes = 0;
  // kAuto: in bf16 whatever is stored as bf16. kF32: nothing in bf16. kBF16: whatever is stored as
  // bf16 or f32. kTf32: f32 as oneDNN's math mode allows. Where the CPU has no such instructions it
  // is f32.
  ComputeType compute = ComputeType::kAuto;
  // f16 and bf16 constants that together take no more, and compute in f32, are widened once, when
  // they are packed: what that costs in memory is nothing beside a run's own, and widening them in
  // every run is a visible share of so small a model's time. 0: they stay narrow.
  int64_t max_widened_bytes = int64_t{1} << 20;
  // For Context::Watch instead of Run: an output's memory is used again as soon as it was shown.
  bool show_outputs = false;
  // What decisions may count on: this CPU's, or less. It must have what they say.
  CpuFeatures features = DetectCpuFeatures();
};

// Sees output `index` of the graph. The value is gone when it returns: the tensor borrows bytes.
using OutputWatcher = std::function<void(int index, const Tensor& value)>;

// Bytes that a plan keeps resident. Contexts report their own arena.
struct PlanMemory {
  int64_t weight_bytes = 0;  // constants read at run time as they are
  int64_t packed_bytes = 0;  // weights in the layout that primitives want
  // Of weight_bytes, what steps read: all that is left once the constants are mapped from a file.
  int64_t in_place_bytes = 0;
};

// What happens to one node of the graph, for dumps, reports and profiles.
struct StepInfo {
  std::string node;            // first node's name
  std::string op;              // "Conv+Relu"
  std::string rule;            // lowering rule: "conv", "matmul", "elementwise", "reference", …
  std::string implementation;  // oneDNN's implementation name, or ours
  std::string precision;       // "f32", "bf16", "u8s8", "f16 weights, f32 compute", …
  std::string detail;          // rejected rules and why; empty when the first choice ran
  // Of the buffers that it reads and writes, each once: activations, results, weights as they are
  // stored. What a step reads of a part of a buffer counts as the whole; scratch does not count.
  int64_t bytes = 0;
  double seconds = 0;  // total over the profiled runs
};

class Specialization;
struct PlanImpl;

class Plan {
 public:
  // Requires a verified graph with inferred types, after the portable passes. Builds nothing for a
  // shape yet except when every input shape is static: then the weights are packed here and errors
  // appear here. RESOURCE_EXHAUSTED when memory is short, UNIMPLEMENTED, INTERNAL.
  static absl::StatusOr<std::shared_ptr<const Plan>> Create(Graph graph, PlanOptions options);
  ~Plan();

  const Signature& signature() const;
  const PlanOptions& options() const;
  PlanMemory memory() const;
  // Builds the specialisation for these input shapes now, so that the first Run is not the slow
  // one; `threads` 0: PlanOptions::threads.
  absl::Status Prepare(absl::Span<const Shape> input_shapes, int threads = 0) const;
  // Forgets the specialisation for a number of threads other than PlanOptions::threads. Contexts
  // give it up with their next run; then the weights that only it wanted are gone, too.
  void Drop(absl::Span<const Shape> input_shapes, int threads) const;
  // How each node runs for these input shapes. Of a batch that runs in parts: a line that says so,
  // then the nodes of the largest part.
  absl::StatusOr<std::vector<StepInfo>> Describe(absl::Span<const Shape> input_shapes) const;

 private:
  friend class Context;
  explicit Plan(std::unique_ptr<PlanImpl> impl);
  std::unique_ptr<PlanImpl> impl_;
};

class Context {
 public:
  explicit Context(std::shared_ptr<const Plan> plan);
  Context(Context&&) noexcept;
  Context& operator=(Context&&) noexcept;
  ~Context();

  // Inputs in signature order. InvalidArgument when type or shape does not fit the signature.
  // The results own their bytes. `stop`, if given, is asked between steps and inside of loops; an
  // error ends the run with it.
  absl::StatusOr<std::vector<Tensor>> Run(absl::Span<const Tensor> inputs,
                                          const std::function<absl::Status()>& stop = nullptr);
  // The same run, for a plan with PlanOptions::show_outputs: each output is shown once, in the
  // order in which they are computed, and none is kept. So thousands of values can be outputs of a
  // graph.
  absl::Status Watch(absl::Span<const Tensor> inputs, const OutputWatcher& show,
                     const std::function<absl::Status()>& stop = nullptr);
  // How many threads the next runs use, the calling one included; 0: PlanOptions::threads. All of
  // a context's programs share its arena.
  void SetThreads(int threads);
  // Bytes of arena and scratch that this context holds now.
  int64_t arena_bytes() const;
  // Per-step times accumulate from here on, from zero. Costs a clock read per step. Of a batch that
  // runs in parts, the times of the parts that are as large as the last one.
  void EnableProfile();
  std::vector<StepInfo> Profile() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Threads that oneDNN and our kernels use on the *calling* thread from now on, outside of
// contexts: those set their own for each run.
void SetIntraOpThreads(int threads);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_PLAN_H_
