// Constant weights in narrow formats: which operand they are, and the numbers. Deterministic and
// single-threaded.
#ifndef HALFTONE_CORE_PASSES_QUANTIZE_WEIGHTS_H_
#define HALFTONE_CORE_PASSES_QUANTIZE_WEIGHTS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/graph/graph.h"
#include "core/passes/linear.h"
#include "core/quant/quant_spec.h"
#include "core/quant/rounding.h"
#include "core/tensor/tensor.h"

namespace halftone {

// Where a multiply-accumulate node takes its weights from.
struct WeightOperand {
  int input = 1;
  // Axis of output channels in the weight tensor; absent where one axis does not tell them apart
  // (grouped ConvTranspose).
  std::optional<int> channel_axis;
};
// nullopt for operators that have no weight operand we know.
std::optional<WeightOperand> FindWeightOperand(const Node& node);

// In which order the weights are stored. As rows they are a matrix [output channels, input channels
// of one group * taps], which groups along axis 1 cut without leftovers at every tap.
enum class WeightOrder : uint8_t {
  kAsIs,           // of the shape that they have
  kConvRows,       // Conv: [M, C/g, taps…] seen as [M, C/g * taps]
  kTransposeRows,  // ConvTranspose: [C, M/g, taps…] brought to [M, C/g * taps]
};

// How the weights of one node are stored. Equal formats of one constant share their bytes.
struct WeightFormat {
  WeightType type = WeightType::kI8;
  // Integers only; axes are those of the stored order.
  WeightOrder order = WeightOrder::kAsIs;
  int64_t conv_groups = 1;          // kTransposeRows
  std::optional<int> channel_axis;  // one scale per slice; absent, without groups: per tensor
  int group_axis = 0;               // with group_size
  int64_t group_size = 0;           // > 0: one scale per so many elements along group_axis
  QuantScheme scheme = QuantScheme::kSymmetric;
  int32_t limit = 0;  // symmetric values lie within it of the middle; 0: as the type allows

  auto operator<=>(const WeightFormat&) const = default;
};

// The format that a spec's type, granularity and scheme mean for the weights of `node`. A group
// that covers all that a product sums over is per channel. INVALID_ARGUMENT when the weights do not
// have the axis that the spec names. Requires: f32 constant weights of rank >= 2 behind
// operand.input.
absl::StatusOr<WeightFormat> FormatFor(const QuantSpec& spec, WeightType type, const Node& node,
                                       const WeightOperand& operand);

struct NarrowWeights {
  Shape shape;  // of the f32 weights
  WeightOrder order = WeightOrder::kAsIs;
  Tensor stored;      // i16 … u4, f16 or bf16 in the stored order; one and two bits: u8 bytes
  Tensor scale;       // integers: a scalar, one per channel, or one per group
  Tensor zero_point;  // of the stored type, like scale; without elements where there is none
  bool has_zero_point() const { return zero_point.num_elements() > 0; }
  // Of all constants in the graph, the shapes that rows are brought back to included.
  int64_t bytes() const;
};

// How the integers are chosen. Plain: scales cover the largest weight, each number is the nearest.
struct WeightRounding {
  // Scales that minimise the squared error over the group, found among shrunken ranges ("MSE" in
  // Nagel et al. 2021, arXiv 2106.08295, section 2.2). Not for one and two bits, whose scales do.
  bool clip = false;
  // What the layer's inputs look like, one per group of its convolution; null: nothing is known.
  // Columns must be at most kMaxRoundingColumns. Not for binary weights.
  const std::vector<SecondMoment>* moments = nullptr;
  const Linear* layer = nullptr;  // with moments: whose weights these are
  bool gptq = false, descent = false;
};

// Why these weights cannot be stored like this ("… beyond 65504 …"); empty when they can.
std::string WeightObstacle(const Tensor& weights, const WeightFormat& format);
// Symmetric integers of the types i16, i8 and i4 lie around 0 without the most negative one
// ([-127, 127]), those of u8 and u4 around the middle (128, 8); affine ones use the whole range.
// One and two bits: core/quant/low_bit.h. Zero points are stored where they may differ from 0, and
// for i8 without groups, where integer kernels of other runtimes ask for them.
// Requires: f32 weights without an obstacle. ResourceExhausted when memory is short.
absl::StatusOr<NarrowWeights> NarrowTheWeights(const Tensor& weights, const WeightFormat& format,
                                               const WeightRounding& rounding = {});
// The shape of the matrix in a row order; the shape itself as is.
Shape StoredShape(absl::Span<const int64_t> shape, const WeightFormat& format);

}  // namespace halftone

#endif  // HALFTONE_CORE_PASSES_QUANTIZE_WEIGHTS_H_
