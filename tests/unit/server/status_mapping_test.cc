#include "server/status_mapping.h"

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"

namespace halftone {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Optional;

TEST(ToGrpcStatus, KeepsCodeAndMessage) {
  const grpc::Status status = ToGrpcStatus(absl::InvalidArgumentError("input 'x': got 1, want 2"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "input 'x': got 1, want 2");
  EXPECT_THAT(status.error_details(), IsEmpty());
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
}

TEST(ToGrpcStatus, CarriesARetryInfo) {
  const grpc::Status status =
      ToGrpcStatus(WithRetryAfter(absl::ResourceExhaustedError("full"), absl::Milliseconds(1250)));
  // google.rpc.Status { code: 8 message: "full" details { type_url value { delay 1 s 250 ms } } }
  const std::string delay("\x08\x01\x10\x80\xe5\x9a\x77", 7);
  const std::string any =
      absl::StrCat("\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x09\x0a\x07", delay);
  EXPECT_EQ(status.error_details(), absl::StrCat("\x08\x08\x12\x04", "full", "\x1a\x35", any));
}

TEST(RetryAfter, IsGivenOrTheDefaultOfUnavailable) {
  EXPECT_THAT(RetryAfter(absl::UnavailableError("")), Optional(absl::Seconds(1)));
  EXPECT_THAT(RetryAfter(WithRetryAfter(absl::UnavailableError(""), absl::Milliseconds(7))),
              Optional(absl::Milliseconds(7)));
  EXPECT_EQ(RetryAfter(absl::ResourceExhaustedError("")), std::nullopt);
  EXPECT_EQ(RetryAfter(absl::OkStatus()), std::nullopt);
}

TEST(ToGrpcStatus, ShortensMessagesThatClientsCouldNotReceive) {
  std::string many;
  for (int i = 0; i < 20000; ++i) many += "ä";
  const grpc::Status status = ToGrpcStatus(absl::UnimplementedError(many));
  EXPECT_LT(status.error_message().size(), 4200u);
  EXPECT_THAT(status.error_message(), HasSubstr("more bytes"));
  EXPECT_EQ(status.error_message().substr(4094, 3), "ä ");
}

}  // namespace
}  // namespace halftone
