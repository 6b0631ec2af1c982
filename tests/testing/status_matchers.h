// gMock matchers for Status and StatusOr: EXPECT_THAT(f(), IsOk()),
// EXPECT_THAT(f(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("rank"))).
#ifndef HALFTONE_TESTS_TESTING_STATUS_MATCHERS_H_
#define HALFTONE_TESTS_TESTING_STATUS_MATCHERS_H_

#include <gmock/gmock.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace halftone {
namespace testing_internal {
inline const absl::Status& GetStatus(const absl::Status& s) { return s; }
template <typename T>
const absl::Status& GetStatus(const absl::StatusOr<T>& s) {
  return s.status();
}
}  // namespace testing_internal

MATCHER(IsOk, "is OK") {
  const absl::Status& status = testing_internal::GetStatus(arg);
  *result_listener << status;
  return status.ok();
}
MATCHER_P(StatusIs, code, "has the status code") {
  const absl::Status& status = testing_internal::GetStatus(arg);
  *result_listener << status;
  return status.code() == code;
}
MATCHER_P2(StatusIs, code, message_matcher, "has the status code and message") {
  const absl::Status& status = testing_internal::GetStatus(arg);
  *result_listener << status;
  return status.code() == code &&
         ::testing::ExplainMatchResult(message_matcher, std::string(status.message()),
                                       result_listener);
}

#define HT_ASSERT_OK(expr) ASSERT_THAT(expr, ::halftone::IsOk())
#define HT_EXPECT_OK(expr) EXPECT_THAT(expr, ::halftone::IsOk())
#define HT_ASSERT_OK_AND_ASSIGN(lhs, expr) \
  HT_ASSERT_OK_AND_ASSIGN_IMPL_(HT_TEST_CONCAT_(ht_test_or_, __LINE__), lhs, expr)
#define HT_TEST_CONCAT_INNER_(a, b) a##b
#define HT_TEST_CONCAT_(a, b) HT_TEST_CONCAT_INNER_(a, b)
#define HT_ASSERT_OK_AND_ASSIGN_IMPL_(var, lhs, expr) \
  auto var = (expr);                                  \
  ASSERT_THAT(var, ::halftone::IsOk());               \
  lhs = *std::move(var)

}  // namespace halftone

#endif  // HALFTONE_TESTS_TESTING_STATUS_MATCHERS_H_
