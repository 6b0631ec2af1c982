// Commands of the inference group that live in files of their own.
#ifndef HALFTONE_CLIENT_INFERENCE_COMMANDS_H_
#define HALFTONE_CLIENT_INFERENCE_COMMANDS_H_

#include "client/command.h"

namespace halftone {

CommandRunner BindBench(CLI::App& app);
CommandRunner BindHealth(CLI::App& app);

}  // namespace halftone

#endif  // HALFTONE_CLIENT_INFERENCE_COMMANDS_H_
