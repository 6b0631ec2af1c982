#include "core/exec/lower/rules.h"

#include <vector>

#include "absl/container/flat_hash_map.h"

namespace halftone {
namespace {

using Table = absl::flat_hash_map<absl::string_view, std::vector<NamedRule>>;

constexpr NamedRule kEltwise = {"eltwise", LowerEltwise};
constexpr NamedRule kBinary = {"binary", LowerBinary};
constexpr NamedRule kPool = {"pool", LowerPool};
constexpr NamedRule kView = {"view", LowerView};
constexpr NamedRule kSoftmax = {"softmax", LowerSoftmax};

// Operator → rules in the order in which they are tried.
const Table& Rules() {
  static const auto* const kTable = new Table{
      {"Conv", {{"conv", LowerConv}}},
      {"ConvTranspose", {{"conv_transpose", LowerConvTranspose}}},
      {"MatMul", {{"matmul", LowerMatMul}, {"batch_matmul", LowerBatchMatMul}}},
      {"Gemm", {{"matmul", LowerMatMul}}},
      {"Relu", {kEltwise}},
      {"LeakyRelu", {kEltwise}},
      {"Sigmoid", {kEltwise}},
      {"Tanh", {kEltwise}},
      {"Elu", {kEltwise}},
      {"HardSwish", {kEltwise}},
      {"HardSigmoid", {kEltwise}},
      {"Gelu", {kEltwise}},
      {"Clip", {kEltwise}},
      {"Exp", {kEltwise}},
      {"Log", {kEltwise}},
      {"Sqrt", {kEltwise}},
      {"Abs", {kEltwise}},
      {"Neg", {kEltwise}},
      {"Mish", {kEltwise}},
      {"Round", {kEltwise}},
      {"Add", {{"quantized_add", LowerQuantizedAdd}, kBinary}},
      {"Sub", {kBinary}},
      {"Mul", {kEltwise, kBinary}},
      {"Div", {kEltwise, kBinary}},
      {"Min", {kBinary}},
      {"Max", {kBinary}},
      {"Pow", {kBinary}},
      {"PRelu", {kBinary}},
      {"MaxPool", {kPool}},
      {"AveragePool", {kPool}},
      {"GlobalAveragePool", {{"quantized_mean", LowerQuantizedMean}, kPool}},
      {"GlobalMaxPool", {kPool}},
      {"Resize", {{"resize", LowerResize}}},
      {"Softmax", {kSoftmax}},
      {"LogSoftmax", {kSoftmax}},
      {"LayerNormalization", {{"layer_norm", LowerLayerNorm}}},
      {"Reshape", {kView}},
      {"Flatten", {kView}},
      {"Squeeze", {kView}},
      {"Unsqueeze", {kView}},
      {"Identity", {kView}},
      {"Dropout", {kView}},
      {"Transpose", {{"transpose", LowerTranspose}}},
      {"Concat", {{"concat", LowerConcat}}},
      {"Slice", {{"slice", LowerSlice}}},
      {"Split", {{"split", LowerSplit}}},
      {"Expand", {{"expand", LowerExpand}}},
      {"Pad", {{"pad", LowerPad}}},
      {"DepthToSpace", {{"depth_to_space", LowerDepthToSpace}}},
      {"Gather", {{"gather", LowerGather}}},
      {"QuantizeLinear", {{"quantize", LowerQuantize}}},
      {"DequantizeLinear", {{"dequantize", LowerDequantize}}},
      {"DynamicQuantizeLinear", {{"dynamic_quantize", LowerDynamicQuantize}}},
  };
  return *kTable;
}

}  // namespace

absl::Span<const NamedRule> RulesFor(const Node& anchor) {
  if (!anchor.domain().empty()) return {};
  const auto it = Rules().find(anchor.op());
  if (it == Rules().end()) return {};
  return it->second;
}

}  // namespace halftone
