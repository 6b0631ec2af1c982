// Which variant to build when somebody states a goal instead of a spec. An anytime search: it has
// the best so far at every moment. Whoever calls it builds (the server, through the store).
#ifndef HALFTONE_CORE_VARIANT_SEARCH_H_
#define HALFTONE_CORE_VARIANT_SEARCH_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/quant/quant_spec.h"
#include "core/variant/report.h"

namespace halftone {

struct Objective {
  enum class Goal : uint8_t { kSmallest, kFastest };
  Goal goal = Goal::kSmallest;
  // What must hold; 0 asks for nothing.
  double min_sqnr_db = 0;
  double max_disagreement = 0;  // part of the samples with another top-1 class; in [0, 1]
  bool limits_disagreement = false;
  int64_t max_resident_bytes = 0;

  absl::Status Validate() const;  // INVALID_ARGUMENT: negative or not finite
};

// What is known of one variant.
struct Candidate {
  QuantSpec spec;
  int64_t resident_bytes = 0;
  double latency_seconds = 0;
  double sqnr_db = 0;
  double top1_agreement = -1;  // -1: no classifier

  bool operator==(const Candidate&) const = default;
};
Candidate CandidateOf(const QuantSpec& spec, const VariantReport& report);
// The model itself: what there is before anything is built.
Candidate Fp32Candidate(const VariantReport& any_report);

bool Meets(const Objective& objective, const Candidate& candidate);

// The candidates that no other one beats in size, speed and SQNR at once; by size.
std::vector<Candidate> ParetoFront(const std::vector<Candidate>& candidates);

// The best that meets the objective; where none does, the one that misses it least: quality first,
// then memory. Null without candidates. The pointer is into `candidates`.
const Candidate* Best(const Objective& objective, const std::vector<Candidate>& candidates);

// What to try next: from the formats that mostly do to the ones that cost more to build or rarely
// do, without those that what was seen rules out (a coarser format where a finer one lost too
// much; a better level where the plain one was good already). nullopt: nothing left that could win.
// `has_samples` says whether static variants can be calibrated.
std::optional<QuantSpec> Next(const Objective& objective, const std::vector<Candidate>& tried,
                              bool has_samples);

// A search so far: at every moment there is a best one, fp32 if nothing else.
struct SearchState {
  std::vector<Candidate> front;       // of all that was built, and fp32
  Candidate best;                     // spec fp32 before anything was built
  bool met = false;                   // the best meets the objective
  std::vector<std::string> failures;  // "spec: why it could not be built"
};

// Builds one candidate (or finds it) and says what was measured.
using BuildCandidate = std::function<absl::StatusOr<VariantReport>(const QuantSpec&)>;

// Tries candidates until nothing is left that could win or `over` says so, between and after
// builds. Calls `show` after each. A candidate that cannot be built is a failure in words;
// CANCELLED and DEADLINE_EXCEEDED end the search with what there is; other errors (NOT_FOUND: the
// model is gone; RESOURCE_EXHAUSTED) end it with that error when nothing was built yet.
absl::StatusOr<SearchState> SearchVariants(const Objective& objective, bool has_samples,
                                           const BuildCandidate& build,
                                           const std::function<bool()>& over,
                                           const std::function<void(const SearchState&)>& show);

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_SEARCH_H_
