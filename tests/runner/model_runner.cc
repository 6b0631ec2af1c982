// Runs small models on demand, for tests in Python that compare with ONNX and ONNX Runtime.
//
// One command per line on stdin, one line of JSON on stdout for each:
//
//   {"model": "m.onnx", "road": "plan", "inputs": [TENSOR…], "folder": "/tmp/out"}
//       → {"outputs": [TENSOR…]} or {"error": "code: message"}
//       … with "calls": [[TENSOR…]…] instead of inputs: one plan answers several calls
//       → {"calls": [[TENSOR…]…]}
//   {"model": "m.onnx", "road": "infer"}
//       → {"outputs": [{"type", "shape"}…], "values": {"name": {"type", "shape"}…}}, -1: unknown
//   {"model": "m.onnx", "road": "export", "folder": "/tmp/out", "portable": true}
//       → {"model": "/tmp/out/model.onnx"}, after the portable passes if asked for
//   {"model": "m.onnx", "road": "describe", "shapes": [[1, 3]…]}
//       → {"steps": [{"node", "op", "rule", "implementation", "precision", "detail"}…]} of the plan
//   {"road": "cpu"} → {"isa": "avx512-vnni-bf16", "class": "avx512-vnni"}, see IsaName and IsaClass
//   {"road": "table"} → {"rows": [{"domain", "name", "since", "inputs": [min, max], "outputs": the
//       same, "types": ONNX codes of what input 0 may be}…]}
//
// TENSOR is {"type": "f32", "shape": [2, 3], "path": "x.bin"}: raw little-endian bytes, 4-bit types
// two to a byte. Inputs are in graph order. Roads: "reference" evaluates the imported graph node
// by node, "plan" runs the portable passes and a Plan.
#include <fstream>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/base/buffer.h"
#include "core/base/status_macros.h"
#include "core/exec/cpu_features.h"
#include "core/exec/plan.h"
#include "core/onnx/export.h"
#include "core/onnx/import.h"
#include "core/ops/evaluate.h"
#include "core/ops/registry.h"
#include "core/passes/pass.h"
#include "core/passes/portable.h"

namespace halftone {
namespace {

using nlohmann::json;
using Tensors = std::vector<Tensor>;

absl::StatusOr<Tensor> ReadTensor(const json& j) {
  const std::optional<DataType> type = DataTypeFromName(j.at("type").get<std::string>());
  if (!type) return absl::InvalidArgumentError(absl::StrCat("type ", j.at("type").dump()));
  HT_ASSIGN_OR_RETURN(Tensor t, Tensor::Create(*type, j.at("shape").get<std::vector<int64_t>>()));
  std::ifstream in(j.at("path").get<std::string>(), std::ios::binary);
  if (t.num_bytes() > 0) in.read(reinterpret_cast<char*>(t.mutable_raw()), t.num_bytes());
  if (!in) return absl::InvalidArgumentError(absl::StrCat("cannot read ", j.at("path").dump()));
  return t;
}

absl::StatusOr<Tensors> ReadTensors(const json& list) {
  Tensors out;
  for (const json& j : list) {
    HT_ASSIGN_OR_RETURN(Tensor t, ReadTensor(j));
    out.push_back(std::move(t));
  }
  return out;
}

json WriteTensors(const Tensors& tensors, const std::string& prefix) {
  json out = json::array();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& t = tensors[i];
    const std::string path = absl::StrCat(prefix, "_", i, ".bin");
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(t.raw()), t.num_bytes());
    out.push_back({{"type", std::string(Name(t.type()))},
                   {"shape", std::vector<int64_t>(t.shape().begin(), t.shape().end())},
                   {"path", path}});
  }
  return out;
}

using Runner = std::function<absl::StatusOr<Tensors>(const Tensors&)>;

// Runs the command's one call, or each of its calls.
absl::StatusOr<json> Answer(const json& command, const Runner& run) {
  const std::string prefix = absl::StrCat(command.at("folder").get<std::string>(), "/",
                                          command.at("road").get<std::string>());
  if (!command.contains("calls")) {
    HT_ASSIGN_OR_RETURN(const Tensors inputs, ReadTensors(command.value("inputs", json::array())));
    HT_ASSIGN_OR_RETURN(const Tensors outputs, run(inputs));
    return json{{"outputs", WriteTensors(outputs, prefix)}};
  }
  json calls = json::array();
  for (const json& call : command.at("calls")) {
    HT_ASSIGN_OR_RETURN(const Tensors inputs, ReadTensors(call));
    HT_ASSIGN_OR_RETURN(const Tensors outputs, run(inputs));
    calls.push_back(WriteTensors(outputs, absl::StrCat(prefix, "_", calls.size())));
  }
  return json{{"calls", calls}};
}

absl::StatusOr<json> RunPlan(const json& command, Graph graph) {
  HT_RETURN_IF_ERROR(RunPasses(graph, PortablePasses()));
  HT_ASSIGN_OR_RETURN(std::shared_ptr<const Plan> plan, Plan::Create(std::move(graph), {}));
  Context context(std::move(plan));
  return Answer(command, [&](const Tensors& inputs) { return context.Run(inputs); });
}

absl::StatusOr<json> DescribePlan(const json& command, Graph graph) {
  HT_RETURN_IF_ERROR(RunPasses(graph, PortablePasses()));
  HT_ASSIGN_OR_RETURN(std::shared_ptr<const Plan> plan, Plan::Create(std::move(graph), {}));
  std::vector<Shape> shapes;
  for (const json& shape : command.at("shapes")) {
    const auto dims = shape.get<std::vector<int64_t>>();
    shapes.emplace_back(dims.begin(), dims.end());
  }
  HT_ASSIGN_OR_RETURN(const std::vector<StepInfo> steps, plan->Describe(shapes));
  json out = json::array();
  for (const StepInfo& step : steps) {
    out.push_back({{"node", step.node},
                   {"op", step.op},
                   {"rule", step.rule},
                   {"implementation", step.implementation},
                   {"precision", step.precision},
                   {"detail", step.detail}});
  }
  return json{{"steps", out}};
}

absl::StatusOr<json> Export(const json& command, Graph graph) {
  if (command.value("portable", false)) HT_RETURN_IF_ERROR(RunPasses(graph, PortablePasses()));
  const std::string path = command.at("folder").get<std::string>() + "/model.onnx";
  HT_RETURN_IF_ERROR(ExportOnnxFile(graph, path));
  return json{{"model", path}};
}

json Describe(const Value& v) {
  json shape;
  if (v.type().shape.has_value()) {
    shape = json::array();
    for (const Dim& d : *v.type().shape) shape.push_back(d.value);
  }
  const std::optional<DataType>& type = v.type().type;
  return {{"type", type.has_value() ? json(std::string(Name(*type))) : json()}, {"shape", shape}};
}

json DescribeValues(const Graph& graph) {
  json outputs = json::array(), values = json::object();
  for (const Value* v : graph.outputs()) outputs.push_back(Describe(*v));
  for (const Value* v : graph.values()) values[v->name()] = Describe(*v);
  return {{"outputs", outputs}, {"values", values}};
}

json DescribeTable() {
  json rows = json::array();
  for (const OpDef& op : AllOps()) {
    json types = json::array();
    for (const DataTypeInfo& info : kDataTypes) {
      if (Contains(op.types, info.type)) types.push_back(info.onnx_code);
    }
    rows.push_back({{"domain", std::string(op.domain)},
                    {"name", std::string(op.name)},
                    {"since", op.since_opset},
                    {"inputs", {op.inputs.min, op.inputs.max}},
                    {"outputs", {op.outputs.min, op.outputs.max}},
                    {"types", types}});
  }
  return {{"rows", rows}};
}

absl::StatusOr<json> Run(const json& command) {
  const std::string road = command.at("road");
  if (road == "table") return DescribeTable();
  if (road == "cpu") {
    const CpuFeatures features = DetectCpuFeatures();
    return json{{"isa", IsaName(features)}, {"class", IsaClass(features)}};
  }
  HT_ASSIGN_OR_RETURN(Graph graph, ImportOnnxFile(command.at("model").get<std::string>()));
  if (road == "reference") {
    return Answer(command, [&](const Tensors& inputs) { return EvaluateGraph(graph, inputs); });
  }
  if (road == "plan") return RunPlan(command, std::move(graph));
  if (road == "describe") return DescribePlan(command, std::move(graph));
  if (road == "infer") return DescribeValues(graph);
  if (road == "export") return Export(command, std::move(graph));
  return absl::InvalidArgumentError(absl::StrCat("road '", road, "'"));
}

void Serve() {
  for (std::string line; std::getline(std::cin, line);) {
    absl::StatusOr<json> answer = absl::InternalError("");
    try {
      answer = Run(json::parse(line));
    } catch (const json::exception& e) {
      answer = absl::InvalidArgumentError(e.what());
    }
    std::cout << (answer.ok() ? *answer : json{{"error", answer.status().ToString()}}).dump()
              << std::endl;
  }
}

}  // namespace
}  // namespace halftone

int main() { halftone::Serve(); }
