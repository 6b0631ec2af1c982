#include "bench/protocol.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

using nlohmann::json;

// "1x3x224x224:/path/of/raw/little/endian/bytes"; a scalar has the empty shape ":/path".
absl::StatusOr<Tensor> ReadTensor(const TensorSignature& wanted, const std::string& text) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  Shape shape;
  for (absl::string_view dim : absl::StrSplit(parts.first, 'x', absl::SkipEmpty())) {
    int64_t value = 0;
    if (!absl::SimpleAtoi(dim, &value)) {
      return absl::InvalidArgumentError(
          absl::StrCat("input '", text, "': '", dim, "' is no dimension, want SHAPE:PATH"));
    }
    shape.push_back(value);
  }
  HT_ASSIGN_OR_RETURN(Tensor tensor, Tensor::Create(wanted.type, shape));
  std::error_code error;
  const auto size = std::filesystem::file_size(parts.second, error);
  if (error || static_cast<int64_t>(size) != tensor.num_bytes()) {
    return absl::InvalidArgumentError(absl::StrCat("input '", wanted.name, "': ", parts.second,
                                                   " has ", error ? 0 : size, " bytes, want ",
                                                   tensor.num_bytes()));
  }
  std::ifstream file(parts.second, std::ios::binary);
  file.read(reinterpret_cast<char*>(tensor.mutable_raw()), tensor.num_bytes());
  if (!file) return absl::DataLossError(absl::StrCat("cannot read ", parts.second));
  return tensor;
}

}  // namespace

absl::StatusOr<std::map<std::string, Request>> ReadRequests(const Signature& signature,
                                                            const std::vector<std::string>& texts) {
  std::map<std::string, Request> requests;
  for (const std::string& text : texts) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits('=', 1));
    const std::vector<std::string> files = absl::StrSplit(parts.second, ',');
    if (files.size() != signature.inputs.size()) {
      return absl::InvalidArgumentError(absl::StrCat("--inputs ", text, ": ", files.size(),
                                                     " tensors, want ", signature.inputs.size()));
    }
    Request& request = requests[parts.first];
    for (size_t i = 0; i < files.size(); ++i) {
      HT_ASSIGN_OR_RETURN(Tensor tensor, ReadTensor(signature.inputs[i], files[i]));
      request.push_back(std::move(tensor));
    }
  }
  return requests;
}

absl::Status ServeCommands(const json& facts,
                           const std::function<absl::StatusOr<json>(const Command&)>& execute) {
  std::cout << facts.dump() << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    absl::StatusOr<json> answer = absl::InvalidArgumentError(
        absl::StrCat("command '", line, "', want 'run INPUTS N' or 'output INPUTS PATH'"));
    if (words.size() == 3) answer = execute({words[0], words[1], words[2]});
    std::cout << (answer.ok() ? *answer : json{{"error", answer.status().ToString()}}).dump()
              << std::endl;
  }
  return absl::OkStatus();
}

absl::StatusOr<int> RunsOf(const Command& command) {
  int runs = 0;
  if (command.verb != "run" || !absl::SimpleAtoi(command.argument, &runs) || runs < 1) {
    return absl::InvalidArgumentError(absl::StrCat("command '", command.verb, " ", command.request,
                                                   " ", command.argument,
                                                   "', want 'run INPUTS N'"));
  }
  return runs;
}

absl::StatusOr<const Request*> FindRequest(const std::map<std::string, Request>& requests,
                                           const std::string& name) {
  const auto found = requests.find(name);
  if (found == requests.end()) {
    return absl::InvalidArgumentError(absl::StrCat("no --inputs named '", name, "'"));
  }
  return &found->second;
}

int64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t total = 0;
  int64_t resident = 0;
  statm >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

double Quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
}

}  // namespace halftone
