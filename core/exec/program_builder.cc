#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/checked_math.h"
#include "core/base/status_macros.h"
#include "core/exec/kernels/convert.h"
#include "core/exec/kernels/copy.h"
#include "core/exec/lower/arguments.h"
#include "core/exec/lowering.h"
#include "core/exec/memory_planner.h"
#include "core/ops/evaluate.h"

namespace halftone {
namespace {

// Both layouts store the same bytes: there is one channel, or one spatial position.
bool LayoutsCoincide(const Shape& shape) {
  if (shape.size() < 3) return true;
  const int64_t spatial = ElementCount(absl::MakeConstSpan(shape).subspan(2));
  return shape[1] <= 1 || spatial <= 1;
}

}  // namespace

ProgramBuilder::ProgramBuilder(Graph graph, const LoweringOptions& options, WeightStore& weights)
    : options_(options), weights_(weights), program_(std::make_unique<Program>()) {
  program_->graph = std::move(graph);
  graph_ = &program_->graph;
}

InferContext ProgramBuilder::Arguments(const Node& node) const {
  std::vector<const Value*> inputs(node.inputs().begin(), node.inputs().end());
  return InferContext(node, graph_->opset(), std::move(inputs));
}

Shape ProgramBuilder::ShapeOf(const Value* value) const {
  const auto shape = Concrete(value->type().shape);
  CHECK(shape.has_value()) << value->name();
  return *shape;
}

bool ProgramBuilder::IsStatic(const Value* value) const {
  return value->type().type.has_value() && Concrete(value->type().shape).has_value() &&
         !dynamic_.contains(value);
}

BufferId ProgramBuilder::Temporary(int64_t bytes) {
  program_->buffers.push_back({.kind = ProgramBuffer::Kind::kArena, .bytes = bytes});
  buffer_pending_.push_back(0);
  first_step_.push_back(-1);
  last_step_.push_back(-1);
  return static_cast<BufferId>(program_->buffers.size()) - 1;
}

BufferId ProgramBuilder::Constant(Tensor tensor) {
  const BufferId id = Temporary(tensor.num_bytes());
  program_->buffers[id].kind = ProgramBuffer::Kind::kConstant;
  program_->buffers[id].constant = std::move(tensor);
  return id;
}

BufferId ProgramBuilder::WholeOf(BufferId id) const {
  while (program_->buffers[id].inside >= 0) id = program_->buffers[id].inside;
  return id;
}

bool ProgramBuilder::PlaceInside(BufferId part, int64_t bytes, BufferId whole,
                                 int64_t byte_offset) {
  ProgramBuffer& p = program_->buffers[part];
  if (p.kind != ProgramBuffer::Kind::kArena || p.bytes != bytes || p.inside >= 0 ||
      WholeOf(whole) == part) {
    return false;
  }
  PendingOf(whole) += buffer_pending_[part];
  p.inside = whole;
  p.inside_offset = byte_offset;
  return true;
}

BufferId ProgramBuilder::Define(const Value* value, Layout layout, DataType stored) {
  const int64_t elements = ElementCount(ShapeOf(value));
  const BufferId id = Temporary((elements * BitWidth(stored) + 7) / 8);
  DefineIn(value, {id, layout, stored});
  return id;
}

void ProgramBuilder::DefineIn(const Value* value, Place place) {
  places_[value] = place;
  PendingOf(place.buffer) += pending_uses_[value];
}

BufferId ProgramBuilder::DefineDynamic(const Value* value) {
  const BufferId id = Temporary(0);
  program_->buffers[id].kind = ProgramBuffer::Kind::kDynamic;
  dynamic_.insert(value);
  DefineIn(value, {id, Layout::kPlain, value->type().type.value_or(DataType::kF32)});
  return id;
}

Place ProgramBuilder::PlaceOf(const Value* value) {
  if (const auto it = places_.find(value); it != places_.end()) return it->second;
  CHECK(value->is_constant()) << value->name() << " has no place";
  const Tensor& t = value->constant();
  program_->inline_constant_bytes += t.num_bytes();
  const Place place{Constant(t), Layout::kPlain, t.type()};
  places_[value] = place;
  return place;
}

DataType ProgramBuilder::ReadType(const Value* value) const {
  const auto it = places_.find(value);
  const bool narrow = it != places_.end() && it->second.type == DataType::kBF16;
  return narrow ? DataType::kBF16 : *value->type().type;
}

Layout ProgramBuilder::LayoutOf(const Value* value) {
  return value->is_constant() ? Layout::kPlain : PlaceOf(value).layout;
}

absl::StatusOr<ProgramBuilder::StridedSource> ProgramBuilder::FetchStrided(const Value* value) {
  HT_RETURN_IF_ERROR(EnsurePlaced(value));
  const Place place = PlaceOf(value);
  const Shape shape = ShapeOf(value);
  if (place.type != *value->type().type) {
    HT_ASSIGN_OR_RETURN(const BufferId id, Fetch(value, place.layout, *value->type().type));
    return StridedSource{id, {StridesFor(shape, place.layout), 0}};
  }
  if (place.view != nullptr) return StridedSource{place.buffer, *place.view};
  return StridedSource{place.buffer, {StridesFor(shape, place.layout), 0}};
}

void ProgramBuilder::DefineView(const Value* value, const StridedSource& source) {
  const Shape shape = ShapeOf(value);
  Place place{source.buffer, Layout::kPlain, *value->type().type};
  const Shape& strides = source.view.strides;
  if (shape.size() >= 3 && shape[1] > 1) {
    bool innermost = true;
    for (size_t i = 2; i < shape.size(); ++i) {
      innermost &= shape[i] == 1 || std::abs(strides[1]) < std::abs(strides[i]);
    }
    if (innermost) place.layout = Layout::kChannelsLast;
  }
  const bool dense = source.view.offset == 0 && IsDense(shape, strides, place.layout);
  if (!dense) place.view = std::make_shared<const StridedView>(source.view);
  DefineIn(value, std::move(place));
}

std::optional<ProgramBuilder::StridedSource> ProgramBuilder::SliceFor(const Value* value,
                                                                      Layout layout,
                                                                      DataType stored) {
  const auto it = slices_.find(value);
  if (it == slices_.end() || stored != value->type().type) return std::nullopt;
  const ConcatSlice& slice = it->second;
  // Along channels, other parts are channels last more often than not.
  if (layout == Layout::kPlain && slice.axis == 1 && ShapeOf(value).size() >= 3) {
    return std::nullopt;
  }
  StridedSource at = WholeFor(slice.whole, layout);
  if (wholes_.at(slice.whole).layout != layout) return std::nullopt;
  at.view.offset += slice.start * at.view.strides[slice.axis];
  return at;
}

ProgramBuilder::StridedSource ProgramBuilder::WholeFor(const Value* concat_output, Layout layout) {
  if (const auto it = wholes_.find(concat_output); it != wholes_.end()) return it->second.at;
  const DataType type = *concat_output->type().type;
  std::optional<StridedSource> at = SliceFor(concat_output, layout, type);
  if (!at) {
    const Shape shape = ShapeOf(concat_output);
    at = {Temporary(ElementCount(shape) * BitWidth(type) / 8), {StridesFor(shape, layout), 0}};
  }
  wholes_[concat_output] = {layout, *at};
  return *std::move(at);
}

void ProgramBuilder::NoteUse(BufferId id) {
  const int step = static_cast<int>(program_->steps.size());
  if (first_step_[id] < 0) first_step_[id] = step;
  last_step_[id] = step;
}

void ProgramBuilder::AddStep(StepInfo info, std::vector<BufferId> touches,
                             std::function<BoundStep(Binding&)> bind) {
  for (const BufferId id : absl::flat_hash_set<BufferId>(touches.begin(), touches.end())) {
    info.bytes += program_->buffers[id].bytes;
  }
  for (const Guard& g : guards_) touches.push_back(g.condition);
  for (BufferId id : touches) NoteUse(id);
  if (!guards_.empty()) {
    bind = [bind = std::move(bind), guards = guards_](Binding& b) -> BoundStep {
      return [step = bind(b), guards, &b]() -> absl::Status {
        for (const Guard& g : guards) {
          if (*b.as<bool>(g.condition) != g.when) return absl::OkStatus();
        }
        return step();
      };
    };
  }
  program_->steps.push_back({std::move(info), std::move(bind)});
}

void ProgramBuilder::BeginGuard(BufferId condition, bool when) {
  guards_.push_back({condition, when});
}
void ProgramBuilder::EndGuard() { guards_.pop_back(); }

absl::StatusOr<const Graph*> ProgramBuilder::LowerNested(Graph nested, absl::string_view name,
                                                         absl::Span<const Value* const> arguments) {
  program_->nested.push_back(std::make_unique<const Graph>(std::move(nested)));
  const Graph* outer = graph_;
  const std::string outer_scope = options_.scope;
  graph_ = program_->nested.back().get();
  absl::StrAppend(&options_.scope, name, "/");
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i]->is_constant()) continue;  // the caller put constants in their place
    places_[graph_->inputs()[i]] = PlaceOf(arguments[i]);
  }
  HT_RETURN_IF_ERROR(LowerUnits(*graph_));
  options_.scope = outer_scope;
  return std::exchange(graph_, outer);
}

void ProgramBuilder::RequireScratch(int64_t bytes) {
  program_->scratch_bytes = std::max(program_->scratch_bytes, bytes);
}

bool ProgramBuilder::MayOverwrite(const Value* value, BufferId source) {
  const auto it = places_.find(value);
  if (it == places_.end() || it->second.buffer != source) return false;
  return program_->buffers[source].kind == ProgramBuffer::Kind::kArena && PendingOf(source) == 1;
}

BufferId ProgramBuilder::DefineOver(const Value* input, BufferId source, const Value* output,
                                    Layout layout, DataType stored) {
  if (!MayOverwrite(input, source)) return Define(output, layout, stored);
  DefineIn(output, {source, layout, stored});
  return source;
}

absl::Status ProgramBuilder::EnsurePlaced(const Value* value) {
  if (places_.contains(value) || value->is_constant()) return absl::OkStatus();
  return LowerAlone(value->producer());
}

absl::StatusOr<BufferId> ProgramBuilder::FetchPlain(const Value* value) {
  HT_RETURN_IF_ERROR(EnsurePlaced(value));
  if (!IsStatic(value)) return PlaceOf(value).buffer;
  return Fetch(value, Layout::kPlain, *value->type().type);
}

absl::StatusOr<BufferId> ProgramBuilder::Fetch(const Value* value, Layout layout, DataType stored) {
  HT_RETURN_IF_ERROR(EnsurePlaced(value));
  const Place place = PlaceOf(value);
  const auto fits = [&](const Place& p) {
    return p.view == nullptr && p.type == stored &&
           (p.layout == layout || LayoutsCoincide(ShapeOf(value)));
  };
  if (fits(place)) return place.buffer;
  for (const Place& p : converted_[value]) {
    if (fits(p)) return p.buffer;
  }
  HT_ASSIGN_OR_RETURN(const BufferId id, ConvertPlace(value, place, layout, stored));
  converted_[value].push_back({id, layout, stored});
  PendingOf(id) += pending_uses_[value];  // later readers find it, too
  return id;
}

void ProgramBuilder::ChangeUses(const Value* value, int by) {
  pending_uses_[value] += by;
  if (const auto it = places_.find(value); it != places_.end()) {
    PendingOf(it->second.buffer) += by;
  }
  if (const auto it = converted_.find(value); it != converted_.end()) {
    for (const Place& p : it->second) PendingOf(p.buffer) += by;
  }
}

absl::StatusOr<BufferId> ProgramBuilder::ConvertPlace(const Value* value, const Place& from,
                                                      Layout layout, DataType stored) {
  const Shape shape = ShapeOf(value);
  const int64_t n = ElementCount(shape);
  BufferId current = from.buffer;
  if (from.view != nullptr || (from.layout != layout && !LayoutsCoincide(shape))) {
    StridedCopy copy;
    copy.shape = shape;
    copy.src_strides = from.view ? from.view->strides : StridesFor(shape, from.layout);
    copy.src_offset = from.view ? from.view->offset : 0;
    copy.dst_strides = StridesFor(shape, layout);
    copy.element_bytes = BitWidth(from.type) / 8;
    copy = Simplify(copy);
    if (program_->buffers[current].kind == ProgramBuffer::Kind::kConstant) {
      const Tensor& t = program_->buffers[current].constant;
      HT_ASSIGN_OR_RETURN(Tensor moved, Tensor::Create(t.type(), shape));
      if (n > 0) RunStridedCopy(copy, t.raw(), moved.mutable_raw());
      current = Constant(std::move(moved));
    } else {
      const BufferId to = Temporary(n * BitWidth(from.type) / 8);
      AddStep({value->name(), from.view ? "gather view" : "layout", "copy",
               layout == Layout::kPlain ? "to plain" : "to channels last",
               std::string(Name(from.type))},
              {current, to}, [copy, current, to, n](Binding& b) -> BoundStep {
                return [copy, current, to, n, &b] {
                  if (n > 0) RunStridedCopy(copy, b.pointer(current), b.pointer(to));
                  return absl::OkStatus();
                };
              });
      current = to;
    }
  }
  if (from.type == stored) return current;
  const bool widen = stored == DataType::kF32;
  if (!widen && from.type != DataType::kF32) {
    return absl::InternalError(absl::StrCat("'", value->name(), "': stored as ", Name(from.type),
                                            ", want ", Name(stored)));
  }
  const BufferId to = Temporary(n * BitWidth(stored) / 8);
  const DataType source = from.type;
  AddStep({value->name(), "convert", "convert", widen ? "widen" : "narrow",
           absl::StrCat(Name(source), "→", Name(stored))},
          {current, to}, [=](Binding& b) -> BoundStep {
            return [=, &b] {
              const bool ok = widen ? WidenToF32(source, b.pointer(current), b.as<float>(to), n)
                                    : NarrowFromF32(stored, b.as<float>(current), b.pointer(to), n);
              return ok ? absl::OkStatus() : absl::InternalError("no conversion kernel");
            };
          });
  return to;
}

absl::Status ProgramBuilder::LowerAlone(Node* node) {
  if (const Value* out = node->output(0); out != nullptr && places_.contains(out)) {
    return absl::OkStatus();
  }
  const Unit unit = SingleUnit(node);
  for (const Value* in : unit.inputs) {
    // Its reader was a fused unit that counted other values; never overwrite what it reads here.
    // What only the unit reads was not counted at all, and others of its nodes may read it, too.
    ChangeUses(in, pending_uses_[in] == 0 ? 2 : 1);
  }
  for (const Value* out : node->outputs()) {
    if (out != nullptr && pending_uses_[out] == 0) pending_uses_[out] = 2;
  }
  return LowerUnit(unit);
}

absl::StatusOr<bool> ProgramBuilder::TryRules(const Unit& unit, bool fixed_outputs,
                                              std::string* reasons) {
  for (const NamedRule& rule : RulesFor(*unit.anchor)) {
    if (!fixed_outputs && !rule.dynamic_outputs) {
      *reasons = "shape depends on data";
      continue;
    }
    std::string reason;
    const size_t steps_before = program_->steps.size();
    absl::StatusOr<bool> lowered = rule.lower(*this, unit, &reason);
    if (!lowered.ok()) return lowered.status();
    if (*lowered) {
      for (size_t i = steps_before; i < program_->steps.size(); ++i) {
        StepInfo& info = program_->steps[i].info;
        if (info.rule.empty()) info.rule = std::string(rule.name);
        if (info.node.empty()) info.node = unit.anchor->name();
        if (info.detail.empty()) info.detail = *reasons;
      }
      return true;
    }
    if (!reason.empty()) {
      absl::StrAppend(reasons, reasons->empty() ? "" : "; ", rule.name, ": ", reason);
    }
  }
  return false;
}

absl::Status ProgramBuilder::LowerUnit(const Unit& unit) {
  // The producer of its input has written its result already (a QuantizeLinear that is a twin).
  const Value* result = unit.nodes.back()->output(0);
  if (result != nullptr && places_.contains(result)) {
    for (const Value* v : unit.inputs) ChangeUses(v, -1);
    return absl::OkStatus();
  }
  bool fixed_inputs = true, fixed_outputs = true;
  for (const Value* v : unit.inputs) {
    HT_RETURN_IF_ERROR(EnsurePlaced(v));
    fixed_inputs &= IsStatic(v);
  }
  for (const Node* node : unit.nodes) {
    for (const Value* v : node->outputs()) fixed_outputs &= v == nullptr || IsStatic(v);
  }
  std::string reasons;
  bool done = false;
  if (fixed_inputs) {
    absl::StatusOr<bool> lowered = TryRules(unit, fixed_outputs, &reasons);
    if (!lowered.ok()) return Annotate(lowered.status(), Describe(*unit.anchor));
    done = *lowered;
  } else {
    reasons = "shape depends on data";
  }
  if (!done && unit.nodes.size() > 1) {
    for (Node* node : unit.nodes) HT_RETURN_IF_ERROR(LowerAlone(node));
  } else if (!done) {
    HT_RETURN_IF_ERROR(
        Annotate(LowerReference(*this, *unit.anchor, reasons), Describe(*unit.anchor)));
  }
  for (const Value* v : unit.inputs) ChangeUses(v, -1);
  return absl::OkStatus();
}

absl::Status ProgramBuilder::LowerUnits(const Graph& graph) {
  HT_ASSIGN_OR_RETURN(const std::vector<Unit> units, FormUnits(graph));
  for (const Unit& unit : units) {
    for (const Value* v : unit.inputs) ++pending_uses_[v];
  }
  for (const Value* v : graph.outputs()) ++pending_uses_[v];
  slices_.merge(FindConcatSlices(graph));
  for (const Value* v : graph.inputs()) {
    if (const auto it = places_.find(v); it != places_.end()) {
      PendingOf(it->second.buffer) += pending_uses_[v];
    }
  }
  const bool show = options_.show_outputs && &graph == &program_->graph;
  for (const Unit& unit : units) {
    HT_RETURN_IF_ERROR(LowerUnit(unit));
    for (const Node* node : unit.nodes) {
      for (const Value* v : node->outputs()) {
        if (show && v != nullptr && places_.contains(v)) HT_RETURN_IF_ERROR(ShowIfOutput(v));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status ProgramBuilder::ShowIfOutput(const Value* value) {
  const std::vector<Value*>& outputs = program_->graph.outputs();
  if (!value->is_output() || !shown_.insert(value).second) return absl::OkStatus();
  HT_ASSIGN_OR_RETURN(const BufferId id, FetchPlain(value));
  const bool dynamic = dynamic_.contains(value);
  const DataType type = value->type().type.value_or(DataType::kF32);
  const Shape shape = dynamic ? Shape{} : ShapeOf(value);
  for (int i = 0; i < static_cast<int>(outputs.size()); ++i) {
    if (outputs[i] != value) continue;
    AddStep({value->name(), "show output", "show"}, {id}, [=](Binding& b) -> BoundStep {
      return [=, &b] {
        b.watcher()(i, dynamic ? b.dynamic(id) : Tensor::Borrow(type, shape, b.pointer(id)));
        return absl::OkStatus();
      };
    });
    ChangeUses(value, -1);
  }
  return absl::OkStatus();
}

void ProgramBuilder::PlanArena() {
  std::vector<ProgramBuffer>& buffers = program_->buffers;
  // A whole lives as long as any of its parts.
  for (size_t i = 0; i < buffers.size(); ++i) {
    const BufferId whole = WholeOf(static_cast<BufferId>(i));
    if (first_step_[i] < 0 || whole == static_cast<BufferId>(i)) continue;
    int& first = first_step_[whole];
    first = first < 0 ? first_step_[i] : std::min(first, first_step_[i]);
    last_step_[whole] = std::max(last_step_[whole], last_step_[i]);
  }
  std::vector<BufferInterval> intervals;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const ProgramBuffer& b = buffers[i];
    const bool placed =
        b.kind == ProgramBuffer::Kind::kArena && b.inside < 0 && first_step_[i] >= 0;
    intervals.push_back(
        {std::max(first_step_[i], 0), std::max(last_step_[i], 0), placed ? b.bytes : 0});
  }
  const MemoryPlan plan = PlanMemory(intervals);
  for (size_t i = 0; i < buffers.size(); ++i) {
    BufferId at = static_cast<BufferId>(i);
    int64_t offset = 0;
    for (; buffers[at].inside >= 0; at = buffers[at].inside) offset += buffers[at].inside_offset;
    buffers[i].arena_offset = plan.offsets[at] + offset;
  }
  program_->arena_bytes = plan.arena_bytes;
}

absl::StatusOr<std::unique_ptr<Program>> ProgramBuilder::Build() {
  const Graph& graph = program_->graph;
  for (int i = 0; i < static_cast<int>(graph.inputs().size()); ++i) {
    const Value* v = graph.inputs()[i];
    const BufferId id = Temporary(ElementCount(ShapeOf(v)) * BitWidth(*v->type().type) / 8);
    program_->buffers[id].kind = ProgramBuffer::Kind::kInput;
    program_->buffers[id].input_index = i;
    places_[v] = {id, Layout::kPlain, *v->type().type};
  }
  HT_RETURN_IF_ERROR(LowerUnits(graph));
  for (const Value* v : graph.outputs()) {
    if (options_.show_outputs) {
      // Inputs, constants, and what nothing but the graph's end wanted on its own.
      HT_RETURN_IF_ERROR(ShowIfOutput(v));
      continue;
    }
    ProgramOutput out;
    HT_ASSIGN_OR_RETURN(out.buffer, FetchPlain(v));
    out.dynamic = dynamic_.contains(v);
    out.type = v->type().type.value_or(DataType::kF32);
    if (!out.dynamic) out.shape = ShapeOf(v);
    NoteUse(out.buffer);
    program_->outputs.push_back(std::move(out));
  }
  // An output lives until the caller has its copy.
  for (const ProgramOutput& out : program_->outputs) {
    last_step_[out.buffer] = static_cast<int>(program_->steps.size());
  }
  PlanArena();
  return std::move(program_);
}

}  // namespace halftone
