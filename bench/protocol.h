// The line protocol between compare.py and the programs that it measures (bench/README.md).
#ifndef HALFTONE_BENCH_PROTOCOL_H_
#define HALFTONE_BENCH_PROTOCOL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/graph/graph.h"
#include "core/tensor/tensor.h"

namespace halftone {

using Request = std::vector<Tensor>;  // in signature order

// From NAME=SHAPE:PATH[,SHAPE:PATH…] each, by name; files hold raw little-endian bytes.
absl::StatusOr<std::map<std::string, Request>> ReadRequests(const Signature& signature,
                                                            const std::vector<std::string>& texts);

// What a command that starts with `run` or `output` says.
struct Command {
  std::string verb;
  std::string request;
  std::string argument;
};

// Prints `facts`, then answers each line of stdin with one line of JSON until stdin ends.
absl::Status ServeCommands(
    const nlohmann::json& facts,
    const std::function<absl::StatusOr<nlohmann::json>(const Command&)>& execute);

// The N of `run NAME N`. InvalidArgument for any other command.
absl::StatusOr<int> RunsOf(const Command& command);

// INVALID_ARGUMENT when there is none of that name.
absl::StatusOr<const Request*> FindRequest(const std::map<std::string, Request>& requests,
                                           const std::string& name);

int64_t ResidentBytes();

// Requires: values not empty, 0 <= q <= 1.
double Quantile(std::vector<double> values, double q);

}  // namespace halftone

#endif  // HALFTONE_BENCH_PROTOCOL_H_
