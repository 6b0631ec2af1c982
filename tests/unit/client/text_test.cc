// What people and scripts see: tables, numbers, bars, JSON, selectors.
#include <gtest/gtest.h>

#include <sstream>

#include "absl/strings/str_cat.h"
#include "client/calibration.h"
#include "client/json.h"
#include "client/latency.h"
#include "client/progress_bar.h"
#include "client/table.h"
#include "client/variants.h"
#include "client/wire.h"
#include "halftone/v1/quantization_service.pb.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using testing::HasSubstr;

TEST(Table, AlignsColumnsByCharactersAndLeavesNoTrailingSpace) {
  Table table({{"NAME"}, {"SIZE", Table::Align::kRight}, {"NOTE"}});
  table.AddRow({"größer", "1", "x"});
  table.AddRow({"b", "1000", ""});
  EXPECT_EQ(table.Text(),
            "NAME    SIZE  NOTE\n"
            "größer     1  x\n"
            "b       1000\n");
}

TEST(Table, HasNoHeaderLineWithoutTitles) {
  Table table({{""}, {""}});
  EXPECT_TRUE(table.empty());
  table.AddRow({"a", "1"});
  EXPECT_EQ(table.Text(), "a  1\n");
}

TEST(Latency, PercentilesAreMeasuredValues) {
  std::vector<double> seconds;
  for (int i = 100; i >= 1; --i) seconds.push_back(i);
  const LatencySummary s = Summarize(seconds);
  EXPECT_EQ(s.count, 100);
  EXPECT_EQ(s.min, 1);
  EXPECT_EQ(s.p50, 50);
  EXPECT_EQ(s.p90, 90);
  EXPECT_EQ(s.p99, 99);
  EXPECT_EQ(s.max, 100);
  EXPECT_EQ(s.mean, 50.5);
  EXPECT_EQ(Summarize({1.0, 2.0, 3.0}).p50, 2);  // rank 1.5 rounds up
  EXPECT_EQ(Summarize({3.0}).p99, 3.0);
  EXPECT_EQ(Summarize({}).count, 0);
}

TEST(ProgressBar, RedrawsOneLineOnATerminal) {
  std::ostringstream out;
  {
    ProgressBar bar(out, /*terminal=*/true, "upload m");
    bar.Update(0.5, "send", "1 of 2");
    bar.Update(0.5, "send", "1 of 2");  // nothing new: nothing written
    bar.Finish("done");
  }
  EXPECT_EQ(out.str(),
            "\r\x1b[Kupload m [###############...............]  50 %  send 1 of 2"
            "\r\x1b[Kupload m: done\n");
}

TEST(ProgressBar, WritesOneLinePerStageIntoALog) {
  std::ostringstream out;
  ProgressBar bar(out, /*terminal=*/false, "q");
  bar.Update(0.1, "calibrate", "1/9");
  bar.Update(0.2, "calibrate", "2/9");
  bar.Update(2.0, "measure");
  bar.Finish("done");
  EXPECT_EQ(out.str(), "q: calibrate (10 %)\nq: measure (100 %)\nq: done\n");
}

TEST(ProgressBar, EndsItsLineWhenItIsNotFinished) {
  std::ostringstream out;
  {
    ProgressBar(out, /*terminal=*/true, "q").Update(0, "x");
  }
  EXPECT_EQ(out.str().back(), '\n');
  std::ostringstream silent;
  {
    ProgressBar(silent, true, "q", /*enabled=*/false).Update(0, "x");
  }
  EXPECT_EQ(silent.str(), "");
}

TEST(Json, NumbersAreNumbersAndDefaultsAreThere) {
  v1::Report report;
  report.set_spec_text("int8");
  report.set_weight_bytes(int64_t{1} << 53);
  report.mutable_latency()->set_nanos(1'500'000);
  report.add_layers()->set_node("c1");
  const Json json = ToJson(report);
  EXPECT_EQ(json["spec_text"], "int8");
  EXPECT_EQ(json["weight_bytes"], int64_t{1} << 53);
  EXPECT_EQ(json["latency"], 0.0015);
  EXPECT_EQ(json["layers"][0]["node"], "c1");
  EXPECT_EQ(json["layers"][0]["reason"], "");
  EXPECT_EQ(json["sample_count"], 0);
  EXPECT_FALSE(json.contains("top1_agreement_ratio"));  // optional and not set
  EXPECT_FALSE(json.contains("fp32_latency"));          // a message that is not set
}

TEST(Json, EnumsMapsTimesAndBytes) {
  v1::Variant variant;
  variant.set_state(v1::VARIANT_STATE_LOADED);
  variant.mutable_create_time()->set_seconds(0);
  (*variant.mutable_spec()->mutable_op_overrides())["Softmax"] = v1::WEIGHT_TYPE_FP32;
  const Json json = ToJson(variant);
  EXPECT_EQ(json["state"], "VARIANT_STATE_LOADED");
  EXPECT_EQ(json["create_time"], "1970-01-01T00:00:00Z");
  EXPECT_EQ(json["spec"]["op_overrides"]["Softmax"], "WEIGHT_TYPE_FP32");
  v1::Tensor tensor;
  tensor.set_data("\xff");
  EXPECT_FALSE(ToJson(tensor).contains("data"));
}

TEST(Selector, HexadecimalDigitsAreAnIdAndAnythingElseASpec) {
  EXPECT_EQ(ParseSelector("").variant_case(), v1::VariantSelector::VARIANT_NOT_SET);
  EXPECT_EQ(ParseSelector("int8").spec_text(), "int8");
  EXPECT_EQ(ParseSelector("bf16").spec_text(), "bf16");
  EXPECT_EQ(ParseSelector("int8/per-tensor/static").spec_text(), "int8/per-tensor/static");
  EXPECT_EQ(ParseSelector("DEADBEEF").variant_id(), "deadbeef");
  EXPECT_EQ(ParseSelector("deadbee").spec_text(), "deadbee");  // too short: the server explains
}

TEST(Calibration, SetGoesBeforeTheOverrides) {
  EXPECT_EQ(WithCalibrationSet("int8", ""), "int8");
  EXPECT_EQ(WithCalibrationSet("int8/per-tensor/static", "x"), "int8/per-tensor/static/calib=x");
  EXPECT_EQ(WithCalibrationSet("int8;op=Softmax=fp32", "x"), "int8/calib=x;op=Softmax=fp32");
}

TEST(Wire, EveryWireTypeRoundTripsThroughTheProto) {
  for (const DataTypeInfo& info : kDataTypes) {
    if (info.wire_name.empty()) {
      EXPECT_EQ(ToProto(info.type), v1::DATA_TYPE_UNSPECIFIED);
      continue;
    }
    HT_ASSERT_OK_AND_ASSIGN(const DataType back, FromProto(ToProto(info.type)));
    EXPECT_EQ(back, info.type);
  }
  EXPECT_FALSE(FromProto(v1::DATA_TYPE_UNSPECIFIED).ok());
  EXPECT_FALSE(FromProto(static_cast<v1::DataType>(99)).ok());
}

TEST(Wire, TensorsMustHaveAllTheirBytes) {
  v1::Tensor tensor = ToProto("x", Tensor::Of<float>({2}, {1, 2}));
  HT_ASSERT_OK_AND_ASSIGN(const Tensor back, FromProto(tensor));
  EXPECT_THAT(back.data<float>(), testing::ElementsAre(1, 2));
  tensor.mutable_data()->pop_back();
  EXPECT_THAT(FromProto(tensor),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tensor 'x': got 7 bytes")));
}

TEST(Report, ListsTheWorstLayersFirst) {
  v1::Report report;
  for (const double db : {40.0, 999.0, 12.5, 30.0}) {
    v1::LayerReport* layer = report.add_layers();
    layer->set_node(absl::StrCat("n", db));
    layer->set_sqnr_db(db);
  }
  const std::string text = WorstLayers(report.layers(), 2).Text();
  EXPECT_LT(text.find("n12.5"), text.find("n30"));
  EXPECT_EQ(text.find("n40"), std::string::npos);
  EXPECT_EQ(text.find("n999"), std::string::npos);
}

TEST(Report, SummaryHasWarningsAndNoEmptyClassifierFigure) {
  v1::Report report;
  report.set_spec_text("int8/per-channel/static");
  report.set_sqnr_db(33.3);
  report.add_warnings("layer 'head' loses most");
  EXPECT_THAT(ReportSummary(report), HasSubstr("33.3 dB"));
  EXPECT_THAT(ReportSummary(report), HasSubstr("not a classifier"));
  EXPECT_THAT(ReportSummary(report), HasSubstr("warning: layer 'head' loses most\n"));
  report.set_top1_agreement_ratio(0.995);
  EXPECT_THAT(ReportSummary(report), HasSubstr("99.50 %"));
}

}  // namespace
}  // namespace halftone
