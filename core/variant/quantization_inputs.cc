#include "core/variant/quantization_inputs.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/ops/evaluate.h"
#include "core/passes/accuracy.h"
#include "core/variant/observed_graph.h"

namespace halftone {
namespace {

constexpr size_t kMomentSamples = 128;                // more tell little
constexpr int64_t kMomentBytes = int64_t{256} << 20;  // of one batch of layers

absl::Status RunSamples(const StreamedGraph& graph, const Samples& samples, size_t limit,
                        const std::function<absl::Status(const std::string&, const Tensor&)>& f) {
  absl::Status first_error;
  for (size_t i = 0; i < std::min(limit, samples.size()); ++i) {
    HT_RETURN_IF_ERROR(graph.Run(samples[i], [&](const std::string& name, const Tensor& value) {
      if (first_error.ok()) first_error = f(name, value);
    }));
    HT_RETURN_IF_ERROR(first_error);
  }
  return absl::OkStatus();
}

std::vector<Linear> LinearsOf(const Graph& graph) {
  std::vector<Linear> layers;
  for (Node* node : graph.nodes()) {
    std::optional<Linear> layer = AsLinear(node);
    if (layer && node->input(0) != nullptr && !node->input(0)->is_constant()) {
      layers.push_back(*std::move(layer));
    }
  }
  return layers;
}

bool HasMoments(const Linear& layer) {
  return !layer.transposed && layer.columns() <= kMaxRoundingColumns &&
         layer.node->attributes().Int("transA", 0) == 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<QuantizationInputs>> QuantizationInputs::Create(
    const Graph& fp32, const QuantSpec& spec, const QuantizationSource& source) {
  std::unique_ptr<QuantizationInputs> out(new QuantizationInputs(spec, source));
  out->graph_ = fp32.Clone();
  HT_RETURN_IF_ERROR(PrepareForQuantization(out->graph_, spec));
  if (IsInteger(spec.weights)) HT_RETURN_IF_ERROR(out->Rewrite());
  if (spec.activations == ActivationMode::kStatic) HT_RETURN_IF_ERROR(out->CalibrateRanges());
  if (IsInteger(spec.weights) && out->HasSamples() && Uses(spec, Technique::kBiasCorrection)) {
    HT_RETURN_IF_ERROR(out->CollectMeans());
  }
  return out;
}

absl::Status QuantizationInputs::Rewrite() {
  // Where every channel has its own scale, equalizing weights buys nothing, and activations lose.
  const bool one_scale = std::holds_alternative<PerTensor>(spec_.granularity);
  if (Uses(spec_, Technique::kEqualize) && one_scale) {
    HT_ASSIGN_OR_RETURN(const int pairs, EqualizeLayers(graph_));
    if (pairs > 0) notes_.push_back(absl::StrCat("equalized ", pairs, " pairs of layers"));
  }
  if (!Uses(spec_, Technique::kSmooth) || !UsesIntegerArithmetic(spec_) || !HasSamples()) {
    return absl::OkStatus();
  }
  std::map<std::string, int> axis_of;
  for (const std::string& name : ValuesToSmooth(graph_)) {
    axis_of[name] = static_cast<int>(graph_.FindValue(name)->type().shape->size()) - 1;
  }
  if (axis_of.empty()) return absl::OkStatus();
  HT_ASSIGN_OR_RETURN(const ChannelStatsMap stats, CollectStats(axis_of));
  HT_ASSIGN_OR_RETURN(const int smoothed, SmoothInputs(graph_, stats));
  if (smoothed > 0) notes_.push_back(absl::StrCat("smoothed ", smoothed, " normalisations"));
  return absl::OkStatus();
}

absl::StatusOr<ChannelStatsMap> QuantizationInputs::CollectStats(
    const std::map<std::string, int>& axis_of) {
  std::vector<std::string> names;
  for (const auto& [name, axis] : axis_of) names.push_back(name);
  HT_ASSIGN_OR_RETURN(const StreamedGraph graph,
                      StreamedGraph::Create(graph_, names, source_.watcher));
  std::map<std::string, ChannelMeans> means;
  HT_RETURN_IF_ERROR(RunSamples(graph, *source_.samples, source_.samples->size(),
                                [&](const std::string& name, const Tensor& value) {
                                  means[name].Observe(value, axis_of.at(name));
                                  return absl::OkStatus();
                                }));
  ChannelStatsMap out;
  for (const auto& [name, m] : means) out[name] = m.Stats();
  return out;
}

absl::Status QuantizationInputs::CollectMeans() {
  std::map<std::string, int> axis_of;
  for (const Linear& layer : LinearsOf(graph_)) {
    axis_of[layer.node->input(0)->name()] = layer.input_axis;
  }
  HT_ASSIGN_OR_RETURN(means_, CollectStats(axis_of));
  notes_.push_back("corrected biases for the means of rounding errors");
  return absl::OkStatus();
}

std::vector<std::string> QuantizationInputs::NamesToCalibrate() const {
  const std::vector<std::string> all = ValuesToCalibrate(graph_, spec_);
  if (!Uses(spec_, Technique::kMixed)) return all;
  // With layers left out, chains of integers end elsewhere: each layer alone shows where.
  std::set<std::string> names(all.begin(), all.end());
  const std::vector<Linear> layers = LinearsOf(graph_);
  for (const Linear& layer : layers) {
    QuantSpec alone = spec_;
    for (const Linear& other : layers) {
      if (other.node != layer.node) alone.node_overrides[other.node->name()] = WeightType::kF32;
    }
    for (std::string& name : ValuesToCalibrate(graph_, alone)) names.insert(std::move(name));
  }
  return {names.begin(), names.end()};
}

absl::Status QuantizationInputs::CalibrateRanges() {
  const std::vector<std::string> names = NamesToCalibrate();
  const CalibrationChoice choice = ChoiceFor(spec_);
  CachedCalibration cached;
  if (!source_.data_digest.empty() && !source_.graph_digest.empty()) {
    // Techniques change the graph that is watched.
    const std::string graph = absl::StrCat(source_.graph_digest, "\n", absl::StrJoin(notes_, "\n"));
    const auto key = [&](absl::string_view stage) {
      return CalibrationKey(stage, graph, source_.data_digest, source_.isa_class, choice, names);
    };
    cached = {source_.cache, key("ranges"), key("progress")};
  }
  HT_ASSIGN_OR_RETURN(ranges_, CalibrateCached(cached, graph_, names, *source_.samples, choice,
                                               source_.watcher, source_.step));
  return absl::OkStatus();
}

QuantizeOptions QuantizationInputs::options() {
  return {.reduce_weight_range = source_.reduce_weight_range,
          .ranges = spec_.activations == ActivationMode::kStatic ? &ranges_ : nullptr,
          .narrow = [this](const Node& node, int index,
                           const WeightFormat& format) { return Narrow(node, index, format); },
          .means = means_.empty() ? nullptr : &means_};
}

absl::StatusOr<NarrowWeights> QuantizationInputs::Narrow(const Node& node, int index,
                                                         const WeightFormat& format) {
  const Tensor& weights = node.input(index)->constant();
  if (!IsInteger(format.type)) return NarrowTheWeights(weights, format);
  const auto key = std::make_pair(node.name(), format);
  if (const auto it = narrow_.find(key); it != narrow_.end()) return it->second;
  WeightRounding rounding{.clip = Uses(spec_, Technique::kClip),
                          .gptq = Uses(spec_, Technique::kGptq),
                          .descent = Uses(spec_, Technique::kAdaRound)};
  std::optional<Linear> layer;
  if ((rounding.gptq || rounding.descent) && index == 1 && HasSamples()) {
    for (const Linear& candidate : LinearsOf(graph_)) {
      if (candidate.node->name() == node.name() && HasMoments(candidate)) layer = candidate;
    }
  }
  if (layer) {
    HT_ASSIGN_OR_RETURN(rounding.moments, MomentsOf(node.name()));
    rounding.layer = &*layer;
  }
  HT_ASSIGN_OR_RETURN(NarrowWeights narrow, NarrowTheWeights(weights, format, rounding));
  return narrow_[key] = std::move(narrow);
}

absl::StatusOr<const std::vector<SecondMoment>*> QuantizationInputs::MomentsOf(
    const std::string& node) {
  if (const auto it = moments_.find(node); it != moments_.end()) return &it->second;
  moments_.clear();
  std::map<std::string, std::vector<Linear>> readers;  // by name of their input
  std::map<std::string, MomentObserver> observers;
  std::vector<std::string> names;
  int64_t bytes = 0;
  bool wanted = false;
  for (const Linear& layer : LinearsOf(graph_)) {
    wanted |= layer.node->name() == node;
    if (!wanted || !HasMoments(layer)) continue;
    bytes += MomentObserver::BytesFor(layer);
    if (!observers.empty() && bytes > kMomentBytes) break;
    observers.emplace(layer.node->name(), MomentObserver(layer));
    std::vector<Linear>& same = readers[layer.node->input(0)->name()];
    if (same.empty()) names.push_back(layer.node->input(0)->name());
    same.push_back(layer);
  }
  HT_ASSIGN_OR_RETURN(const StreamedGraph graph,
                      StreamedGraph::Create(graph_, names, source_.watcher));
  HT_RETURN_IF_ERROR(RunSamples(
      graph, *source_.samples, kMomentSamples, [&](const std::string& name, const Tensor& value) {
        for (const Linear& layer : readers.at(name)) {
          HT_RETURN_IF_ERROR(observers.at(layer.node->name()).Observe(graph_, layer, value));
        }
        return absl::OkStatus();
      }));
  for (auto& [name, observer] : observers) moments_[name] = std::move(observer.Finish());
  return &moments_.at(node);
}

}  // namespace halftone
