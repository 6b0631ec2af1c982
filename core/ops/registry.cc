#include "core/ops/registry.h"

#include <algorithm>
#include <array>
#include <tuple>

#include "core/ops/families.h"

namespace halftone {
namespace {

constexpr std::array kFamilies = {
    UnaryOps,       BinaryOps,    MatMulOps, ConvOps,     PoolOps,         NormOps,
    ReduceOps,      SoftmaxOps,   ShapeOps,  CreationOps, MovementOps,     SliceOps,
    IndexingOps,    SelectionOps, ResizeOps, QuantOps,    QuantComputeOps, RecurrentOps,
    ControlFlowOps, EinsumOps,    SignalOps, SamplingOps, DetectionOps,    PatchOps,
    RandomOps,      LossOps,      TextOps,   LegacyOps,   ImageOps,        CompositeOps,
    UnpackOps,      RowQuantOps,
};

std::vector<OpDef> CollectRows() {
  std::vector<OpDef> rows;
  for (const auto family : kFamilies) {
    const absl::Span<const OpDef> more = family();
    rows.insert(rows.end(), more.begin(), more.end());
  }
  std::sort(rows.begin(), rows.end(), [](const OpDef& a, const OpDef& b) {
    return std::tie(a.domain, a.name, a.since_opset) < std::tie(b.domain, b.name, b.since_opset);
  });
  return rows;
}

}  // namespace

absl::Span<const OpDef> AllOps() {
  static const std::vector<OpDef>& rows = *new std::vector<OpDef>(CollectRows());
  return rows;
}

const OpDef* FindOp(absl::string_view domain, absl::string_view name, int opset) {
  if (domain == "ai.onnx") domain = "";
  const absl::Span<const OpDef> rows = AllOps();
  const auto key = std::tie(domain, name, opset);
  const auto after =
      std::upper_bound(rows.begin(), rows.end(), key, [](const auto& wanted, const OpDef& row) {
        return wanted < std::tie(row.domain, row.name, row.since_opset);
      });
  if (after == rows.begin()) return nullptr;
  const OpDef& row = *(after - 1);
  return row.domain == domain && row.name == name ? &row : nullptr;
}

const OpDef* FindOp(const Graph& graph, const Node& node) {
  return FindOp(node.domain(), node.op(), graph.opset(node.domain()));
}

}  // namespace halftone
