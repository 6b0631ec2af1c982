#include "core/variant/search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>

#include "absl/algorithm/container.h"
#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

// One thing to try. `coarser_than` and `better_than` name earlier rows whose results decide whether
// it is worth it; empty: always.
struct Trial {
  absl::string_view spec;
  bool needs_samples;
  absl::string_view coarser_than;  // pointless where that one lost too much already
  absl::string_view better_than;   // pointless where that one met the quality already
  bool fast;                       // may win on speed
  bool small = true;               // may win on size
};
constexpr std::array kTrials = {
    Trial{"int8/per-channel/static", true, "", "", true},
    Trial{"int8/per-channel/dynamic", false, "", "", true},
    // The same formats where they pay, f32 where they do not.
    Trial{"int8/per-channel/static/speed", true, "", "", true, false},
    Trial{"int8/per-channel/dynamic/speed", false, "", "", true, false},
    Trial{"int8/per-channel/dynamic-per-token", false, "", "int8/per-channel/dynamic", true},
    Trial{"bf16", false, "", "", true},
    Trial{"fp16", false, "", "", true},
    Trial{"int8/per-channel/weight-only", false, "", "", false},
    Trial{"int4", false, "int8/per-channel/weight-only", "", false},
    Trial{"ternary", false, "int4", "", false},
    Trial{"binary", false, "ternary", "", false},
    Trial{"int8/per-channel/static/better", true, "", "int8/per-channel/static", true},
    Trial{"int8/per-channel/static/best", true, "", "int8/per-channel/static/better", true},
    Trial{"int4/best", true, "int8/per-channel/weight-only", "int4", false},
    Trial{"ternary/best", true, "int4/best", "ternary", false},
};

QuantSpec SpecOf(const Trial& trial) {
  absl::StatusOr<QuantSpec> spec = QuantSpec::Parse(trial.spec);
  CHECK_OK(spec.status());
  return *std::move(spec);
}

double Disagreement(const Candidate& c) { return c.top1_agreement < 0 ? 0 : 1 - c.top1_agreement; }

bool MeetsQuality(const Objective& o, const Candidate& c) {
  if (o.min_sqnr_db != 0 && !(c.sqnr_db >= o.min_sqnr_db)) return false;
  return !o.limits_disagreement || Disagreement(c) <= o.max_disagreement;
}
bool Fits(const Objective& o, const Candidate& c) {
  return o.max_resident_bytes == 0 || c.resident_bytes <= o.max_resident_bytes;
}

// What the goal wants small.
double Cost(const Objective& o, const Candidate& c) {
  return o.goal == Objective::Goal::kSmallest ? static_cast<double>(c.resident_bytes)
                                              : c.latency_seconds;
}

bool Dominates(const Candidate& a, const Candidate& b) {
  const bool no_worse = a.resident_bytes <= b.resident_bytes &&
                        a.latency_seconds <= b.latency_seconds && a.sqnr_db >= b.sqnr_db;
  const bool better = a.resident_bytes < b.resident_bytes ||
                      a.latency_seconds < b.latency_seconds || a.sqnr_db > b.sqnr_db;
  return no_worse && better;
}

// Where no layer pays, policy speed leaves all of them f32: the model itself under another name.
bool IsFp32(const Candidate& c, const Candidate& fp32) {
  return c.sqnr_db >= fp32.sqnr_db && c.resident_bytes >= fp32.resident_bytes;
}

const Candidate* Find(const std::vector<Candidate>& tried, absl::string_view text) {
  for (const Candidate& c : tried) {
    if (c.spec.ToString() == text) return &c;
  }
  return nullptr;
}

bool CouldWin(const Objective& o, const std::vector<Candidate>& tried, const Trial& trial,
              bool has_samples) {
  if (trial.needs_samples && !has_samples) return false;
  if (o.goal == Objective::Goal::kFastest && !trial.fast && o.max_resident_bytes == 0) return false;
  if (o.goal == Objective::Goal::kSmallest && !trial.small) return false;
  if (const Candidate* finer = Find(tried, trial.coarser_than)) {
    if (!MeetsQuality(o, *finer)) return false;
  }
  if (const Candidate* plain = Find(tried, trial.better_than)) {
    if (MeetsQuality(o, *plain)) return false;
  }
  return true;
}

}  // namespace

absl::Status Objective::Validate() const {
  if (!std::isfinite(min_sqnr_db) || min_sqnr_db < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("objective: min_sqnr_db is ", min_sqnr_db, ", want 0 or more"));
  }
  if (!(max_disagreement >= 0 && max_disagreement <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("objective: max_disagreement is ", max_disagreement, ", want 0 to 1"));
  }
  if (max_resident_bytes < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("objective: max_resident_bytes is ", max_resident_bytes, ", want 0 or more"));
  }
  return absl::OkStatus();
}

Candidate CandidateOf(const QuantSpec& spec, const VariantReport& report) {
  return {.spec = spec,
          .resident_bytes = report.resident_bytes,
          .latency_seconds = report.latency_seconds,
          .sqnr_db = report.sqnr_db,
          .top1_agreement = report.top1_agreement};
}

Candidate Fp32Candidate(const VariantReport& any_report) {
  return {.resident_bytes = any_report.fp32_resident_bytes,
          .latency_seconds = any_report.fp32_latency_seconds,
          .sqnr_db = 999,
          .top1_agreement = any_report.top1_agreement < 0 ? -1.0 : 1.0};
}

bool Meets(const Objective& objective, const Candidate& candidate) {
  return MeetsQuality(objective, candidate) && Fits(objective, candidate);
}

std::vector<Candidate> ParetoFront(const std::vector<Candidate>& candidates) {
  std::vector<Candidate> front;
  for (const Candidate& c : candidates) {
    const bool beaten = absl::c_any_of(candidates, [&](const auto& d) { return Dominates(d, c); });
    if (!beaten) front.push_back(c);
  }
  std::stable_sort(front.begin(), front.end(), [](const auto& a, const auto& b) {
    return a.resident_bytes < b.resident_bytes;
  });
  return front;
}

const Candidate* Best(const Objective& objective, const std::vector<Candidate>& candidates) {
  const auto rank = [&](const Candidate& c) {
    const bool quality = MeetsQuality(objective, c), fits = Fits(objective, c);
    // What misses is ordered by what it misses, what meets by what it costs.
    const double missed_quality = quality ? 0 : Disagreement(c) * 1e6 - c.sqnr_db;
    const double missed_bytes = fits ? 0 : static_cast<double>(c.resident_bytes);
    return std::tuple(!quality, missed_quality, missed_bytes, Cost(objective, c));
  };
  const Candidate* best = nullptr;
  for (const Candidate& c : candidates) {
    if (best == nullptr || rank(c) < rank(*best)) best = &c;
  }
  return best;
}

std::optional<QuantSpec> Next(const Objective& objective, const std::vector<Candidate>& tried,
                              bool has_samples) {
  for (const Trial& trial : kTrials) {
    const QuantSpec spec = SpecOf(trial);
    if (Find(tried, spec.ToString()) != nullptr) continue;
    if (CouldWin(objective, tried, trial, has_samples)) return spec;
  }
  return std::nullopt;
}

absl::StatusOr<SearchState> SearchVariants(const Objective& objective, bool has_samples,
                                           const BuildCandidate& build,
                                           const std::function<bool()>& over,
                                           const std::function<void(const SearchState&)>& show) {
  HT_RETURN_IF_ERROR(objective.Validate());
  SearchState state;
  state.met =
      objective.max_resident_bytes == 0;  // fp32 has every quality; its size is not known yet
  std::vector<Candidate> built, tried;
  while (!over()) {
    const std::optional<QuantSpec> spec = Next(objective, tried, has_samples);
    if (!spec) break;
    const absl::StatusOr<VariantReport> report = build(*spec);
    const absl::Status& status = report.status();
    if (absl::IsCancelled(status) || absl::IsDeadlineExceeded(status)) break;
    if (!status.ok()) {
      const bool of_the_spec = absl::IsFailedPrecondition(status) ||
                               absl::IsUnimplemented(status) || absl::IsInvalidArgument(status);
      if (!of_the_spec && built.empty()) return status;
      if (!of_the_spec) break;
      state.failures.push_back(absl::StrCat(spec->ToString(), ": ", status.message()));
      tried.push_back({.spec = *spec, .sqnr_db = -999, .top1_agreement = 0});
      continue;
    }
    tried.push_back(CandidateOf(*spec, *report));
    if (built.empty()) built.push_back(Fp32Candidate(*report));
    if (!IsFp32(tried.back(), built[0])) built.push_back(tried.back());
    state.front = ParetoFront(built);
    state.best = *Best(objective, built);
    state.met = Meets(objective, state.best);
    show(state);
  }
  return state;
}

}  // namespace halftone
