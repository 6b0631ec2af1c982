// What infer and bench share: which model and inputs, the request, latencies as text and JSON.
#ifndef HALFTONE_CLIENT_INFER_H_
#define HALFTONE_CLIENT_INFER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/connection.h"
#include "client/json.h"
#include "client/latency.h"
#include "client/samples.h"

namespace CLI {
class App;
}

namespace halftone {

// As typed.
struct InferTarget {
  std::string model;
  int version = 0;
  std::string variant;
  std::vector<std::string> inputs;
  std::vector<std::string> shapes;
  std::string when_missing = "wait";
};

// Everything but --variant, of which bench takes many.
void AddTargetOptions(CLI::App& app, InferTarget& target);

// `tensors` in the order of `inputs`.
absl::StatusOr<v1::InferRequest> MakeInferRequest(const InferTarget& target,
                                                  absl::Span<const InputSignature> inputs,
                                                  absl::Span<const Tensor> tensors);

std::string LatencyText(const LatencySummary& latency);
Json LatencyJson(const LatencySummary& latency);
std::string TimingsText(const v1::InferTimings& timings);

}  // namespace halftone

#endif  // HALFTONE_CLIENT_INFER_H_
