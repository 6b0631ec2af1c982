#include "core/onnx/import.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream.h>
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/buffer.h"
#include "core/base/status_macros.h"
#include "core/onnx/functions.h"
#include "core/onnx/graph_importer.h"
#include "core/onnx/legacy.h"
#include "core/onnx/own_functions.h"
#include "core/onnx/problems.h"
#include "core/onnx/proto_reader.h"
#include "core/onnx/tensor_reader.h"
#include "core/onnx/wire_scan.h"
#include "core/ops/evaluate.h"
#include "core/ops/registry.h"

namespace halftone {
namespace {

constexpr int64_t kMinIrVersion = 3;
// Versions after 10 added annotations, and element types of which the reader knows what it can
// read.
constexpr int64_t kMaxIrVersion = 13;
constexpr int kMaxOpset = 22;  // of ai.onnx, the newest whose operators the table describes

// A graph within a graph is three messages deep: node, attribute, graph. The rest is for what is
// inside the innermost graph (types, tensors) and around the outermost one.
constexpr int kMessagesPerGraph = 3;
constexpr int kMessagesElsewhere = 12;

absl::Status CheckBytes(int64_t bytes, const ImportOptions& options) {
  if (bytes > options.max_model_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the model has ", bytes, " bytes, the limit is ", options.max_model_bytes));
  }
  if (bytes > std::numeric_limits<int>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the .onnx file has ", bytes,
                     " bytes, want less than 2 GiB: keep the weights as external data"));
  }
  return absl::OkStatus();
}

// Far more than any exporter writes around a node: inputs, outputs, attributes, weights, types.
constexpr int64_t kMaxPartsPerNode = 32;

// Hands a file out in pieces and gives back the pages of those that were read, so that the file and
// what is parsed from it are not in memory together.
class DroppingInput final : public google::protobuf::io::ZeroCopyInputStream {
 public:
  explicit DroppingInput(const Buffer& file) : file_(file) {}

  bool Next(const void** data, int* size) override {
    file_.DropPages(dropped_, position_ - dropped_);
    dropped_ = position_;
    if (position_ == file_.size()) return false;
    const size_t piece = std::min(kPiece, file_.size() - position_);
    *data = file_.data() + position_;
    *size = static_cast<int>(piece);
    position_ += piece;
    return true;
  }
  void BackUp(int count) override { position_ -= count; }
  bool Skip(int count) override {
    const size_t step = std::min<size_t>(count, file_.size() - position_);
    position_ += step;
    return step == static_cast<size_t>(count);
  }
  int64_t ByteCount() const override { return static_cast<int64_t>(position_); }

 private:
  static constexpr size_t kPiece = size_t{4} << 20;
  const Buffer& file_;
  size_t position_ = 0, dropped_ = 0;
};

absl::Status Parse(const Buffer& file, const ImportOptions& options, onnx::ModelProto& model) {
  const absl::Span<const std::byte> bytes(file.data(), file.size());
  HT_RETURN_IF_ERROR(CheckPartCount(bytes, std::max(options.max_nodes, 1000) * kMaxPartsPerNode));
  DroppingInput input(file);
  google::protobuf::io::CodedInputStream stream(&input);
  stream.SetRecursionLimit(kMessagesPerGraph * (options.max_nesting + 1) + kMessagesElsewhere);
  if (!model.ParseFromCodedStream(&stream) || !stream.ConsumedEntireMessage()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the ", bytes.size(),
                     " bytes are no ONNX file, or a damaged, truncated or too deeply "
                     "nested one"));
  }
  return absl::OkStatus();
}

// Counts the nodes of `graph` into `nodes` and checks both limits.
absl::Status CheckGraphSize(const onnx::GraphProto& graph, const ImportOptions& options, int depth,
                            int64_t& nodes) {
  if (depth > options.max_nesting) {
    return absl::ResourceExhaustedError(
        absl::StrCat("graphs are nested more than ", options.max_nesting, " deep"));
  }
  nodes += graph.node_size();
  if (nodes > options.max_nodes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the model has more than ", options.max_nodes, " nodes"));
  }
  for (const onnx::NodeProto& node : graph.node()) {
    for (const auto& attribute : node.attribute()) {
      if (!attribute.has_g()) continue;
      HT_RETURN_IF_ERROR(CheckGraphSize(attribute.g(), options, depth + 1, nodes));
    }
  }
  return absl::OkStatus();
}

// Of the last ONNX release with this IR version, as far as the table goes: what a file without
// opset imports was written for.
int NewestOpsetOf(int64_t ir_version) {
  constexpr std::array kOpsets = {8, 9, 10, 11, 14, 18, 20, 22};  // from kMinIrVersion on
  return kOpsets[std::min<size_t>(ir_version - kMinIrVersion, kOpsets.size() - 1)];
}

// Domains of operators that the table has may go unmentioned.
void AddUsedDomains(const onnx::GraphProto& graph, std::map<std::string, int>& opsets) {
  for (const onnx::NodeProto& node : graph.node()) {
    const std::string domain = NormalDomain(node.domain());
    if (!opsets.contains(domain) && FindOp(domain, node.op_type(), 1) != nullptr) {
      opsets.emplace(domain, 1);
    }
    for (const auto& attribute : node.attribute()) {
      if (attribute.has_g()) AddUsedDomains(attribute.g(), opsets);
    }
  }
}

// Requires: the IR version was checked.
absl::StatusOr<std::map<std::string, int>> ReadOpsets(const onnx::ModelProto& model) {
  std::map<std::string, int> opsets;
  for (const auto& import : model.opset_import()) {
    const std::string domain = NormalDomain(import.domain());
    if (import.version() < 1 || import.version() > std::numeric_limits<int>::max()) {
      return absl::InvalidArgumentError(
          absl::StrCat("opset import of domain '", domain, "' has version ", import.version()));
    }
    const int version = static_cast<int>(import.version());
    const auto [it, inserted] = opsets.emplace(domain, version);
    if (!inserted && it->second != version) {
      return absl::InvalidArgumentError(absl::StrCat("domain '", domain,
                                                     "' is imported with opset ", it->second,
                                                     " and with opset ", version));
    }
  }
  const auto standard = opsets.emplace("", NewestOpsetOf(model.ir_version())).first;
  if (standard->second > kMaxOpset) {
    return absl::UnimplementedError(
        absl::StrCat("the model has opset ", standard->second, ", Halftone knows opsets up to ",
                     kMaxOpset, ": export it with opset_version=", kMaxOpset, " or older"));
  }
  return opsets;
}

absl::Status CheckHeader(const onnx::ModelProto& model) {
  if (!model.has_graph()) return absl::InvalidArgumentError("the model has no graph");
  if (model.ir_version() < kMinIrVersion) {
    return absl::InvalidArgumentError(absl::StrCat("got IR version ", model.ir_version(), ", want ",
                                                   kMinIrVersion, " to ", kMaxIrVersion));
  }
  if (model.ir_version() > kMaxIrVersion) {
    return absl::UnimplementedError(absl::StrCat("got IR version ", model.ir_version(), ", want ",
                                                 kMinIrVersion, " to ", kMaxIrVersion));
  }
  if (model.graph().output_size() == 0) {
    return absl::InvalidArgumentError("the graph has no outputs");
  }
  return absl::OkStatus();
}

absl::StatusOr<Graph> ImportModel(onnx::ModelProto& model, TensorReader& tensors,
                                  const ImportOptions& options) {
  HT_RETURN_IF_ERROR(CheckHeader(model));
  HT_ASSIGN_OR_RETURN(auto opsets, ReadOpsets(model));
  int64_t nodes = 0;
  HT_RETURN_IF_ERROR(CheckGraphSize(model.graph(), options, 0, nodes));
  AddUsedDomains(model.graph(), opsets);
  for (const onnx::FunctionProto& f : model.functions()) nodes += f.node_size();
  if (nodes > options.max_nodes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the model has more than ", options.max_nodes, " nodes"));
  }
  DropOwnFunctions(model);
  HT_RETURN_IF_ERROR(InlineFunctions(model, opsets, options.max_nodes));
  nodes = 0;
  HT_RETURN_IF_ERROR(CheckGraphSize(model.graph(), options, 0, nodes));
  AddUsedDomains(model.graph(), opsets);  // of what was inside of functions

  Problems problems;
  ImportContext context{options, opsets, tensors, problems};
  absl::StatusOr<Graph> graph = ImportGraph(*model.mutable_graph(), context);
  if (absl::IsResourceExhausted(graph.status())) return graph.status();
  // Broken pieces explain a cycle better than the cycle explains them.
  HT_RETURN_IF_ERROR(problems.ToStatus());
  HT_RETURN_IF_ERROR(graph.status());
  model.Clear();
  HT_RETURN_IF_ERROR(InferShapes(*graph));
  if (graph->opset() < kOldestModernOpset) HT_RETURN_IF_ERROR(ModerniseBroadcasts(*graph));
  HT_RETURN_IF_ERROR(graph->Verify());
  return graph;
}

}  // namespace

absl::StatusOr<Graph> ImportOnnxFile(const std::string& path, const ImportOptions& options) {
  onnx::ModelProto model;
  int64_t bytes = 0;
  {
    // The mapping ends before the weights are copied out of the parsed model.
    HT_ASSIGN_OR_RETURN(const std::shared_ptr<Buffer> file, Buffer::MapFile(path));
    bytes = static_cast<int64_t>(file->size());
    HT_RETURN_IF_ERROR(CheckBytes(bytes, options));
    HT_RETURN_IF_ERROR(Parse(*file, options, model));
  }
  const std::string folder = std::filesystem::path(path).parent_path().string();
  TensorReader tensors(folder.empty() ? "." : folder, bytes, options);
  return ImportModel(model, tensors, options);
}

absl::StatusOr<Graph> ImportOnnx(absl::Span<const std::byte> bytes, const ImportOptions& options) {
  const int64_t size = static_cast<int64_t>(bytes.size());
  HT_RETURN_IF_ERROR(CheckBytes(size, options));
  onnx::ModelProto model;
  HT_RETURN_IF_ERROR(Parse(*Buffer::Borrow(bytes.data(), bytes.size()), options, model));
  TensorReader tensors("", size, options);
  return ImportModel(model, tensors, options);
}

}  // namespace halftone
