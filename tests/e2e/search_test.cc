// Quantize by a goal, through the server.
#include <gmock/gmock.h>

#include "tests/e2e/live_server.h"

namespace halftone {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::SizeIs;

v1::QuantizeRequest Ask(v1::Objective::Goal goal, double min_sqnr_db) {
  v1::QuantizeRequest request;
  request.set_model("mlp");
  request.mutable_objective()->set_goal(goal);
  request.mutable_objective()->set_min_sqnr_db(min_sqnr_db);
  request.mutable_objective()->mutable_time_limit()->set_seconds(60);
  return request;
}

std::vector<std::string> Stored(LiveServer& live) {
  grpc::ClientContext context;
  v1::ListVariantsRequest request;
  request.set_model("mlp");
  v1::ListVariantsResponse response;
  EXPECT_TRUE(live.quantization->ListVariants(&context, request, &response).ok());
  std::vector<std::string> specs;
  for (const v1::Variant& v : response.variants()) specs.push_back(v.spec_text());
  return specs;
}

TEST(Search, EndsWithAVariantThatMeetsTheGoal) {
  LiveServer live;
  ASSERT_TRUE(live.Upload("mlp", TinyMlp()).ok());
  ASSERT_TRUE(live.Quantize("mlp", "ternary", nullptr).ok());  // was there before
  v1::QuantizeResult result;
  std::vector<v1::QuantizeProgress> progress;
  const grpc::Status status =
      live.Quantize(Ask(v1::Objective::GOAL_SMALLEST, 30), &result, &progress);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(result.search().met());
  EXPECT_EQ(result.variant().spec_text(), result.search().best_spec_text());
  EXPECT_GE(result.report().sqnr_db(), 30);
  EXPECT_LT(result.report().resident_bytes(), result.report().fp32_resident_bytes());
  // Nothing that the search found is smaller and good enough.
  for (const v1::QuantizeCandidate& c : result.search().front()) {
    if (c.sqnr_db() >= 30) {
      EXPECT_GE(c.resident_bytes(), result.report().resident_bytes());
    }
  }
  ASSERT_FALSE(progress.empty());
  EXPECT_FALSE(progress.back().spec_text().empty());
  // What stays: the front, fp32, and what the search did not bring.
  std::vector<std::string> kept = {"fp32", "ternary"};
  for (const v1::QuantizeCandidate& c : result.search().front()) kept.push_back(c.spec_text());
  for (const std::string& spec : Stored(live)) EXPECT_THAT(kept, Contains(spec));
  EXPECT_THAT(Stored(live), Contains("ternary"));
}

TEST(Search, NeverEndsWithNothing) {
  LiveServer live;
  ASSERT_TRUE(live.Upload("mlp", TinyMlp()).ok());
  v1::QuantizeResult result;
  ASSERT_TRUE(live.Quantize(Ask(v1::Objective::GOAL_FASTEST, 150), &result).ok());
  EXPECT_EQ(result.variant().spec_text(), "fp32") << "only the model itself is that good";
  EXPECT_TRUE(result.search().met());
  EXPECT_FALSE(result.has_report());

  v1::QuantizeRequest tight = Ask(v1::Objective::GOAL_SMALLEST, 40);
  tight.mutable_objective()->set_max_resident_bytes(1);
  ASSERT_TRUE(live.Quantize(tight, &result).ok());
  EXPECT_FALSE(result.search().met());
  EXPECT_THAT(result.variant().id(), SizeIs(64));
}

TEST(Search, RefusesNumbersThatMakeNoSense) {
  LiveServer live;
  ASSERT_TRUE(live.Upload("mlp", TinyMlp()).ok());
  v1::QuantizeRequest request = Ask(v1::Objective::GOAL_SMALLEST, -1);
  grpc::Status status = live.Quantize(request, nullptr);
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("min_sqnr_db is -1"));
  request = Ask(v1::Objective::GOAL_SMALLEST, 10);
  request.set_model("nobody");
  EXPECT_EQ(live.Quantize(request, nullptr).error_code(), grpc::NOT_FOUND);
  request = Ask(v1::Objective::GOAL_SMALLEST, 10);
  request.mutable_objective()->mutable_time_limit()->set_seconds(-5);
  EXPECT_EQ(live.Quantize(request, nullptr).error_code(), grpc::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace halftone
