#include "client/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace halftone {
namespace {

constexpr absl::string_view kUsageUrl = "halftone/usage";
constexpr absl::string_view kFooter = R"(
SPEC: fp32, fp16, bf16, int8, int8/per-tensor/static, int8/per-channel/dynamic,
  int4, int8/per-group-64/weight-only, ternary, binary … VARIANT: a SPEC, or a variant id (8 or more characters of it).
Files: .npy, .pb (ONNX TensorProto) or raw bytes. `halftone COMMAND --help` tells more.
Exit codes: 0 it worked, 1 the server, a file or the model is at fault, 2 the command line is.)";

struct GlobalOptions {
  std::string server = "localhost:8001";
  double timeout_seconds = 0;
  bool json = false;
};

void AddGlobalOptions(CLI::App& app, GlobalOptions& options) {
  app.add_option("--server", options.server, "Address of the server, HOST:PORT")
      ->envname("HALFTONE_SERVER")
      ->capture_default_str();
  app.add_option("--timeout", options.timeout_seconds, "Seconds that a call may take; 0: no limit")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_flag("--json", options.json, "Print one JSON document instead of text");
}

int Report(const absl::Status& status, const CommandContext& context, absl::string_view command) {
  if (status.ok()) return 0;
  const std::string code = absl::StatusCodeToString(status.code());
  const std::string hint = HintOf(status);
  if (context.json) {
    Json error = {{"code", code}, {"message", std::string(status.message())}};
    if (!hint.empty()) error["hint"] = hint;
    context.terminal.out << Json{{"error", error}}.dump(2, ' ', false,
                                                        Json::error_handler_t::replace)
                         << "\n";
  }
  const bool usage = IsUsageError(status);
  context.terminal.err << "halftone " << command << ": " << (usage ? "" : absl::StrCat(code, ": "))
                       << std::string(status.message()) << "\n";
  if (!hint.empty()) context.terminal.err << "hint: " << hint << "\n";
  return usage ? 2 : 1;
}

}  // namespace

absl::Status UsageError(absl::string_view message) {
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kUsageUrl, absl::Cord("1"));
  return status;
}

bool IsUsageError(const absl::Status& status) { return status.GetPayload(kUsageUrl).has_value(); }

void PrintJson(CommandContext& context, const Json& json) {
  // Text from a server or a file may be no UTF-8.
  context.terminal.out << json.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
}

std::string Heading(const CommandContext& context, absl::string_view text) {
  return context.terminal.out_is_terminal ? absl::StrCat("\x1b[1m", text, "\x1b[0m")
                                          : std::string(text);
}

int RunClient(std::vector<std::string> arguments, const Terminal& terminal) {
  GlobalOptions globals;
  CommandRunner chosen;
  std::string chosen_name;
  CLI::App app("Quantizes ONNX models on the fly and serves them: the client.", "halftone");
  AddGlobalOptions(app, globals);
  app.require_subcommand(1);
  app.footer(std::string(kFooter));
  for (const auto commands :
       {ModelCommands(), QuantizationCommands(), InferenceCommands(), LocalCommands()}) {
    for (const Command& command : commands) {
      CLI::App* sub = app.add_subcommand(std::string(command.name), std::string(command.summary));
      sub->group(std::string(command.group));
      sub->fallthrough();  // global options are fine behind the command, too
      sub->final_callback([&chosen, &chosen_name, &command, runner = command.bind(*sub)] {
        chosen = runner;
        chosen_name = std::string(command.name);
      });
    }
  }
  try {
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    return app.exit(error, terminal.out, terminal.err) == 0 ? 0 : 2;
  }
  CommandContext context{
      .terminal = terminal,
      .connection = {.address = globals.server,
                     .timeout = globals.timeout_seconds > 0 ? absl::Seconds(globals.timeout_seconds)
                                                            : absl::InfiniteDuration()},
      .json = globals.json};
  return Report(chosen(context), context, chosen_name);
}

}  // namespace halftone
