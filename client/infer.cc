#include "client/infer.h"

#include <google/protobuf/util/time_util.h>

#include <CLI/CLI.hpp>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/wire.h"
#include "core/base/format.h"

namespace halftone {
namespace {

double Seconds(const google::protobuf::Duration& duration) {
  using google::protobuf::util::TimeUtil;
  return static_cast<double>(TimeUtil::DurationToNanoseconds(duration)) * 1e-9;
}

}  // namespace

void AddTargetOptions(CLI::App& app, InferTarget& target) {
  app.add_option("model", target.model, "Name of the model")->required();
  app.add_option("--version", target.version, "Version of the model; 0: newest")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--input", target.inputs,
                 "[NAME=]FILE.npy, .pb or raw bytes, once for each input of the model")
      ->allow_extra_args(false);
  app.add_option("--shape", target.shapes, "Shape of a raw file: [NAME=]1,3,224,224")
      ->allow_extra_args(false);
  app.add_option("--when-missing", target.when_missing,
                 "What happens while the variant is being built")
      ->check(CLI::IsMember({"wait", "fallback", "unavailable"}))
      ->capture_default_str();
}

absl::StatusOr<v1::InferRequest> MakeInferRequest(const InferTarget& target,
                                                  absl::Span<const InputSignature> inputs,
                                                  absl::Span<const Tensor> tensors) {
  v1::InferRequest request;
  request.set_model(target.model);
  request.set_version(target.version);
  *request.mutable_variant() = ParseSelector(target.variant);
  v1::WhenMissing when = v1::WHEN_MISSING_UNSPECIFIED;
  v1::WhenMissing_Parse(absl::StrCat("WHEN_MISSING_", absl::AsciiStrToUpper(target.when_missing)),
                        &when);
  request.set_when_missing(when);
  for (size_t i = 0; i < inputs.size(); ++i) {
    *request.add_inputs() = ToProto(inputs[i].name, tensors[i]);
  }
  if (request.ByteSizeLong() > size_t{0x7fffffff}) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a request of ", FormatBytes(static_cast<int64_t>(request.ByteSizeLong())),
        " is too large for one message, want less than 2 GB: --each-row sends row by row"));
  }
  return request;
}

std::string LatencyText(const LatencySummary& latency) {
  if (latency.count == 1) return FormatSeconds(latency.p50);
  return absl::StrCat("p50 ", FormatSeconds(latency.p50), ", p90 ", FormatSeconds(latency.p90),
                      ", p99 ", FormatSeconds(latency.p99), ", mean ", FormatSeconds(latency.mean),
                      " (", latency.count, " requests)");
}

Json LatencyJson(const LatencySummary& latency) {
  return {{"count", latency.count}, {"mean", latency.mean}, {"min", latency.min},
          {"p50", latency.p50},     {"p90", latency.p90},   {"p99", latency.p99},
          {"max", latency.max}};
}

std::string TimingsText(const v1::InferTimings& timings) {
  return absl::StrCat("acquire ", FormatSeconds(Seconds(timings.acquire())), ", queue ",
                      FormatSeconds(Seconds(timings.queue())), ", compute ",
                      FormatSeconds(Seconds(timings.compute())));
}

}  // namespace halftone
