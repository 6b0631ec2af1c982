// Runs one model in one precision, without a server: import, portable passes, quantize, plan, run.
//
//   halftone_bench model.onnx --spec int8/per-channel/static --threads 2 --batch 1 --seconds 3
//   halftone_bench model.onnx --profile --dump       where the time goes, how each node runs
//   halftone_bench model.onnx --serve --inputs b1=1x3x224x224:x.bin   driven through stdin
//
// With --serve, one command per line on stdin and one line of JSON on stdout for each; the first
// line comes unasked once the model is loaded. bench/README.md describes the protocol, which
// ort_worker.py speaks too.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "bench/protocol.h"
#include "core/base/status_macros.h"
#include "core/exec/plan.h"
#include "core/exec/team.h"
#include "core/onnx/import.h"
#include "core/passes/pass.h"
#include "core/quant/quant_spec.h"
#include "core/variant/build_variant.h"

namespace halftone {
namespace {

using nlohmann::json;

struct Flags {
  std::string model;
  std::string spec = "fp32";
  int threads = 1;
  int workers = 1;
  int batch = 1;
  double seconds = 2;
  bool serve = false;
  bool profile = false;
  bool dump = false;
  std::vector<std::string> inputs;  // NAME=SHAPE:PATH[,SHAPE:PATH…]
};

// --- inputs --------------------------------------------------------------------------------------

// `batch` copies of the rows, for inputs whose first dimension is free.
absl::StatusOr<Tensor> Repeat(const Tensor& t, int batch) {
  Shape shape = t.shape();
  shape[0] *= batch;
  HT_ASSIGN_OR_RETURN(Tensor repeated, Tensor::Create(t.type(), shape));
  for (int i = 0; i < batch; ++i) {
    std::copy_n(t.raw(), t.num_bytes(), repeated.mutable_raw() + i * t.num_bytes());
  }
  return repeated;
}

absl::StatusOr<Request> GenerateRequest(const Signature& signature, int batch) {
  HT_ASSIGN_OR_RETURN(SampleSet generated, GenerateSamples(signature, 1));
  Request request = std::move(generated.samples.front());
  for (size_t i = 0; i < request.size(); ++i) {
    const Dims& dims = signature.inputs[i].shape;
    if (batch == 1 || dims.empty() || dims[0].known()) continue;
    HT_ASSIGN_OR_RETURN(request[i], Repeat(request[i], batch));
  }
  return request;
}

absl::StatusOr<std::map<std::string, Request>> Requests(const Flags& flags,
                                                        const Signature& signature) {
  HT_ASSIGN_OR_RETURN(auto requests, ReadRequests(signature, flags.inputs));
  if (requests.empty()) {
    HT_ASSIGN_OR_RETURN(requests["generated"], GenerateRequest(signature, flags.batch));
  }
  return requests;
}

// --- the model -----------------------------------------------------------------------------------

struct Loaded {
  std::shared_ptr<const Plan> plan;
  std::map<std::string, Request> requests;
  std::string spec;  // as built
  double load_seconds = 0;
};

absl::StatusOr<Loaded> Load(const Flags& flags) {
  HT_ASSIGN_OR_RETURN(const QuantSpec spec, QuantSpec::Parse(flags.spec));
  const absl::Time start = absl::Now();
  HT_ASSIGN_OR_RETURN(Graph graph, ImportOnnxFile(flags.model));
  HT_RETURN_IF_ERROR(RunPasses(graph, PortablePasses()));
  HT_ASSIGN_OR_RETURN(const Signature signature, SignatureOf(graph));
  Loaded loaded{.spec = spec.ToString()};
  HT_ASSIGN_OR_RETURN(loaded.requests, Requests(flags, signature));
  if (spec.weights != WeightType::kF32) {
    // Calibrated on what will be run: the ranges cost the same whatever they are. No comparison
    // with fp32, which takes most of a build; compare.py looks at the outputs itself.
    SampleSet samples{.name = "bench", .samples = {loaded.requests.begin()->second}};
    const BuildOptions options{.threads = flags.threads,
                               .samples = &samples,
                               .max_report_samples = 0,
                               .measure_latency = false};
    HT_ASSIGN_OR_RETURN(BuiltVariant built, BuildVariant(graph, spec, options));
    graph = std::move(built.graph);
    loaded.spec = built.spec.ToString();
  }
  HT_ASSIGN_OR_RETURN(loaded.plan, Plan::Create(std::move(graph), {.threads = flags.threads}));
  loaded.load_seconds = absl::ToDoubleSeconds(absl::Now() - start);
  return loaded;
}

// --- measuring -----------------------------------------------------------------------------------

absl::StatusOr<std::vector<double>> Measure(Context& context, const Request& request, int runs) {
  std::vector<double> seconds;
  seconds.reserve(runs);
  for (int i = 0; i < runs; ++i) {
    const int64_t start = absl::GetCurrentTimeNanos();
    HT_ASSIGN_OR_RETURN(const std::vector<Tensor> outputs, context.Run(request));
    seconds.push_back(static_cast<double>(absl::GetCurrentTimeNanos() - start) * 1e-9);
  }
  return seconds;
}

// Seconds of every step in every run: other programs make some runs slow, and the median of a step
// does not see them.
class StepTimes {
 public:
  // After each run; the context adds up.
  void Add(std::vector<StepInfo> sums) {
    runs_.resize(sums.size());
    for (size_t i = 0; i < sums.size(); ++i) {
      runs_[i].push_back(sums[i].seconds - (i < sums_.size() ? sums_[i].seconds : 0));
    }
    sums_ = std::move(sums);
  }
  std::vector<StepInfo> Typical() const {
    std::vector<StepInfo> out = sums_;
    for (size_t i = 0; i < out.size(); ++i) out[i].seconds = Quantile(runs_[i], 0.5);
    return out;
  }

 private:
  std::vector<std::vector<double>> runs_;  // per step
  std::vector<StepInfo> sums_;
};

// At least three runs, at least `seconds` long.
absl::StatusOr<std::vector<double>> MeasureFor(Context& context, const Request& request,
                                               double seconds, StepTimes* times) {
  std::vector<double> all;
  double total = 0;
  while (all.size() < 3 || total < seconds) {
    HT_ASSIGN_OR_RETURN(const std::vector<double> one, Measure(context, request, 1));
    all.push_back(one.front());
    total += one.front();
    if (times != nullptr) times->Add(context.Profile());
  }
  return all;
}

// Seconds are per run; nodes in order of time spent, the rest of the run as the last line.
void PrintProfile(std::vector<StepInfo> steps, double total) {
  std::stable_sort(steps.begin(), steps.end(),
                   [](const StepInfo& a, const StepInfo& b) { return a.seconds > b.seconds; });
  absl::FPrintF(stderr, "%9s %6s %9s  %-12s %-14s %-26s %-24s %s\n", "ms", "share", "KB",
                "precision", "rule", "implementation", "op", "node");
  const auto line = [&](double seconds, const StepInfo& s) {
    absl::FPrintF(stderr, "%9.3f %5.1f%% %9.1f  %-12s %-14s %-26s %-24s %s\n", seconds * 1e3,
                  100 * seconds / total, static_cast<double>(s.bytes) * 1e-3, s.precision, s.rule,
                  s.implementation, s.op, s.node);
  };
  double in_steps = 0;
  for (const StepInfo& s : steps) {
    line(s.seconds, s);
    in_steps += s.seconds;
  }
  line(total - in_steps, {.node = "(between steps, inputs and outputs)"});
}

json ToJson(absl::Span<const StepInfo> steps) {
  json out = json::array();
  for (const StepInfo& s : steps) {
    out.push_back({{"node", s.node},
                   {"op", s.op},
                   {"rule", s.rule},
                   {"implementation", s.implementation},
                   {"precision", s.precision},
                   {"detail", s.detail},
                   {"bytes", s.bytes},
                   {"seconds", s.seconds}});
  }
  return out;
}

void PrintDump(absl::Span<const StepInfo> steps) {
  absl::FPrintF(stderr, "%-12s %-14s %-26s %-24s %s\n", "precision", "rule", "implementation", "op",
                "node");
  for (const StepInfo& s : steps) {
    absl::FPrintF(stderr, "%-12s %-14s %-26s %-24s %s%s%s\n", s.precision, s.rule, s.implementation,
                  s.op, s.node, s.detail.empty() ? "" : "  -- ", s.detail);
  }
}

json Facts(const Flags& flags, const Loaded& loaded, const Context& context) {
  const PlanMemory memory = loaded.plan->memory();
  return {{"engine", "halftone"},
          {"isa", IsaName(DetectCpuFeatures())},
          {"model", flags.model},
          {"spec", loaded.spec},
          {"threads", flags.threads},
          {"workers", flags.workers},
          {"load_seconds", loaded.load_seconds},
          {"weight_bytes", memory.weight_bytes},
          {"packed_bytes", memory.packed_bytes},
          {"arena_bytes", context.arena_bytes()},
          {"resident_bytes", ResidentBytes()}};
}

// --- two ways to drive it ------------------------------------------------------------------------

absl::Status RunOnce(const Flags& flags, const Loaded& loaded) {
  Context context(loaded.plan);
  const auto& [name, request] = *loaded.requests.begin();
  HT_ASSIGN_OR_RETURN(const std::vector<double> first, Measure(context, request, 1));
  if (flags.dump) {
    std::vector<Shape> shapes;
    for (const Tensor& t : request) shapes.push_back(t.shape());
    HT_ASSIGN_OR_RETURN(const std::vector<StepInfo> steps, loaded.plan->Describe(shapes));
    PrintDump(steps);
  }
  HT_RETURN_IF_ERROR(Measure(context, request, 1).status());
  if (flags.profile) context.EnableProfile();
  StepTimes times;
  HT_ASSIGN_OR_RETURN(
      const std::vector<double> seconds,
      MeasureFor(context, request, flags.seconds, flags.profile ? &times : nullptr));
  json result = Facts(flags, loaded, context);
  if (flags.profile) {
    const std::vector<StepInfo> steps = times.Typical();
    PrintProfile(steps, Quantile(seconds, 0.5));
    result["steps"] = ToJson(steps);
  }
  result["inputs"] = name;
  result["first_run_seconds"] = first.front();
  result["runs"] = seconds.size();
  for (const auto& [key, q] : {std::pair{"p10", 0.1}, {"p50", 0.5}, {"p90", 0.9}}) {
    result[absl::StrCat(key, "_seconds")] = Quantile(seconds, q);
  }
  std::cout << result.dump() << std::endl;
  return absl::OkStatus();
}

absl::StatusOr<json> WriteOutput(Context& context, const Request& request,
                                 const std::string& path) {
  HT_ASSIGN_OR_RETURN(const std::vector<Tensor> outputs, context.Run(request));
  HT_ASSIGN_OR_RETURN(const Tensor floats, Convert(outputs.front(), DataType::kF32));
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(floats.raw()), floats.num_bytes());
  file.close();
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", path));
  return json{{"shape", std::vector<int64_t>(floats.shape().begin(), floats.shape().end())}};
}

// `runs` runs on every context, each on a thread of its own; latencies of all of them.
absl::StatusOr<json> MeasureWorkers(const Flags& flags, std::vector<Context>& contexts,
                                    const Request& request, int runs) {
  std::vector<absl::StatusOr<std::vector<double>>> measured(contexts.size());
  const int64_t start = absl::GetCurrentTimeNanos();
  std::vector<std::thread> threads;
  for (size_t i = 1; i < contexts.size(); ++i) {
    threads.emplace_back([&, i] {
      SetIntraOpThreads(flags.threads);
      measured[i] = Measure(contexts[i], request, runs);
    });
  }
  measured[0] = Measure(contexts[0], request, runs);
  for (std::thread& t : threads) t.join();
  const double wall = static_cast<double>(absl::GetCurrentTimeNanos() - start) * 1e-9;
  std::vector<double> seconds;
  for (const auto& one : measured) {
    HT_RETURN_IF_ERROR(one.status());
    seconds.insert(seconds.end(), one->begin(), one->end());
  }
  return json{{"seconds", seconds}, {"wall_seconds", wall}};
}

absl::StatusOr<json> Execute(const Flags& flags, const Loaded& loaded,
                             std::vector<Context>& contexts, const Command& command) {
  HT_ASSIGN_OR_RETURN(const Request* request, FindRequest(loaded.requests, command.request));
  if (command.verb == "output") return WriteOutput(contexts[0], *request, command.argument);
  HT_ASSIGN_OR_RETURN(const int runs, RunsOf(command));
  HT_ASSIGN_OR_RETURN(json answer, MeasureWorkers(flags, contexts, *request, runs));
  int64_t arenas = 0;
  for (const Context& c : contexts) arenas += c.arena_bytes();
  answer.update({{"arena_bytes", arenas},
                 {"packed_bytes", loaded.plan->memory().packed_bytes},
                 {"resident_bytes", ResidentBytes()}});
  return answer;
}

absl::Status Serve(const Flags& flags, const Loaded& loaded, Team& team) {
  std::vector<Context> contexts;
  for (int i = 0; i < flags.workers; ++i) contexts.emplace_back(loaded.plan);
  return ServeCommands(Facts(flags, loaded, contexts[0]), [&](const Command& command) {
    team.Use(flags.threads);
    return Execute(flags, loaded, contexts, command);
  });
}

absl::Status Main(const Flags& flags) {
  SetIntraOpThreads(flags.threads);
  HT_ASSIGN_OR_RETURN(const Loaded loaded, Load(flags));
  // As the server and ONNX Runtime do: each thread of a team on cores of its own.
  Team team(DivideCpus(UsableCpus(), flags.threads));
  team.Use(flags.threads);
  return flags.serve ? Serve(flags, loaded, team) : RunOnce(flags, loaded);
}

}  // namespace
}  // namespace halftone

int main(int argc, char** argv) {
  halftone::Flags flags;
  CLI::App app("Measures one model in one precision.");
  app.add_option("model", flags.model, "ONNX file")->required();
  app.add_option("--spec", flags.spec, "fp32, bf16, fp16, int8/per-channel/static, …");
  app.add_option("--threads", flags.threads)->check(CLI::PositiveNumber);
  app.add_option("--workers", flags.workers, "with --serve: threads that run the plan at once")
      ->check(CLI::PositiveNumber);
  app.add_option("--batch", flags.batch, "rows, when inputs are generated")
      ->check(CLI::PositiveNumber);
  app.add_option("--seconds", flags.seconds, "how long to measure");
  app.add_flag("--serve", flags.serve, "take commands from stdin");
  app.add_flag("--profile", flags.profile, "time per node, on stderr");
  app.add_flag("--dump", flags.dump, "how each node runs, on stderr");
  app.add_option("--inputs", flags.inputs, "NAME=SHAPE:PATH[,SHAPE:PATH…], raw bytes");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = halftone::Main(flags);
  if (status.ok()) return 0;
  std::cerr << "halftone_bench: " << status << "\n";
  return 1;
}
