// Models with labelled data: how each is fed, and how often its answers are right.
#ifndef HALFTONE_TESTS_MODELS_LABELLED_MODELS_H_
#define HALFTONE_TESTS_MODELS_LABELLED_MODELS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/graph/graph.h"
#include "core/variant/build_variant.h"

namespace halftone {

struct LabelledModel {
  std::string name;
  std::string data;  // folder under _data
  // .npy files, parallel to the inputs; or one folder of <class>.jpg.
  std::vector<std::string> calibration = {"calib_images"};
  std::vector<std::string> test = {"test_images"};
  int batch = 25;  // rows per request; 1 where the model says so
  // Known to lose on the way to int8: the report has to say so.
  bool hostile = false;
  int max_test = 600;  // rows; enough to see a loss of a point, and a run of all takes a minute
  // Best accuracy of any of ONNX Runtime's static int8 columns in the models' README; 0: it has
  // none.
  double ort_static = 0;
};

// Those whose inputs are .npy files.
const std::vector<LabelledModel>& LabelledModels();
// 224x224 photographs, and what is lost to 8-bit activations is much.
const LabelledModel& ImagenetModel();

bool IsThere(const LabelledModel& model);

struct LabelledData {
  Graph fp32{"empty"};  // after the portable passes
  SampleSet calibration;
  std::vector<std::vector<Tensor>> test;  // requests
  Shape labels;
};
// `calibration_batch`: rows per calibration request, 0: as many as the model's test requests.
absl::StatusOr<LabelledData> Load(const LabelledModel& model, int max_test_rows,
                                  int calibration_batch = 0);

// The first output's rows for all requests, one after the other.
struct Logits {
  std::vector<float> values;
  int64_t classes = 1;
};
absl::StatusOr<Logits> RunAll(const Graph& graph, const std::vector<std::vector<Tensor>>& requests);
double AccuracyOf(const Logits& logits, const Shape& labels);

}  // namespace halftone

#endif  // HALFTONE_TESTS_MODELS_LABELLED_MODELS_H_
