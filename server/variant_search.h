// Quantize with an objective: the search of core/variant/search.h over the store.
#ifndef HALFTONE_SERVER_VARIANT_SEARCH_H_
#define HALFTONE_SERVER_VARIANT_SEARCH_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "core/store/model_store.h"
#include "core/variant/search.h"
#include "halftone/v1/quantization_service.pb.h"

namespace halftone {

// INVALID_ARGUMENT for numbers that make no sense.
absl::StatusOr<Objective> FromProto(const v1::Objective& proto);
void ToProto(const SearchState& state, v1::QuantizeSearch& out);

struct SearchOutcome {
  VariantInfo best;
  SearchState state;
};

// Blocks until the search is over. `show` gets progress of every build, with the search so far in
// it; `gone` ends the search early. Variants that were not there before and are not on the front
// are deleted at the end.
absl::StatusOr<SearchOutcome> SearchInStore(ModelStore& store, const std::string& model,
                                            const v1::Objective& objective,
                                            const std::function<void(v1::QuantizeProgress)>& show,
                                            const std::function<bool()>& gone);

}  // namespace halftone

#endif  // HALFTONE_SERVER_VARIANT_SEARCH_H_
