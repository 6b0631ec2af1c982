#include "core/variant/build_variant.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/format.h"
#include "core/base/status_macros.h"
#include "core/graph/constant_bytes.h"
#include "core/ops/evaluate.h"
#include "core/passes/quantize_graph.h"
#include "core/passes/single_precision.h"
#include "core/passes/weight_narrower.h"
#include "core/variant/compare.h"
#include "core/variant/mixed_precision.h"
#include "core/variant/quantization_inputs.h"
#include "core/variant/speed_policy.h"
#include "core/variant/timing.h"
#include "core/variant/variant_layers.h"
#include "core/variant/weight_histogram.h"

namespace halftone {
namespace {

constexpr int kGeneratedSamples = 8;
constexpr int kMaxLayerSamples = 16;  // every watched value is held at once, so few are enough
constexpr double kLowSqnrDb = 20;
constexpr double kLowAgreement = 0.99;
constexpr double kSlower = 0.97;  // below this the difference is not noise
constexpr size_t kWorstLayers = 5;
// What mixed precision asks for. Eight bits and more shall answer as the model does; with fewer the
// user gave up some of that for size.
QualityTarget TargetFor(WeightType type) {
  if (BitsOf(type) >= 8) return {.min_sqnr_db = 30, .min_agreement = 0.99};
  return {.min_sqnr_db = 15, .min_agreement = 0.97};
}
// What sensitive layers may become instead, the narrowest first.
std::vector<WeightType> WiderThan(WeightType type) {
  std::vector<WeightType> wider;
  if (IsInteger(type) && BitsOf(type) < 8) wider.push_back(WeightType::kI8);
  if (IsInteger(type)) wider.push_back(WeightType::kBF16);
  wider.push_back(WeightType::kF32);
  return wider;
}

// Answers known requests from memory, as far as that is not much.
RunnableGraph Remembering(RunnableGraph graph) {
  constexpr int64_t kMaxBytes = int64_t{64} << 20;
  struct Memory {
    std::map<const Tensor*, std::vector<Tensor>> answers;  // by where the request lies
    int64_t bytes = 0;
  };
  auto memory = std::make_shared<Memory>();
  auto run = std::move(graph.run);
  graph.run = [memory,
               run](absl::Span<const Tensor> inputs) -> absl::StatusOr<std::vector<Tensor>> {
    const auto it = memory->answers.find(inputs.data());
    if (it != memory->answers.end()) return it->second;
    HT_ASSIGN_OR_RETURN(std::vector<Tensor> outputs, run(inputs));
    for (Tensor& t : outputs) {  // a run's outputs may lie in its scratch
      HT_ASSIGN_OR_RETURN(t, t.Clone());
    }
    int64_t bytes = 0;
    for (const Tensor& t : outputs) bytes += t.num_bytes();
    if (memory->bytes + bytes <= kMaxBytes) {
      memory->bytes += bytes;
      memory->answers[inputs.data()] = outputs;
    }
    return outputs;
  };
  return graph;
}

// One build; the steps in order, sharing options and progress.
class Builder {
 public:
  Builder(const Graph& fp32, QuantSpec spec, const BuildOptions& options)
      : fp32_(fp32),
        options_(options),
        runner_(options.runner ? options.runner : PlanRunner(options.threads, options.cancelled)),
        variant_runner_(options.runner
                            ? options.runner
                            : PlanRunner(options.threads, options.cancelled, spec.compute)) {
    built_.spec = std::move(spec);
  }

  absl::StatusOr<BuiltVariant> Run() {
    const absl::Time start = absl::Now();
    HT_RETURN_IF_ERROR(PrepareSamples());
    HT_RETURN_IF_ERROR(PrepareInputs());
    if (Uses(built_.spec, Technique::kMixed) && HasCalibration()) {
      HT_RETURN_IF_ERROR(ChooseMixedPrecision());
    }
    if (built_.spec.policy == Policy::kSpeed) HT_RETURN_IF_ERROR(ChooseForSpeed());
    HT_RETURN_IF_ERROR(QuantizeIt());
    HT_RETURN_IF_ERROR(Measure());
    AddWarnings();
    built_.report.build_seconds = absl::ToDoubleSeconds(absl::Now() - start);
    HT_RETURN_IF_ERROR(Tell("measure", 0.9, 1, 1, 1));
    return std::move(built_);
  }

 private:
  // Reports `done` of `total` within the part [from, to] of the whole build.
  absl::Status Tell(const std::string& stage, double from, double to, int done, int total) {
    if (options_.cancelled && options_.cancelled()) {
      return absl::CancelledError(
          absl::StrCat("build of '", built_.spec.ToString(), "': cancelled during ", stage));
    }
    if (!options_.progress) return absl::OkStatus();
    const double part = total == 0 ? 0 : static_cast<double>(done) / total;
    const int nodes = static_cast<int>(choices_.size());
    options_.progress({.stage = stage,
                       .fraction = from + (to - from) * part,
                       .nodes_done = choices_.empty() ? 0 : nodes,
                       .nodes_total = nodes});
    return absl::OkStatus();
  }
  StepFn Teller(const std::string& stage, double from, double to) {
    return [=, this](int done, int total) { return Tell(stage, from, to, done, total); };
  }

  bool IsStatic() const { return built_.spec.activations == ActivationMode::kStatic; }
  // Ranges come from generated samples even where there are real ones to compare with.
  bool IsSynthetic() const { return built_.spec.calibration_set == kSyntheticSet; }
  bool HasCalibration() const {
    return options_.samples != nullptr && !options_.samples->samples.empty();
  }

  absl::Status PrepareSamples() {
    if (IsStatic() && !HasCalibration() && !IsSynthetic()) {
      return absl::FailedPreconditionError(
          absl::StrCat("build of '", built_.spec.ToString(),
                       "': static int8 needs calibration samples, got none; upload some, use "
                       "dynamic, or make do with calib=",
                       kSyntheticSet));
    }
    if (!HasCalibration() || IsSynthetic()) {
      HT_ASSIGN_OR_RETURN(const Signature signature, SignatureOf(fp32_));
      HT_ASSIGN_OR_RETURN(generated_, GenerateSamples(signature, kGeneratedSamples));
    }
    if (HasCalibration()) {
      samples_ = &options_.samples->samples;
      count_ = std::min<int>(static_cast<int>(samples_->size()), options_.max_report_samples);
      built_.report.sample_source = absl::StrCat("calibration set '", options_.samples->name, "' (",
                                                 samples_->size(), " samples)");
      return absl::OkStatus();
    }
    samples_ = &generated_.samples;
    count_ = kGeneratedSamples;
    built_.report.sample_source =
        absl::StrCat("GENERATED samples (", kGeneratedSamples,
                     "): nobody uploaded real ones, so quality on real data is unknown");
    return absl::OkStatus();
  }

  absl::Status PrepareInputs() {
    source_.watcher =
        options_.runner ? WatcherOf(options_.runner) : PlanWatcher(1, options_.cancelled);
    const SampleSet* set = IsSynthetic() ? &generated_ : options_.samples;
    if (set != nullptr) {
      source_.samples = &set->samples;
      source_.data_digest = set->digest;
    }
    source_.cache = options_.calibration_cache;
    source_.graph_digest = options_.graph_digest;
    source_.isa_class = IsaClass(options_.features);
    source_.reduce_weight_range = NeedsReducedWeights(built_.spec, options_.features);
    source_.step = Teller("calibrate", 0, 0.4);
    HT_ASSIGN_OR_RETURN(inputs_, QuantizationInputs::Create(fp32_, built_.spec, source_));
    built_.report.notes = inputs_->notes();
    return absl::OkStatus();
  }

  // Names of the layers that the spec makes narrow.
  std::vector<std::string> NarrowLayers() const {
    std::vector<std::string> layers;
    for (const NodeChoice& c : ChooseNodes(inputs_->graph(), built_.spec, inputs_->options())) {
      if (c.format.type != WeightType::kF32) layers.push_back(c.node->name());
    }
    return layers;
  }
  // The variant in which these layers have another type than the spec says.
  absl::StatusOr<Graph> QuantizedWith(const std::vector<std::string>& layers, WeightType type) {
    QuantSpec spec = built_.spec;
    for (const std::string& name : layers) spec.node_overrides[name] = type;
    Graph graph = inputs_->graph().Clone();
    HT_RETURN_IF_ERROR(QuantizeGraph(graph, spec, inputs_->options()).status());
    HT_RETURN_IF_ERROR(InferShapes(graph, {.fold_elements = 0}));
    return graph;
  }

  // Keeps the layers wide without which the variant would not answer as its model does. On one
  // thread, as all that decides about bytes.
  absl::Status ChooseMixedPrecision() {
    const std::vector<std::string> layers = NarrowLayers();
    const auto on_one_thread = [&](ComputeType compute) {
      return options_.runner ? options_.runner : PlanRunner(1, options_.cancelled, compute);
    };
    const GraphRunner runner = on_one_thread(built_.spec.compute);
    HT_ASSIGN_OR_RETURN(RunnableGraph reference, on_one_thread(ComputeType::kAuto)(fp32_.Clone()));
    reference = Remembering(std::move(reference));
    const QualityTarget target = TargetFor(built_.spec.weights);
    WeightType wide_type = WeightType::kF32;
    const TryWide attempt =
        [&](const std::vector<std::string>& wide) -> absl::StatusOr<Comparison> {
      HT_ASSIGN_OR_RETURN(Graph graph, QuantizedWith(wide, wide_type));
      HT_ASSIGN_OR_RETURN(const RunnableGraph variant, runner(std::move(graph)));
      return CompareOutputs(fp32_, reference, variant, *samples_, count_,
                            Teller("search", 0.4, 0.4));
    };
    HT_ASSIGN_OR_RETURN(const Comparison narrow, attempt({}));
    if (target.Met(narrow)) return absl::OkStatus();
    for (const WeightType type : WiderThan(built_.spec.weights)) {
      wide_type = type;
      if (type == WeightType::kF32) break;  // f32 everywhere is the model itself
      HT_ASSIGN_OR_RETURN(const Comparison all_wide, attempt(layers));
      if (target.Met(all_wide)) break;
    }
    const TryWide attempt_or_known = [&](const std::vector<std::string>& wide) {
      return wide.empty() ? narrow : attempt(wide);
    };
    HT_ASSIGN_OR_RETURN(const WideLayers chosen, ChooseWideLayers(layers, target, attempt_or_known,
                                                                  Teller("search", 0.4, 0.5)));
    for (const std::string& name : chosen.layers) built_.spec.node_overrides[name] = wide_type;
    if (!chosen.layers.empty()) {
      built_.report.notes.push_back(absl::StrCat(
          "mixed precision: ", chosen.layers.size(), " of ", layers.size(), " layers stay ",
          Name(wide_type), ", the most sensitive first: ", absl::StrJoin(chosen.layers, ", ")));
    }
    return absl::OkStatus();
  }

  // Lets the layers be f32 that are not faster in narrow form, with the threads that will serve.
  absl::Status ChooseForSpeed() {
    const std::vector<std::string> layers = NarrowLayers();
    HT_ASSIGN_OR_RETURN(const RunnableGraph reference, runner_(fp32_.Clone()));
    const std::vector<Tensor>& request = (*samples_)[0];
    if (!HasCalibration() && !reference.run(request).ok()) return absl::OkStatus();  // see Measure
    std::map<std::string, LayerSeconds> as_narrow;
    const auto attempt = [&](const std::vector<std::string>& floats) -> absl::StatusOr<SpeedTrial> {
      HT_RETURN_IF_ERROR(Tell("search", 0.5, 0.5, 0, 1));
      HT_ASSIGN_OR_RETURN(const Graph graph, QuantizedWith(floats, WeightType::kF32));
      HT_ASSIGN_OR_RETURN(const RunnableGraph variant, variant_runner_(graph.Clone()));
      HT_ASSIGN_OR_RETURN(const Latencies total, MeasureLatency(reference, variant, request));
      HT_ASSIGN_OR_RETURN(auto times,
                          MeasureLayerTimes({fp32_, reference}, {graph, variant}, layers, request));
      for (const auto& [layer, seconds] : times) as_narrow.try_emplace(layer, seconds);
      return SpeedTrial{total.reference_seconds / total.variant_seconds, std::move(times)};
    };
    HT_ASSIGN_OR_RETURN(const FloatLayers chosen, ChooseFloatLayers(layers, attempt));
    for (const std::string& layer : chosen.layers) {
      built_.spec.node_overrides[layer] = WeightType::kF32;
      const LayerSeconds& time = as_narrow[layer];
      slow_[layer] = absl::StrCat("slower as ", Name(built_.spec.weights), " on this machine (",
                                  FormatSeconds(time.variant), ", f32 ", FormatSeconds(time.fp32),
                                  "), and the policy is speed");
    }
    stays_fp32_ = chosen.layers.size() == layers.size();
    built_.report.notes.push_back(
        stays_fp32_ ? absl::StrCat("policy speed: ", Name(built_.spec.weights),
                                   " is not faster than fp32 here, so every layer stays f32")
                    : absl::StrCat("policy speed: ", chosen.layers.size(), " of ", layers.size(),
                                   " layers stay f32"));
    return absl::OkStatus();
  }

  absl::Status QuantizeIt() {
    HT_RETURN_IF_ERROR(Tell("quantize", 0.5, 0.5, 0, 1));
    built_.graph = stays_fp32_ ? fp32_.Clone() : inputs_->graph().Clone();
    if (stays_fp32_) {
      choices_ = ChooseNodes(built_.graph, built_.spec, inputs_->options());
    } else {
      HT_ASSIGN_OR_RETURN(choices_, QuantizeGraph(built_.graph, built_.spec, inputs_->options()));
    }
    // Folding would turn narrow weights back into wide ones.
    HT_RETURN_IF_ERROR(InferShapes(built_.graph, {.fold_elements = 0}));
    VariantReport& r = built_.report;
    r.spec = built_.spec.ToString();
    r.isa_class = IsaClass(options_.features);
    r.layers = LayersOf(choices_, built_.spec, options_.features);
    for (LayerReport& layer : r.layers) {
      if (const auto it = slow_.find(layer.node); it != slow_.end()) layer.reason = it->second;
    }
    r.coverage = CoverageOf(choices_);
    r.fp32_weight_bytes = ConstantBytes(fp32_);
    r.weight_bytes = ConstantBytes(built_.graph);
    HT_RETURN_IF_ERROR(TakeHistograms());
    return Tell("quantize", 0.5, 0.5, 1, 1);
  }

  absl::Status TakeHistograms() {
    for (size_t i = 0; i < choices_.size(); ++i) {
      if (choices_[i].format.type == WeightType::kF32) continue;
      HT_ASSIGN_OR_RETURN(built_.report.layers[i].weights,
                          HistogramOf(fp32_, built_.graph, choices_[i]));
    }
    return absl::OkStatus();
  }

  absl::Status Measure() {
    HT_ASSIGN_OR_RETURN(const RunnableGraph reference, runner_(fp32_.Clone()));
    HT_RETURN_IF_ERROR(Tell("compile", 0.5, 0.55, 1, 2));
    if (const absl::Status works = reference.run((*samples_)[0]).status(); !works.ok()) {
      if (HasCalibration()) return Annotate(works, "calibration sample 0");
      // A model may refuse made-up inputs (sizes, indices); that is no fault of the variant.
      built_.report.warnings.push_back(
          absl::StrCat("not compared with fp32: the model does not run on GENERATED samples (",
                       works.message(), "); upload calibration samples"));
      return absl::OkStatus();
    }
    HT_ASSIGN_OR_RETURN(const RunnableGraph variant, variant_runner_(built_.graph.Clone()));
    HT_RETURN_IF_ERROR(Tell("compile", 0.5, 0.55, 2, 2));
    VariantReport& r = built_.report;
    HT_ASSIGN_OR_RETURN(comparison_, CompareOutputs(fp32_, reference, variant, *samples_, count_,
                                                    Teller("compare", 0.55, 0.75)));
    r.sample_count = comparison_.samples;
    r.sqnr_db = comparison_.sqnr_db;
    r.top1_agreement = comparison_.top1_agreement;
    r.max_abs_error = comparison_.max_abs_error;
    r.resident_bytes = variant.resident_bytes();
    r.fp32_resident_bytes = reference.resident_bytes();
    HT_RETURN_IF_ERROR(MeasureLayers());
    if (!options_.measure_latency) return absl::OkStatus();
    HT_RETURN_IF_ERROR(Tell("measure", 0.9, 1, 0, 1));
    HT_ASSIGN_OR_RETURN(const Latencies latencies,
                        MeasureLatency(reference, variant, (*samples_)[0]));
    r.latency_seconds = latencies.variant_seconds;
    r.fp32_latency_seconds = latencies.reference_seconds;
    r.speedup = latencies.reference_seconds / latencies.variant_seconds;
    return TimeLayers(reference, variant);
  }

  absl::Status TimeLayers(const RunnableGraph& reference, const RunnableGraph& variant) {
    std::vector<std::string> names;
    for (const NodeChoice& c : choices_) names.push_back(c.node->name());
    HT_ASSIGN_OR_RETURN(
        const auto times,
        MeasureLayerTimes({fp32_, reference}, {built_.graph, variant}, names, (*samples_)[0]));
    for (LayerReport& layer : built_.report.layers) {
      const auto it = times.find(layer.node);
      if (it == times.end()) continue;
      layer.seconds = it->second.variant;
      layer.fp32_seconds = it->second.fp32;
    }
    return absl::OkStatus();
  }

  absl::Status MeasureLayers() {
    std::vector<std::string> names;
    for (const NodeChoice& c : choices_) names.push_back(c.output);
    HT_ASSIGN_OR_RETURN(
        const auto sqnr,
        CompareLayers({fp32_, runner_}, {built_.graph, variant_runner_}, names, *samples_,
                      std::min(count_, kMaxLayerSamples), Teller("compare", 0.75, 0.9)));
    for (size_t i = 0; i < choices_.size(); ++i) {
      const auto it = sqnr.find(choices_[i].output);
      if (it != sqnr.end()) built_.report.layers[i].sqnr_db = it->second;
    }
    return absl::OkStatus();
  }

  void AddWarnings() {
    VariantReport& r = built_.report;
    for (std::string& note : CpuNotes(built_.spec, options_.features)) {
      r.warnings.push_back(std::move(note));
    }
    for (const NodeChoice& c : choices_) {
      // What the spec wanted narrow and the numbers forbid; the rest is in the layer table.
      const bool wanted =
          PrecisionFor(built_.spec, c.node->op(), c.node->name()) != WeightType::kF32;
      if (wanted && c.format.type == WeightType::kF32 && c.weight_input >= 0) {
        r.warnings.push_back(absl::StrCat(Describe(*c.node), " stays f32: ", c.reason));
      }
    }
    if (IsStatic() && IsSynthetic()) {
      r.warnings.push_back(
          "activation ranges come from GENERATED samples: real data may lie far beyond them; "
          "upload "
          "calibration samples");
    }
    if (r.sample_count == 0) return;
    if (!HasCalibration()) {
      r.warnings.push_back(
          "compared with fp32 on GENERATED samples only: upload calibration samples to learn the "
          "loss on real data");
    }
    AddQualityWarnings();
    if (r.speedup > 0 && r.speedup < kSlower) {
      r.warnings.push_back(
          absl::StrFormat("slower than fp32 on this machine: %.2f of its speed", r.speedup));
    }
    if (built_.spec.policy == Policy::kSize) WarnOfSlowLayers();
  }

  void WarnOfSlowLayers() {
    constexpr double kMatters = 0.02;  // of the variant's time
    std::vector<std::string> slow;
    double lost = 0;
    for (const LayerReport& l : built_.report.layers) {
      if (!l.reason.empty() || l.seconds <= kSlowLayer * l.fp32_seconds) continue;
      lost += l.seconds - l.fp32_seconds;
      if (slow.size() < kWorstLayers)
        slow.push_back(absl::StrCat(l.node, " (", FormatSeconds(l.seconds), ", f32 ",
                                    FormatSeconds(l.fp32_seconds), ")"));
    }
    if (lost < kMatters * built_.report.latency_seconds) return;
    built_.report.warnings.push_back(
        absl::StrCat("layers slower than in fp32 on this machine: ", absl::StrJoin(slow, ", "),
                     "; with the policy speed such layers stay f32"));
  }

  void AddQualityWarnings() {
    VariantReport& r = built_.report;
    for (const OutputComparison& output : comparison_.outputs) {
      if (output.sqnr_db >= kLowSqnrDb) continue;
      r.warnings.push_back(
          absl::StrFormat("output '%s': SQNR %.1f dB is below %.0f dB; worst layers: %s",
                          output.name, output.sqnr_db, kLowSqnrDb, WorstLayers()));
    }
    if (r.top1_agreement >= 0 && r.top1_agreement < kLowAgreement) {
      r.warnings.push_back(
          absl::StrFormat("top-1 agreement with fp32 is %.4f, below %.2f; worst layers: %s",
                          r.top1_agreement, kLowAgreement, WorstLayers()));
    }
    if (comparison_.top1_degenerate) {
      r.warnings.push_back(
          "fp32 answers the same class for every sample: top-1 agreement says "
          "nothing here");
    }
  }

  // "conv1 (8.1 dB), fc (9.3 dB)": where most is lost.
  std::string WorstLayers() const {
    std::vector<const LayerReport*> layers;
    for (const LayerReport& l : built_.report.layers) layers.push_back(&l);
    std::stable_sort(layers.begin(), layers.end(),
                     [](const auto* a, const auto* b) { return a->sqnr_db < b->sqnr_db; });
    layers.resize(std::min(layers.size(), kWorstLayers));
    return absl::StrJoin(layers, ", ", [](std::string* out, const LayerReport* l) {
      absl::StrAppendFormat(out, "%s (%.1f dB)", l->node, l->sqnr_db);
    });
  }

  const Graph& fp32_;
  const BuildOptions& options_;
  const GraphRunner runner_, variant_runner_;
  QuantizationSource source_;
  std::unique_ptr<QuantizationInputs> inputs_;
  SampleSet generated_;
  const Samples* samples_ = nullptr;
  int count_ = 0;
  std::map<std::string, std::string> slow_;  // layers that stay f32 for speed, and why
  bool stays_fp32_ = false;                  // all of them
  std::vector<NodeChoice> choices_;
  Comparison comparison_;
  BuiltVariant built_;
};

}  // namespace

QuantSpec ResolveSpec(QuantSpec spec, bool has_samples) {
  if (!IsInteger(spec.weights) || spec.activations != ActivationMode::kAuto) return spec;
  has_samples |= spec.calibration_set == kSyntheticSet;
  if (spec.weights != WeightType::kI8) {
    spec.activations = ActivationMode::kWeightOnly;
  } else {
    spec.activations = has_samples ? ActivationMode::kStatic : ActivationMode::kDynamic;
    if (!has_samples) spec.calibration_set.clear();
  }
  return spec;
}

absl::StatusOr<BuiltVariant> BuildVariant(const Graph& graph, const QuantSpec& spec,
                                          const BuildOptions& options) {
  const bool has_samples = options.samples != nullptr && !options.samples->samples.empty();
  const QuantSpec resolved = ResolveSpec(spec, has_samples);
  HT_RETURN_IF_ERROR(resolved.Validate());
  if (!ComputesInDoubles(graph)) return Builder(graph, resolved, options).Run();
  HT_ASSIGN_OR_RETURN(const Graph singles, InSingles(graph));
  HT_ASSIGN_OR_RETURN(BuiltVariant built, Builder(singles, resolved, options).Run());
  built.report.warnings.insert(built.report.warnings.begin(), kDoublesNote);
  return built;
}

}  // namespace halftone
