#include "core/exec/lower/rules.h"

#include <vector>

#include "absl/container/flat_hash_map.h"
#include "core/ops/row_quant.h"
#include "core/ops/unpack.h"

namespace halftone {
namespace {

using Table = absl::flat_hash_map<absl::string_view, std::vector<NamedRule>>;

constexpr NamedRule kRowMatMul = {"row_matmul", LowerRowMatMul};
constexpr NamedRule kEltwise = {"eltwise", LowerEltwise};
constexpr NamedRule kMap = {"map", LowerMap};
constexpr NamedRule kReduce = {"reduce", LowerReduce};
constexpr NamedRule kPool = {"pool", LowerPool};
constexpr NamedRule kView = {"view", LowerView};
constexpr NamedRule kSoftmax = {"softmax", LowerSoftmax};
constexpr NamedRule kRowNorm = {"row_norm", LowerRowNorm};
constexpr NamedRule kIndexed = {"indexed", LowerIndexed};

struct Row {
  std::vector<NamedRule> rules;  // in the order in which they are tried
  std::vector<absl::string_view> ops;
};

// Operator → rules.
const Table& Rules() {
  static const auto* const kRows = new std::vector<Row>{
      {{{"pointwise", LowerPointwise}, {"depthwise", LowerDepthwise}, {"conv", LowerConv}},
       {"Conv"}},
      {{{"conv_transpose", LowerConvTranspose}}, {"ConvTranspose"}},
      {{kRowMatMul, {"matmul", LowerMatMul}, {"batch_matmul", LowerBatchMatMul}}, {"MatMul"}},
      {{kRowMatMul, {"matmul", LowerMatMul}}, {"Gemm"}},
      {{kEltwise, kMap},
       {"Relu", "LeakyRelu", "Sigmoid", "Tanh", "Elu", "HardSwish", "HardSigmoid", "Gelu", "Clip",
        "Exp", "Log", "Sqrt", "Abs", "Neg", "Mish", "Round", "Div"}},
      {{{"quantized_scale", LowerQuantizedScale},
        {"channel_scale", LowerChannelScale},
        kEltwise,
        kMap},
       {"Mul"}},
      {{{"quantized_add", LowerQuantizedAdd}, kMap}, {"Add"}},
      {{kMap},
       {"Sub",
        "Min",
        "Max",
        "Pow",
        "PRelu",
        "Sum",
        "Mod",
        "And",
        "Or",
        "Xor",
        "Equal",
        "Less",
        "LessOrEqual",
        "Greater",
        "Not",
        "Sign",
        "GreaterOrEqual",
        "Reciprocal",
        "Floor",
        "Ceil",
        "Softsign",
        "Softplus",
        "Erf",
        "Sin",
        "Cos",
        "Tan",
        "Atan",
        "IsNaN",
        "Cast",
        "CastLike",
        "Where"}},
      {{kReduce},
       {"ReduceSum", "ReduceMean", "ReduceMin", "ReduceMax", "ReduceProd", "ReduceL1", "ReduceL2",
        "ReduceSumSquare", "ReduceLogSum"}},
      {{{"if", LowerIf, /*dynamic_outputs=*/true}}, {"If"}},
      {{{"recurrent", LowerRecurrent}}, {"LSTM", "GRU", "RNN"}},
      {{kPool}, {"MaxPool", "AveragePool", "GlobalMaxPool"}},
      {{{"quantized_mean", LowerQuantizedMean}, kPool}, {"GlobalAveragePool"}},
      {{{"resize", LowerResize}, kIndexed, {"resample", LowerResample}}, {"Resize"}},
      {{kSoftmax}, {"Softmax", "LogSoftmax"}},
      {{{"quantized_layer_norm", LowerQuantizedLayerNorm},
        {"layer_norm", LowerLayerNorm},
        kRowNorm},
       {"LayerNormalization"}},
      {{kRowNorm}, {"InstanceNormalization", "GroupNormalization"}},
      {{{"batch_norm", LowerBatchNorm}}, {"BatchNormalization"}},
      {{kView}, {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"}},
      {{{"transpose", LowerTranspose}}, {"Transpose"}},
      {{{"concat", LowerConcat}}, {"Concat"}},
      {{{"slice", LowerSlice}}, {"Slice"}},
      {{{"split", LowerSplit}}, {"Split"}},
      {{{"expand", LowerExpand}}, {"Expand"}},
      {{{"depth_to_space", LowerDepthToSpace}, kIndexed}, {"DepthToSpace"}},
      {{{"gather", LowerGather}, kIndexed}, {"Gather"}},
      {{{"pad", LowerPad}, kIndexed}, {"Pad"}},
      {{kIndexed},
       {"Tile", "Upsample", "GatherElements", "GatherND", "SpaceToDepth", "ReverseSequence",
        "CenterCropPad", "Trilu"}},
      {{{"byte_table", LowerByteTable}, {"quantize", LowerQuantize}}, {"QuantizeLinear"}},
      {{{"dequantize", LowerDequantize}}, {"DequantizeLinear"}},
      {{{"dynamic_quantize", LowerDynamicQuantize}}, {"DynamicQuantizeLinear"}},
      {{{"quantize_rows", LowerQuantizeRows}}, {kDynamicQuantizeRows}},
  };
  static const auto* const kTable = [] {
    auto* table = new Table;
    for (const Row& row : *kRows) {
      for (const absl::string_view op : row.ops) (*table)[op] = row.rules;
    }
    return table;
  }();
  return *kTable;
}

}  // namespace

absl::Span<const NamedRule> RulesFor(const Node& anchor) {
  // No operator of ours has a name of ai.onnx.
  if (!anchor.domain().empty() && anchor.domain() != kHalftoneDomain) return {};
  const auto it = Rules().find(anchor.op());
  if (it == Rules().end()) return {};
  return it->second;
}

}  // namespace halftone
