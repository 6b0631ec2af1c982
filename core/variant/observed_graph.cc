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

WatchedNames AddOutputs(Graph& clone, const std::vector<std::string>& names) {
  WatchedNames watched;
  for (const std::string& name : names) {
    Value* v = clone.FindValue(name);
    if (v == nullptr || v->is_constant() || v->type().type != DataType::kF32) continue;
    if (!v->type().shape) continue;  // no output may have an unknown rank (what an If gives)
    if (v->is_input()) {
      watched.from_input[name] = IndexOf(clone.inputs(), v);
      continue;
    }
    if (!v->is_output()) clone.AddOutput(v);
    watched.from_output[name] = IndexOf(clone.outputs(), v);
  }
  return watched;
}

absl::Status CheckInputs(const WatchedNames& names, absl::Span<const Tensor> inputs) {
  for (const auto& [name, i] : names.from_input) {
    if (i < static_cast<int>(inputs.size())) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("sample: got ", inputs.size(), " tensors, want one for input '", name, "'"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ObservedGraph> ObservedGraph::Create(const Graph& graph,
                                                    const std::vector<std::string>& names,
                                                    const GraphRunner& runner) {
  ObservedGraph out;
  Graph clone = graph.Clone();
  out.names_ = AddOutputs(clone, names);
  HT_ASSIGN_OR_RETURN(out.graph_, runner(std::move(clone)));
  return out;
}

absl::StatusOr<std::map<std::string, Tensor>> ObservedGraph::Run(
    absl::Span<const Tensor> inputs) const {
  HT_RETURN_IF_ERROR(CheckInputs(names_, inputs));
  HT_ASSIGN_OR_RETURN(const std::vector<Tensor> outputs, graph_.run(inputs));
  std::map<std::string, Tensor> watched;
  for (const auto& [name, i] : names_.from_input) watched[name] = inputs[i];
  for (const auto& [name, i] : names_.from_output) watched[name] = outputs[i];
  return watched;
}

absl::StatusOr<StreamedGraph> StreamedGraph::Create(const Graph& graph,
                                                    const std::vector<std::string>& names,
                                                    const GraphWatcher& watcher) {
  StreamedGraph out;
  Graph clone = graph.Clone();
  out.names_ = AddOutputs(clone, names);
  for (const auto& [name, i] : out.names_.from_output) out.by_output_[i] = name;
  HT_ASSIGN_OR_RETURN(out.graph_, watcher(std::move(clone)));
  return out;
}

absl::Status StreamedGraph::Run(
    absl::Span<const Tensor> inputs,
    const std::function<void(const std::string& name, const Tensor&)>& show) const {
  HT_RETURN_IF_ERROR(CheckInputs(names_, inputs));
  HT_RETURN_IF_ERROR(graph_.run(inputs, [&](int index, const Tensor& value) {
    const auto it = by_output_.find(index);
    if (it != by_output_.end()) show(it->second, value);
  }));
  for (const auto& [name, i] : names_.from_input) show(name, inputs[i]);
  return absl::OkStatus();
}

}  // namespace halftone
