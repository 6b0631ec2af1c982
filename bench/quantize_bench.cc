// How long it takes from an fp32 file to a variant that serves, and how much memory, without
// calibration and without the measurements of the report.
//
//   quantize_bench model.onnx [--spec int8/per-channel/dynamic] [--threads 2]
//
// Prints, per stage, seconds and the peak of the resident set until then.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include "absl/log/check.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/exec/plan.h"
#include "core/onnx/export.h"
#include "core/onnx/import.h"
#include "core/ops/evaluate.h"
#include "core/passes/pass.h"
#include "core/passes/quantize_graph.h"

namespace halftone {
namespace {

// A line of /proc/self/status in bytes: "VmHWM" is the peak of the resident set.
int64_t StatusBytes(absl::string_view key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (!absl::StartsWith(line, key)) continue;
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(": \tkB"), absl::SkipEmpty());
    int64_t kib = 0;
    return words.size() > 1 && absl::SimpleAtoi(words[1], &kib) ? kib * 1024 : 0;
  }
  return 0;
}

class Stages {
 public:
  explicit Stages(int64_t model_bytes) : model_bytes_(model_bytes) {}
  void End(const char* stage) {
    const absl::Time now = absl::Now();
    Print(stage, now - last_);
    last_ = now;
  }
  void Total() const { Print("total", last_ - start_); }

 private:
  void Print(const char* stage, absl::Duration time) const {
    const int64_t peak = StatusBytes("VmHWM");
    std::cout << absl::StreamFormat("%-10s %8.3f s   peak %7.1f MB, %.2f of the fp32 file\n", stage,
                                    absl::ToDoubleSeconds(time), static_cast<double>(peak) / 1e6,
                                    static_cast<double>(peak) / static_cast<double>(model_bytes_));
  }
  const int64_t model_bytes_;
  const absl::Time start_ = absl::Now();
  absl::Time last_ = start_;
};

std::shared_ptr<const Plan> Run(const std::string& model, const std::string& spec_text,
                                const std::string& output, int threads, Stages& stages) {
  const QuantSpec spec = QuantSpec::Parse(spec_text).value();
  {
    Graph graph = ImportOnnxFile(model).value();
    stages.End("import");
    CHECK_OK(RunPasses(graph, PortablePasses()));
    CHECK_OK(PrepareForQuantization(graph, spec));
    stages.End("passes");
    CHECK_OK(QuantizeGraph(graph, spec, {}).status());
    CHECK_OK(InferShapes(graph, {.fold_elements = 0}));
    stages.End("quantize");
    CHECK_OK(ExportOnnxFile(graph, output));
    stages.End("export");
  }
  Graph variant = ImportOnnxFile(output).value();
  stages.End("open");
  SetIntraOpThreads(threads);
  auto plan = Plan::Create(std::move(variant), {.threads = threads}).value();
  std::vector<Shape> shapes;
  for (const TensorSignature& input : plan->signature().inputs) {
    Shape& shape = shapes.emplace_back();
    for (const Dim& dim : input.shape) shape.push_back(dim.known() ? dim.value : 1);
  }
  CHECK_OK(plan->Prepare(shapes));
  stages.End("plan");
  return plan;
}

int Main(int argc, char** argv) {
  CLI::App app("From an fp32 file to a variant that serves: seconds and memory");
  std::string model, spec = "int8/per-channel/dynamic";
  int threads = 2;
  app.add_option("model", model, "The fp32 model, an .onnx file")->required();
  app.add_option("--spec", spec, "Wanted precision")->capture_default_str();
  app.add_option("--threads", threads, "Intra-op threads")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const std::string folder = std::filesystem::temp_directory_path() / "halftone_quantize_bench";
  std::filesystem::create_directories(folder);
  Stages stages(static_cast<int64_t>(std::filesystem::file_size(model)));
  const auto plan = Run(model, spec, folder + "/variant.onnx", threads, stages);
  stages.Total();
  std::cout << absl::StreamFormat("resident   %.1f MB\n",
                                  static_cast<double>(StatusBytes("VmRSS")) / 1e6);
  std::filesystem::remove_all(folder);
  return 0;
}

}  // namespace
}  // namespace halftone

int main(int argc, char** argv) { return halftone::Main(argc, argv); }
