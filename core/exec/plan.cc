#include "core/exec/plan.h"

#include <unistd.h>

#include <algorithm>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/checked_math.h"
#include "core/base/status_macros.h"
#include "core/exec/batch_parts.h"
#include "core/exec/batch_rows.h"
#include "core/exec/lowering.h"
#include "core/exec/plan_impl.h"
#include "core/exec/target_rewrites.h"
#include "core/ops/eval_budget.h"
#include "core/ops/evaluate.h"

namespace halftone {

namespace {

ShapeKey KeyOf(absl::Span<const Shape> shapes, int threads) {
  return absl::StrCat(threads, ":",
                      absl::StrJoin(shapes, ";", [](std::string* out, const Shape& s) {
                        absl::StrAppend(out, absl::StrJoin(s, ","));
                      }));
}

// Of one value that a step computes: oneDNN's kernels count in 32 bits, and divide by zero beyond.
constexpr int64_t kMaxElements = (int64_t{1} << 31) - 1;
// Of a constant; beyond any memory.
constexpr int64_t kMaxConstantElements = int64_t{1} << 40;

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
    const int64_t limit = v->is_constant() ? kMaxConstantElements : kMaxElements;
    if (*elements > limit) {
      return absl::ResourceExhaustedError(
          absl::StrCat("'", v->name(), "' has ", *elements, " elements, the limit is ", limit));
    }
  }
  return absl::OkStatus();
}

std::vector<Shape> WithRows(absl::Span<const Shape> shapes, int64_t rows) {
  std::vector<Shape> out(shapes.begin(), shapes.end());
  for (Shape& shape : out) {
    if (!shape.empty()) shape[0] = rows;
  }
  return out;
}

BatchLimit LimitOf(const PlanOptions& options) {
  if (options.max_batch_bytes > 0) return {options.max_batch_bytes, options.max_batch_bytes};
  // What is left of the last level's cache beside weights and other programs.
  const int64_t cache = std::max<int64_t>(sysconf(_SC_LEVEL3_CACHE_SIZE), int64_t{8} << 20);
  return {cache / 4 * 3, int64_t{256} << 20};
}

// Of the largest value, as f32 or whatever it is: less than what a run needs.
int64_t WidestBytes(const Graph& graph) {
  int64_t widest = 0;
  for (const Value* v : graph.values()) {
    const std::optional<Shape> shape = Concrete(v->type().shape);
    if (v->is_constant() || !shape || !v->type().type) continue;
    widest = std::max(widest, ElementCount(*shape) * BitWidth(*v->type().type) / 8);
  }
  return widest;
}

}  // namespace

absl::StatusOr<Graph> PlanImpl::ConcreteGraph(absl::Span<const Shape> shapes) const {
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
  return concrete;
}

absl::StatusOr<SpecializationPtr> PlanImpl::BuildProgram(Graph concrete, int threads) {
  const ScopedIntraOpThreads scope(threads);
  weights.KeepUnused(threads == options.threads);
  ProgramBuilder builder(std::move(concrete),
                         {.features = options.features,
                          .threads = threads,
                          .compute = options.compute,
                          .widen_once = widen_once,
                          .show_outputs = options.show_outputs},
                         weights);
  HT_ASSIGN_OR_RETURN(std::unique_ptr<Program> program, builder.Build());
  return std::make_shared<const Specialization>(std::move(program));
}

absl::StatusOr<SpecializationPtr> PlanImpl::BuildLocked(absl::Span<const Shape> shapes,
                                                        int threads) {
  const ScopedEvalBudget budget(BuildBudget(graph));
  HT_ASSIGN_OR_RETURN(Graph whole, ConcreteGraph(shapes));
  HT_ASSIGN_OR_RETURN(const std::vector<int64_t> rows, PartsOf(whole, shapes));
  if (rows.empty()) return BuildProgram(std::move(whole), threads);
  const int lanes = LanesFor(rows, threads);
  const int threads_of_part = lanes > 1 ? 1 : threads;
  std::vector<Specialization::Part> parts;
  for (const int64_t n : rows) {
    const auto alike =
        std::find_if(parts.begin(), parts.end(), [&](const auto& part) { return part.rows == n; });
    SpecializationPtr part = alike == parts.end() ? nullptr : alike->specialization;
    if (part == nullptr) {
      HT_ASSIGN_OR_RETURN(part, PartLocked(WithRows(shapes, n), threads_of_part));
    }
    parts.push_back({n, std::move(part)});
  }
  return std::make_shared<const Specialization>(std::move(parts), lanes);
}

absl::StatusOr<SpecializationPtr> PlanImpl::PartLocked(const std::vector<Shape>& shapes,
                                                       int threads) {
  const ShapeKey key = KeyOf(shapes, threads);
  {
    absl::MutexLock lock(&mu);
    auto found = CacheFor(threads).Find(key);
    if (found != nullptr && found->parts().empty()) return found;
  }
  HT_ASSIGN_OR_RETURN(Graph concrete, ConcreteGraph(shapes));
  HT_ASSIGN_OR_RETURN(SpecializationPtr built, BuildProgram(std::move(concrete), threads));
  Insert(key, threads, built);
  return built;
}

// The rows of each part of the batch; none: it runs as a whole. The same for any number of threads,
// because other parts may add up in another order.
absl::StatusOr<std::vector<int64_t>> PlanImpl::PartsOf(const Graph& whole,
                                                       absl::Span<const Shape> shapes) {
  const int64_t batch = shapes.empty() || shapes[0].empty() ? 0 : shapes[0][0];
  const BatchLimit limit = LimitOf(options);
  {
    absl::MutexLock lock(&mu);
    if (const auto found = cache.Find(KeyOf(shapes, options.threads))) {
      std::vector<int64_t> rows;
      for (const Specialization::Part& part : found->parts()) rows.push_back(part.rows);
      return rows;
    }
  }
  const bool fits = 2 * WidestBytes(whole) <= limit.cached_bytes;
  if (batch < 2 || options.show_outputs || (fits && options.threads == 1)) {
    return std::vector<int64_t>();
  }
  const std::vector<Shape> one = WithRows(shapes, 1);
  absl::StatusOr<Graph> row = ConcreteGraph(one);
  // Some models have fixed sizes inside.
  if (!row.ok() || !RowsAreIndependent(whole, *row)) return std::vector<int64_t>();
  HT_ASSIGN_OR_RETURN(const SpecializationPtr built, PartLocked(one, options.threads));
  BatchCost cost{.rows = batch,
                 .arena_bytes = built->program().arena_bytes,
                 .weight_bytes = weights.total_bytes()};
  for (const Step& step : built->program().steps) cost.traffic_bytes += step.info.bytes;
  cost.traffic_bytes = std::max<int64_t>(cost.traffic_bytes - cost.weight_bytes, 0);
  return CutBatch(cost, limit, options.threads);
}

void PlanImpl::Insert(const ShapeKey& key, int threads, SpecializationPtr built) {
  absl::MutexLock lock(&mu);
  if (built->parts().empty()) {
    inline_constant_bytes = std::max(inline_constant_bytes, built->program().inline_constant_bytes);
  }
  CacheFor(threads).Insert(key, std::move(built));
}

absl::StatusOr<SpecializationPtr> PlanImpl::Specialize(absl::Span<const Shape> shapes,
                                                       int threads) {
  const ShapeKey key = KeyOf(shapes, threads);
  {
    absl::MutexLock lock(&mu);
    if (auto found = CacheFor(threads).Find(key)) return found;
  }
  absl::MutexLock build_lock(&build_mu);
  {
    absl::MutexLock lock(&mu);
    if (auto found = CacheFor(threads).Find(key)) return found;  // built while this thread waited
  }
  absl::flat_hash_map<std::string, int64_t> symbols;
  for (size_t i = 0; i < shapes.size(); ++i) {
    HT_RETURN_IF_ERROR(CheckShape(signature.inputs[i], shapes[i], symbols));
  }
  HT_ASSIGN_OR_RETURN(SpecializationPtr built, BuildLocked(shapes, threads));
  Insert(key, threads, built);
  return built;
}

void PlanImpl::Drop(absl::Span<const Shape> shapes, int threads) {
  CHECK_NE(threads, options.threads);
  SpecializationPtr dropped;  // its parts, which are in the cache under keys of their own, go too
  absl::MutexLock lock(&mu);
  const ShapeKey key = KeyOf(shapes, threads);
  dropped = other_cache.Find(key);
  if (dropped == nullptr) return;
  other_cache.Erase(key);
  for (const Specialization::Part& part : dropped->parts()) {
    other_cache.Erase(KeyOf(WithRows(shapes, part.rows), threads));
  }
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
    HT_RETURN_IF_ERROR(impl->Specialize(shapes, options.threads).status());
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

absl::Status Plan::Prepare(absl::Span<const Shape> input_shapes, int threads) const {
  if (input_shapes.size() != impl_->signature.inputs.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "got ", input_shapes.size(), " input shapes, want ", impl_->signature.inputs.size()));
  }
  if (threads == 0) threads = impl_->options.threads;
  return impl_->Specialize(input_shapes, threads).status();
}

void Plan::Drop(absl::Span<const Shape> input_shapes, int threads) const {
  impl_->Drop(input_shapes, threads);
}

absl::StatusOr<std::vector<StepInfo>> Plan::Describe(absl::Span<const Shape> input_shapes) const {
  HT_RETURN_IF_ERROR(Prepare(input_shapes));
  HT_ASSIGN_OR_RETURN(SpecializationPtr s, impl_->Specialize(input_shapes, impl_->options.threads));
  std::vector<StepInfo> out;
  if (const std::vector<Specialization::Part> parts = s->parts(); !parts.empty()) {
    const auto& largest = *std::max_element(
        parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.rows < b.rows; });
    out.push_back({.op = "batch",
                   .rule = "parts",
                   .implementation = absl::StrCat(parts.size(), " x ", largest.rows, " rows",
                                                  s->lanes() > 1 ? ", one per thread" : "")});
    s = largest.specialization;
  }
  for (const Step& step : s->program().steps) out.push_back(step.info);
  return out;
}

}  // namespace halftone
