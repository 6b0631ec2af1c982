// absl::Status → grpc::Status, with retry hints.
#ifndef HALFTONE_SERVER_STATUS_MAPPING_H_
#define HALFTONE_SERVER_STATUS_MAPPING_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace halftone {

// The same status with a hint when to try again.
absl::Status WithRetryAfter(absl::Status status, absl::Duration delay);
// The hint; UNAVAILABLE always has one (a second by default), other codes only if they were given
// one.
std::optional<absl::Duration> RetryAfter(const absl::Status& status);

// Codes have the same numbers in both worlds. A retry hint becomes a google.rpc.RetryInfo in the
// status details and, if `context` is given, the trailing metadata grpc-retry-pushback-ms.
grpc::Status ToGrpcStatus(const absl::Status& status, grpc::ServerContextBase* context = nullptr);

// "INVALID_ARGUMENT", for metric labels.
std::string CodeName(absl::StatusCode code);

}  // namespace halftone

#endif  // HALFTONE_SERVER_STATUS_MAPPING_H_
