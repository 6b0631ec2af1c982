// A graph whose chosen inner values can be watched: they become extra outputs of a clone.
#ifndef HALFTONE_CORE_VARIANT_OBSERVED_GRAPH_H_
#define HALFTONE_CORE_VARIANT_OBSERVED_GRAPH_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/graph/graph.h"
#include "core/tensor/tensor.h"
#include "core/variant/graph_runner.h"

namespace halftone {

// Where the watched values come from: f32 values with a known rank, inputs and outputs of the graph
// included. Other names are ignored.
struct WatchedNames {
  std::map<std::string, int> from_input, from_output;  // index by name
};

// Keeps the watched values of a run: for comparing two graphs.
class ObservedGraph {
 public:
  static absl::StatusOr<ObservedGraph> Create(const Graph& graph,
                                              const std::vector<std::string>& names,
                                              const GraphRunner& runner);

  // The watched values of one request, by name.
  absl::StatusOr<std::map<std::string, Tensor>> Run(absl::Span<const Tensor> inputs) const;

 private:
  RunnableGraph graph_;
  WatchedNames names_;
};

// Shows the watched values while a run computes them and keeps none.
class StreamedGraph {
 public:
  static absl::StatusOr<StreamedGraph> Create(const Graph& graph,
                                              const std::vector<std::string>& names,
                                              const GraphWatcher& watcher);

  // `show` sees every watched value of one request once; the tensor is gone when it returns.
  absl::Status Run(absl::Span<const Tensor> inputs,
                   const std::function<void(const std::string& name, const Tensor&)>& show) const;

 private:
  WatchableGraph graph_;
  WatchedNames names_;
  std::map<int, std::string> by_output_;
};

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_OBSERVED_GRAPH_H_
