#include "core/quant/quant_spec.h"

#include <array>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

template <typename T>
struct Word {
  T value;
  absl::string_view text;
};

constexpr std::array kTypes = {
    Word<WeightType>{WeightType::kF32, "fp32"}, Word<WeightType>{WeightType::kF16, "fp16"},
    Word<WeightType>{WeightType::kBF16, "bf16"}, Word<WeightType>{WeightType::kI8, "int8"}};
constexpr std::array kModes = {Word<ActivationMode>{ActivationMode::kStatic, "static"},
                               Word<ActivationMode>{ActivationMode::kDynamic, "dynamic"},
                               Word<ActivationMode>{ActivationMode::kWeightOnly, "weight-only"},
                               Word<ActivationMode>{ActivationMode::kAuto, "auto"}};
constexpr absl::string_view kPerTensor = "per-tensor";
constexpr absl::string_view kPerChannel = "per-channel";
constexpr absl::string_view kPerGroup = "per-group-";
constexpr absl::string_view kTypeNames = "fp32, fp16, bf16 or int8";

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

std::string Escape(absl::string_view name, absl::string_view also) {
  std::string out;
  for (const char c : name) {
    const bool plain = absl::ascii_isgraph(static_cast<unsigned char>(c)) && c != '%' && c != ';' &&
                       c != '=' && !absl::StrContains(also, c);
    if (plain) {
      out.push_back(c);
    } else {
      constexpr absl::string_view kHex = "0123456789ABCDEF";
      const auto byte = static_cast<unsigned char>(c);
      absl::StrAppend(&out, "%", kHex.substr(byte >> 4, 1), kHex.substr(byte & 15, 1));
    }
  }
  return out;
}

// A piece of the text and where it begins, so that errors can point at it.
struct Piece {
  absl::string_view text;
  size_t position = 0;

  absl::Status Error(absl::string_view want) const {
    return absl::InvalidArgumentError(
        absl::StrCat("spec: at position ", position, ": got '", text, "', want ", want));
  }
};

// Cuts `piece` at every `separator`; positions stay those of the whole text.
std::vector<Piece> Cut(Piece piece, char separator) {
  std::vector<Piece> out;
  for (absl::string_view part : absl::StrSplit(piece.text, separator)) {
    out.push_back({part, piece.position + static_cast<size_t>(part.data() - piece.text.data())});
  }
  return out;
}

absl::StatusOr<std::string> Unescape(Piece piece) {
  constexpr absl::string_view kWant = "a name; write %, ;, = and spaces as %25, %3B, %3D, %20";
  if (piece.text.empty()) return piece.Error("a name");
  std::string out;
  for (size_t i = 0; i < piece.text.size(); ++i) {
    if (piece.text[i] != '%') {
      if (!absl::ascii_isgraph(static_cast<unsigned char>(piece.text[i]))) {
        return piece.Error(kWant);
      }
      out.push_back(piece.text[i]);
      continue;
    }
    const absl::string_view hex = piece.text.substr(i + 1, 2);
    std::string byte;
    if (hex.size() != 2 || !absl::HexStringToBytes(hex, &byte)) return piece.Error(kWant);
    out += byte;
    i += 2;
  }
  return out;
}

absl::StatusOr<Granularity> ParseGranularity(Piece piece) {
  if (piece.text == kPerTensor) return PerTensor{};
  if (piece.text == kPerChannel) return PerChannel{};
  int size = 0;
  absl::string_view digits = piece.text;
  // Canonical digits only: "064" or "+64" would not round-trip.
  if (absl::ConsumePrefix(&digits, kPerGroup) && absl::SimpleAtoi(digits, &size) && size > 0 &&
      absl::StrCat(size) == digits) {
    return PerGroup{size};
  }
  return piece.Error("per-tensor, per-channel or per-group-N with N > 0");
}

absl::Status ParseOption(Piece piece, QuantSpec& spec) {
  if (piece.text == "affine") {
    spec.scheme = QuantScheme::kAffine;
    return absl::OkStatus();
  }
  if (piece.text == "minmax") {
    spec.calibration = CalibrationMethod::kMinMax;
    return absl::OkStatus();
  }
  Piece name = piece;
  if (absl::ConsumePrefix(&name.text, "calib=")) {
    name.position += 6;
    HT_ASSIGN_OR_RETURN(spec.calibration_set, Unescape(name));
    return absl::OkStatus();
  }
  return piece.Error("the option affine, minmax or calib=NAME");
}

absl::Status ParseOverride(Piece piece, QuantSpec& spec) {
  const std::vector<Piece> parts = Cut(piece, '=');
  if (parts.size() != 3 || (parts[0].text != "op" && parts[0].text != "node")) {
    return piece.Error("op=OP_TYPE=TYPE or node=NODE_NAME=TYPE ('=' in a name is %3D)");
  }
  HT_ASSIGN_OR_RETURN(const std::string name, Unescape(parts[1]));
  const WeightType* type = FindWord(kTypes, parts[2].text);
  if (type == nullptr) return parts[2].Error(kTypeNames);
  if (*type == WeightType::kI8 && spec.weights != WeightType::kI8) {
    return parts[2].Error("fp32, fp16 or bf16: an override to int8 needs an int8 spec");
  }
  auto& overrides = parts[0].text == "op" ? spec.op_overrides : spec.node_overrides;
  if (!overrides.emplace(name, *type).second) return piece.Error("each name only once");
  return absl::OkStatus();
}

bool HasInt8Fields(const QuantSpec& s) {
  const QuantSpec plain;
  return s.activations != plain.activations || s.granularity != plain.granularity ||
         s.scheme != plain.scheme || s.calibration != plain.calibration ||
         s.calibration_set != plain.calibration_set;
}

std::string ToText(const Granularity& g) {
  if (std::holds_alternative<PerTensor>(g)) return std::string(kPerTensor);
  if (std::holds_alternative<PerChannel>(g)) return std::string(kPerChannel);
  return absl::StrCat(kPerGroup, std::get<PerGroup>(g).size);
}

absl::Status Contradiction(const QuantSpec& spec, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("spec '", spec.ToString(), "': ", what));
}
absl::Status NotYet(const QuantSpec& spec, absl::string_view what) {
  return absl::UnimplementedError(absl::StrCat("spec '", spec.ToString(), "': ", what));
}

}  // namespace

absl::StatusOr<QuantSpec> QuantSpec::Parse(absl::string_view text) {
  const std::vector<Piece> sections = Cut({text, 0}, ';');
  const std::vector<Piece> words = Cut(sections[0], '/');
  QuantSpec spec;
  const WeightType* type = FindWord(kTypes, words[0].text);
  if (type == nullptr) return words[0].Error(kTypeNames);
  spec.weights = *type;
  if (words.size() > 1 && spec.weights != WeightType::kI8) {
    return words[1].Error(absl::StrCat("nothing after '", words[0].text,
                                       "': granularity, mode and options belong to int8"));
  }
  if (words.size() > 1) {
    HT_ASSIGN_OR_RETURN(spec.granularity, ParseGranularity(words[1]));
    const Piece mode_word = words.size() > 2 ? words[2] : Piece{"", sections[0].text.size()};
    const ActivationMode* mode = FindWord(kModes, mode_word.text);
    if (mode == nullptr) return mode_word.Error("the mode static, dynamic, weight-only or auto");
    spec.activations = *mode;
  }
  for (size_t i = 3; i < words.size(); ++i) HT_RETURN_IF_ERROR(ParseOption(words[i], spec));
  for (size_t i = 1; i < sections.size(); ++i) HT_RETURN_IF_ERROR(ParseOverride(sections[i], spec));
  return spec;
}

std::string QuantSpec::ToString() const {
  std::string out(WordFor(kTypes, weights));
  if (HasInt8Fields(*this)) {
    absl::StrAppend(&out, "/", ToText(granularity), "/", WordFor(kModes, activations));
    if (scheme == QuantScheme::kAffine) absl::StrAppend(&out, "/affine");
    if (!calibration_set.empty()) absl::StrAppend(&out, "/calib=", Escape(calibration_set, "/"));
  }
  for (const auto& [name, type] : node_overrides) {
    absl::StrAppend(&out, ";node=", Escape(name, ""), "=", WordFor(kTypes, type));
  }
  for (const auto& [name, type] : op_overrides) {
    absl::StrAppend(&out, ";op=", Escape(name, ""), "=", WordFor(kTypes, type));
  }
  return out;
}

absl::Status QuantSpec::Validate() const {
  if (weights != WeightType::kI8 && HasInt8Fields(*this)) {
    return Contradiction(*this, "granularity, mode and options belong to int8");
  }
  for (const auto* overrides : {&op_overrides, &node_overrides}) {
    for (const auto& [name, type] : *overrides) {
      if (name.empty()) return Contradiction(*this, "an override has no name");
      if (type == WeightType::kI8 && weights != WeightType::kI8) {
        return Contradiction(*this, "an override to int8 needs an int8 spec");
      }
    }
  }
  if (const PerGroup* group = std::get_if<PerGroup>(&granularity)) {
    if (group->size < 1) return Contradiction(*this, "a group has at least 1 element");
    return NotYet(*this, "per-group weights are not available; use per-channel");
  }
  const bool integer_compute = activations != ActivationMode::kWeightOnly;
  if (scheme == QuantScheme::kAffine && integer_compute) {
    return NotYet(*this, "affine weights are available for weight-only; use symmetric");
  }
  if (!calibration_set.empty() && activations != ActivationMode::kStatic &&
      activations != ActivationMode::kAuto) {
    return Contradiction(*this, "a calibration set belongs to static");
  }
  return absl::OkStatus();
}

WeightType PrecisionFor(const QuantSpec& spec, absl::string_view op, absl::string_view node_name) {
  const auto node = spec.node_overrides.find(std::string(node_name));
  if (node != spec.node_overrides.end()) return node->second;
  const auto by_op = spec.op_overrides.find(std::string(op));
  return by_op != spec.op_overrides.end() ? by_op->second : spec.weights;
}

}  // namespace halftone
