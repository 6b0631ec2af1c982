#include "core/variant/calibration.h"

#include <algorithm>
#include <utility>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "core/base/sha256.h"
#include "core/base/status_macros.h"
#include "core/quant/range_choice.h"
#include "core/quant/state_io.h"
#include "core/variant/build_variant.h"
#include "core/variant/observed_graph.h"

namespace halftone {
namespace {

constexpr absl::string_view kStateFormat = "halftone-ranges-1";
constexpr absl::string_view kRangesFormat = "halftone-chosen-ranges-1";

absl::Status WrongFormat(absl::string_view want) {
  return absl::DataLossError(absl::StrCat("calibration state: it is not '", want, "'"));
}

std::string WriteRanges(const RangeMap& ranges) {
  std::string bytes;
  StateWriter out(bytes);
  out.Text(kRangesFormat);
  out.Unsigned(ranges.size());
  for (const auto& [name, range] : ranges) {
    out.Text(name);
    out.Range(range);
  }
  return bytes;
}

absl::StatusOr<RangeMap> ReadRanges(absl::string_view bytes) {
  StateReader in(bytes);
  HT_ASSIGN_OR_RETURN(const absl::string_view format, in.Text());
  if (format != kRangesFormat) return WrongFormat(kRangesFormat);
  HT_ASSIGN_OR_RETURN(const uint64_t count, in.Unsigned());
  RangeMap ranges;
  for (uint64_t i = 0; i < count; ++i) {
    HT_ASSIGN_OR_RETURN(const absl::string_view name, in.Text());
    HT_ASSIGN_OR_RETURN(ranges[std::string(name)], in.Range());
  }
  if (!in.at_end()) return WrongFormat(kRangesFormat);
  return ranges;
}

std::string WriteProgress(int done, const RangeCollector& seen) {
  std::string bytes;
  StateWriter out(bytes);
  out.Signed(done);
  out.Text(seen.Write());
  return bytes;
}

// How many samples `seen` has seen.
absl::StatusOr<int64_t> ReadProgress(absl::string_view bytes, CalibrationMethod method,
                                     RangeCollector& seen) {
  StateReader in(bytes);
  HT_ASSIGN_OR_RETURN(const int64_t done, in.Count());
  HT_ASSIGN_OR_RETURN(const absl::string_view state, in.Text());
  HT_ASSIGN_OR_RETURN(seen, RangeCollector::Read(method, state));
  return done;
}

}  // namespace

CalibrationChoice ChoiceFor(const QuantSpec& spec) {
  CalibrationChoice choice{.method = spec.calibration, .percentile = spec.percentile};
  const bool wide = BitsOf(spec.activation_type) > 8;
  const bool by_levels = spec.calibration == CalibrationMethod::kEntropy ||
                         spec.calibration == CalibrationMethod::kMse;
  if (wide && by_levels) choice.method = CalibrationMethod::kMinMax;
  return choice;
}

RangeCollector::Observer RangeCollector::NewObserver(CalibrationMethod method) {
  switch (method) {
    case CalibrationMethod::kMinMax:
      return MinMaxObserver();
    case CalibrationMethod::kMovingAverage:
      return MovingAverageObserver();
    case CalibrationMethod::kPercentile:
    case CalibrationMethod::kEntropy:
    case CalibrationMethod::kMse:
      break;
  }
  return HistogramObserver();
}

void RangeCollector::Observe(const std::string& name, absl::Span<const float> values) {
  auto it = observers_.find(name);
  if (it == observers_.end()) it = observers_.emplace(name, NewObserver(method_)).first;
  std::visit([&](auto& observer) { observer.Observe(values); }, it->second);
}

void RangeCollector::ObserveSample(const RangeCollector& sample) {
  if (method_ != CalibrationMethod::kMovingAverage) return Merge(sample);
  for (const auto& [name, observer] : sample.observers_) {
    const ValueRange range = std::get<MovingAverageObserver>(observer).range();
    if (!range.empty()) Observe(name, {range.min, range.max});
  }
}

void RangeCollector::Merge(const RangeCollector& other) {
  CHECK(method_ == other.method_);
  for (const auto& [name, more] : other.observers_) {
    const auto [it, is_new] = observers_.emplace(name, more);
    if (is_new) continue;
    std::visit(
        [&](auto& observer) { observer.Merge(std::get<std::decay_t<decltype(observer)>>(more)); },
        it->second);
  }
}

RangeMap RangeCollector::Choose(const CalibrationChoice& choice) const {
  CHECK(method_ == choice.method);
  RangeMap ranges;
  for (const auto& [name, observer] : observers_) {
    ValueRange range = std::visit([](const auto& o) { return ValueRange(o.range()); }, observer);
    if (const auto* h = std::get_if<HistogramObserver>(&observer)) {
      if (method_ == CalibrationMethod::kPercentile) range = PercentileRange(*h, choice.percentile);
      if (method_ == CalibrationMethod::kEntropy) range = EntropyRange(*h);
      if (method_ == CalibrationMethod::kMse) range = MseRange(*h);
    }
    if (!range.empty()) ranges[name] = range;
  }
  return ranges;
}

std::string RangeCollector::Write() const {
  std::string bytes;
  StateWriter out(bytes);
  out.Text(kStateFormat);
  out.Unsigned(static_cast<uint64_t>(method_));
  out.Unsigned(observers_.size());
  for (const auto& [name, observer] : observers_) {
    out.Text(name);
    std::visit([&](const auto& o) { o.Write(out); }, observer);
  }
  return bytes;
}

absl::StatusOr<RangeCollector> RangeCollector::Read(CalibrationMethod method,
                                                    absl::string_view bytes) {
  StateReader in(bytes);
  HT_ASSIGN_OR_RETURN(const absl::string_view format, in.Text());
  if (format != kStateFormat) return WrongFormat(kStateFormat);
  HT_ASSIGN_OR_RETURN(const uint64_t written, in.Unsigned());
  if (written != static_cast<uint64_t>(method)) return WrongFormat("of the method asked for");
  HT_ASSIGN_OR_RETURN(const uint64_t count, in.Unsigned());
  RangeCollector out(method);
  for (uint64_t i = 0; i < count; ++i) {
    HT_ASSIGN_OR_RETURN(const absl::string_view name, in.Text());
    Observer observer = NewObserver(method);
    HT_RETURN_IF_ERROR(std::visit(
        [&](auto& o) -> absl::Status {
          HT_ASSIGN_OR_RETURN(o, std::decay_t<decltype(o)>::Read(in));
          return absl::OkStatus();
        },
        observer));
    out.observers_.emplace(name, std::move(observer));
  }
  if (!in.at_end()) return WrongFormat(kStateFormat);
  return out;
}

absl::StatusOr<RangeMap> Calibrate(const Graph& graph, const std::vector<std::string>& names,
                                   const std::vector<std::vector<Tensor>>& samples,
                                   const CalibrationChoice& choice, const GraphWatcher& watcher,
                                   const std::function<absl::Status(int done, int total)>& step,
                                   std::string* progress) {
  const int total = static_cast<int>(samples.size());
  RangeCollector seen(choice.method);
  int done = 0;
  if (progress != nullptr) {
    RangeCollector before(choice.method);
    const auto count = ReadProgress(*progress, choice.method, before);
    if (count.ok() && *count <= total) {
      seen = std::move(before);
      done = static_cast<int>(*count);
    }
  }
  HT_ASSIGN_OR_RETURN(const StreamedGraph streamed, StreamedGraph::Create(graph, names, watcher));
  while (done < total) {
    // A run that fails half way must not have been half seen.
    RangeCollector of_sample(choice.method);
    absl::Status status = Annotate(streamed.Run(samples[done],
                                                [&](const std::string& name, const Tensor& t) {
                                                  of_sample.Observe(name, t.data<float>());
                                                }),
                                   absl::StrCat("calibration sample ", done));
    if (status.ok()) {
      seen.ObserveSample(of_sample);
      status = step(++done, total);
    }
    if (status.ok()) continue;
    if (progress != nullptr) *progress = WriteProgress(done, seen);
    return status;
  }
  return seen.Choose(choice);
}

std::string CalibrationKey(absl::string_view stage, absl::string_view graph_digest,
                           absl::string_view data_digest, absl::string_view isa_class,
                           const CalibrationChoice& choice, absl::Span<const std::string> names) {
  std::string text =
      absl::StrCat("halftone-calibration\n", kQuantizerVersion, "\n", stage, "\n", graph_digest,
                   "\n", data_digest, "\n", isa_class, "\n", static_cast<int>(choice.method), "\n");
  StateWriter out(text);
  if (choice.method == CalibrationMethod::kPercentile) out.Double(choice.percentile);
  for (const std::string& name : names) out.Text(name);
  return Sha256Hex(text);
}

absl::StatusOr<RangeMap> CalibrateCached(
    const CachedCalibration& cached, const Graph& graph, const std::vector<std::string>& names,
    const std::vector<std::vector<Tensor>>& samples, const CalibrationChoice& choice,
    const GraphWatcher& watcher, const std::function<absl::Status(int done, int total)>& step) {
  const CalibrationCache* cache = cached.cache;
  if (cache == nullptr) return Calibrate(graph, names, samples, choice, watcher, step);
  if (const auto found = cache->find(cached.ranges_key)) {
    absl::StatusOr<RangeMap> ranges = ReadRanges(*found);
    if (ranges.ok()) return ranges;
  }
  std::string progress = cache->find(cached.progress_key).value_or("");
  const bool went_on = !progress.empty();
  auto ranges = Calibrate(graph, names, samples, choice, watcher, step, &progress);
  if (!ranges.ok()) {
    cache->put(cached.progress_key, progress);
    return ranges;
  }
  cache->put(cached.ranges_key, WriteRanges(*ranges));
  if (went_on) cache->put(cached.progress_key, "");
  return ranges;
}

}  // namespace halftone
