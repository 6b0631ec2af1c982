// Recurrent layers: LSTM, GRU, RNN.
//
// Shapes with layout 0: X[seq,batch,in], W[dirs,G·H,in], R[dirs,G·H,H], B[dirs,2·G·H], states
// [dirs,batch,H], Y[seq,dirs,batch,H]; G gates of H units. Layout 1 puts batch first.
#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/ascii.h"
#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"

namespace halftone {
namespace {

// --- activations ---------------------------------------------------------------------------------

using ActivationFn = double (*)(double x, double alpha, double beta);
struct ActivationRow {
  absl::string_view name;
  ActivationFn fn;
  double alpha, beta;  // defaults
  int parameters;      // how many of activation_alpha and activation_beta it takes: 0, alpha, both
};
constexpr std::array kActivations = {
    ActivationRow{"sigmoid", [](double x, double, double) { return 1 / (1 + std::exp(-x)); }, 0, 0,
                  0},
    ActivationRow{"tanh", [](double x, double, double) { return std::tanh(x); }, 0, 0, 0},
    ActivationRow{"relu", [](double x, double, double) { return std::max(x, 0.0); }, 0, 0, 0},
    ActivationRow{"softsign", [](double x, double, double) { return x / (1 + std::abs(x)); }, 0, 0,
                  0},
    ActivationRow{"softplus", [](double x, double, double) { return std::log1p(std::exp(x)); }, 0,
                  0, 0},
    ActivationRow{"hardsigmoid",
                  [](double x, double a, double b) { return std::clamp(a * x + b, 0.0, 1.0); }, 0.2,
                  0.5, 2},
    ActivationRow{"affine", [](double x, double a, double b) { return a * x + b; }, 1, 0, 2},
    ActivationRow{"scaledtanh", [](double x, double a, double b) { return a * std::tanh(b * x); },
                  1, 1, 2},
    ActivationRow{"leakyrelu", [](double x, double a, double) { return x < 0 ? a * x : x; }, 0.01,
                  0, 1},
    ActivationRow{"thresholdedrelu", [](double x, double a, double) { return x > a ? x : 0; }, 1, 0,
                  1},
    ActivationRow{"elu", [](double x, double a, double) { return x < 0 ? a * std::expm1(x) : x; },
                  1, 0, 1},
};

struct Activation {
  ActivationFn fn;
  double alpha, beta;
  double operator()(double x) const { return fn(x, alpha, beta); }
};

// --- what the three layers differ in -------------------------------------------------------------

struct Layer {
  int gates;
  std::vector<std::string> activations;  // defaults of one direction
};
Layer LayerOf(const Node& node) {
  if (node.op() == "LSTM") return {4, {"Sigmoid", "Tanh", "Tanh"}};
  if (node.op() == "GRU") return {3, {"Sigmoid", "Tanh"}};
  return {1, {"Tanh"}};
}

template <typename Context>
absl::StatusOr<int64_t> Directions(const Context& c) {
  const std::string direction = c.attributes().String("direction", "forward");
  if (direction == "forward" || direction == "reverse") return int64_t{1};
  if (direction == "bidirectional") return int64_t{2};
  return c.Error(
      absl::StrCat("direction is '", direction, "', want forward, reverse or bidirectional"));
}

// Activations of all directions, one after the other.
template <typename Context>
absl::StatusOr<std::vector<Activation>> ReadActivations(const Context& c, int64_t directions) {
  const Layer layer = LayerOf(c.node());
  std::vector<std::string> names =
      c.attributes().template Get<std::vector<std::string>>("activations", {});
  if (names.empty()) {
    for (int64_t d = 0; d < directions; ++d) {
      names.insert(names.end(), layer.activations.begin(), layer.activations.end());
    }
  }
  if (names.size() != layer.activations.size() * directions) {
    return c.Error(absl::StrCat("got ", names.size(), " activations, want ",
                                layer.activations.size() * directions));
  }
  const auto alphas = c.attributes().template Get<std::vector<float>>("activation_alpha", {});
  const auto betas = c.attributes().template Get<std::vector<float>>("activation_beta", {});
  size_t next_alpha = 0, next_beta = 0;
  std::vector<Activation> out;
  for (const std::string& name : names) {
    const std::string lower = absl::AsciiStrToLower(name);
    const auto row = std::find_if(kActivations.begin(), kActivations.end(),
                                  [&](const ActivationRow& r) { return r.name == lower; });
    if (row == kActivations.end()) return c.Error(absl::StrCat("unknown activation '", name, "'"));
    Activation a = {row->fn, row->alpha, row->beta};
    if (row->parameters >= 1 && next_alpha < alphas.size()) a.alpha = alphas[next_alpha++];
    if (row->parameters >= 2 && next_beta < betas.size()) a.beta = betas[next_beta++];
    out.push_back(a);
  }
  return out;
}

bool BatchFirst(const Attributes& a) { return a.Int("layout", 0) != 0; }

// Fails when the known part of input i differs from `want`.
absl::Status CheckShape(const InferContext& c, int i, const Dims& want) {
  if (!c.has_input(i) || !c.input(i).shape.has_value()) return absl::OkStatus();
  const Dims& got = *c.input(i).shape;
  bool fits = got.size() == want.size();
  for (size_t d = 0; d < want.size() && fits; ++d) {
    fits = !got[d].known() || !want[d].known() || got[d].value == want[d].value;
  }
  if (fits) return absl::OkStatus();
  return c.Error(absl::StrCat("input ", i, " has shape ", ToString(c.input(i).shape), ", want ",
                              ToString(SymbolicShape(want))));
}

absl::Status InferRecurrent(InferContext& c) {
  for (const int i : {1, 2, 3, 5, 6, 7}) HT_RETURN_IF_ERROR(CheckSameType(c, 0, i));
  HT_RETURN_IF_ERROR(CheckType(c, 4, Types(DataType::kI32)));
  for (const int i : {0, 1, 2}) HT_RETURN_IF_ERROR(CheckRank(c, i, 3, 3));
  HT_ASSIGN_OR_RETURN(const int64_t directions, Directions(c));
  HT_RETURN_IF_ERROR(ReadActivations(c, directions).status());
  const int gates = LayerOf(c.node()).gates;
  const bool batch_first = BatchFirst(c.attributes());
  Dim hidden, seq, batch, in;
  if (const int64_t h = c.attributes().Int("hidden_size", -1); h > 0) hidden = h;
  if (c.input(2).shape.has_value()) {
    HT_ASSIGN_OR_RETURN(hidden, Unify(c, hidden, (*c.input(2).shape)[2]));
  }
  if (const SymbolicShape& x = c.input(0).shape; x.has_value()) {
    seq = (*x)[batch_first ? 1 : 0];
    batch = (*x)[batch_first ? 0 : 1];
    in = (*x)[2];
  }
  const auto rows = [&](int64_t factor) {
    return hidden.known() ? Dim(hidden.value * factor) : Dim();
  };
  if (hidden.known() && hidden.value > (int64_t{1} << 31))
    return c.Error("hidden_size is too large");
  const Dim dirs = directions;
  const Dims state = batch_first ? Dims{batch, dirs, hidden} : Dims{dirs, batch, hidden};
  HT_RETURN_IF_ERROR(CheckShape(c, 1, {dirs, rows(gates), in}));
  HT_RETURN_IF_ERROR(CheckShape(c, 2, {dirs, rows(gates), hidden}));
  HT_RETURN_IF_ERROR(CheckShape(c, 3, {dirs, rows(2 * gates)}));
  HT_RETURN_IF_ERROR(CheckShape(c, 4, {batch}));
  HT_RETURN_IF_ERROR(CheckShape(c, 5, state));
  HT_RETURN_IF_ERROR(CheckShape(c, 6, state));
  HT_RETURN_IF_ERROR(CheckShape(c, 7, {dirs, rows(3)}));
  c.set_output(0, c.input(0).type,
               batch_first ? Dims{batch, seq, dirs, hidden} : Dims{seq, dirs, batch, hidden});
  for (const int i : {1, 2}) c.set_output(i, c.input(0).type, state);
  return absl::OkStatus();
}

// --- one direction of one sequence ---------------------------------------------------------------

// Sizes and positions of everything in memory.
struct Sizes {
  int64_t seq, batch, in, hidden, directions;
  bool batch_first;

  int64_t Input(int64_t t, int64_t b) const {
    return (batch_first ? b * seq + t : t * batch + b) * in;
  }
  int64_t Output(int64_t t, int64_t d, int64_t b) const {
    return (batch_first ? (b * seq + t) * directions + d : (t * directions + d) * batch + b) *
           hidden;
  }
  int64_t State(int64_t d, int64_t b) const {
    return (batch_first ? b * directions + d : d * batch + b) * hidden;
  }
};

template <typename T>
double Dot(const T* a, const T* b, int64_t n) {
  T sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// The parameters of one direction; null where absent.
template <typename T>
struct Cell {
  const T* w;          // [G·H, in]
  const T* r;          // [G·H, H]
  const T* bias;       // [2·G·H] or null
  const T* peepholes;  // [3·H] or null
  absl::Span<const Activation> activations;
  int64_t in, hidden;
  int gates;
  double clip;  // infinity: none
  bool input_forget, linear_before_reset;

  double InputBias(int64_t row) const { return bias == nullptr ? 0 : bias[row]; }
  double RecurrentBias(int64_t row) const {
    return bias == nullptr ? 0 : bias[gates * hidden + row];
  }
  double FromInput(int64_t row, const T* x) const {
    return Dot(w + row * in, x, in) + InputBias(row);
  }
  double FromState(int64_t row, const T* h) const {
    return Dot(r + row * hidden, h, hidden) + RecurrentBias(row);
  }
  double Clipped(double v) const { return std::clamp(v, -clip, clip); }
  double Peephole(int gate, int64_t j) const {
    return peepholes == nullptr ? 0 : peepholes[gate * hidden + j];
  }
};

// Gates in the order i, o, f, c; peepholes i, o, f.
template <typename T>
void LstmStep(const Cell<T>& cell, const T* x, std::vector<T>& h, std::vector<T>& c) {
  const int64_t n = cell.hidden;
  std::vector<T> next(h.size());
  for (int64_t j = 0; j < n; ++j) {
    const auto gate = [&](int g) {
      return cell.FromInput(g * n + j, x) + cell.FromState(g * n + j, h.data());
    };
    const double before = c[j];
    const double i = cell.activations[0](cell.Clipped(gate(0) + cell.Peephole(0, j) * before));
    const double f =
        cell.input_forget
            ? 1 - i
            : cell.activations[0](cell.Clipped(gate(2) + cell.Peephole(2, j) * before));
    const double now = f * before + i * cell.activations[1](cell.Clipped(gate(3)));
    const double o = cell.activations[0](cell.Clipped(gate(1) + cell.Peephole(1, j) * now));
    c[j] = static_cast<T>(now);
    next[j] = static_cast<T>(o * cell.activations[2](now));
  }
  h = std::move(next);
}

// Gates in the order z, r, h.
template <typename T>
void GruStep(const Cell<T>& cell, const T* x, std::vector<T>& h, std::vector<T>&) {
  const int64_t n = cell.hidden;
  std::vector<double> update(h.size()), reset(h.size());
  std::vector<T> gated(h.size()), next(h.size());
  for (int64_t j = 0; j < n; ++j) {
    const auto gate = [&](int g) {
      return cell.activations[0](
          cell.Clipped(cell.FromInput(g * n + j, x) + cell.FromState(g * n + j, h.data())));
    };
    update[j] = gate(0);
    reset[j] = gate(1);
    gated[j] = static_cast<T>(reset[j] * h[j]);
  }
  for (int64_t j = 0; j < n; ++j) {
    const int64_t row = 2 * n + j;
    const double recurrent = cell.linear_before_reset ? reset[j] * cell.FromState(row, h.data())
                                                      : cell.FromState(row, gated.data());
    const double candidate = cell.activations[1](cell.Clipped(cell.FromInput(row, x) + recurrent));
    next[j] = static_cast<T>((1 - update[j]) * candidate + update[j] * h[j]);
  }
  h = std::move(next);
}

template <typename T>
void RnnStep(const Cell<T>& cell, const T* x, std::vector<T>& h, std::vector<T>&) {
  std::vector<T> next(h.size());
  for (int64_t j = 0; j < cell.hidden; ++j) {
    next[j] = static_cast<T>(
        cell.activations[0](cell.Clipped(cell.FromInput(j, x) + cell.FromState(j, h.data()))));
  }
  h = std::move(next);
}

template <typename T>
using StepFn = void (*)(const Cell<T>&, const T*, std::vector<T>&, std::vector<T>&);

template <typename T>
StepFn<T> StepOf(const Node& node) {
  if (node.op() == "LSTM") return LstmStep<T>;
  return node.op() == "GRU" ? GruStep<T> : RnnStep<T>;
}

template <typename T>
const T* Part(const EvalContext& c, int i, int64_t direction, int64_t directions) {
  if (!c.has_input(i)) return nullptr;
  return Raw<T>(c.input(i)) + direction * (c.input(i).num_elements() / directions);
}

template <typename T>
Cell<T> CellOf(const EvalContext& c, const Sizes& s, int64_t d,
               absl::Span<const Activation> activations) {
  const Attributes& a = c.attributes();
  const size_t per_direction = activations.size() / s.directions;
  return {.w = Part<T>(c, 1, d, s.directions),
          .r = Part<T>(c, 2, d, s.directions),
          .bias = Part<T>(c, 3, d, s.directions),
          .peepholes = Part<T>(c, 7, d, s.directions),
          .activations = activations.subspan(d * per_direction, per_direction),
          .in = s.in,
          .hidden = s.hidden,
          .gates = LayerOf(c.node()).gates,
          .clip = a.Has("clip") ? std::abs(a.Float("clip", 0)) : HUGE_VAL,
          .input_forget = a.Int("input_forget", 0) != 0,
          .linear_before_reset = a.Int("linear_before_reset", 0) != 0};
}

// Runs one sequence through one direction. Steps beyond its length give zeros.
template <typename T>
void RunSequence(EvalContext& c, const Sizes& s, const Cell<T>& cell, int64_t d, int64_t b,
                 bool reverse) {
  const auto initial = [&](int i) {
    std::vector<T> state(static_cast<size_t>(s.hidden), T{0});
    if (c.has_input(i)) std::copy_n(Raw<T>(c.input(i)) + s.State(d, b), s.hidden, state.begin());
    return state;
  };
  std::vector<T> h = initial(5), cell_state = initial(6);
  int64_t length = s.seq;
  if (c.has_input(4)) length = std::clamp<int64_t>(c.input(4).data<int32_t>()[b], 0, s.seq);
  const StepFn<T> step = StepOf<T>(c.node());
  for (int64_t i = 0; i < length; ++i) {
    const int64_t t = reverse ? length - 1 - i : i;
    step(cell, Raw<T>(c.input(0)) + s.Input(t, b), h, cell_state);
    if (c.has_output(0))
      std::copy(h.begin(), h.end(), MutableRaw<T>(c.outputs()[0]) + s.Output(t, d, b));
  }
  for (int64_t t = length; t < s.seq && c.has_output(0); ++t) {
    std::fill_n(MutableRaw<T>(c.outputs()[0]) + s.Output(t, d, b), s.hidden, T{0});
  }
  const std::vector<T>* states[] = {&h, &cell_state};
  for (const int i : {1, 2}) {
    if (!c.has_output(i)) continue;
    std::copy(states[i - 1]->begin(), states[i - 1]->end(),
              MutableRaw<T>(c.outputs()[i]) + s.State(d, b));
  }
}

absl::Status EvalRecurrent(EvalContext& c) {
  for (int i = 0; i < c.num_outputs(); ++i) {
    if (c.has_output(i)) HT_RETURN_IF_ERROR(c.Allocate(i).status());
  }
  HT_ASSIGN_OR_RETURN(const int64_t directions, Directions(c));
  HT_ASSIGN_OR_RETURN(const std::vector<Activation> activations, ReadActivations(c, directions));
  const Tensor& x = c.input(0);
  const bool batch_first = BatchFirst(c.attributes());
  const Sizes s = {.seq = x.dim(batch_first ? 1 : 0),
                   .batch = x.dim(batch_first ? 0 : 1),
                   .in = x.dim(2),
                   .hidden = c.input(2).dim(2),
                   .directions = directions,
                   .batch_first = batch_first};
  const bool backwards = c.attributes().String("direction", "forward") == "reverse";
  return DispatchFloat(c, x.type(), [&](auto tag) {
    using T = decltype(tag);
    for (int64_t d = 0; d < directions; ++d) {
      const Cell<T> cell = CellOf<T>(c, s, d, activations);
      for (int64_t b = 0; b < s.batch; ++b) RunSequence<T>(c, s, cell, d, b, backwards || d == 1);
    }
  });
}

constexpr OpDef Recurrent(absl::string_view name, int since, int inputs, int outputs) {
  return {.name = name,
          .since_opset = since,
          .inputs = {3, inputs},
          .outputs = {0, outputs},
          .infer = InferRecurrent,
          .eval = Widened<EvalRecurrent>,
          .types = kFloatTypes,
          .tolerance = kAccumulate};
}

constexpr std::array kRows = {
    Recurrent("LSTM", 7, 8, 3),
    Recurrent("GRU", 7, 6, 2),
    Recurrent("RNN", 7, 6, 2),
};

}  // namespace

absl::Span<const OpDef> RecurrentOps() { return kRows; }

}  // namespace halftone
