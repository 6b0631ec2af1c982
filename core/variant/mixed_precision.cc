#include "core/variant/mixed_precision.h"

#include <algorithm>
#include <cmath>

#include "core/base/status_macros.h"

namespace halftone {
namespace {

std::vector<std::string> AllBut(const std::vector<std::string>& layers, size_t index) {
  std::vector<std::string> others = layers;
  others.erase(others.begin() + static_cast<std::ptrdiff_t>(index));
  return others;
}

}  // namespace

bool QualityTarget::Met(const Comparison& c) const {
  if (min_sqnr_db != 0 && !(c.sqnr_db >= min_sqnr_db)) return false;
  return c.top1_agreement < 0 || c.top1_agreement >= min_agreement;
}

absl::StatusOr<WideLayers> ChooseWideLayers(const std::vector<std::string>& layers,
                                            const QualityTarget& target, const TryWide& attempt,
                                            const StepFn& step) {
  WideLayers out;
  const int rounds = static_cast<int>(layers.size() + std::ceil(std::log2(layers.size() + 1)) + 1);
  int round = 0;
  const auto met = [&](const std::vector<std::string>& wide) -> absl::StatusOr<bool> {
    HT_ASSIGN_OR_RETURN(const Comparison c, attempt(wide));
    HT_RETURN_IF_ERROR(step(std::min(++round, rounds), rounds));
    return target.Met(c);
  };
  HT_ASSIGN_OR_RETURN(out.met, met({}));
  if (out.met || layers.size() < 2) return out;

  for (size_t i = 0; i < layers.size(); ++i) {
    HT_ASSIGN_OR_RETURN(const Comparison alone, attempt(AllBut(layers, i)));
    HT_RETURN_IF_ERROR(step(std::min(++round, rounds), rounds));
    out.sensitivity.push_back({layers[i], alone.sqnr_db});
  }
  std::vector<std::pair<std::string, double>> ranked = out.sensitivity;
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.second < b.second; });
  const auto noisiest = [&](size_t count) {
    std::vector<std::string> names;
    for (size_t i = 0; i < count; ++i) names.push_back(ranked[i].first);
    return names;
  };
  // `few` does not meet the target; `many` does, or is all that may be wide.
  size_t few = 0, many = layers.size() - 1;
  HT_ASSIGN_OR_RETURN(out.met, met(noisiest(many)));
  while (out.met && many - few > 1) {
    const size_t middle = few + (many - few) / 2;
    HT_ASSIGN_OR_RETURN(const bool enough, met(noisiest(middle)));
    (enough ? many : few) = middle;
  }
  out.layers = noisiest(many);
  return out;
}

}  // namespace halftone
