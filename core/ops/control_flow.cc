// Operators that hold graphs: If, Loop, Scan.
//
// A nested graph is closed (see graph.h): what it captures are the trailing inputs of the node and,
// in the same order, the trailing inputs of the nested graph.
#include <algorithm>
#include <array>
#include <cstring>

#include "core/base/status_macros.h"
#include "core/ops/eval_budget.h"
#include "core/ops/eval_util.h"
#include "core/ops/evaluate.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"

namespace halftone {
namespace {

absl::StatusOr<const Graph*> Nested(const Node& node, absl::string_view attribute, int inputs,
                                    int outputs) {
  const auto* graph = node.attributes().Find<SubgraphPtr>(attribute);
  if (graph == nullptr || *graph == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(Describe(node), ": attribute ", attribute, " holds no graph"));
  }
  const int got_inputs = static_cast<int>((*graph)->inputs().size());
  const int got_outputs = static_cast<int>((*graph)->outputs().size());
  if (got_inputs != inputs || got_outputs != outputs) {
    return absl::InvalidArgumentError(absl::StrCat(Describe(node), ": ", attribute, " has ",
                                                   got_inputs, " inputs and ", got_outputs,
                                                   " outputs, want ", inputs, " and ", outputs));
  }
  return graph->get();
}

// What a nested graph's inputs are known to be.
struct NestedInput {
  ValueType type;
  const Tensor* constant = nullptr;
};

// Types of a nested graph's outputs for such inputs.
absl::StatusOr<std::vector<ValueType>> InferNested(const Graph& graph,
                                                   absl::Span<const NestedInput> inputs) {
  Graph copy = graph.Clone();
  const std::vector<Value*> values = copy.inputs();
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].constant != nullptr) {
      Value* constant =
          copy.AddConstant(absl::StrCat(values[i]->name(), "_value"), *inputs[i].constant);
      copy.ReplaceUses(values[i], constant);
    } else if (inputs[i].type.type.has_value()) {
      values[i]->set_type(inputs[i].type);
    }
  }
  // Enough for shape arithmetic; the branch itself is evaluated later, if at all.
  HT_RETURN_IF_ERROR(InferShapes(copy, {.fold_elements = 64, .fold_subgraphs = false}));
  std::vector<ValueType> out;
  for (const Value* v : copy.outputs()) out.push_back(v->type());
  return out;
}

std::vector<NestedInput> Captures(const InferContext& c) {
  std::vector<NestedInput> out;
  for (int i = c.num_inputs() - c.node().num_captures(); i < c.num_inputs(); ++i) {
    out.push_back({c.has_input(i) ? c.input(i) : ValueType{}, c.constant(i)});
  }
  return out;
}

// Appends the node's captures to a nested graph's own inputs.
void AppendCaptures(const EvalContext& c, std::vector<Tensor>& inputs) {
  for (int i = c.num_inputs() - c.node().num_captures(); i < c.num_inputs(); ++i) {
    inputs.push_back(c.has_input(i) ? c.input(i) : Tensor());
  }
}

// What holds for both types.
ValueType Common(const ValueType& a, const ValueType& b) {
  ValueType out;
  if (a.type == b.type) out.type = a.type;
  if (!a.shape.has_value() || !b.shape.has_value() || a.shape->size() != b.shape->size())
    return out;
  out.shape = Dims(a.shape->size());
  for (size_t i = 0; i < a.shape->size(); ++i) {
    if ((*a.shape)[i] == (*b.shape)[i]) (*out.shape)[i] = (*a.shape)[i];
  }
  return out;
}

absl::StatusOr<bool> OneBool(const Node& node, const Tensor& t) {
  if (t.type() != DataType::kBool || t.num_elements() != 1) {
    return absl::InvalidArgumentError(absl::StrCat(Describe(node), ": the condition is ",
                                                   Name(t.type()), ToString(t.shape()),
                                                   ", want one bool"));
  }
  return t.data<bool>()[0];
}

// --- If ------------------------------------------------------------------------------------------

absl::Status InferIf(InferContext& c) {
  if (!c.has_input(0)) return c.Error("the condition is absent");
  HT_RETURN_IF_ERROR(CheckOneElement(c, 0));
  std::vector<absl::string_view> branches = {"then_branch", "else_branch"};
  // With a known condition the other branch may be nonsense for these shapes.
  if (c.constant(0) != nullptr) {
    HT_ASSIGN_OR_RETURN(const bool condition, OneBool(c.node(), *c.constant(0)));
    branches = {condition ? "then_branch" : "else_branch"};
  }
  std::optional<std::vector<ValueType>> types;
  for (const absl::string_view branch : branches) {
    HT_ASSIGN_OR_RETURN(const Graph* graph,
                        Nested(c.node(), branch, c.node().num_captures(), c.num_outputs()));
    absl::StatusOr<std::vector<ValueType>> found = InferNested(*graph, Captures(c));
    if (!found.ok()) return Annotate(found.status(), absl::StrCat(Describe(c.node()), " ", branch));
    for (int i = 0; i < c.num_outputs() && types.has_value(); ++i) {
      (*found)[i] = Common((*found)[i], (*types)[i]);
    }
    types = *std::move(found);
  }
  for (int i = 0; i < c.num_outputs(); ++i) c.set_output(i, (*types)[i].type, (*types)[i].shape);
  return absl::OkStatus();
}

absl::Status EvalIf(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(const bool condition, OneBool(c.node(), c.input(0)));
  HT_ASSIGN_OR_RETURN(const Graph* graph,
                      Nested(c.node(), condition ? "then_branch" : "else_branch",
                             c.node().num_captures(), c.num_outputs()));
  std::vector<Tensor> inputs;
  AppendCaptures(c, inputs);
  absl::StatusOr<std::vector<Tensor>> results = EvaluateGraph(*graph, inputs);
  if (!results.ok()) return Annotate(results.status(), Describe(c.node()));
  for (int i = 0; i < c.num_outputs(); ++i) c.set_output(i, std::move((*results)[i]));
  return absl::OkStatus();
}

// --- Scan outputs: one slice per iteration, stacked along an axis --------------------------------

absl::StatusOr<Tensor> Stack(const Node& node, const std::vector<Tensor>& slices, int64_t axis) {
  const Tensor& first = slices[0];
  for (const Tensor& s : slices) {
    if (s.type() != first.type() || s.shape() != first.shape()) {
      return absl::InvalidArgumentError(
          absl::StrCat(Describe(node), ": a scan output changes its type or shape"));
    }
  }
  if (BitWidth(first.type()) < 8) {
    std::vector<Tensor> bytes;
    for (const Tensor& s : slices) {
      HT_ASSIGN_OR_RETURN(bytes.emplace_back(), Unpack4(s));
    }
    HT_ASSIGN_OR_RETURN(const Tensor stacked, Stack(node, bytes, axis));
    return Pack4(stacked, first.type());
  }
  Shape shape = first.shape();
  const int64_t outer = DimProduct(shape, 0, axis);
  const int64_t inner = first.num_bytes() / std::max<int64_t>(outer, 1);
  shape.insert(shape.begin() + axis, static_cast<int64_t>(slices.size()));
  HT_RETURN_IF_ERROR(SpendBytes(first.num_bytes() * static_cast<int64_t>(slices.size())));
  HT_ASSIGN_OR_RETURN(Tensor out, Tensor::Create(first.type(), shape));
  std::byte* to = out.mutable_raw();
  for (int64_t o = 0; o < outer && inner > 0; ++o) {
    for (const Tensor& s : slices) {
      std::memcpy(to, s.raw() + o * inner, static_cast<size_t>(inner));
      to += inner;
    }
  }
  return out;
}

// --- Loop ----------------------------------------------------------------------------------------

// Inputs: trip count, condition, states…; body inputs: iteration, condition, states…; body outputs:
// condition, states…, slices….
struct LoopLayout {
  const Graph* body;
  int states, slices;
};

template <typename Context>
absl::StatusOr<LoopLayout> ReadLoop(const Context& c) {
  const int states = c.num_inputs() - c.node().num_captures() - 2;
  const int slices = c.num_outputs() - states;
  if (slices < 0) return c.Error(absl::StrCat("got ", c.num_outputs(), " outputs, want ", states));
  HT_ASSIGN_OR_RETURN(const Graph* body,
                      Nested(c.node(), "body", c.num_inputs(), 1 + c.num_outputs()));
  return LoopLayout{body, states, slices};
}

absl::Status InferLoop(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, kBoolType));
  for (const int i : {0, 1}) HT_RETURN_IF_ERROR(CheckOneElement(c, i));
  HT_ASSIGN_OR_RETURN(const LoopLayout loop, ReadLoop(c));
  std::vector<NestedInput> inputs = {{{DataType::kI64, Dims()}}, {{DataType::kBool, Dims()}}};
  for (int i = 0; i < loop.states; ++i) {
    if (!c.has_input(2 + i)) return c.Error("a state is absent");
    // A state may change its shape from one iteration to the next, so only its type is certain.
    inputs.push_back({{c.input(2 + i).type, std::nullopt}});
  }
  for (NestedInput& capture : Captures(c)) inputs.push_back(std::move(capture));
  absl::StatusOr<std::vector<ValueType>> types = InferNested(*loop.body, inputs);
  if (!types.ok()) return Annotate(types.status(), absl::StrCat(Describe(c.node()), " body"));
  for (int i = 0; i < loop.states; ++i) {
    const ValueType& type = (*types)[1 + i];
    const ValueType both = Common(type, c.input(2 + i));
    c.set_output(i, both.type.has_value() ? both.type : c.input(2 + i).type, both.shape);
  }
  for (int i = loop.states; i < c.num_outputs(); ++i) {
    ValueType type = (*types)[1 + i];
    if (type.shape.has_value()) type.shape->insert(type.shape->begin(), Dim());
    c.set_output(i, type.type, std::move(type.shape));
  }
  return absl::OkStatus();
}

absl::Status EvalLoop(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(const LoopLayout loop, ReadLoop(c));
  const int64_t trips =
      c.has_input(0) ? c.input(0).data<int64_t>()[0] : std::numeric_limits<int64_t>::max();
  bool going = true;
  if (c.has_input(1)) {
    HT_ASSIGN_OR_RETURN(going, OneBool(c.node(), c.input(1)));
  }
  std::vector<Tensor> states;
  for (int i = 0; i < loop.states; ++i) states.push_back(c.input(2 + i));
  std::vector<std::vector<Tensor>> slices(loop.slices);
  for (int64_t trip = 0; trip < trips && going; ++trip) {
    std::vector<Tensor> inputs = {Tensor::Scalar<int64_t>(trip), Tensor::Scalar<bool>(going)};
    inputs.insert(inputs.end(), states.begin(), states.end());
    AppendCaptures(c, inputs);
    absl::StatusOr<std::vector<Tensor>> results = EvaluateGraph(*loop.body, inputs);
    if (!results.ok()) return Annotate(results.status(), Describe(c.node()));
    HT_ASSIGN_OR_RETURN(going, OneBool(c.node(), (*results)[0]));
    for (int i = 0; i < loop.states; ++i) states[i] = std::move((*results)[1 + i]);
    for (int i = 0; i < loop.slices; ++i) {
      slices[i].push_back(std::move((*results)[1 + loop.states + i]));
    }
  }
  for (int i = 0; i < loop.states; ++i) c.set_output(i, std::move(states[i]));
  for (int i = 0; i < loop.slices; ++i) {
    const int out = loop.states + i;
    if (!slices[i].empty()) {
      HT_ASSIGN_OR_RETURN(Tensor stacked, Stack(c.node(), slices[i], 0));
      c.set_output(out, std::move(stacked));
      continue;
    }
    // No iteration ran: no slices of the shape that inference knows.
    const ValueType& type = c.output_types()[out];
    Shape shape = {0};
    for (size_t d = 1; type.shape.has_value() && d < type.shape->size(); ++d) {
      shape.push_back(std::max<int64_t>(0, (*type.shape)[d].value));
    }
    HT_RETURN_IF_ERROR(c.Allocate(out, type.type.value_or(DataType::kF32), shape).status());
  }
  return absl::OkStatus();
}

// --- Scan: states, then sequences that are cut into slices ---------------------------------------

struct ScanLayout {
  const Graph* body;
  int first;  // the input that holds the first state
  int states, sequences, slices;
};

// Scan-8 runs for every sample of a batch, and its first input holds lengths.
bool HasBatch(int opset) { return opset < 9; }

template <typename Context>
absl::StatusOr<ScanLayout> ReadScan(const Context& c) {
  const int first = HasBatch(c.opset()) ? 1 : 0;
  const int own_inputs = c.num_inputs() - c.node().num_captures() - first;
  const int64_t sequences = c.attributes().Int("num_scan_inputs", 0);
  if (sequences < 1 || sequences > own_inputs) {
    return c.Error(absl::StrCat("num_scan_inputs is ", sequences, " of ", own_inputs, " inputs"));
  }
  const int states = own_inputs - static_cast<int>(sequences), slices = c.num_outputs() - states;
  if (slices < 0) return c.Error(absl::StrCat("got ", c.num_outputs(), " outputs, want ", states));
  HT_ASSIGN_OR_RETURN(const Graph* body,
                      Nested(c.node(), "body", c.num_inputs() - first, c.num_outputs()));
  return ScanLayout{body, first, states, static_cast<int>(sequences), slices};
}

// Element i of an attribute with one value per sequence, 0 by default.
int64_t PerSequence(const Attributes& a, absl::string_view name, int i) {
  const std::vector<int64_t> values = a.Ints(name);
  return i < static_cast<int>(values.size()) ? values[i] : 0;
}

// Takes an axis off a shape, if it is known, and brings its size together with `size`.
absl::Status TakeAxis(const InferContext& c, SymbolicShape& shape, int64_t axis, Dim& size) {
  if (!shape.has_value()) return absl::OkStatus();
  HT_ASSIGN_OR_RETURN(axis, NormalizeAxis(c, axis, static_cast<int64_t>(shape->size())));
  HT_ASSIGN_OR_RETURN(size, Unify(c, size, (*shape)[axis]));
  shape->erase(shape->begin() + axis);
  return absl::OkStatus();
}

absl::Status InferScan(InferContext& c) {
  HT_ASSIGN_OR_RETURN(const ScanLayout scan, ReadScan(c));
  const bool batched = HasBatch(c.opset());
  std::vector<NestedInput> inputs;
  Dim length, batch;
  for (int i = 0; i < scan.states + scan.sequences; ++i) {
    if (!c.has_input(scan.first + i)) return c.Error(absl::StrCat("input ", i, " is absent"));
    ValueType type = c.input(scan.first + i);
    if (batched) HT_RETURN_IF_ERROR(TakeAxis(c, type.shape, 0, batch));
    if (i >= scan.states) {
      const int64_t axis =
          batched ? 0 : PerSequence(c.attributes(), "scan_input_axes", i - scan.states);
      HT_RETURN_IF_ERROR(TakeAxis(c, type.shape, axis, length));
    }
    inputs.push_back({std::move(type)});
  }
  for (NestedInput& capture : Captures(c)) inputs.push_back(std::move(capture));
  absl::StatusOr<std::vector<ValueType>> types = InferNested(*scan.body, inputs);
  if (!types.ok()) return Annotate(types.status(), absl::StrCat(Describe(c.node()), " body"));
  for (int i = 0; i < c.num_outputs(); ++i) {
    ValueType type = (*types)[i];
    if (i >= scan.states && type.shape.has_value()) {
      int64_t axis = batched ? 0 : PerSequence(c.attributes(), "scan_output_axes", i - scan.states);
      HT_ASSIGN_OR_RETURN(axis,
                          NormalizeAxis(c, axis, static_cast<int64_t>(type.shape->size()) + 1));
      type.shape->insert(type.shape->begin() + axis, length);
    }
    if (batched && type.shape.has_value()) type.shape->insert(type.shape->begin(), batch);
    c.set_output(i, type.type, std::move(type.shape));
  }
  return absl::OkStatus();
}

// Element t of a tensor along an axis, without that axis.
absl::StatusOr<Tensor> SliceAt(const EvalContext& c, const Tensor& x, int64_t axis, int64_t t) {
  Shape shape = x.shape(), strides = RowMajorStrides(x.shape());
  const int64_t start = t * strides[axis];
  shape.erase(shape.begin() + axis);
  strides.erase(strides.begin() + axis);
  HT_RETURN_IF_ERROR(
      SpendBytes(x.num_bytes() / std::max<int64_t>(1, x.dim(static_cast<int>(axis)))));
  HT_ASSIGN_OR_RETURN(Tensor out, Tensor::Create(x.type(), shape));
  HT_RETURN_IF_ERROR(StridedCopy(c, x, start, shape, strides, out));
  return out;
}

struct ScanResult {
  std::vector<Tensor> states;
  std::vector<std::vector<Tensor>> slices;  // per scan output
};

// Runs the body `length` times; sequence i is cut along axes[i], backwards if `directions` says so.
absl::StatusOr<ScanResult> RunScan(const EvalContext& c, const ScanLayout& scan,
                                   std::vector<Tensor> states, const std::vector<Tensor>& sequences,
                                   const Shape& axes, int64_t length,
                                   absl::string_view directions) {
  ScanResult run = {std::move(states), std::vector<std::vector<Tensor>>(scan.slices)};
  for (int64_t t = 0; t < length; ++t) {
    std::vector<Tensor> inputs = run.states;
    for (int i = 0; i < scan.sequences; ++i) {
      const bool backwards = PerSequence(c.attributes(), directions, i) != 0;
      HT_ASSIGN_OR_RETURN(inputs.emplace_back(),
                          SliceAt(c, sequences[i], axes[i], backwards ? length - 1 - t : t));
    }
    AppendCaptures(c, inputs);
    absl::StatusOr<std::vector<Tensor>> results = EvaluateGraph(*scan.body, inputs);
    if (!results.ok()) return Annotate(results.status(), Describe(c.node()));
    for (int i = 0; i < scan.states; ++i) run.states[i] = std::move((*results)[i]);
    for (int i = 0; i < scan.slices; ++i) {
      run.slices[i].push_back(std::move((*results)[scan.states + i]));
    }
  }
  return run;
}

absl::Status EvalScan(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(const ScanLayout scan, ReadScan(c));
  const Attributes& a = c.attributes();
  std::vector<Tensor> states, sequences;
  Shape axes;
  for (int i = 0; i < scan.states; ++i) states.push_back(c.input(i));
  for (int i = 0; i < scan.sequences; ++i) {
    sequences.push_back(c.input(scan.states + i));
    axes.push_back(Axis(PerSequence(a, "scan_input_axes", i), sequences[i].rank()));
  }
  HT_ASSIGN_OR_RETURN(ScanResult run, RunScan(c, scan, std::move(states), sequences, axes,
                                              sequences[0].dim(static_cast<int>(axes[0])),
                                              "scan_input_directions"));
  for (int i = 0; i < scan.states; ++i) c.set_output(i, std::move(run.states[i]));
  for (int i = 0; i < scan.slices; ++i) {
    const int out = scan.states + i;
    std::vector<Tensor>& slices = run.slices[i];
    if (slices.empty()) {
      HT_RETURN_IF_ERROR(c.Allocate(out).status());
      continue;
    }
    if (PerSequence(a, "scan_output_directions", i) != 0) {
      std::reverse(slices.begin(), slices.end());
    }
    const int64_t axis = Axis(PerSequence(a, "scan_output_axes", i), slices[0].rank() + 1);
    HT_ASSIGN_OR_RETURN(Tensor stacked, Stack(c.node(), slices, axis));
    c.set_output(out, std::move(stacked));
  }
  return absl::OkStatus();
}

// Copies `part` to element `index` of the outer axes of `out`.
absl::Status PutAt(const EvalContext& c, const Tensor& part, int64_t index, Tensor& out) {
  const int64_t bytes = part.num_bytes();
  if (part.type() != out.type() || (index + 1) * bytes > out.num_bytes()) {
    return c.Error("a state or scan output changes its type or shape");
  }
  if (bytes > 0) std::memcpy(out.mutable_raw() + index * bytes, part.raw(), bytes);
  return absl::OkStatus();
}

// Every sample runs on its own; what lies behind a sample's length is zero.
absl::Status EvalBatchedScan(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(const ScanLayout scan, ReadScan(c));
  for (int i = 0; i < c.num_outputs(); ++i) {
    HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(i));
    std::memset(out->mutable_raw(), 0, static_cast<size_t>(out->num_bytes()));
  }
  const int own = scan.states + scan.sequences;
  const Tensor& sequence = c.input(scan.first + scan.states);
  const int64_t batch = sequence.dim(0), steps = sequence.dim(1);
  for (int64_t b = 0; b < batch; ++b) {
    std::vector<Tensor> states, sequences;
    for (int i = 0; i < own; ++i) {
      HT_ASSIGN_OR_RETURN((i < scan.states ? states : sequences).emplace_back(),
                          SliceAt(c, c.input(scan.first + i), 0, b));
    }
    const int64_t length =
        c.has_input(0) ? std::clamp<int64_t>(c.input(0).data<int64_t>()[b], 0, steps) : steps;
    HT_ASSIGN_OR_RETURN(const ScanResult run,
                        RunScan(c, scan, std::move(states), sequences, Shape(scan.sequences, 0),
                                length, "directions"));
    for (int i = 0; i < scan.states; ++i) {
      HT_RETURN_IF_ERROR(PutAt(c, run.states[i], b, c.outputs()[i]));
    }
    for (int i = 0; i < scan.slices; ++i) {
      for (int64_t t = 0; t < length; ++t) {
        HT_RETURN_IF_ERROR(PutAt(c, run.slices[i][t], b * steps + t, c.outputs()[scan.states + i]));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status InferBatchedScan(InferContext& c) {
  HT_ASSIGN_OR_RETURN(const ScanLayout scan, ReadScan(c));
  const int sequence = scan.first + scan.states;
  if (c.has_input(sequence) && c.input(sequence).shape.has_value()) {
    HT_RETURN_IF_ERROR(CheckRank(c, sequence, 2, 64));
    HT_RETURN_IF_ERROR(CheckVector(c, 0, (*c.input(sequence).shape)[0]));
  }
  return InferScan(c);
}

constexpr OpDef Control(absl::string_view name, int since, Arity inputs, TypeSet types,
                        InferFn infer, EvalFn eval) {
  return {.name = name,
          .since_opset = since,
          .inputs = inputs,
          .outputs = {0, -1},
          .infer = infer,
          .eval = eval,
          .types = types,
          .tolerance = kAccumulate};
}

constexpr std::array kRows = {
    Control("If", 1, {1, 1}, kBoolType, InferIf, EvalIf),
    Control("Loop", 1, {2, -1}, Types(DataType::kI64), InferLoop, EvalLoop),
    // The lengths may be absent, so that no input must be there by number alone.
    Control("Scan", 8, {0, -1}, Types(DataType::kI64), InferBatchedScan, EvalBatchedScan),
    Control("Scan", 9, {1, -1}, kAllTypes, InferScan, EvalScan),
};

}  // namespace

absl::Span<const OpDef> ControlFlowOps() { return kRows; }

}  // namespace halftone
