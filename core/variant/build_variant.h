// Graph + spec (+ samples) → quantized Graph + report. Pure: no files, no network, no globals.
#ifndef HALFTONE_CORE_VARIANT_BUILD_VARIANT_H_
#define HALFTONE_CORE_VARIANT_BUILD_VARIANT_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/exec/cpu_features.h"
#include "core/graph/graph.h"
#include "core/quant/quant_spec.h"
#include "core/tensor/tensor.h"
#include "core/variant/calibration.h"
#include "core/variant/graph_runner.h"
#include "core/variant/report.h"

namespace halftone {

// Part of every variant id. Raise it when the same inputs may give other bytes.
inline constexpr int kQuantizerVersion = 4;

// Samples for calibration and comparison; each is one request: tensors in signature order.
struct SampleSet {
  std::string name;    // empty for generated samples
  std::string digest;  // SHA-256 hex of the content; empty for generated samples
  std::vector<std::vector<Tensor>> samples;
};

// Deterministic inputs for a signature when nobody gave any: floats like normal(0, 1), integers
// from 0 to 3. An unknown dimension is 1 when it comes first and 64 elsewhere, equal names alike.
absl::StatusOr<SampleSet> GenerateSamples(const Signature& signature, int count);

struct Progress {
  std::string stage;    // "calibrate", "quantize", "compile", "compare", "measure"
  double fraction = 0;  // of the whole build, 0 to 1, never decreasing
  int nodes_done = 0;
  int nodes_total = 0;
};

// The name of a calibration set that needs no upload: generated samples, for lack of better ones.
inline constexpr char kSyntheticSet[] = "synthetic";

struct BuildOptions {
  CpuFeatures features = DetectCpuFeatures();
  int threads = 1;
  const SampleSet* samples = nullptr;  // null: generated ones, and the report says so
  // Ranges of earlier builds, see calibration.h; null: every build calibrates. Used where the graph
  // and the samples have digests.
  const CalibrationCache* calibration_cache = nullptr;
  std::string graph_digest;     // of `graph`'s file; empty: unknown
  int max_report_samples = 64;  // compared against fp32 (calibration uses all)
  bool measure_latency = true;
  std::function<void(const Progress&)> progress;  // may be empty
  std::function<bool()> cancelled;                // polled between steps; may be empty
  GraphRunner runner;                             // empty: Plan and Context with `threads`
};

struct BuiltVariant {
  Graph graph;     // portable: standard ONNX operators
  QuantSpec spec;  // resolved: activations never kAuto for int8
  VariantReport report;
};

// The spec that will really be built: kAuto becomes static with samples (or calib=synthetic) and
// dynamic without.
QuantSpec ResolveSpec(QuantSpec spec, bool has_samples);

// Requires: `graph` went through PortablePasses. A graph that computes in f64 is computed in f32
// (see ComputeInSingles), and the report says so. Sets the calling thread's intra-op threads.
// Deterministic: equal inputs give an equal graph, whatever the thread count; but for the policy
// speed, whose choice is measured and then stands in the resolved spec. INVALID_ARGUMENT /
// UNIMPLEMENTED bad spec; FAILED_PRECONDITION static without samples, or nothing would be
// quantized; CANCELLED.
absl::StatusOr<BuiltVariant> BuildVariant(const Graph& graph, const QuantSpec& spec,
                                          const BuildOptions& options);

// Dry run: what BuildVariant would do, from the graph alone.
struct PlanReport {
  std::string spec;  // resolved
  int64_t fp32_weight_bytes = 0;
  int64_t predicted_weight_bytes = 0;
  std::vector<OperatorCoverage> coverage;
  std::vector<LayerReport> layers;       // sqnr_db is that of the weights alone
  std::vector<std::string> risks;        // "no calibration samples: …", "no VNNI: 7-bit weights"
  std::vector<std::string> unsupported;  // parts of the spec that cannot be built
};
absl::StatusOr<PlanReport> PlanVariant(const Graph& graph, const QuantSpec& spec,
                                       const CpuFeatures& features, bool has_samples);

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_BUILD_VARIANT_H_
