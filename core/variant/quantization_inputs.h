// What is known before anything is rounded: the model as techniques left it, ranges of activations,
// statistics of layers' inputs. Computed once per build, used for every graph that it tries.
#ifndef HALFTONE_CORE_VARIANT_QUANTIZATION_INPUTS_H_
#define HALFTONE_CORE_VARIANT_QUANTIZATION_INPUTS_H_

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "core/graph/graph.h"
#include "core/passes/quantize_graph.h"
#include "core/quant/quant_spec.h"
#include "core/variant/calibration.h"
#include "core/variant/compare.h"
#include "core/variant/graph_runner.h"
#include "core/variant/layer_statistics.h"

namespace halftone {

struct QuantizationSource {
  // Single-threaded: how sums are split among threads may change the last bits of a statistic, and
  // the variant's bytes must not depend on that.
  GraphWatcher watcher;
  const Samples* samples =
      nullptr;  // calibration; empty: techniques that need samples are left out
  // Ranges of earlier builds; used where both digests are known.
  const CalibrationCache* cache = nullptr;
  std::string graph_digest, data_digest, isa_class;
  bool reduce_weight_range = false;
  StepFn step;  // of calibration
};

class QuantizationInputs {
 public:
  // Equalizes, smooths and calibrates as the spec says. Requires: a resolved spec; samples for
  // static. `source` and its samples must outlive the object.
  static absl::StatusOr<std::unique_ptr<QuantizationInputs>> Create(
      const Graph& fp32, const QuantSpec& spec, const QuantizationSource& source);

  // Computes what fp32 does, with other weights where techniques moved scales. Values keep names.
  const Graph& graph() const { return graph_; }
  // For QuantizeGraph on clones of graph(); valid while this object is. Roundings are remembered.
  QuantizeOptions options();
  // What the techniques did, for the report ("equalized 12 pairs of layers").
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  QuantizationInputs(QuantSpec spec, const QuantizationSource& source)
      : spec_(std::move(spec)), source_(source) {}

  bool HasSamples() const { return source_.samples != nullptr && !source_.samples->empty(); }
  absl::Status Rewrite();
  absl::Status CalibrateRanges();
  std::vector<std::string> NamesToCalibrate() const;
  absl::StatusOr<ChannelStatsMap> CollectStats(const std::map<std::string, int>& axis_of);
  absl::Status CollectMeans();

  absl::StatusOr<NarrowWeights> Narrow(const Node& node, int index, const WeightFormat& format);
  // Second moments of the node's inputs, and of as many layers after it as memory allows.
  absl::StatusOr<const std::vector<SecondMoment>*> MomentsOf(const std::string& node);

  const QuantSpec spec_;
  const QuantizationSource& source_;
  Graph graph_;
  RangeMap ranges_;
  ChannelStatsMap means_;
  std::vector<std::string> notes_;
  std::map<std::string, std::vector<SecondMoment>> moments_;  // of the current batch, by node
  std::map<std::pair<std::string, WeightFormat>, NarrowWeights> narrow_;  // by node
};

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_QUANTIZATION_INPUTS_H_
