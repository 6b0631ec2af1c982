// What quantization costs real, labelled models: every precision against fp32 on data that
// calibration never saw.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/quant/error_stats.h"
#include "core/variant/build_variant.h"
#include "tests/models/labelled_models.h"
#include "tests/testing/npy.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

class Accuracy : public testing::TestWithParam<LabelledModel> {
 protected:
  void SetUp() override {
    const LabelledModel& m = GetParam();
    if (!IsThere(m)) GTEST_SKIP() << "no model " << m.name;
    HT_ASSERT_OK_AND_ASSIGN(data_, Load(m, m.max_test));
    HT_ASSERT_OK_AND_ASSIGN(fp32_logits_, RunAll(data_.fp32, data_.test));
  }

  double AgreementOf(const Logits& logits) const {
    Top1Agreement top1;
    top1.Add(fp32_logits_.values, logits.values, logits.classes);
    return top1.agreement();
  }

  struct Result {
    VariantReport report;
    double accuracy = 0, agreement = 0;
  };
  absl::StatusOr<Result> Measure(const std::string& spec) {
    const QuantSpec parsed = QuantSpec::Parse(spec).value();
    auto built =
        BuildVariant(data_.fp32, parsed,
                     {.threads = 1, .samples = &data_.calibration, .measure_latency = false});
    if (!built.ok()) return built.status();
    const auto logits = RunAll(built->graph, data_.test);
    if (!logits.ok()) return logits.status();
    Result r{built->report, AccuracyOf(*logits, data_.labels), AgreementOf(*logits)};
    std::cout << GetParam().name << " " << spec << ": accuracy " << r.accuracy << " (fp32 "
              << AccuracyOf(fp32_logits_, data_.labels) << "), agreement " << r.agreement
              << ", report " << r.report.sqnr_db << " dB\n";
    return r;
  }

  LabelledData data_;
  Logits fp32_logits_;
};

TEST_P(Accuracy, Fp32AgreesWithTheRecordedLogits) {
  const std::string file =
      absl::StrCat(ModelsFolder(), "/", GetParam().name, "/expected/test_logits.npy");
  HT_ASSERT_OK_AND_ASSIGN(const Tensor recorded, ReadNpy(file));
  const auto want = recorded.data<float>().subspan(0, fp32_logits_.values.size());
  Top1Agreement top1;
  top1.Add(want, fp32_logits_.values, fp32_logits_.classes);
  EXPECT_EQ(top1.agreement(), 1.0);
}

TEST_P(Accuracy, Fp16AgreesWithFp32) {
  HT_ASSERT_OK_AND_ASSIGN(const Result r, Measure("fp16"));
  EXPECT_GE(r.agreement, 0.995);
}

TEST_P(Accuracy, Bf16AgreesWithFp32) {
  HT_ASSERT_OK_AND_ASSIGN(const Result r, Measure("bf16"));
  EXPECT_GE(r.agreement, 0.985);
}

TEST_P(Accuracy, StaticInt8LosesAtMostOnePointOrSaysSo) {
  HT_ASSERT_OK_AND_ASSIGN(const Result r, Measure("int8/per-channel/static"));
  const std::string warnings = testing::PrintToString(r.report.warnings);
  if (GetParam().hostile) {
    EXPECT_THAT(warnings, testing::HasSubstr("worst layers: ")) << r.accuracy;
  } else {
    EXPECT_GE(r.accuracy, AccuracyOf(fp32_logits_, data_.labels) - 0.01) << warnings;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Accuracy, testing::ValuesIn(LabelledModels()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace halftone
