// The ONNX backend node tests against the reference evaluations.
//
// Reads the folder that HALFTONE_NODE_TESTS names: one folder per case with model.onnx and
// test_data_set_N/{input,output}_M.pb, as the onnx package ships them. Skips without it.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/onnx/import.h"
#include "core/ops/evaluate.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

// Cases that the operators named cannot pass, with the reason.
const std::map<std::string, std::string>& KnownDifferences() {
  constexpr char kDefaults[] = "expands an ONNX function whose attribute defaults get lost";
  static const auto& cases = *new std::map<std::string, std::string>{
      {"test_blackmanwindow", kDefaults},
      {"test_blackmanwindow_symmetric", kDefaults},
      {"test_cast_FLOAT_to_BFLOAT16", "the expected values are cut off, ONNX says round to even"},
      {"test_hammingwindow", kDefaults},
      {"test_hannwindow", kDefaults},
      {"test_hannwindow_symmetric", kDefaults},
      {"test_mvn", kDefaults},
      {"test_qlinearmatmul_2D_int8_float32", "the expected -236 wraps to 20, ONNX says saturate"},
      {"test_resize_downsample_scales_cubic_align_corners",
       "expects a fractional output size in align_corners; runtimes use the real one"},
  };
  return cases;
}

std::string ReadFile(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// A protobuf field of wire type 2 (length-delimited).
std::string Field(int number, const std::string& bytes) {
  std::string out(1, static_cast<char>(number << 3 | 2));
  for (size_t n = bytes.size();; n >>= 7) {
    out.push_back(static_cast<char>((n & 0x7f) | (n > 0x7f ? 0x80 : 0)));
    if (n <= 0x7f) break;
  }
  return out + bytes;
}

// A serialized TensorProto becomes the initializer of a model, which the importer reads.
absl::StatusOr<Tensor> ReadTensor(const fs::path& path) {
  const std::string tensor = ReadFile(path) + Field(8, "x");  // the last name wins
  const std::string node = Field(1, "x") + Field(2, "y") + Field(4, "Identity");
  const std::string graph =
      Field(1, node) + Field(5, tensor) + Field(2, "g") + Field(12, Field(1, "y"));
  const std::string model = std::string("\x08\x08", 2) + Field(7, graph) +  // ir_version 8
                            Field(8, std::string("\x10\x10", 2));           // opset 16
  absl::StatusOr<Graph> imported = ImportOnnx(
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(model.data()), model.size()));
  if (!imported.ok()) return imported.status();
  const Value* x = imported->FindValue("x");
  if (x == nullptr || !x->is_constant()) return absl::InternalError("the tensor got lost");
  return x->constant();
}

// Empty when the tensors agree, else what differs.
std::string Difference(const Tensor& got, const Tensor& want) {
  if (got.type() != want.type() || got.shape() != want.shape()) {
    return absl::StrCat("got ", got.ToString(), ", want ", want.ToString());
  }
  if (BitWidth(got.type()) < 8) {
    return got.bytes() == want.bytes() ? "" : "packed elements differ";
  }
  if (!IsFloat(got.type())) {
    const bool equal = got.bytes() == want.bytes();
    return equal ? "" : absl::StrCat("got ", got.ToString(), ", want ", want.ToString());
  }
  const absl::StatusOr<Tensor> a = Convert(got, DataType::kF64), b = Convert(want, DataType::kF64);
  if (!a.ok() || !b.ok()) return "conversion failed";
  for (int64_t i = 0; i < a->num_elements(); ++i) {
    const double x = a->data<double>()[i], y = b->data<double>()[i];
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    // The tolerances of ONNX's own test runner.
    if (!(std::abs(x - y) <= 1e-7 + 1e-3 * std::abs(y))) {
      return absl::StrCat("element ", i, ": got ", x, ", want ", y);
    }
  }
  return "";
}

std::vector<Tensor> ReadTensors(const fs::path& folder, const std::string& kind) {
  std::vector<Tensor> out;
  for (int i = 0;; ++i) {
    const fs::path path = folder / absl::StrCat(kind, "_", i, ".pb");
    if (!fs::exists(path)) return out;
    absl::StatusOr<Tensor> t = ReadTensor(path);
    if (!t.ok()) {
      ADD_FAILURE() << path << ": " << t.status();
      return out;
    }
    out.push_back(*std::move(t));
  }
}

// Some files store bf16 tensors as their bits.
void RestoreBFloat16(Tensor& t, std::optional<DataType> want) {
  if (t.type() == DataType::kU16 && want == DataType::kBF16) t = t.Reinterpreted(*want);
}

// Shapes that inference claimed must be those that evaluation gave.
std::string InferenceDifference(const Graph& graph, const std::vector<Tensor>& got) {
  for (size_t i = 0; i < got.size(); ++i) {
    const ValueType& type = graph.outputs()[i]->type();
    if (type.type.has_value() && *type.type != got[i].type()) return "inferred another type";
    if (!type.shape.has_value()) continue;
    bool fits = type.shape->size() == got[i].shape().size();
    for (size_t d = 0; d < type.shape->size() && fits; ++d) {
      fits = !(*type.shape)[d].known() || (*type.shape)[d].value == got[i].dim(d);
    }
    if (!fits) return absl::StrCat("inferred ", ToString(type), ", got ", ToString(got[i].shape()));
  }
  return "";
}

// Empty when the case passes, else what is wrong.
std::string RunCase(const fs::path& folder, const Graph& graph) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!entry.is_directory()) continue;
    std::vector<Tensor> inputs = ReadTensors(entry.path(), "input");
    std::vector<Tensor> expected = ReadTensors(entry.path(), "output");
    for (size_t i = 0; i < std::min(inputs.size(), graph.inputs().size()); ++i) {
      RestoreBFloat16(inputs[i], graph.inputs()[i]->type().type);
    }
    const absl::StatusOr<std::vector<Tensor>> got = EvaluateGraph(graph, inputs);
    if (!got.ok()) return std::string(got.status().message());
    if (got->size() != expected.size()) return "wrong number of outputs";
    for (size_t i = 0; i < expected.size(); ++i) {
      RestoreBFloat16(expected[i], (*got)[i].type());
      const std::string difference = Difference((*got)[i], expected[i]);
      if (!difference.empty()) return absl::StrCat("output ", i, ": ", difference);
    }
    const std::string inference = InferenceDifference(graph, *got);
    if (!inference.empty()) return inference;
  }
  return "";
}

TEST(NodeCases, ReferenceEvaluationsAgreeWithOnnx) {
  const char* root = std::getenv("HALFTONE_NODE_TESTS");
  if (root == nullptr || !fs::is_directory(root)) {
    GTEST_SKIP() << "set HALFTONE_NODE_TESTS to a folder of ONNX backend node tests";
  }
  std::set<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(root)) {
    if (fs::exists(entry.path() / "model.onnx")) folders.insert(entry.path());
  }
  ASSERT_FALSE(folders.empty()) << root;
  int passed = 0, unsupported = 0;
  for (const fs::path& folder : folders) {
    const std::string name = folder.filename().string();
    const absl::StatusOr<Graph> graph = ImportOnnxFile((folder / "model.onnx").string());
    // The message of an input or initializer of a type that we do not have.
    const bool unknown_type = absl::StrContains(graph.status().message(), "has ONNX data type");
    if (absl::IsUnimplemented(graph.status()) || unknown_type) {
      ++unsupported;
      continue;
    }
    const std::string problem =
        graph.ok() ? RunCase(folder, *graph) : std::string(graph.status().message());
    if (KnownDifferences().contains(name)) {
      EXPECT_NE(problem, "") << name << " passes now: remove it from the known differences";
    } else {
      EXPECT_EQ(problem, "") << name;
      passed += problem.empty();
    }
  }
  std::cout << passed << " of " << folders.size() << " cases passed, " << unsupported
            << " need operators or types that Halftone does not have, " << KnownDifferences().size()
            << " known differences\n";
  EXPECT_GT(passed, 0);
}

}  // namespace
}  // namespace halftone
