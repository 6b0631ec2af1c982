// infer
#include "client/inference_commands.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/calibration.h"
#include "client/command.h"
#include "client/infer.h"
#include "client/progress_bar.h"
#include "client/table.h"
#include "client/tensor_files.h"
#include "client/wire.h"
#include "core/base/format.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

constexpr int64_t kMaxJsonElements = 4096;  // larger outputs want --output

struct InferOptions {
  InferTarget target;
  std::string output;
  std::string latencies;
  int repeat = 1;
  int warmup = 0;
  bool each_row = false;
  bool timings = false;
};

// What all requests together brought.
struct InferRun {
  std::vector<std::string> names;            // of the outputs
  std::vector<std::vector<Tensor>> outputs;  // [output][request], of the first pass
  std::vector<double> latencies;             // seconds
  v1::InferResponse last;                    // without outputs
};

// One request with everything, or one for each row of the inputs.
absl::StatusOr<std::vector<v1::InferRequest>> MakeRequests(Connection& server,
                                                           const InferOptions& options) {
  HT_ASSIGN_OR_RETURN(const std::vector<InputSignature> inputs,
                      AskInputs(server, options.target.model, options.target.version));
  HT_ASSIGN_OR_RETURN(const std::vector<InputArgument> arguments,
                      ParseInputArguments(options.target.inputs));
  HT_ASSIGN_OR_RETURN(const auto shapes, ParseShapeArguments(options.target.shapes));
  HT_ASSIGN_OR_RETURN(std::vector<Tensor> tensors, LoadInputs(inputs, arguments, shapes));
  std::vector<std::vector<Tensor>> samples;
  if (options.each_row) {
    HT_ASSIGN_OR_RETURN(samples, SplitSamples(inputs, tensors));
  } else {
    samples.push_back(std::move(tensors));
  }
  std::vector<v1::InferRequest> requests;
  for (const std::vector<Tensor>& sample : samples) {
    HT_ASSIGN_OR_RETURN(requests.emplace_back(), MakeInferRequest(options.target, inputs, sample));
    requests.back().set_report_timings(options.timings);
  }
  return requests;
}

absl::Status KeepOutputs(const v1::InferResponse& response, InferRun& run) {
  run.outputs.resize(std::max<size_t>(run.outputs.size(), response.outputs_size()));
  for (int i = 0; i < response.outputs_size(); ++i) {
    if (i == static_cast<int>(run.names.size())) run.names.push_back(response.outputs(i).name());
    HT_ASSIGN_OR_RETURN(run.outputs[i].emplace_back(), FromProto(response.outputs(i)));
  }
  return absl::OkStatus();
}

absl::StatusOr<InferRun> RunAll(Connection& server, const InferOptions& options,
                                const std::vector<v1::InferRequest>& requests, ProgressBar& bar) {
  InferRun run;
  HT_RETURN_IF_ERROR(server.Connect());
  for (int i = 0; i < options.warmup && !requests.empty(); ++i) {
    HT_RETURN_IF_ERROR(server.ToStatus(server.inference().Infer(
        server.NewContext().get(), requests[i % requests.size()], &run.last)));
  }
  const double total = static_cast<double>(options.repeat) * requests.size();
  for (int pass = 0; pass < options.repeat; ++pass) {
    for (size_t i = 0; i < requests.size(); ++i) {
      const auto context = server.NewContext();
      const absl::Time start = absl::Now();
      const grpc::Status status = server.inference().Infer(context.get(), requests[i], &run.last);
      run.latencies.push_back(absl::ToDoubleSeconds(absl::Now() - start));
      absl::Status error = server.ToStatus(status);
      if (!error.ok()) {
        return requests.size() == 1 ? error : Annotate(error, absl::StrCat("row ", i));
      }
      if (pass == 0) HT_RETURN_IF_ERROR(KeepOutputs(run.last, run));
      if (total > 1) bar.Update(run.latencies.size() / total, "infer");
    }
  }
  return run;
}

// Joined along axis 0 where there were many requests.
absl::StatusOr<std::vector<Tensor>> JoinOutputs(const InferRun& run) {
  std::vector<Tensor> outputs;
  for (size_t i = 0; i < run.outputs.size(); ++i) {
    if (run.outputs[i].size() == 1) {
      outputs.push_back(run.outputs[i][0]);
      continue;
    }
    absl::StatusOr<Tensor> joined = JoinRows(run.outputs[i]);
    if (!joined.ok()) {
      return Annotate(joined.status(), absl::StrCat("output '", run.names[i], "'"));
    }
    outputs.push_back(*std::move(joined));
  }
  return outputs;
}

// Where each output goes: `output` itself when it looks like a file, otherwise files in it.
absl::StatusOr<std::vector<std::string>> OutputPaths(const std::string& output,
                                                     const std::vector<std::string>& names) {
  if (FormatOf(output) != TensorFileFormat::kRaw || absl::EndsWith(output, ".raw")) {
    if (names.size() == 1) return std::vector<std::string>{output};
    return UsageError(absl::StrCat("--output '", output, "' is one file, the model has ",
                                   names.size(), " outputs: name a folder"));
  }
  std::error_code error;
  std::filesystem::create_directories(output, error);
  if (error) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot make folder '", output, "': ", error.message()));
  }
  std::vector<std::string> paths;
  for (std::string name : names) {
    std::replace_if(
        name.begin(), name.end(),
        [](char c) { return !absl::ascii_isalnum(c) && c != '-' && c != '_' && c != '.'; }, '_');
    paths.push_back((std::filesystem::path(output) / absl::StrCat(name, ".npy")).string());
  }
  return paths;
}

Json ElementsOf(const Tensor& tensor) {
  Json list = Json::array();
  DispatchType(tensor.type(), [&](auto tag) {
    using T = decltype(tag);
    for (const T x : tensor.data<T>()) {
      if constexpr (sizeof(T) == 2 && !std::is_integral_v<T>) {
        list.push_back(static_cast<float>(x));
      } else {
        list.push_back(x);
      }
    }
  });
  return list;
}

Json RunJson(const InferRun& run, const std::vector<Tensor>& outputs,
             const std::vector<std::string>& paths) {
  Json json = ToJson(run.last);
  json["requests"] = run.latencies.size();
  json["latency_seconds"] = LatencyJson(Summarize(run.latencies));
  json["outputs"] = Json::array();
  for (size_t i = 0; i < outputs.size(); ++i) {
    Json output = {
        {"name", run.names[i]},
        {"type", std::string(Info(outputs[i].type()).wire_name)},
        {"shape", std::vector<int64_t>(outputs[i].shape().begin(), outputs[i].shape().end())}};
    if (!paths.empty()) {
      output["file"] = paths[i];
    } else if (outputs[i].num_elements() <= kMaxJsonElements) {
      output["data"] = ElementsOf(outputs[i]);
    }
    json["outputs"].push_back(std::move(output));
  }
  return json;
}

std::string RunText(const InferRun& run, const std::vector<Tensor>& outputs,
                    const std::vector<std::string>& paths) {
  Table table({{""}, {""}});
  for (size_t i = 0; i < outputs.size(); ++i) {
    table.AddRow({run.names[i],
                  paths.empty() ? outputs[i].ToString(/*max_values=*/16)
                                : absl::StrCat(Name(outputs[i].type()),
                                               ToString(outputs[i].shape()), " in ", paths[i])});
  }
  table.AddRow({"answered by",
                absl::StrCat(run.last.model(), " version ", run.last.version(), ", ",
                             run.last.spec_text(), run.last.fell_back() ? " (fallback)" : "")});
  table.AddRow({"latency", LatencyText(Summarize(run.latencies))});
  if (run.last.has_timings()) table.AddRow({"server", TimingsText(run.last.timings())});
  return table.Text();
}

absl::Status Infer(const InferOptions& options, CommandContext& context) {
  Connection server(context.connection);
  HT_ASSIGN_OR_RETURN(const std::vector<v1::InferRequest> requests, MakeRequests(server, options));
  InferRun run;
  {
    // An ordinary request is over before a bar would be of use.
    const bool many = requests.size() * options.repeat > 1;
    ProgressBar bar(context.terminal.err, context.terminal.err_is_terminal,
                    absl::StrCat("infer ", options.target.model, " ", options.target.variant),
                    many && context.terminal.err_is_terminal);
    HT_ASSIGN_OR_RETURN(run, RunAll(server, options, requests, bar));
    bar.Finish(absl::StrCat(run.latencies.size(), " requests"));
  }
  HT_ASSIGN_OR_RETURN(const std::vector<Tensor> outputs, JoinOutputs(run));
  std::vector<std::string> paths;
  if (!options.output.empty()) {
    HT_ASSIGN_OR_RETURN(paths, OutputPaths(options.output, run.names));
    for (size_t i = 0; i < outputs.size(); ++i) {
      HT_RETURN_IF_ERROR(WriteTensorFile(paths[i], run.names[i], outputs[i]));
    }
  }
  if (!options.latencies.empty()) {
    const Tensor seconds = Tensor::Of<double>({static_cast<int64_t>(run.latencies.size())},
                                              absl::MakeConstSpan(run.latencies));
    HT_RETURN_IF_ERROR(WriteTensorFile(options.latencies, "latencies", seconds));
  }
  run.last.clear_outputs();
  if (context.json) {
    PrintJson(context, RunJson(run, outputs, paths));
  } else {
    context.terminal.out << RunText(run, outputs, paths);
  }
  return absl::OkStatus();
}

CommandRunner BindInfer(CLI::App& app) {
  auto options = std::make_shared<InferOptions>();
  AddTargetOptions(app, options->target);
  app.add_option("--variant", options->target.variant, "A spec or an id; default: fp32");
  app.add_option("--output", options->output,
                 "Write the outputs: a .npy, .pb or .raw file, or a folder for NAME.npy files");
  app.add_flag("--each-row", options->each_row,
               "One request per row of the inputs; outputs are joined along axis 0");
  app.add_option("--repeat", options->repeat, "Send everything so many times")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--warmup", options->warmup, "Requests before the ones that are measured")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--latencies", options->latencies,
                 "Write the latency of every request, in seconds, to this .npy file");
  app.add_flag("--timings", options->timings, "Ask the server where the time went");
  app.get_option("--input")->required();
  return [options](CommandContext& context) { return Infer(*options, context); };
}

constexpr Command kCommands[] = {
    {"infer", "Inference", "Run a model on tensors in files", BindInfer},
    {"bench", "Inference", "Load the server from concurrent clients and measure", BindBench},
    {"health", "Inference", "Is the server alive and ready", BindHealth},
};

}  // namespace

absl::Span<const Command> InferenceCommands() { return kCommands; }

}  // namespace halftone
