// upload, ls, show, rm
#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/command.h"
#include "client/onnx_files.h"
#include "client/progress_bar.h"
#include "client/table.h"
#include "client/uploader.h"
#include "client/variants.h"
#include "client/wire.h"
#include "core/base/format.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

using Align = Table::Align;

std::string SignatureText(const google::protobuf::RepeatedPtrField<v1::TensorSignature>& tensors) {
  return absl::StrJoin(tensors, "; ", [](std::string* out, const v1::TensorSignature& tensor) {
    absl::StrAppend(out, tensor.name(), " ", ToText(tensor));
  });
}

std::string ModelText(const v1::Model& model) {
  Table table({{""}, {""}});
  table.AddRow({"model", model.name()});
  table.AddRow({"version", absl::StrCat(model.version())});
  table.AddRow({"digest", model.digest()});
  table.AddRow({"bytes", FormatBytes(model.bytes())});
  table.AddRow({"created", TimeText(model.create_time())});
  table.AddRow({"inputs", SignatureText(model.signature().inputs())});
  table.AddRow({"outputs", SignatureText(model.signature().outputs())});
  table.AddRow({"calibration sets", model.calibration_sets().empty()
                                        ? "none"
                                        : absl::StrJoin(model.calibration_sets(), ", ")});
  return table.Text();
}

// --- upload ---

struct UploadOptions {
  std::string name;
  std::vector<std::string> paths;
};

absl::Status Upload(const UploadOptions& options, CommandContext& context) {
  HT_ASSIGN_OR_RETURN(const std::vector<std::string> files, FindModelFiles(options.paths));
  Connection server(context.connection);
  ProgressBar bar(context.terminal.err, context.terminal.err_is_terminal,
                  absl::StrCat("upload ", options.name));
  HT_ASSIGN_OR_RETURN(
      const UploadResult result,
      UploadModel(server, options.name, files, [&bar](const UploadProgress& p) {
        bar.Update(p.bytes_total == 0 ? 1 : static_cast<double>(p.bytes_done) / p.bytes_total,
                   p.stage,
                   absl::StrCat(FormatBytes(p.bytes_done), " of ", FormatBytes(p.bytes_total)));
      }));
  bar.Finish(absl::StrCat(FormatBytes(result.total_bytes), " in ", files.size(),
                          files.size() == 1 ? " file" : " files"));
  if (context.json) {
    PrintJson(context, {{"model", ToJson(result.model)},
                        {"total_bytes", result.total_bytes},
                        {"resumed_bytes", result.resumed_bytes}});
    return absl::OkStatus();
  }
  if (result.resumed_bytes > 0) {
    context.terminal.out << "resumed: the server had " << FormatBytes(result.resumed_bytes) << "\n";
  }
  context.terminal.out << ModelText(result.model);
  return absl::OkStatus();
}

CommandRunner BindUpload(CLI::App& app) {
  auto options = std::make_shared<UploadOptions>();
  app.add_option("name", options->name, "Name of the model on the server")->required();
  app.add_option("files", options->paths,
                 "model.onnx (external data beside it is found), model.onnx and its data files, or "
                 "a folder with one .onnx file")
      ->required();
  return [options](CommandContext& context) { return Upload(*options, context); };
}

// --- ls ---

absl::Status ListModels(CommandContext& context) {
  Connection server(context.connection);
  v1::ListModelsResponse response;
  HT_RETURN_IF_ERROR(
      server.ToStatus(server.models().ListModels(server.NewContext().get(), {}, &response)));
  if (context.json) {
    PrintJson(context, ToJson(response));
    return absl::OkStatus();
  }
  Table table({{"MODEL"},
               {"VERSION", Align::kRight},
               {"SIZE", Align::kRight},
               {"CREATED"},
               {"INPUTS"},
               {"OUTPUTS"}});
  for (const v1::Model& model : response.models()) {
    table.AddRow({model.name(), absl::StrCat(model.version()), FormatBytes(model.bytes()),
                  TimeText(model.create_time()), SignatureText(model.signature().inputs()),
                  SignatureText(model.signature().outputs())});
  }
  context.terminal.out << (table.empty() ? "no models; `halftone upload NAME model.onnx` adds one\n"
                                         : table.Text());
  return absl::OkStatus();
}

absl::Status List(const std::string& model, CommandContext& context) {
  if (model.empty()) return ListModels(context);
  Connection server(context.connection);
  HT_ASSIGN_OR_RETURN(const v1::ListVariantsResponse response, ListVariants(server, model));
  if (context.json) {
    PrintJson(context, ToJson(response));
  } else {
    context.terminal.out << VariantTable(response).Text();
  }
  return absl::OkStatus();
}

CommandRunner BindList(CLI::App& app) {
  auto model = std::make_shared<std::string>();
  app.add_option("model", *model, "List the variants of this model");
  return [model](CommandContext& context) { return List(*model, context); };
}

// --- show ---

struct ShowOptions {
  std::string model;
  std::string variant;
};

absl::Status ShowVariant(const ShowOptions& options, Connection& server, CommandContext& context) {
  v1::GetVariantRequest request;
  v1::Variant variant;
  request.set_model(options.model);
  *request.mutable_variant() = ParseSelector(options.variant);
  HT_RETURN_IF_ERROR(server.ToStatus(
      server.quantization().GetVariant(server.NewContext().get(), request, &variant)));
  if (context.json) {
    PrintJson(context, ToJson(variant));
  } else {
    context.terminal.out << VariantText(variant);
  }
  return absl::OkStatus();
}

absl::Status Show(const ShowOptions& options, CommandContext& context) {
  Connection server(context.connection);
  if (!options.variant.empty()) return ShowVariant(options, server, context);
  v1::GetModelRequest request;
  v1::Model model;
  request.set_name(options.model);
  HT_RETURN_IF_ERROR(
      server.ToStatus(server.models().GetModel(server.NewContext().get(), request, &model)));
  HT_ASSIGN_OR_RETURN(const v1::ListVariantsResponse variants, ListVariants(server, options.model));
  if (context.json) {
    PrintJson(context, {{"model", ToJson(model)}, {"variants", ToJson(variants)["variants"]}});
    return absl::OkStatus();
  }
  context.terminal.out << ModelText(model) << "\n" << VariantTable(variants).Text();
  return absl::OkStatus();
}

CommandRunner BindShow(CLI::App& app) {
  auto options = std::make_shared<ShowOptions>();
  app.add_option("model", options->model, "Name of the model")->required();
  app.add_option("variant", options->variant, "One variant: a spec or an id");
  return [options](CommandContext& context) { return Show(*options, context); };
}

// --- rm ---

struct RemoveOptions {
  std::string model;
  std::string variant;
  int version = 0;
};

absl::Status Remove(const RemoveOptions& options, CommandContext& context) {
  Connection server(context.connection);
  if (options.variant.empty()) {
    v1::DeleteModelRequest request;
    v1::DeleteModelResponse response;
    request.set_name(options.model);
    request.set_version(options.version);
    HT_RETURN_IF_ERROR(server.ToStatus(
        server.models().DeleteModel(server.NewContext().get(), request, &response)));
  } else {
    v1::DeleteVariantRequest request;
    v1::DeleteVariantResponse response;
    request.set_model(options.model);
    *request.mutable_variant() = ParseSelector(options.variant);
    HT_RETURN_IF_ERROR(server.ToStatus(
        server.quantization().DeleteVariant(server.NewContext().get(), request, &response)));
  }
  if (context.json) {
    PrintJson(context, {{"deleted", {{"model", options.model}, {"variant", options.variant}}}});
  } else {
    context.terminal.out << "deleted " << options.model << (options.variant.empty() ? "" : " ")
                         << options.variant << "\n";
  }
  return absl::OkStatus();
}

CommandRunner BindRemove(CLI::App& app) {
  auto options = std::make_shared<RemoveOptions>();
  app.add_option("model", options->model, "Name of the model")->required();
  CLI::Option* variant =
      app.add_option("variant", options->variant, "Only this variant: a spec or an id");
  app.add_option("--version", options->version, "Only this version of the model; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->excludes(variant);
  return [options](CommandContext& context) { return Remove(*options, context); };
}

constexpr Command kCommands[] = {
    {"upload", "Models", "Upload a model; resumes where an earlier attempt stopped", BindUpload},
    {"ls", "Models", "List the models, or the variants of one", BindList},
    {"show", "Models", "Show a model with its variants, or one variant", BindShow},
    {"rm", "Models", "Delete a model, or one of its variants", BindRemove},
};

}  // namespace

absl::Span<const Command> ModelCommands() { return kCommands; }

}  // namespace halftone
