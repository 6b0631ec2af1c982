#include "tests/models/labelled_models.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/image/decode.h"
#include "core/onnx/import.h"
#include "core/passes/pass.h"
#include "core/quant/error_stats.h"
#include "tests/testing/npy.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

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

std::string DataPath(const LabelledModel& m, const std::string& name) {
  return (fs::path(ModelsFolder()) / "_data" / m.data / name).string();
}

// All files of the folder by name: one image each.
absl::StatusOr<Tensor> ReadPhotographs(const std::string& folder) {
  std::vector<std::string> paths;
  for (const auto& entry : fs::directory_iterator(folder)) paths.push_back(entry.path().string());
  std::sort(paths.begin(), paths.end());
  HT_ASSIGN_OR_RETURN(
      Tensor all, Tensor::Create(DataType::kU8, {static_cast<int64_t>(paths.size()), 224, 224, 3}));
  auto to = all.mutable_data<uint8_t>().begin();
  for (const std::string& path : paths) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes(std::istreambuf_iterator<char>(file), {});
    HT_ASSIGN_OR_RETURN(
        const Tensor image,
        DecodeImage(
            absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()),
            PixelFormat::kRgb));
    const auto from = image.data<uint8_t>();
    to = std::copy(from.begin(), from.end(), to);
  }
  return all;
}

absl::StatusOr<std::vector<std::vector<Tensor>>> LoadRequests(const LabelledModel& m,
                                                              const std::vector<std::string>& files,
                                                              const nlohmann::json& preprocess,
                                                              int max_rows, int batch) {
  std::vector<Tensor> whole;
  for (const std::string& file : files) {
    const bool photographs = fs::is_directory(DataPath(m, file));
    HT_ASSIGN_OR_RETURN(const Tensor t, photographs ? ReadPhotographs(DataPath(m, file))
                                                    : ReadNpy(DataPath(m, file + ".npy")));
    whole.push_back(t.type() == DataType::kU8 ? Preprocess(t, preprocess) : t);
  }
  const int64_t rows = std::min<int64_t>(whole[0].dim(0), max_rows);
  std::vector<std::vector<Tensor>> requests;
  for (int64_t at = 0; at < rows; at += batch) {
    auto& request = requests.emplace_back();
    const int64_t count = std::min<int64_t>(batch, rows - at);
    for (const Tensor& t : whole) request.push_back(Rows(t, at, count));
  }
  return requests;
}

}  // namespace

const std::vector<LabelledModel>& LabelledModels() {
  static const auto& models = *new std::vector<LabelledModel>{
      {.name = "breast_cancer_mlp",
       .data = "breast_cancer",
       .calibration = {"calib_input"},
       .test = {"test_input"},
       .hostile = true,
       .ort_static = 0.588},
      {.name = "cifar_dwnet", .data = "cifar10", .ort_static = 0.656},
      {.name = "cifar_resnet20", .data = "cifar10", .ort_static = 0.823},
      {.name = "digits_resnet", .data = "digits32"},
      {.name = "magika_v3_3",
       .data = "magika",
       .calibration = {"published_bytes"},
       .test = {"test_bytes"},
       .batch = 1,
       .hostile = true,
       .ort_static = 0.112},
      {.name = "mlperf_ic_resnet8", .data = "cifar10", .ort_static = 0.767},
      {.name = "mlperf_icl_resnet", .data = "cifar10", .ort_static = 0.813},
      {.name = "mnist_cntk", .data = "mnist", .batch = 1, .ort_static = 0.992},
      {.name = "mnist_lenet", .data = "mnist", .ort_static = 0.99},
      {.name = "mnist_mlp", .data = "mnist", .ort_static = 0.972},
      {.name = "mnist_vit", .data = "mnist", .ort_static = 0.965},
      {.name = "trec_transformer",
       .data = "trec",
       .calibration = {"calib_input_ids", "calib_attention_mask"},
       .test = {"test_input_ids", "test_attention_mask"},
       .ort_static = 0.869}};
  return models;
}

const LabelledModel& ImagenetModel() {
  static const auto& model = *new LabelledModel{.name = "imagenet_mobilenetv1_025",
                                                .data = "imagenet_sample",
                                                .calibration = {"calib"},
                                                .test = {"test"},
                                                .batch = 1,
                                                .hostile = true,
                                                .ort_static = 0.427};
  return model;
}

bool IsThere(const LabelledModel& m) {
  return fs::exists(fs::path(ModelsFolder()) / m.name / "model.onnx");
}

absl::StatusOr<LabelledData> Load(const LabelledModel& m, int max_test_rows,
                                  int calibration_batch) {
  if (calibration_batch == 0) calibration_batch = m.batch;
  const fs::path folder = fs::path(ModelsFolder()) / m.name;
  std::ifstream file(folder / "meta.json");
  const nlohmann::json meta = nlohmann::json::parse(file);
  const nlohmann::json preprocess = meta.value("preprocess", nlohmann::json());
  LabelledData out;
  HT_ASSIGN_OR_RETURN(out.fp32, ImportOnnxFile((folder / "model.onnx").string()));
  HT_RETURN_IF_ERROR(RunPasses(out.fp32, PortablePasses()));
  out.calibration = {.name = m.data, .digest = "-"};
  HT_ASSIGN_OR_RETURN(out.calibration.samples,
                      LoadRequests(m, m.calibration, preprocess, 1 << 20, calibration_batch));
  HT_ASSIGN_OR_RETURN(out.test, LoadRequests(m, m.test, preprocess, max_test_rows, m.batch));
  HT_ASSIGN_OR_RETURN(const Tensor labels, ReadNpy(DataPath(m, "test_labels.npy")));
  HT_ASSIGN_OR_RETURN(out.labels, ToInt64s(labels));
  return out;
}

absl::StatusOr<Logits> RunAll(const Graph& graph,
                              const std::vector<std::vector<Tensor>>& requests) {
  HT_ASSIGN_OR_RETURN(const RunnableGraph ready, PlanRunner(1)(graph.Clone()));
  Logits logits;
  for (const auto& request : requests) {
    HT_ASSIGN_OR_RETURN(const std::vector<Tensor> out, ready.run(request));
    logits.classes = out[0].dim(out[0].rank() - 1);
    const auto values = out[0].data<float>();
    logits.values.insert(logits.values.end(), values.begin(), values.end());
  }
  return logits;
}

double AccuracyOf(const Logits& logits, const Shape& labels) {
  const auto classes = static_cast<size_t>(logits.classes);
  const size_t rows = logits.values.size() / classes;
  int right = 0;
  for (size_t i = 0; i < rows; ++i) {
    right += ArgMax(absl::MakeConstSpan(logits.values).subspan(i * classes, classes)) == labels[i];
  }
  return static_cast<double>(right) / static_cast<double>(rows);
}

}  // namespace halftone
