// The run of a plan: one thread's memory, and programs bound to it.
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/exec/batch_parts.h"
#include "core/exec/dnnl_util.h"
#include "core/exec/plan_impl.h"
#include "core/ops/eval_budget.h"

namespace halftone {
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
  explicit Impl(std::shared_ptr<const Plan> p)
      : plan(std::move(p)), stream(CpuEngine()), threads(plan->options().threads) {}

  absl::StatusOr<SpecializationPtr> Find(absl::Span<const Tensor> inputs);
  void ForgetDropped();
  absl::StatusOr<Instance*> Bind(const SpecializationPtr& specialization);
  absl::Status Reserve(std::shared_ptr<Buffer>& buffer, int64_t bytes);
  void ReleaseUnused(const Program& program);
  void ReleaseUnusedLanes(const Specialization& next);
  absl::Status Execute(Instance& instance, absl::Span<const Tensor> inputs, const StopFn& stop);
  absl::StatusOr<std::vector<Tensor>> CopyOutputs(Instance& instance);
  absl::StatusOr<std::vector<Tensor>> RunParts(const Specialization& whole,
                                               absl::Span<const Tensor> inputs, const StopFn& stop);
  absl::Status RunPart(const Specialization::Part& part, absl::Span<const Tensor> inputs,
                       int64_t first, absl::Span<std::byte* const> outputs, const StopFn& stop);

  std::shared_ptr<const Plan> plan;
  dnnl::stream stream;
  std::shared_ptr<Buffer> arena, scratch;
  absl::flat_hash_map<const Specialization*, Instance> instances;
  int threads = 0;  // of the next run
  uint64_t runs = 0;
  // The largest need within the current window of runs, see ReleaseUnused.
  int64_t window_arena = 0, window_scratch = 0;
  bool profile = false;
  const Instance* profiled = nullptr;
  // Of the other threads when they run parts of a batch alone, see Specialization::lanes.
  std::vector<std::unique_ptr<Impl>> lanes;
  uint64_t last_lanes = 0;  // the run that used them
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
// they needed goes back to the system, and lanes that none of them used.
constexpr uint64_t kWindow = 64;

void Context::Impl::ReleaseUnusedLanes(const Specialization& next) {
  if (next.lanes() == 1 && runs - last_lanes > kWindow) lanes.clear();
}

void Context::Impl::ReleaseUnused(const Program& program) {
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

// Programs that left the plan are never run again: what they hold goes.
void Context::Impl::ForgetDropped() {
  for (const std::unique_ptr<Impl>& lane : lanes) lane->ForgetDropped();
  absl::erase_if(instances, [this](const auto& entry) {
    if (entry.second.specialization.use_count() > 1) return false;
    if (profiled == &entry.second) profiled = nullptr;
    return true;
  });
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
  if (profile) profiled = &instance;
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

absl::StatusOr<SpecializationPtr> Context::Impl::Find(absl::Span<const Tensor> inputs) {
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
  return plan->impl_->Specialize(shapes, threads);
}

namespace {

// `count` rows from `first` on, of a tensor with `rows`.
Tensor RowsOf(const Tensor& t, int64_t first, int64_t count) {
  Shape shape = t.shape();
  const int64_t row_bytes = t.num_bytes() / shape[0];
  shape[0] = count;
  return Tensor::Borrow(t.type(), shape, t.raw() + first * row_bytes);
}

}  // namespace

absl::Status Context::Impl::RunPart(const Specialization::Part& part,
                                    absl::Span<const Tensor> inputs, int64_t first,
                                    absl::Span<std::byte* const> outputs, const StopFn& stop) {
  const ScopedEvalStop scope(stop);
  std::vector<Tensor> rows;
  for (const Tensor& t : inputs) rows.push_back(RowsOf(t, first, part.rows));
  HT_ASSIGN_OR_RETURN(Instance * instance, Bind(part.specialization));
  HT_RETURN_IF_ERROR(Execute(*instance, rows, stop));
  const std::vector<ProgramOutput>& results = part.specialization->program().outputs;
  for (size_t i = 0; i < results.size(); ++i) {
    const int64_t bytes = ElementCount(results[i].shape) * BitWidth(results[i].type) / 8;
    std::memcpy(outputs[i] + first * (bytes / part.rows),
                instance->binding->pointer(results[i].buffer), static_cast<size_t>(bytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Tensor>> Context::Impl::RunParts(const Specialization& whole,
                                                            absl::Span<const Tensor> inputs,
                                                            const StopFn& stop) {
  const std::vector<Specialization::Part>& parts = whole.parts();
  std::vector<Tensor> outputs;
  std::vector<std::byte*> pointers;
  for (const ProgramOutput& out : parts[0].specialization->program().outputs) {
    Shape shape = out.shape;
    shape[0] = inputs[0].dim(0);
    HT_ASSIGN_OR_RETURN(outputs.emplace_back(), Tensor::Create(out.type, shape));
    pointers.push_back(outputs.back().mutable_raw());
  }
  std::vector<int64_t> first(parts.size(), 0);
  for (size_t p = 1; p < parts.size(); ++p) first[p] = first[p - 1] + parts[p - 1].rows;
  const int count = whole.lanes();
  while (static_cast<int>(lanes.size()) < count - 1) lanes.push_back(std::make_unique<Impl>(plan));
  std::vector<absl::Status> results(count);
  std::atomic<bool> stopped = false;
  // Only the calling thread asks the caller.
  const auto run_lane = [&](int lane) -> absl::Status {
    const auto ask = [&]() -> absl::Status {
      if (stopped) return absl::CancelledError("another part of the batch stopped");
      return lane == 0 && stop ? stop() : absl::OkStatus();
    };
    const auto [begin, end] = LaneOf(lane, count, static_cast<int64_t>(parts.size()));
    for (int64_t p = begin; p < end; ++p) {
      Impl& impl = lane == 0 ? *this : *lanes[lane - 1];
      HT_RETURN_IF_ERROR(impl.RunPart(parts[p], inputs, first[p], pointers, ask));
    }
    return absl::OkStatus();
  };
#pragma omp parallel for num_threads(count) schedule(static) if (count > 1)
  for (int lane = 0; lane < count; ++lane) {
    results[lane] = run_lane(lane);
    if (!results[lane].ok()) stopped = true;
  }
  if (count > 1) last_lanes = runs;
  for (const absl::Status& status : results) {
    if (!status.ok() && !absl::IsCancelled(status)) return status;
  }
  for (const absl::Status& status : results) HT_RETURN_IF_ERROR(status);
  return outputs;
}

absl::StatusOr<std::vector<Tensor>> Context::Run(absl::Span<const Tensor> inputs,
                                                 const StopFn& stop) {
  CHECK(!impl_->plan->options().show_outputs) << "this plan is for Watch";
  const ScopedEvalStop scope(stop);
  const ScopedIntraOpThreads team(impl_->threads);
  impl_->ForgetDropped();
  HT_ASSIGN_OR_RETURN(const SpecializationPtr s, impl_->Find(inputs));
  impl_->ReleaseUnusedLanes(*s);
  if (!s->parts().empty()) return impl_->RunParts(*s, inputs, stop);
  HT_ASSIGN_OR_RETURN(Instance * instance, impl_->Bind(s));
  HT_RETURN_IF_ERROR(impl_->Execute(*instance, inputs, stop));
  return impl_->CopyOutputs(*instance);
}

absl::Status Context::Watch(absl::Span<const Tensor> inputs, const OutputWatcher& show,
                            const StopFn& stop) {
  CHECK(impl_->plan->options().show_outputs) << "this plan is for Run";
  const ScopedEvalStop scope(stop);
  const ScopedIntraOpThreads team(impl_->threads);
  impl_->ForgetDropped();
  HT_ASSIGN_OR_RETURN(const SpecializationPtr s, impl_->Find(inputs));
  HT_ASSIGN_OR_RETURN(Instance * instance, impl_->Bind(s));
  instance->binding->SetWatcher(&show);
  const absl::Status status = impl_->Execute(*instance, inputs, stop);
  instance->binding->SetWatcher(nullptr);
  return status;
}

void Context::SetThreads(int threads) {
  impl_->threads = threads == 0 ? impl_->plan->options().threads : threads;
}

int64_t Context::arena_bytes() const {
  const auto of = [](const Impl& impl) {
    return static_cast<int64_t>((impl.arena ? impl.arena->size() : 0) +
                                (impl.scratch ? impl.scratch->size() : 0));
  };
  int64_t bytes = of(*impl_);
  for (const std::unique_ptr<Impl>& lane : impl_->lanes) bytes += of(*lane);
  return bytes;
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

ScopedIntraOpThreads::ScopedIntraOpThreads(int threads) : before_(omp_get_max_threads()) {
  SetIntraOpThreads(threads);
}
ScopedIntraOpThreads::~ScopedIntraOpThreads() { SetIntraOpThreads(before_); }

}  // namespace halftone
