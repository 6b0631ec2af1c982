// What a variant costs and gains, measured on this machine: part of every variant.
#ifndef HALFTONE_CORE_VARIANT_REPORT_H_
#define HALFTONE_CORE_VARIANT_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace halftone {

// Weights of one layer as counts in bins of equal width over [min, max]. Empty: not taken.
struct WeightHistogram {
  double min = 0, max = 0;
  std::vector<int64_t> fp32, variant;  // before and after; equal sizes
};

struct LayerReport {
  std::string node;
  std::string op;
  std::string precision;  // "int8", "f32", "f16 weights", …
  std::string reason;     // why a node stayed float; empty when it was quantized
  double sqnr_db = 0;     // of this node's output, variant against fp32; +inf is stored as 999
  int64_t weight_bytes = 0;
  // What it takes of a run, with the conversions that it needs; 0: not measured.
  double seconds = 0, fp32_seconds = 0;
  WeightHistogram weights;  // of quantized layers
};

// Time of a layer against fp32 above which it counts as slower; what is below may be noise.
inline constexpr double kSlowLayer = 1.1;

struct OperatorCoverage {
  std::string op;
  int total = 0;
  int quantized = 0;
};

struct VariantReport {
  std::string spec;           // canonical text, resolved (never "auto")
  std::string isa_class;      // of the machine that built it
  std::string sample_source;  // "calibration set 'x' (256 samples)" or "GENERATED samples (8): …"
  int sample_count = 0;
  double sqnr_db = 0;  // over all outputs and samples; 999: bit-equal
  double top1_agreement =
      -1;  // of the first output's last axis; -1: not a classifier-shaped output
  double max_abs_error = 0;
  std::vector<LayerReport> layers;  // in execution order
  std::vector<OperatorCoverage> coverage;
  int64_t fp32_weight_bytes = 0;
  int64_t weight_bytes = 0;    // the variant's constants on disk
  int64_t resident_bytes = 0;  // weights + packed after load
  int64_t fp32_resident_bytes = 0;
  double latency_seconds = 0;  // median of interleaved runs on one sample, on this machine
  double fp32_latency_seconds = 0;
  double speedup = 0;  // fp32 / variant
  double build_seconds = 0;
  std::vector<std::string> notes;     // what techniques did ("equalized 12 pairs of layers")
  std::vector<std::string> warnings;  // risks and losses in words: names the layers
};

// Stable, versioned JSON ("halftone_report": 1) and back.
std::string ToJson(const VariantReport& report);
absl::StatusOr<VariantReport> ReportFromJson(const std::string& json);

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_REPORT_H_
