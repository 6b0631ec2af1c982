// bench: a closed loop of concurrent clients, each with its own connection.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/calibration.h"
#include "client/infer.h"
#include "client/inference_commands.h"
#include "client/progress_bar.h"
#include "client/table.h"
#include "core/base/format.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

struct BenchOptions {
  InferTarget target;
  std::vector<std::string> variants;
  int concurrency = 1;
  double duration_seconds = 10;
  double warmup_seconds = 1;
};

// What one client saw.
struct ClientRun {
  std::vector<double> latencies;  // seconds, of requests that went well
  int64_t errors = 0;
  absl::Status first_error;
};

struct BenchResult {
  std::string variant;
  std::string answered_by;
  double seconds = 0;  // that the measured part took
  int64_t errors = 0;
  absl::Status first_error;
  LatencySummary latency;

  double RequestsPerSecond() const { return seconds > 0 ? latency.count / seconds : 0; }
};

void RunOneClient(Connection& server, const v1::InferRequest& request, absl::Time measure_from,
                  absl::Time until, ClientRun& run) {
  v1::InferResponse response;
  for (absl::Time start = absl::Now(); start < until; start = absl::Now()) {
    const grpc::Status status =
        server.inference().Infer(server.NewContext().get(), request, &response);
    if (!status.ok()) {
      if (run.errors++ == 0) run.first_error = server.ToStatus(status);
      // A server that is gone refuses in microseconds: counting those is no measurement.
      if (status.error_code() == grpc::StatusCode::UNAVAILABLE) return;
      continue;
    }
    if (start >= measure_from) {
      run.latencies.push_back(absl::ToDoubleSeconds(absl::Now() - start));
    }
  }
}

absl::StatusOr<BenchResult> RunVariant(const BenchOptions& options, const v1::InferRequest& request,
                                       const ConnectionOptions& connection) {
  std::vector<std::unique_ptr<Connection>> servers;
  v1::InferResponse response;
  for (int i = 0; i < options.concurrency; ++i) {
    servers.push_back(std::make_unique<Connection>(connection));
    HT_RETURN_IF_ERROR(servers.back()->Connect());
    // The first answer may have to wait until the variant is built.
    HT_RETURN_IF_ERROR(servers.back()->ToStatus(
        servers.back()->inference().Infer(servers.back()->NewContext().get(), request, &response)));
  }
  const absl::Time measure_from = absl::Now() + absl::Seconds(options.warmup_seconds);
  const absl::Time until = measure_from + absl::Seconds(options.duration_seconds);
  std::vector<ClientRun> runs(options.concurrency);
  std::vector<std::thread> threads;
  for (int i = 0; i < options.concurrency; ++i) {
    threads.emplace_back(
        [&, i] { RunOneClient(*servers[i], request, measure_from, until, runs[i]); });
  }
  for (std::thread& thread : threads) thread.join();
  BenchResult result{.answered_by = response.spec_text(),
                     .seconds = absl::ToDoubleSeconds(absl::Now() - measure_from)};
  std::vector<double> latencies;
  for (const ClientRun& run : runs) {
    latencies.insert(latencies.end(), run.latencies.begin(), run.latencies.end());
    result.errors += run.errors;
    if (result.first_error.ok()) result.first_error = run.first_error;
  }
  result.latency = Summarize(std::move(latencies));
  return result;
}

void PrintResults(const std::vector<BenchResult>& results, CommandContext& context) {
  if (context.json) {
    Json list = Json::array();
    for (const BenchResult& r : results) {
      list.push_back({{"variant", r.variant},
                      {"answered_by", r.answered_by},
                      {"requests_per_second", r.RequestsPerSecond()},
                      {"seconds", r.seconds},
                      {"errors", r.errors},
                      {"latency_seconds", LatencyJson(r.latency)}});
    }
    PrintJson(context, {{"results", list}});
    return;
  }
  using Align = Table::Align;
  Table table({{"VARIANT"},
               {"REQUESTS/S", Align::kRight},
               {"P50", Align::kRight},
               {"P90", Align::kRight},
               {"P99", Align::kRight},
               {"MEAN", Align::kRight},
               {"REQUESTS", Align::kRight},
               {"ERRORS", Align::kRight}});
  for (const BenchResult& r : results) {
    table.AddRow({r.variant, FormatNumber(r.RequestsPerSecond(), 1), FormatSeconds(r.latency.p50),
                  FormatSeconds(r.latency.p90), FormatSeconds(r.latency.p99),
                  FormatSeconds(r.latency.mean), absl::StrCat(r.latency.count),
                  absl::StrCat(r.errors)});
  }
  context.terminal.out << table.Text();
}

absl::StatusOr<std::vector<Tensor>> BenchInputs(const InferTarget& target,
                                                const std::vector<InputSignature>& inputs) {
  if (target.inputs.empty()) return RandomInputs(inputs);
  HT_ASSIGN_OR_RETURN(const std::vector<InputArgument> arguments,
                      ParseInputArguments(target.inputs));
  HT_ASSIGN_OR_RETURN(const auto shapes, ParseShapeArguments(target.shapes));
  return LoadInputs(inputs, arguments, shapes);
}

absl::Status Bench(const BenchOptions& options, CommandContext& context) {
  Connection server(context.connection);
  HT_ASSIGN_OR_RETURN(const std::vector<InputSignature> inputs,
                      AskInputs(server, options.target.model, options.target.version));
  HT_ASSIGN_OR_RETURN(const std::vector<Tensor> tensors, BenchInputs(options.target, inputs));
  std::vector<BenchResult> results;
  for (const std::string& variant : options.variants) {
    InferTarget target = options.target;
    target.variant = variant;
    HT_ASSIGN_OR_RETURN(const v1::InferRequest request, MakeInferRequest(target, inputs, tensors));
    ProgressBar bar(context.terminal.err, context.terminal.err_is_terminal,
                    absl::StrCat("bench ", target.model, " ", variant));
    bar.Update(0,
               absl::StrCat(options.concurrency, " clients for ", options.duration_seconds, " s"));
    HT_ASSIGN_OR_RETURN(results.emplace_back(), RunVariant(options, request, context.connection));
    results.back().variant = variant;
    bar.Finish("measured");
  }
  PrintResults(results, context);
  for (const BenchResult& r : results) {
    if (r.errors > 0) {
      return Annotate(r.first_error,
                      absl::StrCat(r.variant, ": ", r.errors, " requests failed, the first with"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

CommandRunner BindBench(CLI::App& app) {
  auto options = std::make_shared<BenchOptions>();
  options->variants = {"fp32"};
  AddTargetOptions(app, options->target);
  app.get_option("--input")->description(
      "[NAME=]FILE.npy, .pb or raw bytes for each input; default: random numbers, free dimensions "
      "1");
  app.add_option("--variant", options->variants, "A spec or an id; may be given many times")
      ->allow_extra_args(false)
      ->capture_default_str();
  app.add_option("--concurrency", options->concurrency, "Clients, each with its own connection")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--duration", options->duration_seconds, "Seconds to measure, for each variant")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--warmup", options->warmup_seconds, "Seconds before that")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  return [options](CommandContext& context) { return Bench(*options, context); };
}

}  // namespace halftone
