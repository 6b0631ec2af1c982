// The text of a QuantSpec: Parse and ToString.
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"
#include "core/quant/quant_spec.h"
#include "core/quant/spec_words.h"

namespace halftone {
namespace {

constexpr absl::string_view kPerTensor = "per-tensor";
constexpr absl::string_view kPerChannel = "per-channel";
constexpr absl::string_view kPerAxis = "per-channel-axis-";
constexpr absl::string_view kPerGroup = "per-group-";
constexpr absl::string_view kPercentile = "percentile-";
constexpr absl::string_view kTypeNames =
    "fp32, fp16, bf16, int16, int8, uint8, int4, uint4, ternary or binary";
constexpr absl::string_view kWordNames =
    "a granularity (per-tensor, per-channel, per-channel-axis-N, per-group-N), a mode (static, "
    "dynamic, dynamic-per-token, weight-only, auto), affine or symmetric, act=TYPE, a calibration "
    "method (minmax, moving-average, percentile-P, entropy, mse), calib=NAME, a level (fast, "
    "better, best), with=TECHNIQUE or without=TECHNIQUE, size or speed, or compute=TYPE";

const WeightType* FindType(absl::string_view text) {
  for (const TypeRow& row : kTypeRows) {
    if (row.text == text) return &row.type;
  }
  return nullptr;
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

// A number behind a prefix, in canonical digits: "064" and "+64" would not round-trip.
std::optional<int> NumberAfter(absl::string_view prefix, absl::string_view text) {
  int n = 0;
  if (!absl::ConsumePrefix(&text, prefix) || !absl::SimpleAtoi(text, &n) ||
      absl::StrCat(n) != text) {
    return std::nullopt;
  }
  return n;
}

absl::StatusOr<Granularity> ParseGranularity(Piece piece) {
  if (piece.text == kPerTensor) return PerTensor{};
  if (piece.text == kPerChannel) return PerChannel{};
  const std::optional<int> axis = NumberAfter(kPerAxis, piece.text);
  if (axis && *axis >= 0) return PerChannel{*axis};
  const std::optional<int> size = NumberAfter(kPerGroup, piece.text);
  if (size && *size > 0) return PerGroup{*size};
  return piece.Error(
      "per-tensor, per-channel, per-channel-axis-N with N >= 0 or per-group-N with N > 0");
}

// What one word of the spec may set, and how often: each field has a bit.
class WordParser {
 public:
  explicit WordParser(QuantSpec& spec) : spec_(spec) {}

  absl::Status Parse(Piece piece) {
    const absl::string_view text = piece.text;
    if (absl::StartsWith(text, "per-")) {
      HT_ASSIGN_OR_RETURN(spec_.granularity, ParseGranularity(piece));
      return Once(piece, kGranularity);
    }
    if (Take(kModes, text, spec_.activations)) return Once(piece, kMode);
    if (Take(kSchemes, text, spec_.scheme)) return Once(piece, kScheme);
    if (Take(kActivationTypes, text, spec_.activation_type)) return Once(piece, kActivationType);
    if (Take(kMethods, text, spec_.calibration)) return Once(piece, kMethod);
    if (Take(kLevels, text, spec_.level)) return Once(piece, kLevel);
    if (Take(kPolicies, text, spec_.policy)) return Once(piece, kPolicy);
    if (Take(kComputeTypes, text, spec_.compute)) return Once(piece, kCompute);
    if (absl::StartsWith(text, kPercentile)) return ParsePercentile(piece);
    if (absl::StartsWith(text, "calib=")) return ParseCalibrationSet(piece);
    if (absl::StartsWith(text, "with=")) return ParseTechnique(piece, 5, true);
    if (absl::StartsWith(text, "without=")) return ParseTechnique(piece, 8, false);
    return piece.Error(kWordNames);
  }

 private:
  enum Field {
    kGranularity,
    kMode,
    kScheme,
    kActivationType,
    kMethod,
    kSet,
    kLevel,
    kPolicy,
    kCompute
  };

  template <typename T, size_t N>
  static bool Take(const std::array<Word<T>, N>& words, absl::string_view text, T& out) {
    const T* found = FindWord(words, text);
    if (found != nullptr) out = *found;
    return found != nullptr;
  }
  absl::Status Once(Piece piece, Field field) {
    if ((seen_ >> field & 1) != 0) return piece.Error("each kind of word only once");
    seen_ |= 1u << field;
    return absl::OkStatus();
  }
  absl::Status ParsePercentile(Piece piece) {
    const absl::string_view digits = piece.text.substr(kPercentile.size());
    double p = 0;
    if (!absl::SimpleAtod(digits, &p) || !(p > 50 && p <= 100) || absl::StrCat(p) != digits) {
      return piece.Error("percentile-P with P above 50 and at most 100, such as percentile-99.9");
    }
    spec_.calibration = CalibrationMethod::kPercentile;
    spec_.percentile = p;
    return Once(piece, kMethod);
  }
  absl::Status ParseCalibrationSet(Piece piece) {
    const Piece name{piece.text.substr(6), piece.position + 6};
    HT_ASSIGN_OR_RETURN(spec_.calibration_set, Unescape(name));
    return Once(piece, kSet);
  }
  absl::Status ParseTechnique(Piece piece, size_t prefix, bool on) {
    const Piece name{piece.text.substr(prefix), piece.position + prefix};
    for (const TechniqueRow& row : kTechniqueRows) {
      if (row.text != name.text) continue;
      if (spec_.techniques.emplace(row.technique, on).second) return absl::OkStatus();
      return piece.Error("each technique only once");
    }
    const auto append = [](std::string* out, const TechniqueRow& row) {
      absl::StrAppend(out, row.text);
    };
    return name.Error(absl::StrJoin(kTechniqueRows, ", ", append));
  }

  QuantSpec& spec_;
  unsigned seen_ = 0;
};

// Switches that say what the level says anyway are no part of the value.
void DropRedundantTechniques(QuantSpec& spec) {
  std::erase_if(spec.techniques, [&](const auto& item) {
    return item.second == (spec.level >= RowOf(item.first).from);
  });
}

absl::Status ParseOverride(Piece piece, QuantSpec& spec) {
  const std::vector<Piece> parts = Cut(piece, '=');
  if (parts.size() != 3 || (parts[0].text != "op" && parts[0].text != "node")) {
    return piece.Error("op=OP_TYPE=TYPE or node=NODE_NAME=TYPE ('=' in a name is %3D)");
  }
  HT_ASSIGN_OR_RETURN(const std::string name, Unescape(parts[1]));
  const WeightType* type = FindType(parts[2].text);
  if (type == nullptr) return parts[2].Error(kTypeNames);
  if (!MayOverride(spec, *type)) {
    return parts[2].Error(absl::StrCat("fp32, fp16, bf16 or the spec's own type: an override to ",
                                       parts[2].text, " needs a spec of ", parts[2].text));
  }
  auto& overrides = parts[0].text == "op" ? spec.op_overrides : spec.node_overrides;
  if (!overrides.emplace(name, *type).second) return piece.Error("each name only once");
  return absl::OkStatus();
}

std::string ToText(const Granularity& g) {
  if (std::holds_alternative<PerTensor>(g)) return std::string(kPerTensor);
  if (const auto* group = std::get_if<PerGroup>(&g)) return absl::StrCat(kPerGroup, group->size);
  const int axis = std::get<PerChannel>(g).axis;
  return axis < 0 ? std::string(kPerChannel) : absl::StrCat(kPerAxis, axis);
}

// What belongs to integer weights, as far as it differs from the defaults of the type.
void AppendIntegerWords(const QuantSpec& spec, std::string& out) {
  const QuantSpec plain = DefaultsOf(spec.weights);
  if (spec.granularity != plain.granularity || spec.activations != plain.activations) {
    absl::StrAppend(&out, "/", ToText(spec.granularity), "/", WordFor(kModes, spec.activations));
  }
  if (spec.scheme != plain.scheme) absl::StrAppend(&out, "/", WordFor(kSchemes, spec.scheme));
  if (spec.activation_type != plain.activation_type) {
    absl::StrAppend(&out, "/", WordFor(kActivationTypes, spec.activation_type));
  }
  if (spec.calibration != plain.calibration) {
    absl::StrAppend(&out, "/", WordFor(kMethods, spec.calibration));
    if (spec.percentile != plain.percentile) absl::StrAppend(&out, "-", spec.percentile);
  }
  if (!spec.calibration_set.empty()) {
    absl::StrAppend(&out, "/calib=", Escape(spec.calibration_set, "/"));
  }
}

}  // namespace

absl::StatusOr<QuantSpec> QuantSpec::Parse(absl::string_view text) {
  const std::vector<Piece> sections = Cut({text, 0}, ';');
  const std::vector<Piece> words = Cut(sections[0], '/');
  const WeightType* type = FindType(words[0].text);
  if (type == nullptr) return words[0].Error(kTypeNames);
  QuantSpec spec = DefaultsOf(*type);
  WordParser parser(spec);
  for (size_t i = 1; i < words.size(); ++i) {
    HT_RETURN_IF_ERROR(parser.Parse(words[i]));
    if (!IsInteger(*type) && HasIntegerFields(spec)) {
      return words[i].Error(absl::StrCat("nothing of that kind after '", words[0].text,
                                         "': it belongs to integer weights"));
    }
  }
  DropRedundantTechniques(spec);
  for (size_t i = 1; i < sections.size(); ++i) HT_RETURN_IF_ERROR(ParseOverride(sections[i], spec));
  return spec;
}

std::string QuantSpec::ToString() const {
  std::string out(Name(weights));
  AppendIntegerWords(*this, out);
  if (level != Level::kFast) absl::StrAppend(&out, "/", WordFor(kLevels, level));
  for (const auto& [technique, on] : techniques) {
    absl::StrAppend(&out, on ? "/with=" : "/without=", Name(technique));
  }
  if (policy != Policy::kSize) absl::StrAppend(&out, "/", WordFor(kPolicies, policy));
  if (compute != ComputeType::kAuto) absl::StrAppend(&out, "/", WordFor(kComputeTypes, compute));
  for (const auto& [name, type] : node_overrides) {
    absl::StrAppend(&out, ";node=", Escape(name, ""), "=", Name(type));
  }
  for (const auto& [name, type] : op_overrides) {
    absl::StrAppend(&out, ";op=", Escape(name, ""), "=", Name(type));
  }
  return out;
}

}  // namespace halftone
