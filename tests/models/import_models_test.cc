// Every real model imports, keeps its meaning through the portable passes, and survives a round
// trip through a file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/onnx/export.h"
#include "core/onnx/import.h"
#include "core/ops/evaluate.h"
#include "core/passes/pass.h"
#include "core/passes/raise_opset.h"
#include "tests/testing/npy.h"
#include "tests/testing/random_tensor.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

// The expected files come from an engine that sums in another order.
constexpr float kTolerance = 1e-4f;
// Integer kernels round elsewhere: a QDQ model agrees to a few quantization steps only.
constexpr float kQuantizedTolerance = 6e-2f;

std::vector<std::string> ModelNames() {
  std::vector<std::string> names;
  const std::string folder = ModelsFolder();
  if (folder.empty()) return names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (fs::exists(entry.path() / "model.onnx")) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class RealModel : public testing::TestWithParam<std::string> {
 protected:
  fs::path folder() const { return fs::path(ModelsFolder()) / GetParam(); }
  absl::StatusOr<Graph> Load() const { return ImportOnnxFile((folder() / "model.onnx").string()); }

  absl::StatusOr<std::vector<Tensor>> ReadSet0(absl::string_view kind, size_t count) const {
    std::vector<Tensor> out;
    const fs::path files = folder() / (kind == "in" ? "inputs" : "expected");
    for (size_t i = 0; i < count; ++i) {
      absl::StatusOr<Tensor> t = ReadNpy((files / absl::StrCat("set0_", kind, i, ".npy")).string());
      if (!t.ok()) return t.status();
      out.push_back(*std::move(t));
    }
    return out;
  }

  void ExpectComputesExpected(const Graph& graph, absl::string_view what) const {
    HT_ASSERT_OK_AND_ASSIGN(const auto inputs, ReadSet0("in", graph.inputs().size()));
    HT_ASSERT_OK_AND_ASSIGN(const auto want, ReadSet0("out", graph.outputs().size()));
    HT_ASSERT_OK_AND_ASSIGN(const auto got, EvaluateGraph(graph, inputs));
    const bool quantized = absl::EndsWith(GetParam(), "_qat") || absl::EndsWith(GetParam(), "_qdq");
    const Tolerance tolerance = {quantized ? kQuantizedTolerance : kTolerance, 1e-30f};
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_LE(Disagreement(got[i], want[i], tolerance), 1) << what << ", output " << i;
    }
  }
};

TEST_P(RealModel, ComputesTheExpectedOutputs) {
  HT_ASSERT_OK_AND_ASSIGN(const Graph graph, Load());
  HT_ASSERT_OK(SignatureOf(graph));
  ExpectComputesExpected(graph, "as imported");
}

TEST_P(RealModel, StillDoesAfterThePortablePasses) {
  HT_ASSERT_OK_AND_ASSIGN(Graph graph, Load());
  HT_ASSERT_OK_AND_ASSIGN(const Signature before, SignatureOf(graph));
  HT_ASSERT_OK(RunPasses(graph, PortablePasses()));
  HT_ASSERT_OK_AND_ASSIGN(const Signature after, SignatureOf(graph));
  for (size_t i = 0; i < before.outputs.size(); ++i) {
    EXPECT_EQ(after.outputs[i].name, before.outputs[i].name);
  }
  for (const Node* node : graph.nodes()) EXPECT_NE(node->op(), "BatchNormalization");
  ExpectComputesExpected(graph, "after the portable passes");
}

TEST_P(RealModel, StillDoesAtOpset21AndBackFromAFile) {
  HT_ASSERT_OK_AND_ASSIGN(Graph graph, Load());
  HT_ASSERT_OK(RaiseOpset(graph, 21));
  HT_ASSERT_OK(graph.Verify());
  HT_ASSERT_OK_AND_ASSIGN(const std::string bytes, ExportOnnxInline(graph));
  HT_ASSERT_OK_AND_ASSIGN(const Graph back,
                          ImportOnnx(absl::MakeConstSpan(
                              reinterpret_cast<const std::byte*>(bytes.data()), bytes.size())));
  EXPECT_EQ(back.opset(), 21);
  ExpectComputesExpected(back, "at opset 21");
}

INSTANTIATE_TEST_SUITE_P(Models, RealModel, testing::ValuesIn(ModelNames()),
                         [](const auto& info) { return info.param; });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RealModel);

TEST(RealModels, ArePresent) {
  if (ModelsFolder().empty()) GTEST_SKIP() << "no model folder: set HALFTONE_MODELS";
  EXPECT_GT(ModelNames().size(), 20u);
}

}  // namespace
}  // namespace halftone
