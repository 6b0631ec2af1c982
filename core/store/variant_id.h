// From a wish to an identity: which variant a spec means for a model at this moment.
#ifndef HALFTONE_CORE_STORE_VARIANT_ID_H_
#define HALFTONE_CORE_STORE_VARIANT_ID_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/quant/quant_spec.h"

namespace halftone {

struct CalibrationRef {
  std::string name;
  int sequence = 0;    // grows with every stored set of the model: the largest is the newest
  std::string digest;  // SHA-256 hex of the content
};

struct ResolvedVariant {
  std::string id;    // SHA-256 hex
  std::string text;  // canonical, never "auto"; the set's name is not part of it, its digest
                     // decides (but "synthetic" is, which has none: everybody shall see it)
  QuantSpec spec;    // as `text`
  std::optional<CalibrationRef> calibration;  // static only
};

// Resolves `spec` for the model with this digest. `sets` are the model's, newest last; `isa_class`
// is the serving machine's. Equal results of equal inputs, on every machine of the ISA class:
//   id = SHA-256(model digest, text, calibration digest, quantizer version, ISA class where integer
//                arithmetic or samples make numbers depend on it)
// INVALID_ARGUMENT or UNIMPLEMENTED as QuantSpec::Validate; NOT_FOUND for an unknown calibration
// set; FAILED_PRECONDITION for static activations without any.
absl::StatusOr<ResolvedVariant> ResolveVariant(absl::string_view model_digest,
                                               absl::Span<const CalibrationRef> sets,
                                               absl::string_view isa_class, QuantSpec spec);

// "fp32": the model itself.
bool IsOriginal(const QuantSpec& spec);

// At least 8 hexadecimal digits, at most 64: may be (the beginning of) a variant id.
bool LooksLikeVariantId(absl::string_view text);

}  // namespace halftone

#endif  // HALFTONE_CORE_STORE_VARIANT_ID_H_
