#include "core/onnx/export.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "core/base/checked_math.h"
#include "core/base/status_macros.h"
#include "core/onnx/own_functions.h"

namespace halftone {
namespace {

using onnx::AttributeProto;

constexpr int64_t kDataAlignment = 4096;               // a page: loading is a mapping
constexpr int64_t kChunkBytes = int64_t{4} << 20;      // handed to the writer at a time
constexpr int64_t kMaxInlineBytes = int64_t{1} << 30;  // ExportOnnxFile splits beyond

using WriteFn = std::function<absl::Status(absl::string_view)>;

// The oldest IR version that has everything the opset (and its types) can use: old readers open
// as much as possible.
int IrVersionFor(int opset) {
  if (opset >= 21) return 10;
  if (opset >= 19) return 9;
  return 8;
}

void WriteType(const ValueType& type, onnx::TypeProto* proto) {
  if (!type.type) return;
  auto* tensor = proto->mutable_tensor_type();
  tensor->set_elem_type(Info(*type.type).onnx_code);
  if (!type.shape) return;
  auto* shape = tensor->mutable_shape();
  for (const Dim& dim : *type.shape) {
    auto* d = shape->add_dim();
    if (dim.known()) {
      d->set_dim_value(dim.value);
    } else if (!dim.symbol.empty()) {
      d->set_dim_param(dim.symbol);
    }
  }
}

void WriteTensorHeader(const Tensor& t, onnx::TensorProto* proto) {
  proto->set_data_type(Info(t.type()).onnx_code);
  for (int64_t d : t.shape()) proto->add_dims(d);
}

void WriteInlineTensor(const Tensor& t, onnx::TensorProto* proto) {
  WriteTensorHeader(t, proto);
  proto->set_raw_data(t.raw(), static_cast<size_t>(t.num_bytes()));
}

// The external data file, written front to back.
class DataFile {
 public:
  DataFile(const ExportOptions& options, const WriteFn& write) : options_(options), write_(write) {}

  bool Wants(const Tensor& t) const {
    return options_.external_threshold >= 0 && t.num_bytes() > 0 &&
           t.num_bytes() >= options_.external_threshold;
  }

  absl::Status Append(const Tensor& t, onnx::TensorProto* proto) {
    WriteTensorHeader(t, proto);
    const int64_t offset = AlignUp(size_, kDataAlignment);
    HT_RETURN_IF_ERROR(Write(std::string(static_cast<size_t>(offset - size_), '\0')));
    const char* data = reinterpret_cast<const char*>(t.raw());
    for (int64_t done = 0; done < t.num_bytes(); done += kChunkBytes) {
      const int64_t n = std::min(kChunkBytes, t.num_bytes() - done);
      HT_RETURN_IF_ERROR(Write(absl::string_view(data + done, static_cast<size_t>(n))));
    }
    proto->set_data_location(onnx::TensorProto::EXTERNAL);
    AddEntry(proto, "location", options_.data_file_name);
    AddEntry(proto, "offset", absl::StrCat(offset));
    AddEntry(proto, "length", absl::StrCat(t.num_bytes()));
    return absl::OkStatus();
  }

  int64_t size() const { return size_; }

 private:
  absl::Status Write(absl::string_view chunk) {
    if (chunk.empty()) return absl::OkStatus();
    size_ += static_cast<int64_t>(chunk.size());
    return write_(chunk);
  }
  static void AddEntry(onnx::TensorProto* proto, absl::string_view key, const std::string& value) {
    auto* entry = proto->add_external_data();
    entry->set_key(std::string(key));
    entry->set_value(value);
  }

  const ExportOptions& options_;
  const WriteFn& write_;
  int64_t size_ = 0;
};

using NameSet = absl::flat_hash_set<std::string>;

// One graph on its way out. A nested graph refers to its captures by the names they have outside,
// and avoids every other name of the graphs around it: ONNX has one name space per nest.
class GraphWriter {
 public:
  GraphWriter(const Graph& graph, const GraphWriter* outer, DataFile& data)
      : graph_(graph), outer_(outer), data_(data) {}

  // `captures` are the outer names of the trailing inputs.
  absl::Status Write(absl::Span<const std::string> captures, onnx::GraphProto* proto) {
    proto_ = proto;
    proto->set_name(graph_.name());
    ChooseNames(captures);
    const auto own_inputs =
        absl::MakeConstSpan(graph_.inputs()).subspan(0, graph_.inputs().size() - captures.size());
    for (const Value* v : own_inputs) WriteValueInfo(*v, proto->add_input());
    for (const Value* v : graph_.values()) {
      if (!v->is_constant() || (v->uses().empty() && !v->is_output())) continue;
      HT_RETURN_IF_ERROR(WriteConstant(*v));
    }
    for (const Node* node : graph_.nodes()) HT_RETURN_IF_ERROR(WriteNode(*node));
    WriteOutputs();
    return absl::OkStatus();
  }

 private:
  bool Taken(const std::string& name) const {
    return names_used_.contains(name) || (outer_ != nullptr && outer_->Taken(name));
  }

  void ChooseNames(absl::Span<const std::string> captures) {
    const size_t own = graph_.inputs().size() - captures.size();
    for (size_t i = 0; i < captures.size(); ++i) {
      names_[graph_.inputs()[own + i]] = captures[i];
      captured_.insert(graph_.inputs()[own + i]);
    }
    for (const Value* v : graph_.values()) {
      if (names_.contains(v)) continue;
      names_[v] = FreshName(v->name());
    }
  }

  std::string FreshName(const std::string& wanted) {
    std::string name = wanted;
    for (int suffix = 1; Taken(name); ++suffix) name = absl::StrCat(wanted, "_", suffix);
    names_used_.insert(name);
    return name;
  }

  void WriteValueInfo(const Value& v, onnx::ValueInfoProto* info) const {
    info->set_name(names_.at(&v));
    WriteType(v.type(), info->mutable_type());
  }

  absl::Status WriteConstant(const Value& v) {
    onnx::TensorProto* tensor = proto_->add_initializer();
    tensor->set_name(names_.at(&v));
    if (data_.Wants(v.constant())) return data_.Append(v.constant(), tensor);
    WriteInlineTensor(v.constant(), tensor);
    return absl::OkStatus();
  }

  std::string NameOf(const Value* v) const { return v == nullptr ? "" : names_.at(v); }

  absl::Status WriteNode(const Node& node) {
    onnx::NodeProto* out = proto_->add_node();
    out->set_op_type(node.op());
    out->set_name(node.name());
    if (!node.domain().empty()) out->set_domain(node.domain());
    const size_t own = node.inputs().size() - static_cast<size_t>(node.num_captures());
    for (size_t i = 0; i < own; ++i) out->add_input(NameOf(node.inputs()[i]));
    for (const Value* v : node.outputs()) {
      out->add_output(NameOf(v));
      if (v != nullptr && v->type().type && !v->is_output()) {
        WriteValueInfo(*v, proto_->add_value_info());
      }
    }
    std::vector<std::string> captures;
    for (size_t i = own; i < node.inputs().size(); ++i)
      captures.push_back(NameOf(node.inputs()[i]));
    for (const auto& [name, value] : node.attributes().items()) {
      AttributeProto* attribute = out->add_attribute();
      attribute->set_name(name);
      HT_RETURN_IF_ERROR(WriteAttribute(value, captures, attribute));
    }
    return absl::OkStatus();
  }

  absl::Status WriteAttribute(const Attribute& value, absl::Span<const std::string> captures,
                              AttributeProto* proto) {
    if (const auto* graph = std::get_if<SubgraphPtr>(&value)) {
      proto->set_type(AttributeProto::GRAPH);
      return GraphWriter(**graph, this, data_).Write(captures, proto->mutable_g());
    }
    struct Writer {
      AttributeProto* proto;
      void operator()(int64_t v) const {
        proto->set_type(AttributeProto::INT);
        proto->set_i(v);
      }
      void operator()(float v) const {
        proto->set_type(AttributeProto::FLOAT);
        proto->set_f(v);
      }
      void operator()(const std::string& v) const {
        proto->set_type(AttributeProto::STRING);
        proto->set_s(v);
      }
      void operator()(const Tensor& v) const {
        proto->set_type(AttributeProto::TENSOR);
        WriteInlineTensor(v, proto->mutable_t());
      }
      void operator()(const std::vector<int64_t>& v) const {
        proto->set_type(AttributeProto::INTS);
        proto->mutable_ints()->Add(v.begin(), v.end());
      }
      void operator()(const std::vector<float>& v) const {
        proto->set_type(AttributeProto::FLOATS);
        proto->mutable_floats()->Add(v.begin(), v.end());
      }
      void operator()(const std::vector<std::string>& v) const {
        proto->set_type(AttributeProto::STRINGS);
        proto->mutable_strings()->Add(v.begin(), v.end());
      }
      void operator()(const SubgraphPtr&) const {}  // above
    };
    std::visit(Writer{proto}, value);
    return absl::OkStatus();
  }

  // Readers want each output to be a name of this graph, once: Identity makes one where needed.
  void WriteOutputs() {
    NameSet listed;
    for (const Value* v : graph_.outputs()) {
      onnx::ValueInfoProto* info = proto_->add_output();
      WriteValueInfo(*v, info);
      if (!captured_.contains(v) && listed.insert(names_.at(v)).second) continue;
      onnx::NodeProto* identity = proto_->add_node();
      const std::string name = FreshName(absl::StrCat(names_.at(v), "_copy"));
      identity->set_op_type("Identity");
      identity->set_name(name);
      identity->add_input(names_.at(v));
      identity->add_output(name);
      info->set_name(name);
    }
  }

  const Graph& graph_;
  const GraphWriter* const outer_;
  DataFile& data_;
  onnx::GraphProto* proto_ = nullptr;
  absl::flat_hash_map<const Value*, std::string> names_;
  absl::flat_hash_set<const Value*> captured_;
  NameSet names_used_;
};

absl::StatusOr<std::string> Serialize(const onnx::ModelProto& model) {
  const size_t size = model.ByteSizeLong();
  if (size > static_cast<size_t>(std::numeric_limits<int>::max())) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the .onnx would have ", size,
                     " bytes, the limit is 2 GiB: put large constants into external data"));
  }
  std::string out;
  google::protobuf::io::StringOutputStream string_stream(&out);
  google::protobuf::io::CodedOutputStream stream(&string_stream);
  stream.SetSerializationDeterministic(true);
  if (!model.SerializeToCodedStream(&stream)) return absl::InternalError("cannot serialize");
  stream.Trim();
  return out;
}

int64_t ConstantBytes(const Graph& graph) {
  int64_t bytes = 0;
  for (const Value* v : graph.values()) {
    if (v->is_constant()) bytes += v->constant().num_bytes();
  }
  return bytes;
}

// Creates `path` and writes it front to back; nothing is created before the first byte.
class FileWriter {
 public:
  explicit FileWriter(std::string path) : path_(std::move(path)) {}

  absl::Status Write(absl::string_view chunk) {
    if (file_ == nullptr) file_.reset(std::fopen(path_.c_str(), "wb"));
    if (file_ == nullptr ||
        std::fwrite(chunk.data(), 1, chunk.size(), file_.get()) != chunk.size()) {
      return absl::ErrnoToStatus(errno, absl::StrCat("write ", path_));
    }
    return absl::OkStatus();
  }
  absl::Status Close() {
    if (file_ != nullptr && std::fclose(file_.release()) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("write ", path_));
    }
    return absl::OkStatus();
  }

 private:
  struct Closer {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  const std::string path_;
  std::unique_ptr<std::FILE, Closer> file_;
};

}  // namespace

absl::StatusOr<ExportedModel> ExportOnnx(const Graph& graph, const ExportOptions& options,
                                         const WriteFn& write) {
  onnx::ModelProto model;
  model.set_producer_name("halftone");
  model.set_ir_version(IrVersionFor(graph.opset()));
  for (const auto& [domain, version] : graph.opsets()) {
    auto* import = model.add_opset_import();
    import->set_domain(domain);
    import->set_version(version);
  }
  for (const auto& [key, value] : options.metadata) {
    auto* entry = model.add_metadata_props();
    entry->set_key(key);
    entry->set_value(value);
  }
  DataFile data(options, write);
  HT_RETURN_IF_ERROR(GraphWriter(graph, nullptr, data).Write({}, model.mutable_graph()));
  AddOwnFunctions(graph, &model);
  HT_ASSIGN_OR_RETURN(std::string bytes, Serialize(model));
  return ExportedModel{std::move(bytes), data.size()};
}

absl::StatusOr<std::string> ExportOnnxInline(const Graph& graph) {
  HT_ASSIGN_OR_RETURN(ExportedModel model,
                      ExportOnnx(graph, {.external_threshold = -1}, [](absl::string_view) {
                        return absl::InternalError("there is no external data");
                      }));
  return std::move(model.onnx);
}

absl::Status ExportOnnxFile(const Graph& graph, const std::string& path) {
  const std::filesystem::path data_path = std::filesystem::path(path).replace_extension(".data");
  FileWriter data(data_path.string());
  ExportOptions options{.data_file_name = data_path.filename().string()};
  if (ConstantBytes(graph) <= kMaxInlineBytes) options.external_threshold = -1;
  HT_ASSIGN_OR_RETURN(
      const ExportedModel model,
      ExportOnnx(graph, options, [&](absl::string_view chunk) { return data.Write(chunk); }));
  HT_RETURN_IF_ERROR(data.Close());
  FileWriter file(path);
  HT_RETURN_IF_ERROR(file.Write(model.onnx));
  return file.Close();
}

}  // namespace halftone
