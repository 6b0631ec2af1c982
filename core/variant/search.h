// Which variant to build when somebody states a goal instead of a spec. Pure decisions; whoever
// builds (the server, through the store) asks Next until there is nothing left, time is over or the
// answer is good enough, and has the best so far at every moment.
#ifndef HALFTONE_CORE_VARIANT_SEARCH_H_
#define HALFTONE_CORE_VARIANT_SEARCH_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
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

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_SEARCH_H_
