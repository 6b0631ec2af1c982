// The wish: which precision a variant shall have. A value: comparable, hashable, printable.
//
// Canonical text (the same in the CLI, metric labels and listings; Parse and ToString round-trip):
//
//   spec     = type { "/" word } { ";" override }
//   type     = "fp32" | "fp16" | "bf16"
//            | "int16" | "int8" | "uint8" | "int4" | "uint4" | "ternary" | "binary"
//   word     = "per-tensor" | "per-channel" | "per-channel-axis-" N | "per-group-" N
//            | "static" | "dynamic" | "dynamic-per-token" | "weight-only" | "auto"
//            | "affine" | "symmetric"       (weights)
//            | "act=" ("uint8" | "int8" | "uint16" | "int16")               (static activations)
//            | "minmax" | "moving-average" | "percentile" [ "-" P ] | "entropy" | "mse"
//            | "calib=" NAME                (calibration set; default: the newest)
//            | "fast" | "better" | "best"   (level: which techniques are used)
//            | "with=" TECHNIQUE | "without=" TECHNIQUE                     (against the level)
//            | "size" | "speed"             (policy)
//            | "compute=" ("f32" | "tf32" | "bf16")
//   override = "op=" OP_TYPE "=" type  |  "node=" NODE_NAME "=" type     (sorted)
//
// Words come in any order, each kind once (techniques: each once). The canonical text holds what
// differs from the defaults of the type (DefaultsOf), in the order above; granularity and mode are
// printed together or not at all. "int8" is per-channel, static where the model has calibration
// samples and dynamic where it has none; "int4" is weight-only in groups of 32. "fp32" names the
// unquantized model. What says how to quantize to integers needs an integer type, and an override
// to one needs a spec of the same type: the base says how to quantize. Beside weight-only types of
// fewer bits an override to int8 is allowed: per channel, symmetric.
//
// Names are percent-escaped where they would be mistaken for grammar: '%', ';', '=' and everything
// but printable ASCII always, '/' in calibration set names. "node=/block1/conv=fp32" reads as it
// looks; a node called "a;b" is "node=a%3Bb=fp32".
#ifndef HALFTONE_CORE_QUANT_QUANT_SPEC_H_
#define HALFTONE_CORE_QUANT_QUANT_SPEC_H_

#include <cstdint>
#include <map>
#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace halftone {

enum class WeightType : uint8_t { kF32, kF16, kBF16, kI16, kI8, kU8, kI4, kU4, kTernary, kBinary };
enum class ActivationMode : uint8_t { kAuto, kStatic, kDynamic, kDynamicPerToken, kWeightOnly };
enum class ActivationType : uint8_t { kU8, kI8, kU16, kI16 };
enum class QuantScheme : uint8_t { kSymmetric, kAffine };
enum class CalibrationMethod : uint8_t { kMinMax, kMovingAverage, kPercentile, kEntropy, kMse };
enum class Level : uint8_t { kFast, kBetter, kBest };
enum class ComputeType : uint8_t { kAuto, kF32, kTf32, kBF16 };
// What becomes of layers that are not faster than f32: they stay narrow, or they stay float.
enum class Policy : uint8_t { kSize, kSpeed };
// Ways to lose less; core/passes says what each does, with its paper.
enum class Technique : uint8_t {
  kClip,            // weight ranges that minimise the squared error
  kEqualize,        // cross-layer equalization
  kBiasCorrection,  // means of the layers' errors leave through the biases
  kSmooth,          // SmoothQuant: outliers of activations move into the weights
  kGptq,            // rounding that makes up for the error of earlier columns
  kAdaRound,        // rounding up or down by what the layer's output wants
  kMixed,           // layers that hurt go to bf16 or f32
};
inline constexpr int kTechniques = 7;

struct PerTensor {
  bool operator==(const PerTensor&) const = default;
};
struct PerChannel {
  int axis = -1;  // -1: the output-channel axis of each weight
  bool operator==(const PerChannel&) const = default;
};
// `size` consecutive elements along the axes that a product sums over share a scale. The weights of
// a convolution are seen as one row of input channels and taps per output channel.
struct PerGroup {
  int size = 128;
  bool operator==(const PerGroup&) const = default;
};
using Granularity = std::variant<PerTensor, PerChannel, PerGroup>;

inline constexpr double kDefaultPercentile = 99.999;

struct QuantSpec {
  WeightType weights = WeightType::kF32;
  // Up to calibration_set: with integer weights only, otherwise the default value.
  ActivationMode activations = ActivationMode::kAuto;
  Granularity granularity = PerChannel{};
  QuantScheme scheme = QuantScheme::kSymmetric;
  ActivationType activation_type = ActivationType::kU8;  // static only
  CalibrationMethod calibration = CalibrationMethod::kMinMax;
  double percentile = kDefaultPercentile;  // in (50, 100]; with kPercentile only
  std::string calibration_set;             // name; empty: the model's newest

  Level level = Level::kFast;
  std::map<Technique, bool> techniques;  // used or not, where that differs from the level
  Policy policy = Policy::kSize;
  ComputeType compute = ComputeType::kAuto;
  std::map<std::string, WeightType> op_overrides;    // by op_type
  std::map<std::string, WeightType> node_overrides;  // by node name; stronger than op_overrides

  bool operator==(const QuantSpec&) const = default;

  // InvalidArgument says what was expected at which position.
  static absl::StatusOr<QuantSpec> Parse(absl::string_view text);
  std::string ToString() const;
  // InvalidArgument for fields that contradict each other; UNIMPLEMENTED for what this version
  // cannot build yet.
  absl::Status Validate() const;
};

// What a type's name alone means: "int4" is DefaultsOf(WeightType::kI4).
QuantSpec DefaultsOf(WeightType type);
bool IsInteger(WeightType type);  // kI16 … kBinary
int BitsOf(WeightType type);      // of one stored weight
int BitsOf(ActivationType type);
absl::string_view Name(WeightType type);
absl::string_view Name(ActivationType type);  // "uint8"
absl::string_view Name(Technique technique);
absl::string_view Name(Level level);
// True when the spec's level, or its switches against the level, ask for the technique.
bool Uses(const QuantSpec& spec, Technique technique);
// True when some weights, overrides included, get this type.
bool UsesType(const QuantSpec& spec, WeightType type);

// True when the bytes of a variant depend on samples: static, and techniques that look at data.
bool UsesSamples(const QuantSpec& spec);
// Static or dynamic with 8-bit activations: products of integers, whose safe range depends on the
// CPU.
bool UsesIntegerArithmetic(const QuantSpec& spec);

// The precision that a node gets under the spec: node override, else operator override, else
// weights.
WeightType PrecisionFor(const QuantSpec& spec, absl::string_view op, absl::string_view node_name);

}  // namespace halftone

#endif  // HALFTONE_CORE_QUANT_QUANT_SPEC_H_
