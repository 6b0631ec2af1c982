#include "server/status_mapping.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/duration.pb.h>

#include <algorithm>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace halftone {
namespace {

constexpr absl::string_view kRetryPayload = "halftone/retry-after-ms";
constexpr absl::Duration kDefaultRetry = absl::Seconds(1);
// gRPC puts status details and message into HTTP/2 headers, and clients refuse headers of more than
// 8 KiB: a longer message would turn the answer into an unreadable one.
constexpr size_t kMaxMessageBytes = 4096;

// Tag of a length-delimited protobuf field.
constexpr char LengthDelimited(int field) { return static_cast<char>(field << 3 | 2); }

void AppendVarint(uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

void AppendField(int field, absl::string_view bytes, std::string& out) {
  out.push_back(LengthDelimited(field));
  AppendVarint(bytes.size(), out);
  absl::StrAppend(&out, bytes);
}

// A serialized google.rpc.Status { code = 1, message = 2, details = 3 } with one RetryInfo
// { retry_delay = 1 }. Written by hand: those messages are not part of libprotobuf.
std::string StatusDetails(int code, absl::string_view message, absl::Duration retry) {
  google::protobuf::Duration delay;
  delay.set_seconds(absl::ToInt64Seconds(retry));
  delay.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(retry % absl::Seconds(1))));
  std::string retry_info;
  AppendField(1, delay.SerializeAsString(), retry_info);
  google::protobuf::Any any;
  any.set_type_url("type.googleapis.com/google.rpc.RetryInfo");
  any.set_value(retry_info);
  std::string status("\x08", 1);
  AppendVarint(static_cast<uint64_t>(code), status);
  AppendField(2, message, status);
  AppendField(3, any.SerializeAsString(), status);
  return status;
}

std::string Shortened(absl::string_view message) {
  if (message.size() <= kMaxMessageBytes) return std::string(message);
  size_t end = kMaxMessageBytes;
  // Not in the middle of a UTF-8 sequence.
  while (end > 0 && (static_cast<unsigned char>(message[end]) & 0xc0) == 0x80) --end;
  return absl::StrCat(message.substr(0, end), " … (", message.size() - end, " more bytes)");
}

}  // namespace

absl::Status WithRetryAfter(absl::Status status, absl::Duration delay) {
  const int64_t ms = std::max<int64_t>(1, absl::ToInt64Milliseconds(delay));
  status.SetPayload(kRetryPayload, absl::Cord(absl::StrCat(ms)));
  return status;
}

std::optional<absl::Duration> RetryAfter(const absl::Status& status) {
  int64_t ms = 0;
  const auto payload = status.GetPayload(kRetryPayload);
  if (payload && absl::SimpleAtoi(std::string(*payload), &ms)) return absl::Milliseconds(ms);
  if (status.code() == absl::StatusCode::kUnavailable) return kDefaultRetry;
  return std::nullopt;
}

grpc::Status ToGrpcStatus(const absl::Status& status, grpc::ServerContextBase* context) {
  if (status.ok()) return grpc::Status::OK;
  const std::string message = Shortened(status.message());
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const std::optional<absl::Duration> retry = RetryAfter(status);
  if (!retry) return {code, message};
  if (context != nullptr) {
    context->AddTrailingMetadata("grpc-retry-pushback-ms",
                                 absl::StrCat(absl::ToInt64Milliseconds(*retry)));
  }
  return {code, message, StatusDetails(static_cast<int>(code), message.substr(0, 512), *retry)};
}

std::string CodeName(absl::StatusCode code) { return absl::StatusCodeToString(code); }

}  // namespace halftone
