#include "core/variant/variant_layers.h"

#include <map>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/passes/pass.h"
#include "core/passes/single_precision.h"

namespace halftone {
namespace {

std::string PrecisionText(const NodeChoice& choice, const QuantSpec& spec,
                          const CpuFeatures& features) {
  const WeightFormat& format = choice.format;
  const WeightType type = format.type;
  if (choice.moves_weights && type != WeightType::kF32) {
    return absl::StrCat(Name(type), " weights", IsInteger(type) ? ", a scale for each row" : "");
  }
  switch (type) {
    case WeightType::kF32:
      return choice.weight_input >= 0 && features.bf16 && spec.compute == ComputeType::kBF16
                 ? "f32 weights, bf16 compute"
                 : "f32";
    case WeightType::kF16:
      return "f16 weights, f32 compute";
    case WeightType::kBF16:
      return features.bf16 && spec.compute != ComputeType::kF32 ? "bf16"
                                                                : "bf16 weights, f32 compute";
    default:
      break;
  }
  if (UsesIntegerArithmetic(spec)) return std::string(Name(type));
  if (spec.activations == ActivationMode::kStatic) {
    return absl::StrCat(Name(type), " weights, ", Name(spec.activation_type),
                        " activations, f32 compute");
  }
  const std::string groups =
      format.group_size > 0 ? absl::StrCat(" in groups of ", format.group_size) : "";
  return absl::StrCat(Name(type), " weights", groups, ", f32 compute");
}

}  // namespace

std::vector<LayerReport> LayersOf(const std::vector<NodeChoice>& choices, const QuantSpec& spec,
                                  const CpuFeatures& features) {
  std::vector<LayerReport> layers;
  for (const NodeChoice& c : choices) {
    layers.push_back({.node = c.node->name(),
                      .op = c.node->op(),
                      .precision = PrecisionText(c, spec, features),
                      .reason = c.reason,
                      .weight_bytes = c.weight_bytes});
  }
  return layers;
}

std::vector<OperatorCoverage> CoverageOf(const std::vector<NodeChoice>& choices) {
  // A node with two weights (LSTM) counts once.
  std::map<std::string, std::map<std::string, bool>> by_op;
  for (const NodeChoice& c : choices) {
    bool& quantized = by_op[c.node->op()][c.node->name()];
    quantized = quantized || c.format.type != WeightType::kF32;
  }
  std::vector<OperatorCoverage> out;
  for (const auto& [op, nodes] : by_op) {
    OperatorCoverage& row = out.emplace_back(OperatorCoverage{.op = op});
    for (const auto& [name, quantized] : nodes) {
      ++row.total;
      row.quantized += quantized ? 1 : 0;
    }
  }
  return out;
}

bool NeedsReducedWeights(const QuantSpec& spec, const CpuFeatures& features) {
  return UsesIntegerArithmetic(spec) && !features.vnni;
}

std::vector<std::string> CpuNotes(const QuantSpec& spec, const CpuFeatures& features) {
  std::vector<std::string> notes;
  if (NeedsReducedWeights(spec, features)) {
    notes.push_back(
        "no VNNI on this CPU: weights use 7 bits ([-63, 63]), because its int8 arithmetic sums "
        "pairs of products in 16 bits");
  }
  if (IsInteger(spec.weights) && BitsOf(spec.activation_type) > 8) {
    notes.push_back(absl::StrCat(Name(spec.activation_type),
                                 " activations are computed in f32 on values that are rounded to "
                                 "16 bits: this is as exact as "
                                 "asked for and not faster than fp32"));
  }
  if (spec.weights == WeightType::kBF16 && !features.bf16) {
    notes.push_back(
        "no bf16 instructions on this CPU: weights are stored as bf16, the arithmetic "
        "is f32");
  }
  if (spec.compute == ComputeType::kBF16 && !features.bf16) {
    notes.push_back(
        "compute=bf16 has no effect: there are no bf16 instructions on this CPU, the arithmetic is "
        "f32");
  }
  if (spec.compute == ComputeType::kTf32) {
    notes.push_back(
        "compute=tf32 has no effect: no CPU that oneDNN 3.7 knows has tf32 instructions, the "
        "arithmetic is f32");
  }
  if (spec.weights == WeightType::kF16 && !features.f16) {
    notes.push_back(
        "no f16 arithmetic on this CPU: weights are stored as f16, the arithmetic is "
        "f32");
  }
  return notes;
}

absl::StatusOr<Graph> InSingles(const Graph& doubles) {
  Graph graph = doubles.Clone();
  HT_RETURN_IF_ERROR(ComputeInSingles(graph));
  // Passes that know f32 only have not seen such a model yet.
  HT_RETURN_IF_ERROR(RunPasses(graph, PortablePasses()));
  return graph;
}

}  // namespace halftone
