#include "core/variant/timing.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

absl::StatusOr<double> TimeOne(const RunnableGraph& graph, absl::Span<const Tensor> inputs) {
  const absl::Time start = absl::Now();
  HT_RETURN_IF_ERROR(graph.run(inputs).status());
  return absl::ToDoubleSeconds(absl::Now() - start);
}

// Repeats a pair of runs: at least three times, then until the time or the count is used up.
absl::Status Alternate(absl::Duration budget, int max_rounds,
                       const std::function<absl::Status()>& round) {
  constexpr int kMinRounds = 3;
  const absl::Time start = absl::Now();
  for (int i = 0; i < kMinRounds || (i < max_rounds && absl::Now() - start < budget); ++i) {
    HT_RETURN_IF_ERROR(round());
  }
  return absl::OkStatus();
}

using Names = absl::flat_hash_set<std::string>;

Names NodeNames(const Graph& graph) {
  Names names;
  for (const Node* node : graph.nodes()) names.insert(node->name());
  return names;
}

// The layer that each node's time belongs to, by node name; "" for work that is no layer's.
class Owners {
 public:
  Owners(const Graph& graph, const Names& fp32_nodes, const Names& layers) {
    const std::vector<Node*>& nodes = graph.nodes();
    for (auto it = nodes.rbegin(); it != nodes.rend(); ++it) {
      owner_[(*it)->name()] = layers.contains((*it)->name())       ? (*it)->name()
                              : fp32_nodes.contains((*it)->name()) ? ""
                                                                   : ReaderOf(**it);
    }
    for (const Node* node : nodes) {
      std::string& owner = owner_[node->name()];
      const Value* x = node->input(0);
      if (owner.empty() && !fp32_nodes.contains(node->name()) && x != nullptr &&
          x->producer() != nullptr) {
        owner = owner_[x->producer()->name()];
      }
    }
  }

  // Null for what is no node: a conversion, named after its value.
  const std::string* Find(const std::string& node) const {
    const auto it = owner_.find(node);
    return it == owner_.end() ? nullptr : &it->second;
  }

 private:
  std::string ReaderOf(const Node& node) const {
    for (const Value* out : node.outputs()) {
      if (out == nullptr) continue;
      for (const Node* reader : out->uses()) {
        const std::string* owner = Find(reader->name());
        if (owner != nullptr && !owner->empty()) return *owner;
      }
    }
    return "";
  }

  absl::flat_hash_map<std::string, std::string> owner_;
};

// The times of one graph's steps over several runs.
class StepTimes {
 public:
  void Add(std::vector<StepInfo> steps) {
    seconds_.resize(steps.size());
    for (size_t i = 0; i < steps.size(); ++i) seconds_[i].push_back(steps[i].seconds);
    steps_ = std::move(steps);
  }

  std::map<std::string, double> ByLayer(const Owners& owners) const {
    std::map<std::string, double> out;
    double pending = 0;  // conversions of what comes next
    for (size_t i = 0; i < steps_.size(); ++i) {
      pending += Median(seconds_[i]);
      const std::string* owner = owners.Find(steps_[i].node);
      if (owner == nullptr) continue;
      if (!owner->empty()) out[*owner] += pending;
      pending = 0;
    }
    return out;
  }

 private:
  std::vector<StepInfo> steps_;  // of the last run
  std::vector<std::vector<double>> seconds_;
};

}  // namespace

absl::StatusOr<Latencies> MeasureLatency(const RunnableGraph& reference,
                                         const RunnableGraph& variant,
                                         absl::Span<const Tensor> inputs) {
  HT_RETURN_IF_ERROR(reference.run(inputs).status());  // warm caches and specialisations
  HT_RETURN_IF_ERROR(variant.run(inputs).status());
  std::vector<double> want, got;
  HT_RETURN_IF_ERROR(Alternate(absl::Seconds(1), 51, [&]() -> absl::Status {
    HT_ASSIGN_OR_RETURN(want.emplace_back(), TimeOne(reference, inputs));
    HT_ASSIGN_OR_RETURN(got.emplace_back(), TimeOne(variant, inputs));
    return absl::OkStatus();
  }));
  return Latencies{Median(std::move(want)), Median(std::move(got))};
}

absl::StatusOr<std::map<std::string, LayerSeconds>> MeasureLayerTimes(
    const TimedGraph& fp32, const TimedGraph& variant, const std::vector<std::string>& layers,
    absl::Span<const Tensor> inputs) {
  std::map<std::string, LayerSeconds> out;
  if (!fp32.runnable.profile || !variant.runnable.profile) return out;
  StepTimes want, got;
  HT_RETURN_IF_ERROR(Alternate(absl::Milliseconds(500), 31, [&]() -> absl::Status {
    HT_ASSIGN_OR_RETURN(std::vector<StepInfo> steps, fp32.runnable.profile(inputs));
    want.Add(std::move(steps));
    HT_ASSIGN_OR_RETURN(steps, variant.runnable.profile(inputs));
    got.Add(std::move(steps));
    return absl::OkStatus();
  }));
  const Names fp32_nodes = NodeNames(fp32.graph);
  const Names names(layers.begin(), layers.end());
  for (const auto& [layer, seconds] : want.ByLayer(Owners(fp32.graph, fp32_nodes, names))) {
    out[layer].fp32 = seconds;
  }
  for (const auto& [layer, seconds] : got.ByLayer(Owners(variant.graph, fp32_nodes, names))) {
    out[layer].variant = seconds;
  }
  return out;
}

}  // namespace halftone
