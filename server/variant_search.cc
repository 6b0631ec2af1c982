#include "server/variant_search.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/status_macros.h"
#include "server/proto_convert.h"

namespace halftone {
namespace {

constexpr absl::Duration kDefaultTime = absl::Minutes(5);

absl::StatusOr<absl::Duration> TimeLimit(const v1::Objective& proto) {
  if (!proto.has_time_limit()) return kDefaultTime;
  const absl::Duration limit =
      absl::Seconds(proto.time_limit().seconds()) + absl::Nanoseconds(proto.time_limit().nanos());
  if (limit < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("objective: time_limit is ", absl::FormatDuration(limit), ", want 0 or more"));
  }
  return limit == absl::ZeroDuration() ? kDefaultTime : limit;
}

void ToProto(const Candidate& candidate, v1::QuantizeCandidate& out) {
  out.set_spec_text(candidate.spec.ToString());
  out.set_resident_bytes(candidate.resident_bytes);
  halftone::ToProto(absl::Seconds(candidate.latency_seconds), *out.mutable_latency());
  out.set_sqnr_db(candidate.sqnr_db);
  if (candidate.top1_agreement >= 0) out.set_top1_agreement_ratio(candidate.top1_agreement);
}

// One search: builds through the store and remembers what it added to it.
class StoreSearch {
 public:
  StoreSearch(ModelStore& store, std::string model,
              const std::function<void(v1::QuantizeProgress)>& show,
              const std::function<bool()>& gone, absl::Time deadline)
      : store_(store), model_(std::move(model)), show_(show), gone_(gone), deadline_(deadline) {}

  absl::StatusOr<SearchOutcome> Run(const Objective& objective) {
    HT_ASSIGN_OR_RETURN(const ModelInfo info, store_.GetModel(model_));
    SearchOutcome out;
    HT_ASSIGN_OR_RETURN(out.state, SearchVariants(
                                       objective, !info.calibration_sets.empty(),
                                       [this](const QuantSpec& spec) { return Build(spec); },
                                       [this] { return Over(); },
                                       [this](const SearchState& state) { so_far_ = state; }));
    DeleteLosers(out.state);
    HT_ASSIGN_OR_RETURN(out.best, store_.GetVariant(model_, out.state.best.spec.ToString()));
    return out;
  }

 private:
  bool Over() const { return gone_() || absl::Now() >= deadline_; }

  absl::StatusOr<VariantReport> Build(const QuantSpec& spec) {
    const std::string text = spec.ToString();
    const bool is_new = !store_.GetVariant(model_, text).ok();
    const auto progress = [&](const Progress& p) {
      v1::QuantizeProgress event;
      halftone::ToProto(p, event);
      event.set_spec_text(text);
      halftone::ToProto(so_far_, *event.mutable_search());
      show_(std::move(event));
    };
    HT_ASSIGN_OR_RETURN(const VariantInfo info,
                        store_.Quantize(model_, spec, progress, [this] { return Over(); }));
    if (is_new) added_[text] = info.id;
    return store_.GetReport(model_, info.id);
  }

  void DeleteLosers(const SearchState& state) {
    for (const auto& [text, id] : added_) {
      const bool kept = absl::c_any_of(
          state.front, [&](const Candidate& c) { return c.spec.ToString() == text; });
      // A variant that somebody took away meanwhile needs no deleting.
      if (!kept && text != state.best.spec.ToString()) {
        store_.DeleteVariant(model_, id).IgnoreError();
      }
    }
  }

  ModelStore& store_;
  const std::string model_;
  const std::function<void(v1::QuantizeProgress)>& show_;
  const std::function<bool()>& gone_;
  const absl::Time deadline_;
  SearchState so_far_;
  std::map<std::string, std::string> added_;  // ids by spec
};

}  // namespace

absl::StatusOr<Objective> FromProto(const v1::Objective& proto) {
  Objective out;
  if (proto.goal() == v1::Objective::GOAL_FASTEST) {
    out.goal = Objective::Goal::kFastest;
  } else if (proto.goal() != v1::Objective::GOAL_SMALLEST &&
             proto.goal() != v1::Objective::GOAL_UNSPECIFIED) {
    return absl::InvalidArgumentError(absl::StrCat(
        "objective: goal is ", static_cast<int>(proto.goal()), ", want smallest or fastest"));
  }
  out.min_sqnr_db = proto.min_sqnr_db();
  out.limits_disagreement = proto.has_max_disagreement_ratio();
  out.max_disagreement = proto.max_disagreement_ratio();
  out.max_resident_bytes = proto.max_resident_bytes();
  HT_RETURN_IF_ERROR(out.Validate());
  HT_RETURN_IF_ERROR(TimeLimit(proto).status());
  return out;
}

void ToProto(const SearchState& state, v1::QuantizeSearch& out) {
  for (const Candidate& candidate : state.front) ToProto(candidate, *out.add_front());
  out.set_best_spec_text(state.best.spec.ToString());
  out.set_met(state.met);
  for (const std::string& failure : state.failures) out.add_failures(failure);
}

absl::StatusOr<SearchOutcome> SearchInStore(ModelStore& store, const std::string& model,
                                            const v1::Objective& proto,
                                            const std::function<void(v1::QuantizeProgress)>& show,
                                            const std::function<bool()>& gone) {
  HT_ASSIGN_OR_RETURN(const Objective objective, FromProto(proto));
  HT_ASSIGN_OR_RETURN(const absl::Duration limit, TimeLimit(proto));
  return StoreSearch(store, model, show, gone, absl::Now() + limit).Run(objective);
}

}  // namespace halftone
