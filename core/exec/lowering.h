// From a concrete graph to a Program: units (a node with what it fuses), places, rules.
#ifndef HALFTONE_CORE_EXEC_LOWERING_H_
#define HALFTONE_CORE_EXEC_LOWERING_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/exec/byte_function.h"
#include "core/exec/concat_slices.h"
#include "core/exec/cpu_features.h"
#include "core/exec/dnnl_util.h"
#include "core/exec/fusion.h"
#include "core/exec/program.h"
#include "core/exec/weight_store.h"
#include "core/ops/op_def.h"

namespace halftone {

// Channels last: [N, C, spatial…] stored as [N, spatial…, C]. Only for rank >= 3.
enum class Layout : uint8_t { kPlain, kChannelsLast };

// Part of a buffer, or its elements in another order: what slices and transposes are before
// somebody needs their bytes in a row. In elements; strides are 0 where an element repeats.
struct StridedView {
  Shape strides;  // one per logical dimension
  int64_t offset = 0;
};

// Where a value lives and how its elements are stored (e.g. an f32 value stored as bf16).
struct Place {
  BufferId buffer = -1;
  Layout layout = Layout::kPlain;  // of a view: the layout that it is cheaply copied to
  DataType type = DataType::kF32;
  std::shared_ptr<const StridedView> view = nullptr;  // null: the buffer is the value, dense
};

struct LoweringOptions {
  CpuFeatures features;
  int threads = 1;
  ComputeType compute = ComputeType::kAuto;  // see PlanOptions
  bool widen_once = false;                   // f16 and bf16 weights are f32 from packing on
  bool show_outputs = false;                 // see PlanOptions
  std::string scope;  // tells apart packed weights of graphs that share a store
};

// A piece of the graph that one rule lowers: an anchor node and neighbours that it absorbs.
// `inputs` are the values that it fetches; `nodes` end with the one whose outputs it defines.
struct Unit {
  Node* anchor = nullptr;
  std::vector<Node*> nodes;
  std::vector<const Value*> inputs;
  std::shared_ptr<const ComputeMatch> match;          // for multiply-accumulate anchors
  std::shared_ptr<const ByteFunction> byte_function;  // for a QuantizeLinear that ends one
};

// Builds one Program. Rules fetch inputs, define outputs and add steps in execution order.
class ProgramBuilder {
 public:
  ProgramBuilder(Graph graph, const LoweringOptions& options, WeightStore& weights);

  // Lowers the whole graph.
  absl::StatusOr<std::unique_ptr<Program>> Build();

  const LoweringOptions& options() const { return options_; }
  WeightStore& weights() { return weights_; }
  const Graph& graph() const { return *graph_; }  // the one being lowered, maybe a nested one

  // What the node's inference saw: for readers of arguments (core/ops/known_arguments.h).
  InferContext Arguments(const Node& node) const;

  // --- shapes ---
  // Requires: the value is static (see IsStatic).
  Shape ShapeOf(const Value* value) const;
  bool IsStatic(const Value* value) const;  // known type and concrete shape, not dynamic

  // --- places ---
  // Where a value is now; constants are plain.
  Place PlaceOf(const Value* value);
  // The layout in which it is cheapest to read.
  Layout LayoutOf(const Value* value);
  // What to read it as: bf16 where it lies as that, else its logical type.
  DataType ReadType(const Value* value) const;
  // A buffer that holds the value with this layout and stored type; adds conversion steps when it
  // does not yet (once per value and form).
  absl::StatusOr<BufferId> Fetch(const Value* value, Layout layout, DataType stored);
  absl::StatusOr<BufferId> FetchPlain(const Value* value);  // as stored by its logical type
  // A fresh arena buffer for an output.
  BufferId Define(const Value* value, Layout layout, DataType stored);
  // How to read the value, stored by its logical type, in whatever order it lies: the strides that
  // it has, and no copy unless its stored type differs.
  struct StridedSource {
    BufferId buffer = -1;
    StridedView view;
  };
  absl::StatusOr<StridedSource> FetchStrided(const Value* value);
  // The output is part of a buffer that already exists. Dense views become ordinary places.
  void DefineView(const Value* value, const StridedSource& source);
  // Where to put a value, stored like this, that a Concat is waiting for (see FindConcatSlices): a
  // part of the buffer of that Concat, or of one around it. A rule that can write there says so by
  // DefineView; nullopt, and every other rule, leave the copy to the Concat.
  std::optional<StridedSource> SliceFor(const Value* value, Layout layout, DataType stored);
  // Where a Concat collects its result: in the layout of the first part that lies there, in
  // `layout` when there is none.
  StridedSource WholeFor(const Value* concat_output, Layout layout);
  // The output shares a buffer that already exists (views, in-place results).
  void DefineIn(const Value* value, Place place);
  // Arena space that no value owns.
  BufferId Temporary(int64_t bytes);
  BufferId Constant(Tensor tensor);
  // From its first step on, the arena buffer `part` is these bytes of the arena buffer `whole`, so
  // that nobody has to copy them there. False, and nothing changes, when `part` holds other than
  // `bytes` bytes or lies in a buffer already. Requires: no step has touched these bytes yet.
  bool PlaceInside(BufferId part, int64_t bytes, BufferId whole, int64_t byte_offset);
  // Lowers what a unit meant to absorb and then could not, so that PlaceOf knows the value.
  absl::Status EnsurePlaced(const Value* value);
  // A plain value that is created at run time: the output of a data-dependent node.
  BufferId DefineDynamic(const Value* value);
  // True when `source` is where the value itself lies, this unit is the last that reads anything
  // there, and it may be overwritten.
  bool MayOverwrite(const Value* value, BufferId source);
  // The output of a step that reads `input` from `source` and may write over it as it goes, stored
  // alike: there if that is allowed, else a fresh buffer.
  BufferId DefineOver(const Value* input, BufferId source, const Value* output, Layout layout,
                      DataType stored);
  void RequireScratch(int64_t bytes);

  // --- steps ---
  void AddStep(StepInfo info, std::vector<BufferId> touches,
               std::function<BoundStep(Binding&)> bind);
  // Lowers one node that a rule could not fuse, as its own unit.
  absl::Status LowerAlone(Node* node);

  // --- nested graphs ---
  // From here to the matching EndGuard, steps run only when the bool in `condition` is `when`.
  void BeginGuard(BufferId condition, bool when);
  void EndGuard();
  // Lowers a nested graph in place; its inputs are these values, which are placed already. The
  // result lives as long as the program. `name` is unique among the graphs nested in this one.
  absl::StatusOr<const Graph*> LowerNested(Graph nested, absl::string_view name,
                                           absl::Span<const Value* const> arguments);

 private:
  struct Guard {
    BufferId condition;
    bool when;
  };
  absl::Status LowerUnits(const Graph& graph);
  absl::Status LowerUnit(const Unit& unit);
  absl::StatusOr<bool> TryRules(const Unit& unit, bool fixed_outputs, std::string* reasons);
  // With show_outputs: a step that shows the value, once for each output that it is.
  absl::Status ShowIfOutput(const Value* value);
  absl::StatusOr<BufferId> ConvertPlace(const Value* value, const Place& from, Layout layout,
                                        DataType stored);
  void NoteUse(BufferId id);
  // The buffer of its own in which `id` lies, mostly itself.
  BufferId WholeOf(BufferId id) const;
  // Readers still to come of anything in that buffer.
  int& PendingOf(BufferId id) { return buffer_pending_[WholeOf(id)]; }
  void PlanArena();
  // So many more readers of the value are still to come, wherever it is stored.
  void ChangeUses(const Value* value, int by);

  LoweringOptions options_;
  WeightStore& weights_;
  std::unique_ptr<Program> program_;
  const Graph* graph_;
  std::vector<Guard> guards_;
  absl::flat_hash_map<const Value*, ConcatSlice> slices_;
  struct Whole {
    Layout layout;
    StridedSource at;
  };
  absl::flat_hash_map<const Value*, Whole> wholes_;  // by the output of the Concat
  absl::flat_hash_map<const Value*, Place> places_;
  absl::flat_hash_map<const Value*, std::vector<Place>> converted_;
  absl::flat_hash_map<const Value*, int> pending_uses_;  // units (and outputs) still to read it
  std::vector<int> buffer_pending_;                      // the same per buffer, see PendingOf
  std::vector<int> first_step_, last_step_;              // per buffer, -1: untouched
  absl::flat_hash_set<const Value*> dynamic_;
  absl::flat_hash_set<const Value*> shown_;
};

// One node as a unit of its own: weights in front of a multiply-accumulate node are still absorbed.
Unit SingleUnit(Node* node);

// Splits the graph into units in execution order; drops nodes that nothing needs.
absl::StatusOr<std::vector<Unit>> FormUnits(const Graph& graph);

// Rules return true when they lowered the unit; false with a reason leaves it to the next rule.
using Rule = absl::StatusOr<bool> (*)(ProgramBuilder&, const Unit&, std::string* reason);
struct NamedRule {
  absl::string_view name;
  Rule lower;
  bool dynamic_outputs = false;  // takes outputs whose shape only the run knows
};
// For an operator, the rules to try in order; the reference rule is not listed and always last.
absl::Span<const NamedRule> RulesFor(const Node& anchor);

// The last rule: evaluates the node with its table row.
absl::Status LowerReference(ProgramBuilder& builder, const Node& node, std::string reason);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_LOWERING_H_
