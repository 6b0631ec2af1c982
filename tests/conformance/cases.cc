#include "tests/conformance/cases.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/exec/plan.h"
#include "core/onnx/import.h"
#include "core/ops/evaluate.h"
#include "core/passes/pass.h"
#include "core/passes/portable.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

using Tensors = std::vector<Tensor>;

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
std::string Difference(const Tensor& got, const Tensor& want, CaseTolerance tolerance) {
  if (got.type() != want.type() || got.shape() != want.shape()) {
    return absl::StrCat("got ", got.ToString(), ", want ", want.ToString());
  }
  if (BitWidth(got.type()) < 8 || !IsFloat(got.type())) {
    if (got.bytes() == want.bytes()) return "";
    return absl::StrCat("got ", got.ToString(), ", want ", want.ToString());
  }
  const absl::StatusOr<Tensor> a = Convert(got, DataType::kF64), b = Convert(want, DataType::kF64);
  if (!a.ok() || !b.ok()) return "conversion failed";
  for (int64_t i = 0; i < a->num_elements(); ++i) {
    const double x = a->data<double>()[i], y = b->data<double>()[i];
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    if (!(std::abs(x - y) <= tolerance.absolute + tolerance.relative * std::abs(y))) {
      return absl::StrCat("element ", i, ": got ", x, ", want ", y);
    }
  }
  return "";
}

absl::StatusOr<Tensors> ReadTensors(const fs::path& folder, const std::string& kind) {
  Tensors out;
  for (int i = 0;; ++i) {
    const fs::path path = folder / absl::StrCat(kind, "_", i, ".pb");
    if (!fs::exists(path)) return out;
    HT_ASSIGN_OR_RETURN(Tensor t, ReadTensor(path));
    out.push_back(std::move(t));
  }
}

// Some files store bf16 tensors as their bits.
void RestoreBFloat16(Tensor& t, std::optional<DataType> want) {
  if (t.type() == DataType::kU16 && want == DataType::kBF16) t = t.Reinterpreted(*want);
}

// Empty when types and shapes that inference finds, without what the file says about values that
// nodes compute, are those that evaluation gave.
std::string InferenceDifference(const Graph& imported, const Tensors& got) {
  Graph graph = imported.Clone();
  for (Value* v : graph.values()) {
    if (v->producer() != nullptr) v->set_type({});
  }
  if (const absl::Status s = InferShapes(graph); !s.ok()) return std::string(s.message());
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

absl::StatusOr<Tensors> RunPlan(const Graph& graph, const Tensors& inputs) {
  Graph optimised = graph.Clone();
  HT_RETURN_IF_ERROR(RunPasses(optimised, PortablePasses()));
  HT_ASSIGN_OR_RETURN(std::shared_ptr<const Plan> plan, Plan::Create(std::move(optimised), {}));
  return Context(std::move(plan)).Run(inputs);
}

// Empty when the road gave what was expected.
std::string Check(absl::string_view road, const absl::StatusOr<Tensors>& got,
                  const Tensors& expected, CaseTolerance tolerance) {
  if (!got.ok()) return absl::StrCat(road, ": ", got.status().message());
  if (got->size() != expected.size()) return absl::StrCat(road, ": ", got->size(), " outputs");
  for (size_t i = 0; i < expected.size(); ++i) {
    Tensor want = expected[i];
    RestoreBFloat16(want, (*got)[i].type());
    const std::string difference = Difference((*got)[i], want, tolerance);
    if (!difference.empty()) return absl::StrCat(road, ": output ", i, ": ", difference);
  }
  return "";
}

std::string RunDataSet(const Graph& graph, const fs::path& folder, CaseTolerance tolerance) {
  absl::StatusOr<Tensors> inputs = ReadTensors(folder, "input");
  if (!inputs.ok()) return std::string(inputs.status().message());
  const absl::StatusOr<Tensors> expected = ReadTensors(folder, "output");
  if (!expected.ok()) return std::string(expected.status().message());
  for (size_t i = 0; i < std::min(inputs->size(), graph.inputs().size()); ++i) {
    RestoreBFloat16((*inputs)[i], graph.inputs()[i]->type().type);
  }
  const absl::StatusOr<Tensors> got = EvaluateGraph(graph, *inputs);
  std::string problem = Check("reference", got, *expected, tolerance);
  if (problem.empty()) problem = InferenceDifference(graph, *got);
  if (problem.empty()) problem = Check("plan", RunPlan(graph, *inputs), *expected, tolerance);
  return problem;
}

}  // namespace

std::string RunCase(const fs::path& folder, CaseTolerance tolerance) {
  const absl::StatusOr<Graph> graph = ImportOnnxFile((folder / "model.onnx").string());
  if (!graph.ok()) return std::string(graph.status().message());
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!entry.is_directory()) continue;
    const std::string problem = RunDataSet(*graph, entry.path(), tolerance);
    if (!problem.empty()) return absl::StrCat(entry.path().filename().string(), ": ", problem);
  }
  return "";
}

fs::path GeneratedCases() {
  const char* root = std::getenv("HALFTONE_CONFORMANCE");
  return root == nullptr ? fs::path() : fs::path(root);
}

}  // namespace halftone
