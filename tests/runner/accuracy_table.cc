// The table of docs/quantization.md: accuracy of labelled models under each spec, on data that
// calibration never saw, with the weight bytes against fp32.
//
//   accuracy_table [--models=NAME,…] [--rows=N] [--specs=SPEC,…]      (specs hold no comma)
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/status_macros.h"
#include "core/variant/build_variant.h"
#include "tests/models/labelled_models.h"

ABSL_FLAG(std::vector<std::string>, models, {}, "names of labelled models; all if empty");
ABSL_FLAG(std::vector<std::string>, specs,
          std::vector<std::string>({"fp16", "bf16", "int8/per-channel/static",
                                    "int8/per-channel/dynamic", "int8/per-channel/static/better",
                                    "int8/per-channel/static/best", "int4", "int4/best", "ternary",
                                    "ternary/best", "binary"}),
          "what to build");
ABSL_FLAG(int, rows, 2000, "rows of test data per model at most");
ABSL_FLAG(bool, notes, false, "print what techniques did, and how long it took, on stderr");

namespace halftone {
namespace {

// "97.3 (0.25)": accuracy in percent, weight bytes against fp32.
absl::StatusOr<std::string> Cell(const LabelledData& data, const std::string& text) {
  HT_ASSIGN_OR_RETURN(const QuantSpec spec, QuantSpec::Parse(text));
  BuildOptions options;
  options.samples = &data.calibration;
  options.measure_latency = false;
  const absl::Time start = absl::Now();
  HT_ASSIGN_OR_RETURN(const BuiltVariant built, BuildVariant(data.fp32, spec, options));
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  HT_ASSIGN_OR_RETURN(const Logits logits, RunAll(built.graph, data.test));
  const VariantReport& r = built.report;
  if (absl::GetFlag(FLAGS_notes)) {
    std::fprintf(stderr, "%s: %.1f s, agreement %.4f, SQNR %.1f dB\n", text.c_str(), seconds,
                 r.top1_agreement, r.sqnr_db);
    for (const std::string& note : r.notes) std::fprintf(stderr, "  %s\n", note.c_str());
  }
  return absl::StrFormat("%.1f (%.2f)", 100 * AccuracyOf(logits, data.labels),
                         static_cast<double>(r.weight_bytes) /
                             static_cast<double>(std::max<int64_t>(r.fp32_weight_bytes, 1)));
}

absl::Status PrintRow(const LabelledModel& model, const std::vector<std::string>& specs) {
  HT_ASSIGN_OR_RETURN(const LabelledData data, Load(model, absl::GetFlag(FLAGS_rows)));
  HT_ASSIGN_OR_RETURN(const Logits fp32, RunAll(data.fp32, data.test));
  std::vector<std::string> cells = {
      model.name, absl::StrCat(fp32.values.size() / fp32.classes),
      absl::StrFormat("%.1f", 100 * AccuracyOf(fp32, data.labels)),
      model.ort_static == 0 ? std::string("–") : absl::StrFormat("%.1f", 100 * model.ort_static)};
  for (const std::string& spec : specs) {
    const absl::StatusOr<std::string> cell = Cell(data, spec);
    cells.push_back(cell.ok() ? *cell : absl::StrCat("(", cell.status().message(), ")"));
  }
  std::printf("| %s |\n", absl::StrJoin(cells, " | ").c_str());
  std::fflush(stdout);
  return absl::OkStatus();
}

int Main() {
  const std::vector<std::string> specs = absl::GetFlag(FLAGS_specs);
  const std::vector<std::string> wanted = absl::GetFlag(FLAGS_models);
  std::vector<LabelledModel> models = LabelledModels();
  models.push_back(ImagenetModel());
  std::printf("| model | rows | fp32 | ORT int8 | %s |\n", absl::StrJoin(specs, " | ").c_str());
  for (size_t i = 0; i < specs.size() + 4; ++i) std::printf("| --- ");
  std::printf("|\n");
  for (const LabelledModel& model : models) {
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), model.name) == wanted.end()) {
      continue;
    }
    if (!IsThere(model)) continue;
    if (const absl::Status s = PrintRow(model, specs); !s.ok()) {
      std::fprintf(stderr, "%s: %s\n", model.name.c_str(), s.ToString().c_str());
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace halftone

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return halftone::Main();
}
