#include "core/variant/calibration.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/quant/observer.h"
#include "core/variant/observed_graph.h"

namespace halftone {

absl::StatusOr<RangeMap> Calibrate(const Graph& graph, const std::vector<std::string>& names,
                                   const std::vector<std::vector<Tensor>>& samples,
                                   const GraphRunner& runner,
                                   const std::function<absl::Status(int done, int total)>& step) {
  HT_ASSIGN_OR_RETURN(const ObservedGraph observed, ObservedGraph::Create(graph, names, runner));
  std::map<std::string, MinMaxObserver> observers;
  const int total = static_cast<int>(samples.size());
  for (int i = 0; i < total; ++i) {
    const auto values = observed.Run(samples[i]);
    if (!values.ok()) return Annotate(values.status(), absl::StrCat("calibration sample ", i));
    for (const auto& [name, tensor] : *values) observers[name].Observe(tensor.data<float>());
    HT_RETURN_IF_ERROR(step(i + 1, total));
  }
  RangeMap ranges;
  for (const auto& [name, observer] : observers) {
    if (!observer.range().empty()) ranges[name] = observer.range();
  }
  return ranges;
}

}  // namespace halftone
