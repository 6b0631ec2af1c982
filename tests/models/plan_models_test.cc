// Real models on the executor: fp32 outputs against the publisher's (or ONNX Runtime's) results.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>

#include "core/exec/plan.h"
#include "core/onnx/import.h"
#include "core/passes/pass.h"
#include "tests/testing/npy.h"
#include "tests/testing/random_tensor.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

fs::path ModelsFolder() {
  const char* set = std::getenv("HALFTONE_MODELS");
  return set != nullptr ? fs::path(set) : fs::path("../shared/models");
}

std::vector<std::string> ModelNames() {
  std::set<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(ModelsFolder(), ignored)) {
    if (fs::exists(entry.path() / "model.onnx")) names.insert(entry.path().filename());
  }
  if (names.empty()) names.insert("none");
  return {names.begin(), names.end()};
}

// The tensors of one recorded call; empty when there is no such set.
std::vector<Tensor> ReadSet(const fs::path& folder, int set, const std::string& kind,
                            size_t count) {
  std::vector<Tensor> out;
  for (size_t i = 0; i < count; ++i) {
    const fs::path file =
        folder / ("set" + std::to_string(set) + "_" + kind + std::to_string(i) + ".npy");
    if (!fs::exists(file)) return {};
    absl::StatusOr<Tensor> t = ReadNpy(file);
    EXPECT_THAT(t, IsOk()) << file;
    if (!t.ok()) return {};
    out.push_back(*std::move(t));
  }
  return out;
}

bool IsQuantized(const Graph& g) {
  for (const Node* node : g.nodes()) {
    if (node->op() == "DequantizeLinear") return true;
  }
  return false;
}

class PlanModels : public testing::TestWithParam<std::string> {};

TEST_P(PlanModels, OutputsMatchTheRecordedOnes) {
  if (GetParam() == "none") {
    GTEST_SKIP() << "no models in " << ModelsFolder() << " (set HALFTONE_MODELS)";
  }
  const fs::path folder = ModelsFolder() / GetParam();
  HT_ASSERT_OK_AND_ASSIGN(Graph g, ImportOnnxFile(folder / "model.onnx"));
  HT_ASSERT_OK(RunPasses(g, PortablePasses()));
  // Integer kernels round elsewhere than the recorded float evaluation of a QDQ graph does.
  const Tolerance tolerance = IsQuantized(g) ? Tolerance{6e-2f, 1e-6f} : Tolerance{1e-4f, 1e-7f};
  HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(std::move(g), {}));
  Context context(plan);
  int sets = 0;
  for (;; ++sets) {
    const auto inputs = ReadSet(folder / "inputs", sets, "in", plan->signature().inputs.size());
    if (inputs.empty()) break;
    const auto want = ReadSet(folder / "expected", sets, "out", plan->signature().outputs.size());
    ASSERT_FALSE(want.empty()) << "set " << sets;
    HT_ASSERT_OK_AND_ASSIGN(const std::vector<Tensor> got, context.Run(inputs));
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_LE(Disagreement(got[i], want[i], tolerance), 1)
          << "set " << sets << " output " << i << ": got " << got[i].ToString(4) << ", want "
          << want[i].ToString(4);
    }
  }
  EXPECT_GT(sets, 0);
}

// The same numbers, from mostly the same packed weights: oneDNN orders those of a few convolutions
// by the number of threads.
TEST_P(PlanModels, ATeamComputesTheSameBytes) {
  if (GetParam() == "none") {
    GTEST_SKIP() << "no models in " << ModelsFolder() << " (set HALFTONE_MODELS)";
  }
  const fs::path folder = ModelsFolder() / GetParam();
  HT_ASSERT_OK_AND_ASSIGN(Graph g, ImportOnnxFile(folder / "model.onnx"));
  HT_ASSERT_OK(RunPasses(g, PortablePasses()));
  HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(std::move(g), {}));
  const auto inputs = ReadSet(folder / "inputs", 0, "in", plan->signature().inputs.size());
  ASSERT_FALSE(inputs.empty());
  Context context(plan);
  HT_ASSERT_OK_AND_ASSIGN(const std::vector<Tensor> want, context.Run(inputs));
  const int64_t packed = plan->memory().packed_bytes;
  context.SetThreads(2);
  HT_ASSERT_OK_AND_ASSIGN(const std::vector<Tensor> got, context.Run(inputs));
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(got[i].bytes(), want[i].bytes()) << "output " << i;
  }
  EXPECT_LE(plan->memory().packed_bytes, packed + packed / 2);
}

// Three rows that differ: the recorded one, and less of it. Empty where the model takes no batch.
std::vector<Tensor> BatchOfThree(const Signature& signature, const std::vector<Tensor>& recorded) {
  std::vector<Tensor> batch;
  for (size_t i = 0; i < recorded.size(); ++i) {
    const TensorSignature& want = signature.inputs[i];
    const Tensor& row = recorded[i];
    if (want.shape.empty() || want.shape[0].known() || row.dim(0) != 1) return {};
    Shape shape = row.shape();
    shape[0] = 3;
    Tensor t = Tensor::Create(row.type(), shape).value();
    const size_t bytes = static_cast<size_t>(row.num_bytes());
    for (size_t r = 0; r < 3; ++r) std::memcpy(t.mutable_raw() + r * bytes, row.raw(), bytes);
    if (row.type() == DataType::kF32) {
      const absl::Span<float> x = t.mutable_data<float>();
      for (size_t k = 0; k < x.size(); ++k)
        x[k] *= 1 - 0.25f * static_cast<float>(3 * k / x.size());
    }
    batch.push_back(std::move(t));
  }
  return batch;
}

TEST_P(PlanModels, RowsOfABatchOneByOneAreTheBatch) {
  if (GetParam() == "none") {
    GTEST_SKIP() << "no models in " << ModelsFolder() << " (set HALFTONE_MODELS)";
  }
  const fs::path folder = ModelsFolder() / GetParam();
  HT_ASSERT_OK_AND_ASSIGN(Graph g, ImportOnnxFile(folder / "model.onnx"));
  HT_ASSERT_OK(RunPasses(g, PortablePasses()));
  HT_ASSERT_OK_AND_ASSIGN(const Signature signature, SignatureOf(g));
  const std::vector<Tensor> inputs =
      BatchOfThree(signature, ReadSet(folder / "inputs", 0, "in", signature.inputs.size()));
  if (inputs.empty()) GTEST_SKIP() << "takes no batch";
  std::vector<std::vector<Tensor>> answers;
  std::vector<Shape> shapes;
  for (const Tensor& t : inputs) shapes.push_back(t.shape());
  for (const int64_t limit : {int64_t{1} << 40, int64_t{1}}) {
    HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(g.Clone(), {.max_batch_bytes = limit}));
    HT_ASSERT_OK_AND_ASSIGN(const auto steps, plan->Describe(shapes));
    if (limit == 1) RecordProperty("first_step", steps[0].rule);
    EXPECT_FALSE(limit > 1 && steps[0].rule == "parts");
    Context context(plan);
    const auto got = context.Run(inputs);
    if (!got.ok()) GTEST_SKIP() << "takes no batch of three: " << got.status();
    answers.push_back(*got);
  }
  for (size_t i = 0; i < answers[0].size(); ++i) {
    // Kernels may sum in another order; then an integer of a quantized model may be another one.
    const Tolerance tolerance = IsQuantized(g) ? Tolerance{2e-2f, 1e-6f} : kAccumulate;
    EXPECT_LE(Disagreement(answers[1][i], answers[0][i], tolerance), 1) << "output " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(All, PlanModels, testing::ValuesIn(ModelNames()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace halftone
