// LSTM, GRU and RNN with constant weights on our own kernel, which has them all. At batch 1 and 128
// hidden units, one thread, oneDNN's rnn primitives (3.7.2, brgemm) take 0.65 to 0.9 of its time
// for an LSTM of 1 to 100 steps, and 1.1 to 1.5 of it for a GRU that is linear before its reset.
#include "core/exec/kernels/recurrent.h"

#include <memory>

#include "absl/strings/ascii.h"
#include "core/base/status_macros.h"
#include "core/exec/lower/compute.h"
#include "core/exec/lower/panels.h"
#include "core/exec/lower/rules.h"

namespace halftone {
namespace {

enum Input { kX, kW, kR, kB, kLengths, kH0, kC0, kPeepholes };

// Which cell it is; nullopt when its activations are not those that the kernel has.
std::optional<CellKind> KindOf(const Node& node, int64_t directions) {
  const auto names = node.attributes().Get<std::vector<std::string>>("activations", {});
  const auto all_are = [&](std::vector<std::string> want) {
    if (names.empty()) return true;
    if (names.size() != want.size() * directions) return false;
    for (size_t i = 0; i < names.size(); ++i) {
      if (absl::AsciiStrToLower(names[i]) != want[i % want.size()]) return false;
    }
    return true;
  };
  if (node.op() == "LSTM" && all_are({"sigmoid", "tanh", "tanh"})) return CellKind::kLstm;
  if (node.op() == "GRU" && all_are({"sigmoid", "tanh"})) {
    return node.attributes().Int("linear_before_reset", 0) != 0 ? CellKind::kGruLinear
                                                                : CellKind::kGru;
  }
  if (node.op() == "RNN" && all_are({"tanh"})) return CellKind::kRnnTanh;
  if (node.op() == "RNN" && all_are({"relu"})) return CellKind::kRnnRelu;
  return std::nullopt;
}

// Everything of one direction that is known when the plan is made.
struct Direction {
  RecurrentLayer layer;
  PackedPanels w, r, r_candidate;
  std::vector<float> bias, candidate_bias;
};

// Rows [first, first + n) of a constant [directions, rows, k], packed once per plan.
absl::StatusOr<PackedPanels> Pack(ProgramBuilder& b, const Value* value, int64_t first, int64_t n,
                                  int64_t k) {
  return PackMatrix(b, value, {.k = k, .n = n, .k_stride = 1, .n_stride = k, .offset = first * k});
}

// Says how the matrix that every time step reads is stored and kept.
StepInfo Describe(const ProgramBuilder& b, const Node& node) {
  const auto weights = MatchWeights(node.input(kR), /*channel_axis=*/1);
  const bool widened =
      weights && weights->form != WeightForm::kF32 && PanelType(b, weights) == DataType::kF32;
  return {.node = node.name(),
          .op = node.op(),
          .implementation = "panels",
          .precision = weights ? WeightsName(*weights) : "f32",
          .detail = widened ? kWidenedOnce : ""};
}

absl::StatusOr<Direction> MakeDirection(ProgramBuilder& b, const Node& node,
                                        const RecurrentLayer& layer) {
  Direction d{.layer = layer};
  const int64_t n = layer.hidden, rows = GateCount(layer.kind) * n, first = layer.direction * rows;
  const bool gru = node.op() == "GRU";
  const int64_t at_once = gru ? 2 * n : rows;
  HT_ASSIGN_OR_RETURN(d.w, Pack(b, node.input(kW), first, rows, layer.in));
  HT_ASSIGN_OR_RETURN(d.r, Pack(b, node.input(kR), first, at_once, n));
  d.bias.assign(rows, 0.0f);
  d.candidate_bias.assign(n, 0.0f);
  if (gru) {
    HT_ASSIGN_OR_RETURN(d.r_candidate, Pack(b, node.input(kR), first + at_once, n, n));
  }
  if (node.input(kB) == nullptr) return d;
  const auto bias = ConstantFloats(b, node.input(kB));
  if (!bias) return absl::InternalError("bias is not constant");
  const float* own = bias->data() + layer.direction * 2 * rows;
  for (int64_t j = 0; j < rows; ++j) {
    d.bias[j] = own[j];
    if (gru && j >= at_once) {
      d.candidate_bias[j - at_once] = own[rows + j];
    } else {
      d.bias[j] += own[rows + j];
    }
  }
  return d;
}

}  // namespace

absl::StatusOr<bool> LowerRecurrent(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Attributes& a = node.attributes();
  const Value* x = node.input(kX);
  const std::string direction = a.String("direction", "forward");
  const int64_t directions = direction == "bidirectional" ? 2 : 1;
  const auto kind = KindOf(node, directions);
  if (x->type().type != DataType::kF32 || !kind || a.Has("clip") || a.Int("input_forget", 0) != 0 ||
      node.input(kLengths) != nullptr || node.input(kPeepholes) != nullptr) {
    *reason = "activations, clipping, sequence lengths or peepholes";
    return false;
  }
  for (const int i : {kW, kR, kB}) {
    if (node.input(i) != nullptr && !ConstantFloats(b, node.input(i))) {
      *reason = "weights are not constant";
      return false;
    }
  }
  const Shape shape = b.ShapeOf(x);
  RecurrentLayer layer{.kind = *kind, .batch_first = a.Int("layout", 0) != 0};
  layer.steps = shape[layer.batch_first ? 1 : 0];
  layer.batch = shape[layer.batch_first ? 0 : 1];
  layer.in = shape[2];
  layer.hidden = b.ShapeOf(node.input(kR))[2];
  layer.directions = directions;
  if (ElementCount(shape) == 0 || layer.hidden == 0) {
    *reason = "empty";
    return false;
  }
  std::vector<Direction> parts;
  std::vector<BufferId> touches;
  for (int64_t d = 0; d < directions; ++d) {
    layer.direction = d;
    layer.reverse = d == 1 || direction == "reverse";
    HT_ASSIGN_OR_RETURN(parts.emplace_back(), MakeDirection(b, node, layer));
    for (const PackedPanels& p : {parts.back().w, parts.back().r, parts.back().r_candidate}) {
      if (p.buffer >= 0) touches.push_back(p.buffer);
    }
  }
  BufferId in[3] = {-1, -1, -1}, out[3] = {-1, -1, -1};
  const Value* sources[] = {x, node.input(kH0), node.input(kC0)};
  for (int i = 0; i < 3; ++i) {
    if (sources[i] == nullptr) continue;
    HT_ASSIGN_OR_RETURN(in[i], b.FetchPlain(sources[i]));
    touches.push_back(in[i]);
  }
  for (int i = 0; i < 3; ++i) {
    if (node.output(i) == nullptr) continue;
    out[i] = b.Define(node.output(i), Layout::kPlain, DataType::kF32);
    touches.push_back(out[i]);
  }
  b.RequireScratch(RecurrentScratchFloats(layer) * static_cast<int64_t>(sizeof(float)));
  const auto shared = std::make_shared<const std::vector<Direction>>(std::move(parts));
  b.AddStep(Describe(b, node), std::move(touches),
            [=, i0 = in[0], i1 = in[1], i2 = in[2], o0 = out[0], o1 = out[1],
             o2 = out[2]](Binding& bind) -> BoundStep {
              return [=, &bind] {
                const auto at = [&](BufferId id) { return id < 0 ? nullptr : bind.as<float>(id); };
                for (const Direction& d : *shared) {
                  RecurrentLayer l = d.layer;
                  l.w = d.w.In(bind);
                  l.r = d.r.In(bind);
                  l.r_candidate = d.r_candidate.In(bind);
                  l.bias = d.bias.data();
                  l.candidate_bias = d.candidate_bias.data();
                  RunRecurrent(l, at(i0), at(i1), at(i2), at(o0), at(o1), at(o2),
                               reinterpret_cast<float*>(bind.scratch()));
                }
                return absl::OkStatus();
              };
            });
  return true;
}

}  // namespace halftone
