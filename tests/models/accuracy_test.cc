// What quantization costs real, labelled models: every precision against fp32 on data that
// calibration never saw.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/onnx/import.h"
#include "core/passes/pass.h"
#include "core/quant/error_stats.h"
#include "core/variant/build_variant.h"
#include "tests/testing/npy.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

// How one labelled model is fed: files of its data set, one per graph input.
struct LabelledModel {
  std::string name;
  std::string data;  // folder under _data
  // .npy files, parallel to the inputs.
  std::vector<std::string> calibration = {"calib_images"};
  std::vector<std::string> test = {"test_images"};
  int batch = 25;  // rows per request; 1 where the model says so
  // Known to lose on the way to int8: the report has to say so.
  bool hostile = false;
  int max_test = 600;  // rows; enough to see a loss of a point, and a run of all takes a minute
};

const std::vector<LabelledModel>& Models() {
  static const auto& models =
      *new std::vector<LabelledModel>{{.name = "breast_cancer_mlp",
                                       .data = "breast_cancer",
                                       .calibration = {"calib_input"},
                                       .test = {"test_input"},
                                       .hostile = true},
                                      {.name = "cifar_dwnet", .data = "cifar10"},
                                      {.name = "cifar_resnet20", .data = "cifar10"},
                                      {.name = "digits_resnet", .data = "digits32"},
                                      {.name = "magika_v3_3",
                                       .data = "magika",
                                       .calibration = {"published_bytes"},
                                       .test = {"test_bytes"},
                                       .batch = 1,
                                       .hostile = true},
                                      {.name = "mlperf_ic_resnet8", .data = "cifar10"},
                                      {.name = "mlperf_icl_resnet", .data = "cifar10"},
                                      {.name = "mnist_cntk", .data = "mnist", .batch = 1},
                                      {.name = "mnist_lenet", .data = "mnist"},
                                      {.name = "mnist_mlp", .data = "mnist"},
                                      {.name = "mnist_vit", .data = "mnist"},
                                      {.name = "trec_transformer",
                                       .data = "trec",
                                       .calibration = {"calib_input_ids", "calib_attention_mask"},
                                       .test = {"test_input_ids", "test_attention_mask"}}};
  return models;
}

// u8 images as the model wants them: (u8 * scale - mean) / std, in the layout of meta.json.
Tensor Preprocess(const Tensor& images, const nlohmann::json& how) {
  const std::string layout = how.at("layout");
  const float scale = how.at("scale");
  const auto mean = how.at("mean").get<std::vector<float>>();
  const auto deviation = how.at("std").get<std::vector<float>>();
  const int64_t n = images.dim(0), h = images.dim(1), w = images.dim(2);
  const int64_t c = images.rank() == 4 ? images.dim(3) : 1;
  const bool channels_last = absl::StrContains(layout, "kept NHWC");
  const Shape shape = channels_last ? Shape{n, h, w, c} : Shape{n, c, h, w};
  Tensor out = Tensor::Create(DataType::kF32, shape).value();
  const auto from = images.data<uint8_t>();
  const auto to = out.mutable_data<float>();
  for (int64_t i = 0; i < static_cast<int64_t>(from.size()); ++i) {
    const int64_t channel = i % c, pixel = i / c % (h * w), image = i / c / (h * w);
    const float x = (static_cast<float>(from[i]) * scale - mean[channel]) / deviation[channel];
    to[channels_last ? i : (image * c + channel) * h * w + pixel] = x;
  }
  return out;
}

Tensor Rows(const Tensor& t, int64_t first, int64_t count) {
  Shape shape = t.shape();
  const int64_t row_bytes = t.num_bytes() / shape[0];
  shape[0] = count;
  return Tensor::FromBuffer(t.type(), shape, t.buffer(),
                            t.buffer_offset() + static_cast<size_t>(first * row_bytes))
      .value();
}

class Accuracy : public testing::TestWithParam<LabelledModel> {
 protected:
  void SetUp() override {
    const LabelledModel& m = GetParam();
    const fs::path folder = fs::path(ModelsFolder()) / m.name;
    if (!fs::exists(folder / "model.onnx")) GTEST_SKIP() << "no model " << m.name;
    std::ifstream file(folder / "meta.json");
    meta_ = nlohmann::json::parse(file);
    absl::StatusOr<Graph> graph = ImportOnnxFile((folder / "model.onnx").string());
    ASSERT_THAT(graph, IsOk());
    fp32_ = *std::move(graph);
    HT_ASSERT_OK(RunPasses(fp32_, PortablePasses()));
    calibration_ = {.name = m.data, .digest = "-", .samples = Load(m.calibration, 1 << 20)};
    test_ = Load(m.test, m.max_test);
    HT_ASSERT_OK_AND_ASSIGN(const Tensor labels, ReadNpy(DataFile("test_labels")));
    HT_ASSERT_OK_AND_ASSIGN(labels_, ToInt64s(labels));
    HT_ASSERT_OK_AND_ASSIGN(fp32_logits_, Run(fp32_));
  }

  std::string DataFile(const std::string& name) const {
    return (fs::path(ModelsFolder()) / "_data" / GetParam().data / (name + ".npy")).string();
  }

  std::vector<std::vector<Tensor>> Load(const std::vector<std::string>& files, int max_rows) {
    std::vector<Tensor> whole;
    for (const std::string& file : files) {
      const Tensor t = ReadNpy(DataFile(file)).value();
      whole.push_back(t.type() == DataType::kU8 ? Preprocess(t, meta_.at("preprocess")) : t);
    }
    const int64_t rows = std::min<int64_t>(whole[0].dim(0), max_rows);
    std::vector<std::vector<Tensor>> requests;
    for (int64_t at = 0; at < rows; at += GetParam().batch) {
      auto& request = requests.emplace_back();
      const int64_t count = std::min<int64_t>(GetParam().batch, rows - at);
      for (const Tensor& t : whole) request.push_back(Rows(t, at, count));
    }
    return requests;
  }

  // The first output's rows for the whole test part, one after the other.
  absl::StatusOr<std::vector<float>> Run(const Graph& graph) {
    absl::StatusOr<RunnableGraph> ready = PlanRunner(1)(graph.Clone());
    if (!ready.ok()) return ready.status();
    std::vector<float> logits;
    for (const auto& request : test_) {
      const auto out = ready->run(request);
      if (!out.ok()) return out.status();
      classes_ = (*out)[0].dim((*out)[0].rank() - 1);
      const auto values = (*out)[0].data<float>();
      logits.insert(logits.end(), values.begin(), values.end());
    }
    return logits;
  }

  double AccuracyOf(const std::vector<float>& logits) const {
    const size_t rows = logits.size() / classes_;
    int right = 0;
    for (size_t i = 0; i < rows; ++i) {
      right += ArgMax(absl::MakeConstSpan(logits).subspan(i * classes_, classes_)) == labels_[i];
    }
    return static_cast<double>(right) / rows;
  }
  double AgreementOf(const std::vector<float>& logits) const {
    Top1Agreement top1;
    top1.Add(fp32_logits_, logits, classes_);
    return top1.agreement();
  }

  struct Result {
    VariantReport report;
    double accuracy = 0, agreement = 0;
  };
  absl::StatusOr<Result> Measure(const std::string& spec) {
    const QuantSpec parsed = QuantSpec::Parse(spec).value();
    auto built = BuildVariant(fp32_, parsed,
                              {.threads = 1, .samples = &calibration_, .measure_latency = false});
    if (!built.ok()) return built.status();
    const auto logits = Run(built->graph);
    if (!logits.ok()) return logits.status();
    Result r{built->report, AccuracyOf(*logits), AgreementOf(*logits)};
    std::cout << GetParam().name << " " << spec << ": accuracy " << r.accuracy << " (fp32 "
              << AccuracyOf(fp32_logits_) << "), agreement " << r.agreement << ", report "
              << r.report.sqnr_db << " dB\n";
    return r;
  }

  Graph fp32_{"empty"};
  nlohmann::json meta_;
  SampleSet calibration_;
  std::vector<std::vector<Tensor>> test_;
  Shape labels_;
  std::vector<float> fp32_logits_;
  int64_t classes_ = 1;
};

TEST_P(Accuracy, Fp32AgreesWithTheRecordedLogits) {
  const fs::path file = fs::path(ModelsFolder()) / GetParam().name / "expected" / "test_logits.npy";
  HT_ASSERT_OK_AND_ASSIGN(const Tensor recorded, ReadNpy(file.string()));
  const auto want = recorded.data<float>().subspan(0, fp32_logits_.size());
  Top1Agreement top1;
  top1.Add(want, fp32_logits_, classes_);
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
    EXPECT_GE(r.accuracy, AccuracyOf(fp32_logits_) - 0.01) << warnings;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Accuracy, testing::ValuesIn(Models()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace halftone
