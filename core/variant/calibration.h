// Runs samples through an fp32 graph and chooses the ranges of chosen values. Memory: what one run
// needs at a time, and one observer per value (64 KB where the method wants a histogram), whatever
// the number of samples.
#ifndef HALFTONE_CORE_VARIANT_CALIBRATION_H_
#define HALFTONE_CORE_VARIANT_CALIBRATION_H_

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/graph/graph.h"
#include "core/passes/quantize_activations.h"
#include "core/quant/histogram.h"
#include "core/quant/observer.h"
#include "core/quant/quant_spec.h"
#include "core/tensor/tensor.h"
#include "core/variant/graph_runner.h"

namespace halftone {

struct CalibrationChoice {
  CalibrationMethod method = CalibrationMethod::kMinMax;
  double percentile = kDefaultPercentile;  // kPercentile only
};
// What the spec says. Clipping to fewer levels is no matter with 16-bit activations: those get
// min-max where the spec says entropy or mse.
CalibrationChoice ChoiceFor(const QuantSpec& spec);

// What was seen so far of every value. Thread-compatible.
class RangeCollector {
 public:
  explicit RangeCollector(CalibrationMethod method) : method_(method) {}

  // The values that one sample gave to one name.
  void Observe(const std::string& name, absl::Span<const float> values);
  // The same for all values of one sample, which another collector saw: nothing of a sample counts
  // before all of it was there.
  void ObserveSample(const RangeCollector& sample);
  // As if both had seen the samples of both; for kMovingAverage see MovingAverageObserver.
  // Requires: the same method.
  void Merge(const RangeCollector& other);
  // Ranges by name; a value that never was finite has none. `choice` has the same method.
  RangeMap Choose(const CalibrationChoice& choice) const;

  // The state, to go on from later: of another process, too. Read gives DATA_LOSS for bytes that
  // are not what Write wrote.
  std::string Write() const;
  static absl::StatusOr<RangeCollector> Read(CalibrationMethod method, absl::string_view bytes);

 private:
  using Observer = std::variant<MinMaxObserver, MovingAverageObserver, HistogramObserver>;
  static Observer NewObserver(CalibrationMethod method);

  CalibrationMethod method_;
  std::map<std::string, Observer> observers_;
};

// The ranges of the named values over all samples, observed while the graph runs. `step(done,
// total)` is called after each sample and stops the calibration with the error that it returns.
// `progress`, if given, is the state of an earlier call with the same arguments that ended with an
// error; such an end leaves the new state there. Bytes that make no sense are ignored.
absl::StatusOr<RangeMap> Calibrate(const Graph& graph, const std::vector<std::string>& names,
                                   const std::vector<std::vector<Tensor>>& samples,
                                   const CalibrationChoice& choice, const GraphWatcher& watcher,
                                   const std::function<absl::Status(int done, int total)>& step,
                                   std::string* progress = nullptr);

// Somebody's memory of small results between builds, by key (SHA-256 hex). Values are up to a few
// MB; any of them may be forgotten at any time. Nothing found, or empty: not there.
struct CalibrationCache {
  std::function<std::optional<std::string>(const std::string& key)> find;
  std::function<void(const std::string& key, absl::string_view value)> put;  // empty: forget it
};

// What makes ranges equal: the graph (`names` stand for how it was prepared: which values are
// watched changes how nodes are fused, and that the last bits), the data, the method, and the
// machine's arithmetic. `stage` tells apart what is kept under one of them.
std::string CalibrationKey(absl::string_view stage, absl::string_view graph_digest,
                           absl::string_view data_digest, absl::string_view isa_class,
                           const CalibrationChoice& choice, absl::Span<const std::string> names);

// Calibrate behind a cache (may be null): finds the ranges there, or goes on from what an
// interrupted calibration left there, and leaves either. `key` is CalibrationKey of what follows.
struct CachedCalibration {
  const CalibrationCache* cache = nullptr;
  std::string ranges_key, progress_key;
};
absl::StatusOr<RangeMap> CalibrateCached(
    const CachedCalibration& cached, const Graph& graph, const std::vector<std::string>& names,
    const std::vector<std::vector<Tensor>>& samples, const CalibrationChoice& choice,
    const GraphWatcher& watcher, const std::function<absl::Status(int done, int total)>& step);

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_CALIBRATION_H_
