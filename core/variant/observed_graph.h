// A graph whose chosen inner values can be watched: they become extra outputs of a clone.
#ifndef HALFTONE_CORE_VARIANT_OBSERVED_GRAPH_H_
#define HALFTONE_CORE_VARIANT_OBSERVED_GRAPH_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/graph/graph.h"
#include "core/tensor/tensor.h"
#include "core/variant/graph_runner.h"

namespace halftone {

class ObservedGraph {
 public:
  // Watches the f32 values of these names, inputs and outputs of the graph included; other names
  // are ignored.
  static absl::StatusOr<ObservedGraph> Create(const Graph& graph,
                                              const std::vector<std::string>& names,
                                              const GraphRunner& runner);

  // The watched values of one request, by name.
  absl::StatusOr<std::map<std::string, Tensor>> Run(absl::Span<const Tensor> inputs) const;

 private:
  RunnableGraph graph_;
  std::map<std::string, int> from_input_, from_output_;
};

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_OBSERVED_GRAPH_H_
