// The words of the quantization grammar and what type names alone mean: the tables behind
// quant_spec.h. Included by its two sources only.
#ifndef HALFTONE_CORE_QUANT_SPEC_WORDS_H_
#define HALFTONE_CORE_QUANT_SPEC_WORDS_H_

#include <array>
#include <cstddef>

#include "absl/strings/string_view.h"
#include "core/quant/quant_spec.h"

namespace halftone {

template <typename T>
struct Word {
  T value;
  absl::string_view text;
};

// A weight type's name, width and what the name alone means.
struct TypeRow {
  WeightType type;
  absl::string_view text;
  int bits;
  ActivationMode mode = ActivationMode::kAuto;
  Granularity granularity = PerChannel{};
  QuantScheme scheme = QuantScheme::kSymmetric;
};
inline const std::array kTypeRows = {
    TypeRow{WeightType::kF32, "fp32", 32},
    TypeRow{WeightType::kF16, "fp16", 16},
    TypeRow{WeightType::kBF16, "bf16", 16},
    TypeRow{WeightType::kI16, "int16", 16, ActivationMode::kWeightOnly},
    TypeRow{WeightType::kI8, "int8", 8},
    TypeRow{WeightType::kU8, "uint8", 8, ActivationMode::kWeightOnly, PerChannel{},
            QuantScheme::kAffine},
    TypeRow{WeightType::kI4, "int4", 4, ActivationMode::kWeightOnly, PerGroup{32}},
    TypeRow{WeightType::kU4, "uint4", 4, ActivationMode::kWeightOnly, PerGroup{32},
            QuantScheme::kAffine},
    TypeRow{WeightType::kTernary, "ternary", 2, ActivationMode::kWeightOnly},
    TypeRow{WeightType::kBinary, "binary", 1, ActivationMode::kWeightOnly},
};
inline constexpr std::array kModes = {
    Word<ActivationMode>{ActivationMode::kStatic, "static"},
    Word<ActivationMode>{ActivationMode::kDynamic, "dynamic"},
    Word<ActivationMode>{ActivationMode::kDynamicPerToken, "dynamic-per-token"},
    Word<ActivationMode>{ActivationMode::kWeightOnly, "weight-only"},
    Word<ActivationMode>{ActivationMode::kAuto, "auto"}};
inline constexpr std::array kSchemes = {Word<QuantScheme>{QuantScheme::kAffine, "affine"},
                                        Word<QuantScheme>{QuantScheme::kSymmetric, "symmetric"}};
inline constexpr std::array kActivationTypes = {
    Word<ActivationType>{ActivationType::kU8, "act=uint8"},
    Word<ActivationType>{ActivationType::kI8, "act=int8"},
    Word<ActivationType>{ActivationType::kU16, "act=uint16"},
    Word<ActivationType>{ActivationType::kI16, "act=int16"}};
inline constexpr std::array kMethods = {
    Word<CalibrationMethod>{CalibrationMethod::kMinMax, "minmax"},
    Word<CalibrationMethod>{CalibrationMethod::kMovingAverage, "moving-average"},
    Word<CalibrationMethod>{CalibrationMethod::kPercentile, "percentile"},
    Word<CalibrationMethod>{CalibrationMethod::kEntropy, "entropy"},
    Word<CalibrationMethod>{CalibrationMethod::kMse, "mse"}};
inline constexpr std::array kLevels = {Word<Level>{Level::kFast, "fast"},
                                       Word<Level>{Level::kBetter, "better"},
                                       Word<Level>{Level::kBest, "best"}};
inline constexpr std::array kPolicies = {Word<Policy>{Policy::kSize, "size"},
                                         Word<Policy>{Policy::kSpeed, "speed"}};
inline constexpr std::array kComputeTypes = {Word<ComputeType>{ComputeType::kF32, "compute=f32"},
                                             Word<ComputeType>{ComputeType::kTf32, "compute=tf32"},
                                             Word<ComputeType>{ComputeType::kBF16, "compute=bf16"}};
// The lowest level that uses a technique.
struct TechniqueRow {
  Technique technique;
  absl::string_view text;
  Level from;
};
inline constexpr std::array kTechniqueRows = {
    TechniqueRow{Technique::kClip, "clip", Level::kBetter},
    TechniqueRow{Technique::kEqualize, "equalize", Level::kBetter},
    TechniqueRow{Technique::kBiasCorrection, "bias-correction", Level::kBetter},
    TechniqueRow{Technique::kSmooth, "smooth", Level::kBetter},
    TechniqueRow{Technique::kGptq, "gptq", Level::kBest},
    TechniqueRow{Technique::kAdaRound, "adaround", Level::kBest},
    TechniqueRow{Technique::kMixed, "mixed", Level::kBest},
};
static_assert(kTechniqueRows.size() == kTechniques);

inline const TypeRow& RowOf(WeightType type) {
  return kTypeRows[static_cast<size_t>(type)];  // rows are in the order of the enumeration
}
inline const TechniqueRow& RowOf(Technique technique) {
  return kTechniqueRows[static_cast<size_t>(technique)];
}

template <typename T, size_t N>
const T* FindWord(const std::array<Word<T>, N>& words, absl::string_view text) {
  for (const Word<T>& w : words) {
    if (w.text == text) return &w.value;
  }
  return nullptr;
}
template <typename T, size_t N>
absl::string_view WordFor(const std::array<Word<T>, N>& words, T value) {
  for (const Word<T>& w : words) {
    if (w.value == value) return w.text;
  }
  return "?";
}

// Integer types need the base to say how to quantize; only int8 has a way of its own beside
// narrower weights that are weight-only too.
bool MayOverride(const QuantSpec& spec, WeightType type);
// True when a field that belongs to integer weights differs from its default.
bool HasIntegerFields(const QuantSpec& spec);

}  // namespace halftone

#endif  // HALFTONE_CORE_QUANT_SPEC_WORDS_H_
