// Collects everything that is wrong with a model, so that one answer names it all.
#ifndef HALFTONE_CORE_ONNX_PROBLEMS_H_
#define HALFTONE_CORE_ONNX_PROBLEMS_H_

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace halftone {

// Thread-compatible.
class Problems {
 public:
  // A broken piece: "Conv 'c1': input 'x' is never produced".
  void AddInvalid(std::string what);
  // An operator, or a part of one, that Halftone does not have. `node` is the node's name.
  void AddUnsupported(absl::string_view domain, absl::string_view op, int opset,
                      absl::string_view node);

  // OK if there is nothing; INVALID_ARGUMENT if anything is broken, else UNIMPLEMENTED. The message
  // lists the problems of both kinds, at most kMaxListed of each, and counts the rest.
  absl::Status ToStatus() const;

  static constexpr int kMaxListed = 50;

 private:
  std::string ListUnsupported() const;

  std::vector<std::string> invalid_;
  int num_invalid_ = 0;
  // Operator → names of its nodes; ordered, so that equal models give equal messages.
  std::map<std::tuple<std::string, std::string, int>, std::vector<std::string>> unsupported_;
};

}  // namespace halftone

#endif  // HALFTONE_CORE_ONNX_PROBLEMS_H_
