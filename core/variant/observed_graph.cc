#include "core/variant/observed_graph.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

int IndexOf(const std::vector<Value*>& values, const Value* v) {
  const auto it = std::find(values.begin(), values.end(), v);
  return it == values.end() ? -1 : static_cast<int>(it - values.begin());
}

}  // namespace

absl::StatusOr<ObservedGraph> ObservedGraph::Create(const Graph& graph,
                                                    const std::vector<std::string>& names,
                                                    const GraphRunner& runner) {
  ObservedGraph out;
  Graph clone = graph.Clone();
  for (const std::string& name : names) {
    Value* v = clone.FindValue(name);
    if (v == nullptr || v->is_constant() || v->type().type != DataType::kF32) continue;
    if (!v->type().shape) continue;  // no output may have an unknown rank (what an If gives)
    if (v->is_input()) {
      out.from_input_[name] = IndexOf(clone.inputs(), v);
      continue;
    }
    if (!v->is_output()) clone.AddOutput(v);
    out.from_output_[name] = IndexOf(clone.outputs(), v);
  }
  HT_ASSIGN_OR_RETURN(out.graph_, runner(std::move(clone)));
  return out;
}

absl::StatusOr<std::map<std::string, Tensor>> ObservedGraph::Run(
    absl::Span<const Tensor> inputs) const {
  HT_ASSIGN_OR_RETURN(const std::vector<Tensor> outputs, graph_.run(inputs));
  std::map<std::string, Tensor> watched;
  for (const auto& [name, i] : from_input_) {
    if (i >= static_cast<int>(inputs.size())) {
      return absl::InvalidArgumentError(
          absl::StrCat("sample: got ", inputs.size(), " tensors, want one for input '", name, "'"));
    }
    watched[name] = inputs[i];
  }
  for (const auto& [name, i] : from_output_) watched[name] = outputs[i];
  return watched;
}

}  // namespace halftone
