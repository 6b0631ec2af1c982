#include "core/variant/report.h"

#include <limits>

#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::HasSubstr;

VariantReport Full() {
  return {.spec = "int8",
          .isa_class = "vnni",
          .sample_source = "calibration set 'a \"b\"'",
          .sample_count = 3,
          .sqnr_db = 31.25,
          .top1_agreement = 0.5,
          .max_abs_error = 0.1,
          .layers = {{.node = "n\n1",
                      .op = "Conv",
                      .precision = "int8",
                      .sqnr_db = 12.5,
                      .weight_bytes = 7,
                      .seconds = 0.25,
                      .fp32_seconds = 0.5,
                      .weights = {-1, 1.5, {0, 12}, {5, 7}}},
                     {"n2", "Gemm", "f32", "why", 999, 8}},
          .coverage = {{"Conv", 2, 1}},
          .fp32_weight_bytes = int64_t{1} << 40,
          .weight_bytes = 5,
          .resident_bytes = 6,
          .fp32_resident_bytes = 7,
          .latency_seconds = 0.001,
          .fp32_latency_seconds = 0.002,
          .speedup = 2,
          .build_seconds = 1.5,
          .warnings = {"w1", "w2"}};
}

TEST(ReportJson, RoundTrips) {
  const std::string json = ToJson(Full());
  HT_ASSERT_OK_AND_ASSIGN(const VariantReport back, ReportFromJson(json));
  EXPECT_EQ(ToJson(back), json);
  EXPECT_EQ(back.layers[0].node, "n\n1");
  EXPECT_EQ(back.layers[1].reason, "why");
  EXPECT_EQ(back.layers[0].weights.max, 1.5);
  EXPECT_THAT(back.layers[0].weights.fp32, ::testing::ElementsAre(0, 12));
  EXPECT_THAT(back.layers[0].weights.variant, ::testing::ElementsAre(5, 7));
  EXPECT_TRUE(back.layers[1].weights.fp32.empty());
  EXPECT_EQ(back.layers[0].seconds, 0.25);
  EXPECT_EQ(back.layers[0].fp32_seconds, 0.5);
  EXPECT_EQ(back.layers[1].fp32_seconds, 0) << "not measured";
  EXPECT_EQ(back.coverage[0].total, 2);
  EXPECT_EQ(back.fp32_weight_bytes, int64_t{1} << 40);
  EXPECT_EQ(back.warnings.size(), 2u);
  EXPECT_EQ(back.sqnr_db, 31.25);
}

TEST(ReportJson, BeginsWithItsVersion) {
  EXPECT_THAT(ToJson({}), ::testing::StartsWith("{\n  \"halftone_report\": 1"));
}

TEST(ReportJson, SurvivesInfinityAndNamesThatAreNotUtf8) {
  VariantReport r;
  r.max_abs_error = std::numeric_limits<double>::infinity();
  r.layers = {{.node = "\xff\xfe", .sqnr_db = std::numeric_limits<double>::quiet_NaN()}};
  HT_ASSERT_OK_AND_ASSIGN(const VariantReport back, ReportFromJson(ToJson(r)));
  EXPECT_GT(back.max_abs_error, 1e200);
}

TEST(ReportJson, RefusesWhatIsNotAReport) {
  EXPECT_THAT(ReportFromJson("{"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ReportFromJson("[]"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ReportFromJson("{\"halftone_report\": 2}"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("got version 2, want 1")));
  EXPECT_THAT(ReportFromJson("{\"halftone_report\": 1, \"spec\": 4}"),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace halftone
