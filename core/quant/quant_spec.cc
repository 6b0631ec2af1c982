#include "core/quant/quant_spec.h"

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"
#include "core/quant/spec_words.h"

namespace halftone {
namespace {

absl::Status Contradiction(const QuantSpec& spec, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("spec '", spec.ToString(), "': ", what));
}
absl::Status NotYet(const QuantSpec& spec, absl::string_view what) {
  return absl::UnimplementedError(absl::StrCat("spec '", spec.ToString(), "': ", what));
}

// Without a wish, all but int8 become weight-only.
bool IsWeightOnly(const QuantSpec& s) {
  return s.activations == ActivationMode::kWeightOnly ||
         (s.activations == ActivationMode::kAuto && s.weights != WeightType::kI8);
}

absl::Status ValidateFormat(const QuantSpec& s) {
  const auto* group = std::get_if<PerGroup>(&s.granularity);
  if (group != nullptr && group->size < 1) {
    return Contradiction(s, "a group has at least 1 element");
  }
  const bool has_zero = s.weights != WeightType::kTernary && s.weights != WeightType::kBinary;
  if (!has_zero && s.scheme == QuantScheme::kAffine) {
    return Contradiction(s, absl::StrCat(Name(s.weights), " weights lie around 0: symmetric"));
  }
  if (IsWeightOnly(s)) return absl::OkStatus();
  if (s.weights != WeightType::kI8) {
    return NotYet(s, absl::StrCat(Name(s.weights), " weights beyond weight-only"));
  }
  if (group != nullptr) return NotYet(s, "per-group weights beyond weight-only; use per-channel");
  if (s.granularity != Granularity(PerChannel{}) && s.granularity != Granularity(PerTensor{})) {
    return NotYet(s, "channels along a chosen axis beyond weight-only");
  }
  return absl::OkStatus();
}

absl::Status ValidateActivations(const QuantSpec& s) {
  const bool may_be_static =
      s.activations == ActivationMode::kStatic || s.activations == ActivationMode::kAuto;
  if (!may_be_static) {
    if (!s.calibration_set.empty() && !UsesSamples(s)) {
      return Contradiction(
          s, "a calibration set belongs to static, or to techniques that use samples");
    }
    if (s.calibration != CalibrationMethod::kMinMax) {
      return Contradiction(s, "a calibration method belongs to static");
    }
    if (s.activation_type != ActivationType::kU8) {
      return Contradiction(s, "a type of activations belongs to static");
    }
  }
  if (s.percentile != kDefaultPercentile && s.calibration != CalibrationMethod::kPercentile) {
    return Contradiction(s, "a percentile belongs to the method percentile");
  }
  if (!(s.percentile > 50 && s.percentile <= 100)) {
    return Contradiction(s, "a percentile is above 50 and at most 100");
  }
  if (s.scheme == QuantScheme::kAffine && !IsWeightOnly(s)) {
    return NotYet(s, "affine weights are available for weight-only; use symmetric");
  }
  return absl::OkStatus();
}

absl::Status ValidateTechniques(const QuantSpec& s) {
  for (const auto& [technique, on] : s.techniques) {
    if (on == (s.level >= RowOf(technique).from)) {
      return Contradiction(s, absl::StrCat("technique ", Name(technique),
                                           " is switched to what its level says anyway"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool MayOverride(const QuantSpec& spec, WeightType type) {
  if (!IsInteger(type) || type == spec.weights) return true;
  return type == WeightType::kI8 && IsInteger(spec.weights) && BitsOf(spec.weights) < 8 &&
         spec.activations == ActivationMode::kWeightOnly;
}

bool HasIntegerFields(const QuantSpec& s) {
  const QuantSpec plain;
  return s.activations != plain.activations || s.granularity != plain.granularity ||
         s.scheme != plain.scheme || s.activation_type != plain.activation_type ||
         s.calibration != plain.calibration || s.percentile != plain.percentile ||
         s.calibration_set != plain.calibration_set;
}

QuantSpec DefaultsOf(WeightType type) {
  const TypeRow& row = RowOf(type);
  return {.weights = type,
          .activations = row.mode,
          .granularity = row.granularity,
          .scheme = row.scheme};
}
bool IsInteger(WeightType type) { return type >= WeightType::kI16; }
int BitsOf(WeightType type) { return RowOf(type).bits; }
int BitsOf(ActivationType type) {
  return type == ActivationType::kU16 || type == ActivationType::kI16 ? 16 : 8;
}
absl::string_view Name(WeightType type) { return RowOf(type).text; }
absl::string_view Name(ActivationType type) {
  return absl::StripPrefix(WordFor(kActivationTypes, type), "act=");
}
absl::string_view Name(Technique technique) { return RowOf(technique).text; }
absl::string_view Name(Level level) { return WordFor(kLevels, level); }

bool Uses(const QuantSpec& spec, Technique technique) {
  const auto it = spec.techniques.find(technique);
  return it != spec.techniques.end() ? it->second : spec.level >= RowOf(technique).from;
}

bool UsesType(const QuantSpec& spec, WeightType type) {
  const auto is = [type](const auto& item) { return item.second == type; };
  return spec.weights == type || absl::c_any_of(spec.op_overrides, is) ||
         absl::c_any_of(spec.node_overrides, is);
}

bool UsesSamples(const QuantSpec& spec) {
  if (spec.activations == ActivationMode::kStatic || Uses(spec, Technique::kMixed)) return true;
  if (!IsInteger(spec.weights)) return false;
  for (const Technique t :
       {Technique::kBiasCorrection, Technique::kSmooth, Technique::kGptq, Technique::kAdaRound}) {
    if (Uses(spec, t)) return true;
  }
  return false;
}

bool UsesIntegerArithmetic(const QuantSpec& spec) {
  return IsInteger(spec.weights) && spec.activations != ActivationMode::kWeightOnly &&
         BitsOf(spec.activation_type) == 8;
}

absl::Status QuantSpec::Validate() const {
  if (!IsInteger(weights) && HasIntegerFields(*this)) {
    return Contradiction(*this, "granularity, mode and calibration belong to integer weights");
  }
  for (const auto* overrides : {&op_overrides, &node_overrides}) {
    for (const auto& [name, type] : *overrides) {
      if (name.empty()) return Contradiction(*this, "an override has no name");
      if (!MayOverride(*this, type)) {
        return Contradiction(
            *this, absl::StrCat("an override to ", Name(type), " needs a spec of ", Name(type)));
      }
    }
  }
  if (!IsInteger(weights)) return ValidateTechniques(*this);
  HT_RETURN_IF_ERROR(ValidateFormat(*this));
  HT_RETURN_IF_ERROR(ValidateActivations(*this));
  return ValidateTechniques(*this);
}

WeightType PrecisionFor(const QuantSpec& spec, absl::string_view op, absl::string_view node_name) {
  const auto node = spec.node_overrides.find(std::string(node_name));
  if (node != spec.node_overrides.end()) return node->second;
  const auto by_op = spec.op_overrides.find(std::string(op));
  return by_op != spec.op_overrides.end() ? by_op->second : spec.weights;
}

}  // namespace halftone
