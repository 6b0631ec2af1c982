// quantize, plan, calibrate, report, export
#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/calibration.h"
#include "client/command.h"
#include "client/exporter.h"
#include "client/format.h"
#include "client/progress_bar.h"
#include "client/table.h"
#include "client/variants.h"
#include "client/wire.h"
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
};

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
      bar.Update(p.fraction(), p.stage(),
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
  Connection server(context.connection);
  HT_ASSIGN_OR_RETURN(const auto shapes, ParseShapeArguments(options.shapes));
  if (!options.calibration.empty()) {
    ProgressBar bar = BarFor(context, absl::StrCat("calibrate ", options.model));
    HT_ASSIGN_OR_RETURN(const v1::UploadCalibrationResponse set,
                        UploadCalibration(server, options.model, options.calibration_set,
                                          options.calibration, shapes, bar));
    bar.Finish(absl::StrCat(set.sample_count(), " samples in set '", set.set_name(), "'"));
  }
  v1::QuantizeRequest request;
  request.set_model(options.model);
  request.set_spec_text(WithCalibrationSet(options.spec, options.calibration_set));
  ProgressBar bar = BarFor(context, absl::StrCat("quantize ", options.model, " ", options.spec));
  HT_ASSIGN_OR_RETURN(const v1::QuantizeResult result, RunQuantize(server, request, bar));
  bar.Finish(absl::StrCat("variant ", result.variant().id().substr(0, 12)));
  if (context.json) {
    PrintJson(context, ToJson(result));
    return absl::OkStatus();
  }
  context.terminal.out << ReportSummary(result.report()) << "`halftone report " << options.model
                       << " " << result.variant().spec_text() << "` shows coverage and layers\n";
  return absl::OkStatus();
}

CommandRunner BindQuantize(CLI::App& app) {
  auto options = std::make_shared<QuantizeOptions>();
  app.add_option("model", options->model, "Name of the model")->required();
  app.add_option("spec", options->spec, "Wanted precision")->required();
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

// --- report ---

struct ReportOptions {
  std::string model;
  std::string variant;
  int layers = kWorstLayers;
};

absl::Status ShowReport(const ReportOptions& options, CommandContext& context) {
  Connection server(context.connection);
  v1::GetReportRequest request;
  v1::Report report;
  request.set_model(options.model);
  *request.mutable_variant() = ParseSelector(options.variant);
  HT_RETURN_IF_ERROR(server.ToStatus(
      server.quantization().GetReport(server.NewContext().get(), request, &report)));
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
};

absl::Status Export(const ExportOptions& options, CommandContext& context) {
  Connection server(context.connection);
  v1::ExportVariantRequest request;
  request.set_model(options.model);
  *request.mutable_variant() = ParseSelector(options.variant);
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
  return [options](CommandContext& context) { return Export(*options, context); };
}

constexpr Command kCommands[] = {
    {"quantize", "Quantization", "Build a variant and print its report", BindQuantize},
    {"plan", "Quantization", "Predict what quantize would do, without doing it", BindPlan},
    {"calibrate", "Quantization", "Upload calibration samples", BindCalibrate},
    {"report", "Quantization", "What a variant costs and gains, layer by layer", BindReport},
    {"export", "Quantization", "Write a variant as standard ONNX files", BindExport},
};

}  // namespace

absl::Span<const Command> QuantizationCommands() { return kCommands; }

}  // namespace halftone
