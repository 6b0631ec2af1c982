// convert: quantizes a file without a server.
#include <google/protobuf/util/time_util.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "client/command.h"
#include "client/progress_bar.h"
#include "client/samples.h"
#include "client/variants.h"
#include "core/base/cpu_budget.h"
#include "core/base/status_macros.h"
#include "core/onnx/export.h"
#include "core/onnx/import.h"
#include "core/passes/pass.h"
#include "core/quant/quant_spec.h"
#include "core/variant/build_variant.h"

namespace halftone {
namespace {

struct ConvertOptions {
  std::string input;
  std::string spec;
  std::string output;
  std::vector<std::string> calibration;
  std::vector<std::string> shapes;
  int threads = 0;
};

absl::StatusOr<std::vector<InputSignature>> InputsOf(const Graph& graph) {
  HT_ASSIGN_OR_RETURN(const Signature signature, SignatureOf(graph));
  std::vector<InputSignature> inputs;
  for (const TensorSignature& input : signature.inputs) {
    InputSignature& result = inputs.emplace_back();
    result.name = input.name;
    result.type = input.type;
    for (const Dim& dim : input.shape) result.shape.push_back(dim.known() ? dim.value : -1);
  }
  return inputs;
}

absl::StatusOr<SampleSet> LoadSamples(const ConvertOptions& options, const Graph& graph) {
  HT_ASSIGN_OR_RETURN(const std::vector<InputSignature> inputs, InputsOf(graph));
  HT_ASSIGN_OR_RETURN(const std::vector<InputArgument> arguments,
                      ParseInputArguments(options.calibration));
  HT_ASSIGN_OR_RETURN(const auto shapes, ParseShapeArguments(options.shapes));
  HT_ASSIGN_OR_RETURN(std::vector<Tensor> tensors, LoadInputs(inputs, arguments, shapes));
  for (size_t i = 0; i < inputs.size(); ++i) {
    HT_ASSIGN_OR_RETURN(tensors[i], Convert(tensors[i], inputs[i].type));
  }
  SampleSet set{.name = options.calibration.front()};
  HT_ASSIGN_OR_RETURN(set.samples, SplitSamples(inputs, tensors));
  return set;
}

// For the printing that all reports share.
v1::Report ToProto(const VariantReport& report) {
  using google::protobuf::util::TimeUtil;
  const auto duration = [](double seconds) {
    return TimeUtil::NanosecondsToDuration(static_cast<int64_t>(seconds * 1e9));
  };
  v1::Report proto;
  proto.set_spec_text(report.spec);
  proto.set_isa_class(report.isa_class);
  proto.set_sample_source(report.sample_source);
  proto.set_sample_count(report.sample_count);
  proto.set_sqnr_db(report.sqnr_db);
  if (report.top1_agreement >= 0) proto.set_top1_agreement_ratio(report.top1_agreement);
  proto.set_max_abs_error(report.max_abs_error);
  for (const LayerReport& layer : report.layers) {
    v1::LayerReport* row = proto.add_layers();
    row->set_node(layer.node);
    row->set_op(layer.op);
    row->set_precision(layer.precision);
    row->set_reason(layer.reason);
    row->set_sqnr_db(layer.sqnr_db);
    row->set_weight_bytes(layer.weight_bytes);
    if (layer.fp32_seconds > 0) {
      *row->mutable_latency() = duration(layer.seconds);
      *row->mutable_fp32_latency() = duration(layer.fp32_seconds);
    }
  }
  for (const OperatorCoverage& coverage : report.coverage) {
    v1::OperatorCoverage* row = proto.add_coverage();
    row->set_op(coverage.op);
    row->set_total(coverage.total);
    row->set_quantized(coverage.quantized);
  }
  proto.set_fp32_weight_bytes(report.fp32_weight_bytes);
  proto.set_weight_bytes(report.weight_bytes);
  proto.set_resident_bytes(report.resident_bytes);
  proto.set_fp32_resident_bytes(report.fp32_resident_bytes);
  *proto.mutable_latency() = duration(report.latency_seconds);
  *proto.mutable_fp32_latency() = duration(report.fp32_latency_seconds);
  proto.set_speedup_ratio(report.speedup);
  *proto.mutable_build_time() = duration(report.build_seconds);
  for (const std::string& note : report.notes) proto.add_notes(note);
  for (const std::string& warning : report.warnings) proto.add_warnings(warning);
  return proto;
}

absl::StatusOr<BuiltVariant> Build(const ConvertOptions& options, const QuantSpec& spec,
                                   ProgressBar& bar) {
  bar.Update(0, "import");
  HT_ASSIGN_OR_RETURN(Graph graph, ImportOnnxFile(options.input));
  SampleSet samples;
  if (!options.calibration.empty()) {
    HT_ASSIGN_OR_RETURN(samples, LoadSamples(options, graph));
  }
  HT_RETURN_IF_ERROR(RunPasses(graph, PortablePasses()));
  BuildOptions build;
  build.threads = options.threads > 0 ? options.threads : CpuBudget();
  build.samples = options.calibration.empty() ? nullptr : &samples;
  build.progress = [&bar](const Progress& p) {
    bar.Update(p.fraction, p.stage,
               p.nodes_total > 0 ? absl::StrCat(p.nodes_done, "/", p.nodes_total) : "");
  };
  return BuildVariant(graph, spec, build);
}

absl::Status ConvertModel(const ConvertOptions& options, CommandContext& context) {
  HT_ASSIGN_OR_RETURN(const QuantSpec spec, QuantSpec::Parse(options.spec));
  HT_RETURN_IF_ERROR(spec.Validate());
  ProgressBar bar(context.terminal.err, context.terminal.err_is_terminal,
                  absl::StrCat("convert ", options.spec));
  HT_ASSIGN_OR_RETURN(const BuiltVariant built, Build(options, spec, bar));
  HT_RETURN_IF_ERROR(ExportOnnxFile(built.graph, options.output));
  bar.Finish(options.output);
  const v1::Report report = ToProto(built.report);
  if (context.json) {
    PrintJson(context, {{"output", options.output}, {"report", ToJson(report)}});
  } else {
    context.terminal.out << ReportSummary(report) << "\n"
                         << CoverageTable(report.coverage()).Text();
  }
  return absl::OkStatus();
}

CommandRunner BindConvert(CLI::App& app) {
  auto options = std::make_shared<ConvertOptions>();
  app.add_option("input", options->input, "The fp32 model, an .onnx file")->required();
  app.add_option("--to", options->spec, "Wanted precision, a spec")->required();
  app.add_option("-o,--output", options->output, "The .onnx file to write")->required();
  app.add_option("--calibration", options->calibration,
                 "Samples: FILE, or NAME=FILE for each input; one sample per row");
  app.add_option("--shape", options->shapes, "Shape of a raw file: [NAME=]1,3,224,224")
      ->allow_extra_args(false);
  app.add_option("--threads", options->threads, "Threads; 0: all that this process may use")
      ->check(CLI::NonNegativeNumber);
  return [options](CommandContext& context) { return ConvertModel(*options, context); };
}

constexpr Command kCommands[] = {
    {"convert", "Without a server", "Quantize an .onnx file into another", BindConvert},
};

}  // namespace

absl::Span<const Command> LocalCommands() { return kCommands; }

}  // namespace halftone
