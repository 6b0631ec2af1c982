// Models that others quantized, most of them trained with it: their own scales, on integer kernels.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/exec/plan.h"
#include "core/onnx/import.h"
#include "core/passes/pass.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

struct QatModel {
  std::string name;
  int integer_steps;                   // that multiply and accumulate on integers
  std::vector<std::string> float_ops;  // of those that do not: nothing in the file quantizes them
};

std::string Folder() {
  const char* set = std::getenv("HALFTONE_MODELS");
  return set != nullptr ? set : "../shared/models";
}

// Every scale and zero point of the graph's quantization, as text.
std::set<std::string> Scales(const Graph& graph) {
  std::set<std::string> out;
  for (const Node* node : graph.nodes()) {
    if (!absl::EndsWith(node->op(), "QuantizeLinear") &&
        !absl::EndsWith(node->op(), "DequantizeLinear")) {
      continue;
    }
    const Value* scale = node->input(1);
    out.insert(scale->is_constant() ? scale->constant().ToString(1 << 20)
                                    : absl::StrCat(node->name(), ": not constant"));
  }
  return out;
}

class QatModels : public testing::TestWithParam<QatModel> {};

TEST_P(QatModels, RunOnIntegersWithTheirOwnScales) {
  const fs::path file = fs::path(Folder()) / GetParam().name / "model.onnx";
  if (!fs::exists(file)) GTEST_SKIP() << "no " << file << " (set HALFTONE_MODELS)";
  HT_ASSERT_OK_AND_ASSIGN(Graph graph, ImportOnnxFile(file.string()));
  const std::set<std::string> scales = Scales(graph);
  EXPECT_GT(scales.size(), 3u);
  HT_ASSERT_OK(RunPasses(graph, PortablePasses()));
  EXPECT_EQ(Scales(graph), scales);
  HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(std::move(graph), {}));
  std::vector<Shape> shapes;
  for (const TensorSignature& input : plan->signature().inputs) {
    for (Shape& shape = shapes.emplace_back(); const Dim& d : input.shape) {
      shape.push_back(d.known() ? d.value : 1);
    }
  }
  HT_ASSERT_OK_AND_ASSIGN(const std::vector<StepInfo> steps, plan->Describe(shapes));
  int integer_steps = 0;
  std::vector<std::string> float_ops;
  std::string dump;
  for (const StepInfo& step : steps) {
    absl::StrAppend(&dump, step.node, " | ", step.op, " | ", step.rule, " | ", step.precision,
                    " | ", step.detail, "\n");
    if (step.rule != "conv" && step.rule != "depthwise" && step.rule != "matmul") continue;
    if (step.precision == "u8s8" || step.precision == "s8s8") {
      ++integer_steps;
    } else {
      float_ops.push_back(absl::StrCat(step.op, ": ", step.precision));
    }
  }
  if (!DetectCpuFeatures().vnni) GTEST_SKIP() << "no VNNI: full-range weights run as floats";
  EXPECT_EQ(integer_steps, GetParam().integer_steps) << dump;
  EXPECT_EQ(float_ops, GetParam().float_ops) << dump;
}

INSTANTIATE_TEST_SUITE_P(All, QatModels,
                         testing::Values(QatModel{"mnist_lenet_qat", 4, {}},
                                         QatModel{"cifar_resnet20_qat", 20, {}},
                                         QatModel{"mnist_vit_qat", 20, {}},
                                         QatModel{"mlperf_icl_int8_qdq", 10, {}}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace halftone
