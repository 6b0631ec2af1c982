// The wish: which precision a variant shall have. A value: comparable, hashable, printable.
//
// Canonical text (the same in the CLI, metric labels and listings; Parse and ToString round-trip):
//
//   spec     = type [ "/" granularity "/" mode ] { "/" option } { ";" override }
//   type     = "fp32" | "fp16" | "bf16" | "int8"
//   granularity = "per-tensor" | "per-channel" | "per-group-" N          (int8 only)
//   mode     = "static" | "dynamic" | "weight-only" | "auto"             (int8 only)
//   option   = "affine"                      (weights; default symmetric)
//            | "minmax"                      (calibration method; the default, never printed)
//            | "calib=" NAME                 (calibration set; default: the newest)
//   override = "op=" OP_TYPE "=" type  |  "node=" NODE_NAME "=" type     (sorted)
//
// "int8" alone is the default wish and the canonical form of "int8/per-channel/auto": per-channel,
// static where the model has calibration samples and dynamic where it has none. "fp32" names the
// unquantized model. An override to int8 needs an int8 spec: the base says how to quantize.
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

enum class WeightType : uint8_t { kF32, kF16, kBF16, kI8 };
enum class ActivationMode : uint8_t { kAuto, kStatic, kDynamic, kWeightOnly };
enum class QuantScheme : uint8_t { kSymmetric, kAffine };
enum class CalibrationMethod : uint8_t { kMinMax };

struct PerTensor {
  bool operator==(const PerTensor&) const = default;
};
struct PerChannel {  // along the output-channel axis of each weight
  bool operator==(const PerChannel&) const = default;
};
struct PerGroup {  // `size` consecutive elements along the input-channel axis share a scale
  int size = 128;
  bool operator==(const PerGroup&) const = default;
};
using Granularity = std::variant<PerTensor, PerChannel, PerGroup>;

struct QuantSpec {
  WeightType weights = WeightType::kF32;
  // The rest has a meaning for kI8 only and its default value otherwise.
  ActivationMode activations = ActivationMode::kAuto;
  Granularity granularity = PerChannel{};
  QuantScheme scheme = QuantScheme::kSymmetric;
  CalibrationMethod calibration = CalibrationMethod::kMinMax;
  std::string calibration_set;                       // name; empty: the model's newest
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

// The precision that a node gets under the spec: node override, else operator override, else
// weights.
WeightType PrecisionFor(const QuantSpec& spec, absl::string_view op, absl::string_view node_name);

}  // namespace halftone

#endif  // HALFTONE_CORE_QUANT_QUANT_SPEC_H_
