#include "core/exec/plan.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <list>

#include "absl/container/flat_hash_map.h"
#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "core/base/checked_math.h"
#include "core/base/status_macros.h"
#include "core/exec/lowering.h"
#include "core/exec/program.h"
#include "core/exec/target_rewrites.h"
#include "core/ops/eval_budget.h"
#include "core/ops/evaluate.h"

namespace halftone {

// One specialisation; contexts that use it keep it alive after it left the cache.
class Specialization {
 public:
  explicit Specialization(std::unique_ptr<Program> program) : program_(std::move(program)) {}
  const Program& program() const { return *program_; }

 private:
  const std::unique_ptr<Program> program_;
};

namespace {

using SpecializationPtr = std::shared_ptr<const Specialization>;
using ShapeKey = std::string;

ShapeKey KeyOf(absl::Span<const Shape> shapes) {
  return absl::StrJoin(shapes, ";", [](std::string* out, const Shape& s) {
    absl::StrAppend(out, absl::StrJoin(s, ","));
  });
}

// Bounded, least recently used first out.
class SpecializationCache {
 public:
  explicit SpecializationCache(size_t capacity) : capacity_(std::max<size_t>(capacity, 1)) {}

  SpecializationPtr Find(const ShapeKey& key) {
    const auto it = entries_.find(key);
    if (it == entries_.end()) return nullptr;
    order_.splice(order_.begin(), order_, it->second.position);
    return it->second.value;
  }
  void Insert(const ShapeKey& key, SpecializationPtr value) {
    if (entries_.contains(key)) return;
    order_.push_front(key);
    entries_[key] = {std::move(value), order_.begin()};
    while (entries_.size() > capacity_) {
      entries_.erase(order_.back());
      order_.pop_back();
    }
  }

 private:
  struct Entry {
    SpecializationPtr value;
    std::list<ShapeKey>::iterator position;
  };
  const size_t capacity_;
  std::list<ShapeKey> order_;  // most recently used first
  absl::flat_hash_map<ShapeKey, Entry> entries_;
};

// Of one value; beyond any memory.
constexpr int64_t kMaxElements = int64_t{1} << 40;

absl::Status CheckShape(const TensorSignature& want, const Shape& got,
                        absl::flat_hash_map<std::string, int64_t>& symbols) {
  const auto error = [&](absl::string_view detail) {
    return absl::InvalidArgumentError(absl::StrCat("input '", want.name, "': got shape ",
                                                   ToString(absl::MakeConstSpan(got)), ", want ",
                                                   ToString(SymbolicShape(want.shape)), detail));
  };
  if (got.size() != want.shape.size()) return error("");
  for (size_t i = 0; i < got.size(); ++i) {
    const Dim& d = want.shape[i];
    if (d.known() ? d.value != got[i] : got[i] < 0) return error("");
    if (d.known() || d.symbol.empty()) continue;
    const auto [it, inserted] = symbols.try_emplace(d.symbol, got[i]);
    if (!inserted && it->second != got[i]) {
      return error(absl::StrCat(", and '", d.symbol, "' is ", it->second, " in another input"));
    }
  }
  return absl::OkStatus();
}

// What building may evaluate: weights unpack, but a tiny file must not ask for gigabytes.
EvalBudget BuildBudget(const Graph& graph) {
  int64_t constants = 0;
  for (const Value* v : graph.values()) {
    if (v->is_constant()) constants += v->constant().num_bytes();
  }
  // Weights of one bit are evaluated as i32 when they are packed.
  return {.work = (1 << 25) + 256 * constants, .bytes = (int64_t{256} << 20) + 128 * constants};
}

// Sizes below can be added, multiplied by an element size and aligned without overflow.
absl::Status CheckSizes(const Graph& graph) {
  for (const Value* v : graph.values()) {
    const std::optional<Shape> shape = Concrete(v->type().shape);
    if (!shape) continue;
    const absl::StatusOr<int64_t> elements = NumElements(*shape);
    if (!elements.ok()) return Annotate(elements.status(), absl::StrCat("'", v->name(), "'"));
    if (*elements > kMaxElements) {
      return absl::ResourceExhaustedError(absl::StrCat("'", v->name(), "' has ", *elements,
                                                       " elements, the limit is ", kMaxElements));
    }
  }
  return absl::OkStatus();
}

}  // namespace

struct PlanImpl {
  PlanImpl(Graph g, Signature s, PlanOptions o)
      : graph(std::move(g)),
        signature(std::move(s)),
        options(o),
        cache(static_cast<size_t>(o.max_specializations)) {}

  absl::StatusOr<SpecializationPtr> Specialize(absl::Span<const Shape> shapes);
  absl::StatusOr<SpecializationPtr> BuildLocked(absl::Span<const Shape> shapes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(build_mu);

  const Graph graph;
  const Signature signature;
  const PlanOptions options;
  WeightStore weights;
  absl::Mutex build_mu;  // one specialisation is built at a time; lookups do not wait for it
  absl::Mutex mu;
  SpecializationCache cache ABSL_GUARDED_BY(mu);
  int64_t inline_constant_bytes ABSL_GUARDED_BY(mu) = 0;
};

absl::StatusOr<SpecializationPtr> PlanImpl::BuildLocked(absl::Span<const Shape> shapes) {
  const ScopedEvalBudget budget(BuildBudget(graph));
  Graph concrete = graph.Clone();
  for (size_t i = 0; i < shapes.size(); ++i) {
    Value* v = concrete.inputs()[i];
    v->set_type({v->type().type, Symbolic(shapes[i])});
  }
  // The file's symbolic shapes of inner values must give way to what these inputs imply.
  for (Value* v : concrete.values()) {
    if (v->producer() != nullptr) v->set_type({v->type().type, std::nullopt});
  }
  HT_RETURN_IF_ERROR(InferShapes(concrete));
  concrete.RemoveUnused();
  HT_RETURN_IF_ERROR(CheckSizes(concrete));
  ProgramBuilder builder(std::move(concrete),
                         {.features = options.features,
                          .threads = options.threads,
                          .compute = options.compute,
                          .show_outputs = options.show_outputs},
                         weights);
  HT_ASSIGN_OR_RETURN(std::unique_ptr<Program> program, builder.Build());
  return std::make_shared<const Specialization>(std::move(program));
}

absl::StatusOr<SpecializationPtr> PlanImpl::Specialize(absl::Span<const Shape> shapes) {
  const ShapeKey key = KeyOf(shapes);
  {
    absl::MutexLock lock(&mu);
    if (auto found = cache.Find(key)) return found;
  }
  absl::MutexLock build_lock(&build_mu);
  {
    absl::MutexLock lock(&mu);
    if (auto found = cache.Find(key)) return found;  // built while this thread waited
  }
  absl::flat_hash_map<std::string, int64_t> symbols;
  for (size_t i = 0; i < shapes.size(); ++i) {
    HT_RETURN_IF_ERROR(CheckShape(signature.inputs[i], shapes[i], symbols));
  }
  HT_ASSIGN_OR_RETURN(SpecializationPtr built, BuildLocked(shapes));
  absl::MutexLock lock(&mu);
  inline_constant_bytes = std::max(inline_constant_bytes, built->program().inline_constant_bytes);
  cache.Insert(key, built);
  return built;
}

Plan::Plan(std::unique_ptr<PlanImpl> impl) : impl_(std::move(impl)) {}
Plan::~Plan() = default;

absl::StatusOr<std::shared_ptr<const Plan>> Plan::Create(Graph graph, PlanOptions options) {
  HT_ASSIGN_OR_RETURN(Signature signature, SignatureOf(graph));
  HT_RETURN_IF_ERROR(graph.SortTopologically());
  HT_RETURN_IF_ERROR(Annotate(RewriteForTarget(graph), "target rewrites"));
  auto impl = std::make_unique<PlanImpl>(std::move(graph), std::move(signature), options);
  std::vector<Shape> shapes;
  for (const TensorSignature& input : impl->signature.inputs) {
    const auto shape = Concrete(SymbolicShape(input.shape));
    if (!shape) break;
    shapes.push_back(*shape);
  }
  if (shapes.size() == impl->signature.inputs.size()) {
    HT_RETURN_IF_ERROR(impl->Specialize(shapes).status());
  }
  return std::shared_ptr<const Plan>(new Plan(std::move(impl)));
}

const Signature& Plan::signature() const { return impl_->signature; }
const PlanOptions& Plan::options() const { return impl_->options; }

PlanMemory Plan::memory() const {
  PlanMemory m;
  m.packed_bytes = impl_->weights.total_bytes();
  // Constants in anonymous memory stay resident whether or not a step reads them; those of a
  // mapped file only as far as they are read.
  int64_t heap = 0;
  for (const Value* v : impl_->graph.values()) {
    if (!v->is_constant()) continue;
    const auto& buffer = v->constant().buffer();
    if (buffer != nullptr && !buffer->is_file_mapping()) heap += v->constant().num_bytes();
  }
  absl::MutexLock lock(&impl_->mu);
  m.in_place_bytes = impl_->inline_constant_bytes;
  m.weight_bytes = std::max(heap, impl_->inline_constant_bytes);
  return m;
}

absl::Status Plan::Prepare(absl::Span<const Shape> input_shapes) const {
  if (input_shapes.size() != impl_->signature.inputs.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "got ", input_shapes.size(), " input shapes, want ", impl_->signature.inputs.size()));
  }
  return impl_->Specialize(input_shapes).status();
}

absl::StatusOr<std::vector<StepInfo>> Plan::Describe(absl::Span<const Shape> input_shapes) const {
  HT_RETURN_IF_ERROR(Prepare(input_shapes));
  HT_ASSIGN_OR_RETURN(const SpecializationPtr s, impl_->Specialize(input_shapes));
  std::vector<StepInfo> out;
  for (const Step& step : s->program().steps) out.push_back(step.info);
  return out;
}

namespace {

// A program bound to one context's memory.
struct Instance {
  SpecializationPtr specialization;
  std::unique_ptr<Binding> binding;
  std::vector<BoundStep> steps;
  std::vector<double> seconds;
  uint64_t last_used = 0;
};

}  // namespace

struct Context::Impl {
  explicit Impl(std::shared_ptr<const Plan> p) : plan(std::move(p)), stream(CpuEngine()) {}

  absl::StatusOr<Instance*> Prepare(absl::Span<const Tensor> inputs);
  absl::StatusOr<Instance*> Bind(const SpecializationPtr& specialization);
  absl::Status Reserve(std::shared_ptr<Buffer>& buffer, int64_t bytes);
  void ReleaseUnused(const Program& program);
  absl::Status Execute(Instance& instance, absl::Span<const Tensor> inputs, const StopFn& stop);
  absl::StatusOr<std::vector<Tensor>> CopyOutputs(Instance& instance);

  std::shared_ptr<const Plan> plan;
  dnnl::stream stream;
  std::shared_ptr<Buffer> arena, scratch;
  absl::flat_hash_map<const Specialization*, Instance> instances;
  uint64_t runs = 0;
  // The largest need within the current window of runs, see ReleaseUnused.
  int64_t window_arena = 0, window_scratch = 0;
  bool profile = false;
  const Instance* profiled = nullptr;
};

absl::Status Context::Impl::Reserve(std::shared_ptr<Buffer>& buffer, int64_t bytes) {
  if (buffer != nullptr && static_cast<int64_t>(buffer->size()) >= bytes) return absl::OkStatus();
  instances.clear();  // they point into the old memory
  profiled = nullptr;
  buffer = Buffer::Allocate(static_cast<size_t>(std::max<int64_t>(bytes, 64)));
  if (buffer == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot allocate an arena of ", bytes, " bytes"));
  }
  return absl::OkStatus();
}

// One large batch must not pin its arena for ever: every kWindow runs, memory beyond twice of what
// they needed goes back to the system.
void Context::Impl::ReleaseUnused(const Program& program) {
  constexpr uint64_t kWindow = 64;
  constexpr int64_t kSlackBytes = int64_t{4} << 20;
  window_arena = std::max(window_arena, program.arena_bytes);
  window_scratch = std::max(window_scratch, program.scratch_bytes);
  if (runs % kWindow != 0) return;
  const auto wasteful = [&](const std::shared_ptr<Buffer>& buffer, int64_t needed) {
    return buffer != nullptr && static_cast<int64_t>(buffer->size()) > 2 * needed + kSlackBytes;
  };
  if (wasteful(arena, window_arena) || wasteful(scratch, window_scratch)) {
    instances.clear();
    profiled = nullptr;
    arena = nullptr;
    scratch = nullptr;
  }
  window_arena = window_scratch = 0;
}

absl::StatusOr<Instance*> Context::Impl::Bind(const SpecializationPtr& specialization) {
  ReleaseUnused(specialization->program());
  if (const auto it = instances.find(specialization.get()); it != instances.end()) {
    it->second.last_used = ++runs;
    return &it->second;
  }
  const Program& program = specialization->program();
  HT_RETURN_IF_ERROR(Reserve(arena, program.arena_bytes));
  HT_RETURN_IF_ERROR(Reserve(scratch, program.scratch_bytes));
  if (instances.size() >= static_cast<size_t>(std::max(1, plan->options().max_specializations))) {
    const auto oldest = std::min_element(
        instances.begin(), instances.end(),
        [](const auto& a, const auto& b) { return a.second.last_used < b.second.last_used; });
    instances.erase(oldest);
  }
  std::vector<std::byte*> pointers;
  for (const ProgramBuffer& b : program.buffers) {
    switch (b.kind) {
      case ProgramBuffer::Kind::kArena:
        pointers.push_back(arena->mutable_data() + b.arena_offset);
        break;
      case ProgramBuffer::Kind::kConstant:
        pointers.push_back(const_cast<std::byte*>(b.constant.raw()));
        break;
      case ProgramBuffer::Kind::kInput:
      case ProgramBuffer::Kind::kDynamic:
        pointers.push_back(nullptr);
        break;
    }
  }
  Instance& instance = instances[specialization.get()];
  instance.specialization = specialization;
  instance.binding = std::make_unique<Binding>(stream, std::move(pointers),
                                               std::vector<Tensor>(program.buffers.size()),
                                               scratch->mutable_data());
  for (const Step& step : program.steps) instance.steps.push_back(step.bind(*instance.binding));
  instance.seconds.assign(program.steps.size(), 0.0);
  instance.last_used = ++runs;
  return &instance;
}

absl::Status Context::Impl::Execute(Instance& instance, absl::Span<const Tensor> inputs,
                                    const StopFn& stop) {
  const Program& program = instance.specialization->program();
  for (size_t i = 0; i < program.buffers.size(); ++i) {
    const ProgramBuffer& b = program.buffers[i];
    if (b.kind != ProgramBuffer::Kind::kInput) continue;
    instance.binding->SetPointer(static_cast<BufferId>(i),
                                 const_cast<std::byte*>(inputs[b.input_index].raw()));
  }
  for (size_t i = 0; i < instance.steps.size(); ++i) {
    using Clock = std::chrono::steady_clock;
    const auto begin = profile ? Clock::now() : Clock::time_point();
    if (stop) HT_RETURN_IF_ERROR(stop());
    if (absl::Status status = instance.steps[i](); !status.ok()) {
      return Annotate(
          status, absl::StrCat(program.steps[i].info.op, " '", program.steps[i].info.node, "'"));
    }
    if (profile) {
      instance.seconds[i] += std::chrono::duration<double>(Clock::now() - begin).count();
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Tensor>> Context::Impl::CopyOutputs(Instance& instance) {
  std::vector<Tensor> outputs;
  for (const ProgramOutput& out : instance.specialization->program().outputs) {
    if (out.dynamic) {
      outputs.push_back(std::exchange(instance.binding->dynamic(out.buffer), Tensor()));
      continue;
    }
    HT_ASSIGN_OR_RETURN(Tensor t, Tensor::Create(out.type, out.shape));
    if (t.num_bytes() > 0) {
      std::memcpy(t.mutable_raw(), instance.binding->pointer(out.buffer),
                  static_cast<size_t>(t.num_bytes()));
    }
    outputs.push_back(std::move(t));
  }
  return outputs;
}

Context::Context(std::shared_ptr<const Plan> plan)
    : impl_(std::make_unique<Impl>(std::move(plan))) {}
Context::Context(Context&&) noexcept = default;
Context& Context::operator=(Context&&) noexcept = default;
Context::~Context() = default;

absl::StatusOr<Instance*> Context::Impl::Prepare(absl::Span<const Tensor> inputs) {
  const Signature& signature = plan->signature();
  if (inputs.size() != signature.inputs.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("got ", inputs.size(), " inputs, want ", signature.inputs.size()));
  }
  std::vector<Shape> shapes;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].type() != signature.inputs[i].type) {
      return absl::InvalidArgumentError(absl::StrCat("input '", signature.inputs[i].name, "': got ",
                                                     Name(inputs[i].type()), ", want ",
                                                     Name(signature.inputs[i].type)));
    }
    shapes.push_back(inputs[i].shape());
  }
  HT_ASSIGN_OR_RETURN(const SpecializationPtr s, plan->impl_->Specialize(shapes));
  HT_ASSIGN_OR_RETURN(Instance * instance, Bind(s));
  if (profile) profiled = instance;
  return instance;
}

absl::StatusOr<std::vector<Tensor>> Context::Run(absl::Span<const Tensor> inputs,
                                                 const StopFn& stop) {
  CHECK(!impl_->plan->options().show_outputs) << "this plan is for Watch";
  const ScopedEvalStop scope(stop);
  HT_ASSIGN_OR_RETURN(Instance * instance, impl_->Prepare(inputs));
  HT_RETURN_IF_ERROR(impl_->Execute(*instance, inputs, stop));
  return impl_->CopyOutputs(*instance);
}

absl::Status Context::Watch(absl::Span<const Tensor> inputs, const OutputWatcher& show,
                            const StopFn& stop) {
  CHECK(impl_->plan->options().show_outputs) << "this plan is for Run";
  const ScopedEvalStop scope(stop);
  HT_ASSIGN_OR_RETURN(Instance * instance, impl_->Prepare(inputs));
  instance->binding->SetWatcher(&show);
  const absl::Status status = impl_->Execute(*instance, inputs, stop);
  instance->binding->SetWatcher(nullptr);
  return status;
}

int64_t Context::arena_bytes() const {
  return static_cast<int64_t>((impl_->arena ? impl_->arena->size() : 0) +
                              (impl_->scratch ? impl_->scratch->size() : 0));
}

void Context::EnableProfile() {
  impl_->profile = true;
  for (auto& [specialization, instance] : impl_->instances) {
    std::fill(instance.seconds.begin(), instance.seconds.end(), 0.0);
  }
}

std::vector<StepInfo> Context::Profile() const {
  std::vector<StepInfo> out;
  if (impl_->profiled == nullptr) return out;
  const Program& program = impl_->profiled->specialization->program();
  for (size_t i = 0; i < program.steps.size(); ++i) {
    out.push_back(program.steps[i].info);
    out.back().seconds = impl_->profiled->seconds[i];
  }
  return out;
}

void SetIntraOpThreads(int threads) { omp_set_num_threads(std::max(threads, 1)); }

}  // namespace halftone
