// The `halftone` program without its main function.
#ifndef HALFTONE_CLIENT_CLI_H_
#define HALFTONE_CLIENT_CLI_H_

#include <string>
#include <vector>

#include "client/command.h"

namespace halftone {

// Runs one command line, without the program's name. Returns the exit code: 0 it worked, 1 the
// server, a file or the model is at fault, 2 the command line is.
int RunClient(std::vector<std::string> arguments, const Terminal& terminal);

}  // namespace halftone

#endif  // HALFTONE_CLIENT_CLI_H_
