#include "server/metrics.h"

#include <gmock/gmock.h>
#include <prometheus/text_serializer.h>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Text(const Metrics& metrics) {
  return prometheus::TextSerializer().Serialize(metrics.registry()->Collect());
}

RequestTimes SomeTimes() {
  return {.total = absl::Milliseconds(3),
          .queue = absl::Microseconds(50),
          .compute = absl::Milliseconds(2)};
}

TEST(Metrics, CountRequestsByMethodModelVariantAndCode) {
  Metrics metrics("1.2.3", "avx2");
  metrics.CountRequest("Infer", "m", "int8", absl::StatusCode::kOk);
  metrics.CountRequest("Infer", "m", "int8", absl::StatusCode::kOk);
  metrics.CountRequest("Infer", "", "", absl::StatusCode::kNotFound);
  const std::string text = Text(metrics);
  EXPECT_THAT(text, HasSubstr(R"(halftone_requests_total{code="OK",method="Infer",model="m",)"
                              R"(variant="int8"} 2)"));
  EXPECT_THAT(text, HasSubstr(R"(code="NOT_FOUND",method="Infer",model="",variant=""} 1)"));
  EXPECT_THAT(text, HasSubstr(R"(halftone_build_info{isa="avx2",version="1.2.3"} 1)"));
}

TEST(Metrics, SplitsLatencyInBucketsFrom100Microseconds) {
  Metrics metrics("v", "isa");
  metrics.ObserveInference("m", "fp32", SomeTimes());
  const std::string text = Text(metrics);
  EXPECT_THAT(text,
              HasSubstr(R"(halftone_request_duration_seconds_count{model="m",variant="fp32"} 1)"));
  EXPECT_THAT(
      text,
      HasSubstr(
          R"(halftone_queue_duration_seconds_bucket{model="m",variant="fp32",le="0.0001"} 1)"));
  EXPECT_THAT(
      text,
      HasSubstr(
          R"(halftone_compute_duration_seconds_bucket{model="m",variant="fp32",le="0.001"} 0)"));
  EXPECT_THAT(
      text,
      HasSubstr(
          R"(halftone_compute_duration_seconds_bucket{model="m",variant="fp32",le="0.0025"} 1)"));
}

TEST(Metrics, ForgetsTheSeriesOfAModel) {
  Metrics metrics("v", "isa");
  for (const char* model : {"gone", "stays"}) {
    metrics.ObserveInference(model, "int8", SomeTimes());
    metrics.CountRequest("Infer", model, "int8", absl::StatusCode::kOk);
  }
  metrics.ForgetModel("gone");
  EXPECT_THAT(Text(metrics), Not(HasSubstr("gone")));
  EXPECT_THAT(Text(metrics), HasSubstr("stays"));
  metrics.ObserveInference("gone", "int8", SomeTimes());  // uploaded again: starts from zero
  EXPECT_THAT(Text(metrics),
              HasSubstr(R"(request_duration_seconds_count{model="gone",variant="int8"} 1)"));
}

TEST(Metrics, ForgetsTheSeriesOfAVariant) {
  Metrics metrics("v", "isa");
  metrics.ObserveInference("m", "int8", SomeTimes());
  metrics.ObserveInference("m", "bf16", SomeTimes());
  metrics.ForgetVariant("m", "int8");
  metrics.ForgetVariant("m", "never");
  EXPECT_THAT(Text(metrics), Not(HasSubstr("int8")));
  EXPECT_THAT(Text(metrics), HasSubstr("bf16"));
}

TEST(Metrics, KeepsFreeTextOutOfSpecLabels) {
  Metrics metrics("v", "isa");
  metrics.ObserveBuild("int8/per-tensor/static/calib=mine;node=secret=fp16", absl::OkStatus(),
                       absl::Seconds(2));
  metrics.ObserveBuild("fp16;op=Conv=fp32", absl::InternalError(""), absl::Seconds(2));
  const std::string text = Text(metrics);
  EXPECT_THAT(text,
              HasSubstr(R"(halftone_quantize_total{result="ok",spec="int8/per-tensor/static"} 1)"));
  EXPECT_THAT(text, HasSubstr(R"(halftone_quantize_total{result="error",spec="fp16"} 1)"));
  EXPECT_THAT(text, Not(HasSubstr("secret")));
}

TEST(Metrics, StartWithZerosWhereTheLabelsAreKnown) {
  const Metrics metrics("v", "isa");
  for (const char* event : {"hit", "miss", "load", "evict", "build"}) {
    EXPECT_THAT(Text(metrics),
                HasSubstr(absl::StrCat("halftone_cache_events_total{event=\"", event, "\"} 0")));
  }
  EXPECT_THAT(Text(metrics), HasSubstr(R"(halftone_rejected_total{reason="queue_full"} 0)"));
  EXPECT_THAT(Text(metrics), HasSubstr("halftone_inflight_requests 0"));
}

TEST(ProcessMetrics, ReadTheProcess) {
  const std::string text = prometheus::TextSerializer().Serialize(ProcessMetrics());
  for (const char* name : {"process_resident_memory_bytes", "process_virtual_memory_bytes",
                           "process_start_time_seconds", "process_open_fds", "process_max_fds",
                           "process_cpu_seconds_total"}) {
    EXPECT_THAT(text, HasSubstr(absl::StrCat("\n", name, " "))) << text;
    EXPECT_THAT(text, Not(HasSubstr(absl::StrCat("\n", name, " 0\n"))));
  }
  EXPECT_THAT(text, HasSubstr("# TYPE process_cpu_seconds_total counter"));
}

}  // namespace
}  // namespace halftone
