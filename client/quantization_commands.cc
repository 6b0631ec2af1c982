// quantize, plan, calibrate, live-samples, report, export
#include <CLI/CLI.hpp>
#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/calibration.h"
#include "client/command.h"
#include "client/exporter.h"
#include "client/files.h"
#include "client/progress_bar.h"
#include "client/table.h"
#include "client/variants.h"
#include "client/wire.h"
#include "core/base/format.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

constexpr size_t kWorstLayers = 10;

ProgressBar BarFor(CommandContext& context, std::string label) {
  return ProgressBar(context.terminal.err, context.terminal.err_is_terminal, std::move(label));
}

void PrintSection(CommandContext& context, const std::string& title, const Table& table) {
  if (table.empty()) return;
  context.terminal.out << "\n" << Heading(context, title) << "\n" << table.Text();
}

// --- quantize ---

struct QuantizeOptions {
  std::string model;
  std::string spec;
  std::vector<std::string> calibration;
  std::vector<std::string> shapes;
  std::string calibration_set;
  // A goal instead of a spec.
  bool smallest = false, fastest = false;
  double min_sqnr_db = 0, max_disagreement_percent = -1, max_resident_mb = 0, within_seconds = 0;
};

std::string WishText(const QuantizeOptions& options) {
  if (!options.spec.empty()) return options.spec;
  return options.fastest ? "for speed" : "for size";
}

absl::Status SetWish(const QuantizeOptions& options, v1::QuantizeRequest& request) {
  const bool goal = options.smallest || options.fastest;
  if (goal == !options.spec.empty() || (options.smallest && options.fastest)) {
    return UsageError("quantize: want a spec, or one of --smallest and --fastest instead of it");
  }
  if (!goal) {
    request.set_spec_text(WithCalibrationSet(options.spec, options.calibration_set));
    return absl::OkStatus();
  }
  v1::Objective& objective = *request.mutable_objective();
  objective.set_goal(options.fastest ? v1::Objective::GOAL_FASTEST : v1::Objective::GOAL_SMALLEST);
  objective.set_min_sqnr_db(options.min_sqnr_db);
  if (options.max_disagreement_percent >= 0) {
    objective.set_max_disagreement_ratio(options.max_disagreement_percent / 100);
  }
  objective.set_max_resident_bytes(static_cast<int64_t>(options.max_resident_mb * 1e6));
  if (options.within_seconds > 0) {
    const auto nanos = static_cast<int64_t>(options.within_seconds * 1e9);
    objective.mutable_time_limit()->set_seconds(nanos / 1'000'000'000);
    objective.mutable_time_limit()->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
  }
  return absl::OkStatus();
}

// "3 tried that nothing beats, best int8/…": beside the bar while a search runs.
std::string StageText(const v1::QuantizeProgress& p) {
  if (p.spec_text().empty()) return p.stage();
  return absl::StrCat(p.spec_text(), ": ", p.stage(), ", best so far ",
                      p.search().best_spec_text());
}

void PrintSearch(CommandContext& context, const v1::QuantizeSearch& search) {
  Table table({{"VARIANT"},
               {"RESIDENT", Table::Align::kRight},
               {"LATENCY", Table::Align::kRight},
               {"SQNR", Table::Align::kRight},
               {"TOP-1", Table::Align::kRight},
               {""}});
  for (const v1::QuantizeCandidate& c : search.front()) {
    table.AddRow(
        {c.spec_text(), FormatBytes(c.resident_bytes()),
         FormatSeconds(static_cast<double>(c.latency().seconds()) + c.latency().nanos() * 1e-9),
         FormatDecibels(c.sqnr_db()),
         c.has_top1_agreement_ratio() ? FormatPercent(c.top1_agreement_ratio()) : "",
         c.spec_text() == search.best_spec_text() ? "best" : ""});
  }
  PrintSection(context, "What nothing beats in size, speed and SQNR at once", table);
  for (const std::string& failure : search.failures()) {
    context.terminal.out << "not built: " << failure << "\n";
  }
  if (!search.met()) {
    context.terminal.out << "warning: nothing meets the objective; this misses it least\n";
  }
}

absl::StatusOr<v1::QuantizeResult> RunQuantize(Connection& server,
                                               const v1::QuantizeRequest& request,
                                               ProgressBar& bar) {
  const std::unique_ptr<grpc::ClientContext> context = server.NewContext();
  const auto stream = server.quantization().Quantize(context.get(), request);
  v1::QuantizeEvent event;
  v1::QuantizeResult result;
  bool done = false;
  while (stream->Read(&event)) {
    if (event.has_progress()) {
      const v1::QuantizeProgress& p = event.progress();
      bar.Update(p.fraction(), StageText(p),
                 p.nodes_total() > 0 ? absl::StrCat(p.nodes_done(), "/", p.nodes_total()) : "");
    } else if (event.has_result()) {
      result = std::move(*event.mutable_result());
      done = true;
    }
  }
  HT_RETURN_IF_ERROR(server.ToStatus(stream->Finish()));
  if (!done) return absl::InternalError("the server ended the call without a result");
  return result;
}

absl::Status Quantize(const QuantizeOptions& options, CommandContext& context) {
  v1::QuantizeRequest request;
  request.set_model(options.model);
  HT_RETURN_IF_ERROR(SetWish(options, request));
  Connection server(context.connection);
  HT_ASSIGN_OR_RETURN(const auto shapes, ParseShapeArguments(options.shapes));
  if (!options.calibration.empty()) {
    ProgressBar bar = BarFor(context, absl::StrCat("calibrate ", options.model));
    HT_ASSIGN_OR_RETURN(const v1::UploadCalibrationResponse set,
                        UploadCalibration(server, options.model, options.calibration_set,
                                          options.calibration, shapes, bar));
    bar.Finish(absl::StrCat(set.sample_count(), " samples in set '", set.set_name(), "'"));
  }
  ProgressBar bar =
      BarFor(context, absl::StrCat("quantize ", options.model, " ", WishText(options)));
  HT_ASSIGN_OR_RETURN(const v1::QuantizeResult result, RunQuantize(server, request, bar));
  bar.Finish(absl::StrCat("variant ", result.variant().id().substr(0, 12)));
  if (context.json) {
    PrintJson(context, ToJson(result));
    return absl::OkStatus();
  }
  if (result.has_search()) PrintSearch(context, result.search());
  if (!result.has_report()) {
    context.terminal.out << "the best is the model itself, fp32\n";
    return absl::OkStatus();
  }
  context.terminal.out << ReportSummary(result.report()) << "`halftone report " << options.model
                       << " " << result.variant().spec_text() << "` shows coverage and layers\n";
  return absl::OkStatus();
}

CommandRunner BindQuantize(CLI::App& app) {
  auto options = std::make_shared<QuantizeOptions>();
  app.add_option("model", options->model, "Name of the model")->required();
  app.add_option("spec", options->spec, "Wanted precision; or say a goal instead");
  app.add_flag("--smallest", options->smallest, "Goal: the least memory that meets what follows");
  app.add_flag("--fastest", options->fastest, "Goal: the lowest latency that meets what follows");
  app.add_option("--min-sqnr", options->min_sqnr_db, "dB against fp32, over all outputs");
  app.add_option("--max-disagreement", options->max_disagreement_percent,
                 "Percent of the samples that may get another top-1 class than from fp32");
  app.add_option("--max-resident", options->max_resident_mb, "MB in memory once loaded");
  app.add_option("--within", options->within_seconds, "Seconds to search; default: five minutes");
  app.add_option(
      "--calibration", options->calibration,
      "Upload these samples first: FILE or NAME=FILE for each input, one sample per row");
  app.add_option("--calibration-set", options->calibration_set,
                 "Calibration set to use (and to upload to, with --calibration); default: newest");
  app.add_option("--shape", options->shapes, "Shape of a raw calibration file: [NAME=]1,3,224,224")
      ->allow_extra_args(false);
  return [options](CommandContext& context) { return Quantize(*options, context); };
}

// --- plan ---

struct PlanOptions {
  std::string model;
  std::string spec;
};

absl::Status Plan(const PlanOptions& options, CommandContext& context) {
  Connection server(context.connection);
  v1::PlanQuantizationRequest request;
  v1::QuantizationPlan plan;
  request.set_model(options.model);
  request.set_spec_text(options.spec);
  HT_RETURN_IF_ERROR(server.ToStatus(
      server.quantization().PlanQuantization(server.NewContext().get(), request, &plan)));
  if (context.json) {
    PrintJson(context, ToJson(plan));
    return absl::OkStatus();
  }
  Table table({{""}, {""}});
  table.AddRow({"variant", plan.spec_text()});
  table.AddRow({"weights", absl::StrCat(FormatBytes(plan.predicted_weight_bytes()), ", fp32 ",
                                        FormatBytes(plan.fp32_weight_bytes()))});
  context.terminal.out << table.Text();
  for (const std::string& risk : plan.risks()) context.terminal.out << "risk: " << risk << "\n";
  for (const std::string& part : plan.unsupported()) {
    context.terminal.out << "unsupported: " << part << "\n";
  }
  PrintSection(context, "Coverage", CoverageTable(plan.coverage()));
  PrintSection(context, "Nodes that stay float", FloatReasons(plan.layers()));
  PrintSection(context, "Weights that lose most", WorstLayers(plan.layers(), kWorstLayers));
  return absl::OkStatus();
}

CommandRunner BindPlan(CLI::App& app) {
  auto options = std::make_shared<PlanOptions>();
  app.add_option("model", options->model, "Name of the model")->required();
  app.add_option("spec", options->spec, "Wanted precision")->required();
  return [options](CommandContext& context) { return Plan(*options, context); };
}

// --- calibrate ---

struct CalibrateOptions {
  std::string model;
  std::vector<std::string> files;
  std::vector<std::string> shapes;
  std::string name;
};

absl::Status Calibrate(const CalibrateOptions& options, CommandContext& context) {
  Connection server(context.connection);
  HT_ASSIGN_OR_RETURN(const auto shapes, ParseShapeArguments(options.shapes));
  ProgressBar bar = BarFor(context, absl::StrCat("calibrate ", options.model));
  HT_ASSIGN_OR_RETURN(
      const v1::UploadCalibrationResponse set,
      UploadCalibration(server, options.model, options.name, options.files, shapes, bar));
  bar.Finish("sent");
  if (context.json) {
    PrintJson(context, ToJson(set));
  } else {
    context.terminal.out << set.model() << ": calibration set '" << set.set_name() << "' has "
                         << set.sample_count() << " samples, " << FormatBytes(set.bytes()) << "\n";
  }
  return absl::OkStatus();
}

CommandRunner BindCalibrate(CLI::App& app) {
  auto options = std::make_shared<CalibrateOptions>();
  app.add_option("model", options->model, "Name of the model")->required();
  app.add_option("files", options->files,
                 "Samples: FILE, or NAME=FILE for each input; one sample per row")
      ->required();
  app.add_option("--name", options->name, "Name of the calibration set; default: \"default\"");
  app.add_option("--shape", options->shapes, "Shape of a raw file: [NAME=]1,3,224,224")
      ->allow_extra_args(false);
  return [options](CommandContext& context) { return Calibrate(*options, context); };
}

// --- live-samples ---

struct LiveSamplesOptions {
  std::string model;
  std::string action = "status";
  std::string name;
  int samples = 0;
};

constexpr std::array kSampleActions = {
    std::pair("status", v1::SampleRequestsRequest::ACTION_UNSPECIFIED),
    std::pair("start", v1::SampleRequestsRequest::ACTION_START),
    std::pair("save", v1::SampleRequestsRequest::ACTION_SAVE),
    std::pair("wipe", v1::SampleRequestsRequest::ACTION_WIPE),
    std::pair("stop", v1::SampleRequestsRequest::ACTION_STOP)};

absl::Status SampleLive(const LiveSamplesOptions& options, CommandContext& context) {
  Connection server(context.connection);
  v1::SampleRequestsRequest request;
  request.set_model(options.model);
  for (const auto& [name, action] : kSampleActions) {
    if (options.action == name) request.set_action(action);
  }
  request.set_max_samples(options.samples);
  request.set_set_name(options.name);
  v1::SampleRequestsResponse state;
  HT_RETURN_IF_ERROR(server.ToStatus(
      server.quantization().SampleRequests(server.NewContext().get(), request, &state)));
  if (context.json) {
    PrintJson(context, ToJson(state));
    return absl::OkStatus();
  }
  std::ostream& out = context.terminal.out;
  if (!state.set_name().empty()) {
    out << options.model << ": calibration set '" << state.set_name() << "' has the live samples\n";
  }
  if (!state.on()) {
    out << options.model << ": live requests are not sampled\n";
  } else {
    out << options.model << " version " << state.version() << ": " << state.held() << " of "
        << state.seen() << " requests held (at most " << state.max_samples() << "), "
        << FormatBytes(state.bytes()) << "\n";
  }
  return absl::OkStatus();
}

CommandRunner BindLiveSamples(CLI::App& app) {
  auto options = std::make_shared<LiveSamplesOptions>();
  std::vector<std::string> actions;
  for (const auto& [name, action] : kSampleActions) actions.emplace_back(name);
  app.add_option("model", options->model, "Name of the model")->required();
  app.add_option("action", options->action,
                 "start sampling, save what is held as a calibration set, wipe it, stop, or status")
      ->check(CLI::IsMember(actions))
      ->capture_default_str();
  app.add_option("--samples", options->samples, "start: how many to hold; default: 128")
      ->check(CLI::PositiveNumber);
  app.add_option("--name", options->name, "save: name of the calibration set; default: \"live\"");
  return [options](CommandContext& context) { return SampleLive(*options, context); };
}

// --- report ---

struct ReportOptions {
  std::string model;
  std::string variant;
  std::string html;
  int layers = kWorstLayers;
};

absl::Status ShowReport(const ReportOptions& options, CommandContext& context) {
  Connection server(context.connection);
  v1::GetReportRequest request;
  v1::Report report;
  request.set_model(options.model);
  *request.mutable_variant() = ParseSelector(options.variant);
  request.set_html(!options.html.empty());
  HT_RETURN_IF_ERROR(server.ToStatus(
      server.quantization().GetReport(server.NewContext().get(), request, &report)));
  if (!options.html.empty()) {
    HT_RETURN_IF_ERROR(WriteFile(options.html, report.html()));
    report.clear_html();
    if (!context.json) {
      context.terminal.out << options.html << "\n";
      return absl::OkStatus();
    }
  }
  if (context.json) {
    PrintJson(context, ToJson(report));
    return absl::OkStatus();
  }
  context.terminal.out << ReportSummary(report);
  PrintSection(context, "Coverage", CoverageTable(report.coverage()));
  PrintSection(context, "Nodes that stay float", FloatReasons(report.layers()));
  PrintSection(context, "Layers that lose most", WorstLayers(report.layers(), options.layers));
  return absl::OkStatus();
}

CommandRunner BindReport(CLI::App& app) {
  auto options = std::make_shared<ReportOptions>();
  app.add_option("model", options->model, "Name of the model")->required();
  app.add_option("variant", options->variant, "A spec or an id")->required();
  app.add_option("--html", options->html, "Write the report as a page with charts to this file");
  app.add_option("--layers", options->layers, "How many of the worst layers to list")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  return [options](CommandContext& context) { return ShowReport(*options, context); };
}

// --- export ---

struct ExportOptions {
  std::string model;
  std::string variant;
  std::string folder;
  bool for_training = false;
};

absl::Status Export(const ExportOptions& options, CommandContext& context) {
  Connection server(context.connection);
  v1::ExportVariantRequest request;
  request.set_model(options.model);
  *request.mutable_variant() = ParseSelector(options.variant);
  request.set_for_training(options.for_training);
  ProgressBar bar = BarFor(context, absl::StrCat("export ", options.model, " ", options.variant));
  const auto progress = [&bar](int64_t done, int64_t total) {
    bar.Update(total == 0 ? 1 : static_cast<double>(done) / total, "receive",
               absl::StrCat(FormatBytes(done), " of ", FormatBytes(total)));
  };
  HT_ASSIGN_OR_RETURN(const std::vector<std::string> paths,
                      ExportVariant(server, request, options.folder, progress));
  bar.Finish("complete");
  if (context.json) {
    PrintJson(context, {{"files", paths}});
  } else {
    context.terminal.out << absl::StrJoin(paths, "\n") << "\n";
  }
  return absl::OkStatus();
}

CommandRunner BindExport(CLI::App& app) {
  auto options = std::make_shared<ExportOptions>();
  app.add_option("model", options->model, "Name of the model")->required();
  app.add_option("variant", options->variant, "A spec or an id")->required();
  app.add_option("-o,--output", options->folder, "Folder for the ONNX files")->required();
  app.add_flag("--for-training", options->for_training,
               "Weights as floats behind fake quantization, to train elsewhere and upload again");
  return [options](CommandContext& context) { return Export(*options, context); };
}

constexpr Command kCommands[] = {
    {"quantize", "Quantization", "Build a variant and print its report", BindQuantize},
    {"plan", "Quantization", "Predict what quantize would do, without doing it", BindPlan},
    {"calibrate", "Quantization", "Upload calibration samples", BindCalibrate},
    {"live-samples", "Quantization", "Sample live requests to calibrate with", BindLiveSamples},
    {"report", "Quantization", "What a variant costs and gains, layer by layer", BindReport},
    {"export", "Quantization", "Write a variant as standard ONNX files", BindExport},
};

}  // namespace

absl::Span<const Command> QuantizationCommands() { return kCommands; }

}  // namespace halftone
