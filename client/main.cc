#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "client/cli.h"

int main(int argc, char** argv) {
  const bool colours = std::getenv("NO_COLOR") == nullptr;
  const halftone::Terminal terminal{.out = std::cout,
                                    .err = std::cerr,
                                    .out_is_terminal = colours && isatty(STDOUT_FILENO) != 0,
                                    .err_is_terminal = isatty(STDERR_FILENO) != 0};
  return halftone::RunClient(std::vector<std::string>(argv + 1, argv + argc), terminal);
}
