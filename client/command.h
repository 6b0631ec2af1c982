// What a command of `halftone` is: a row in a table with a function that declares its options, and
// what it gets when it runs.
#ifndef HALFTONE_CLIENT_COMMAND_H_
#define HALFTONE_CLIENT_COMMAND_H_

#include <functional>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/connection.h"
#include "client/json.h"

namespace CLI {
class App;
}

namespace halftone {

// Where a command writes. Results go to `out`, progress and errors to `err`.
struct Terminal {
  std::ostream& out;
  std::ostream& err;
  bool out_is_terminal = false;  // colours
  bool err_is_terminal = false;  // bars that redraw themselves
};

struct CommandContext {
  Terminal terminal;
  ConnectionOptions connection;
  bool json = false;  // `out` gets exactly one JSON document
};

using CommandRunner = std::function<absl::Status(CommandContext&)>;

struct Command {
  absl::string_view name;
  absl::string_view group;  // heading in --help
  absl::string_view summary;
  // Adds the command's options to `app` and returns what runs it with their values.
  CommandRunner (*bind)(CLI::App& app);
};

absl::Span<const Command> ModelCommands();         // upload, ls, show, rm
absl::Span<const Command> QuantizationCommands();  // quantize, plan, calibrate, report, export
absl::Span<const Command> InferenceCommands();     // infer, bench, health
absl::Span<const Command> LocalCommands();         // convert

// An error of usage: exit code 2 instead of 1.
absl::Status UsageError(absl::string_view message);
bool IsUsageError(const absl::Status& status);

// One JSON document and a line end.
void PrintJson(CommandContext& context, const Json& json);
// `text` in bold on a terminal.
std::string Heading(const CommandContext& context, absl::string_view text);

}  // namespace halftone

#endif  // HALFTONE_CLIENT_COMMAND_H_
