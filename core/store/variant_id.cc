#include "core/store/variant_id.h"

#include <algorithm>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/sha256.h"
#include "core/base/status_macros.h"
#include "core/variant/build_variant.h"

namespace halftone {
namespace {

absl::StatusOr<CalibrationRef> FindSet(absl::Span<const CalibrationRef> sets,
                                       const std::string& name) {
  for (auto it = sets.rbegin(); it != sets.rend(); ++it) {
    if (name.empty() || it->name == name) return *it;
  }
  if (name.empty()) {
    return absl::FailedPreconditionError(
        "static activations need calibration samples and the model has none: upload a calibration "
        "set, or ask for dynamic activations");
  }
  const auto append = [](std::string* out, const CalibrationRef& set) {
    absl::StrAppend(out, "'", set.name, "'");
  };
  return absl::NotFoundError(
      absl::StrCat("calibration set '", name, "': the model has ",
                   sets.empty() ? "none" : absl::StrJoin(sets, ", ", append)));
}

}  // namespace

bool IsOriginal(const QuantSpec& spec) { return spec == QuantSpec{}; }

bool LooksLikeVariantId(absl::string_view text) {
  return text.size() >= 8 && text.size() <= 64 &&
         std::all_of(text.begin(), text.end(), absl::ascii_isxdigit);
}

absl::StatusOr<ResolvedVariant> ResolveVariant(absl::string_view model_digest,
                                               absl::Span<const CalibrationRef> sets,
                                               absl::string_view isa_class, QuantSpec spec) {
  HT_RETURN_IF_ERROR(spec.Validate());
  ResolvedVariant out;
  // A set asked for by name must exist even where "auto" could do without.
  if (!spec.calibration_set.empty() && spec.calibration_set != kSyntheticSet)
    HT_RETURN_IF_ERROR(FindSet(sets, spec.calibration_set).status());
  out.spec = ResolveSpec(std::move(spec), /*has_samples=*/!sets.empty());
  std::string calibration_digest;
  // Techniques do what they can without samples; static cannot. With synthetic ones, only the
  // choice of layers for mixed precision looks at real ones, if there are any.
  const bool synthetic = out.spec.calibration_set == kSyntheticSet;
  const bool required = out.spec.activations == ActivationMode::kStatic && !synthetic;
  const bool useful = synthetic ? Uses(out.spec, Technique::kMixed) : UsesSamples(out.spec);
  if (required || (useful && !sets.empty())) {
    HT_ASSIGN_OR_RETURN(out.calibration, FindSet(sets, synthetic ? "" : out.spec.calibration_set));
    calibration_digest = out.calibration->digest;
  }
  if (!synthetic) out.spec.calibration_set.clear();
  out.text = out.spec.ToString();
  // What a technique sees of samples comes out of float products, summed as the CPU likes it.
  const bool isa_matters =
      UsesIntegerArithmetic(out.spec) || UsesSamples(out.spec) || out.spec.policy == Policy::kSpeed;
  out.id = Sha256Hex(absl::StrCat("halftone-variant\n", model_digest, "\n", out.text, "\n",
                                  calibration_digest, "\n", kQuantizerVersion, "\n",
                                  isa_matters ? isa_class : "", "\n"));
  return out;
}

}  // namespace halftone
