#include "core/onnx/own_functions.h"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "core/ops/registry.h"
#include "core/ops/row_quant.h"
#include "core/ops/unpack.h"

namespace halftone {
namespace {

void CollectCalls(const Graph& graph, std::set<std::string>& names) {
  for (const Node* node : graph.nodes()) {
    if (UnpacksWeights(*node) || QuantizesRows(*node)) names.insert(node->op());
    for (const auto& [name, value] : node->attributes().items()) {
      const auto* nested = std::get_if<SubgraphPtr>(&value);
      if (nested != nullptr && *nested != nullptr) CollectCalls(**nested, names);
    }
  }
}

// Writes the nodes of one function.
class FunctionWriter {
 public:
  explicit FunctionWriter(onnx::FunctionProto* function) : function_(function) {}

  onnx::NodeProto* Node(const std::string& op, const std::vector<std::string>& inputs,
                        const std::string& output) {
    onnx::NodeProto* node = function_->add_node();
    node->set_op_type(op);
    node->set_name(output);
    for (const std::string& input : inputs) node->add_input(input);
    node->add_output(output);
    return node;
  }
  static onnx::AttributeProto* Attribute(onnx::NodeProto* node, const std::string& name,
                                         onnx::AttributeProto::AttributeType type) {
    onnx::AttributeProto* attribute = node->add_attribute();
    attribute->set_name(name);
    attribute->set_type(type);
    return attribute;
  }
  static void SetInt(onnx::NodeProto* node, const std::string& name, int64_t value) {
    Attribute(node, name, onnx::AttributeProto::INT)->set_i(value);
  }
  onnx::AttributeProto* Constant(const std::string& output, const std::string& form,
                                 onnx::AttributeProto::AttributeType type) {
    return Attribute(Node("Constant", {}, output), form, type);
  }
  static void SetInts(onnx::NodeProto* node, const std::string& name, int64_t value) {
    Attribute(node, name, onnx::AttributeProto::INTS)->add_ints(value);
  }
  void Ints(const std::string& output, int64_t value) {
    SetInts(Node("Constant", {}, output), "value_ints", value);
  }
  void Float(const std::string& output, float value) {
    Constant(output, "value_float", onnx::AttributeProto::FLOAT)->set_f(value);
  }
  void Cast(const std::string& input, onnx::TensorProto::DataType to, const std::string& output) {
    SetInt(Node("Cast", {input}, output), "to", to);
  }

 private:
  onnx::FunctionProto* const function_;
};

void WriteTable(const std::string& op, onnx::TensorProto* tensor) {
  const std::vector<int8_t> table = UnpackTable(op);
  tensor->set_data_type(onnx::TensorProto::INT8);
  tensor->add_dims(256);
  tensor->add_dims(static_cast<int64_t>(table.size() / 256));
  tensor->set_raw_data(table.data(), table.size());
}

void WriteUnpack(const std::string& name, onnx::FunctionProto* function) {
  function->add_input("packed");
  function->add_output("values");
  function->add_attribute("shape");
  FunctionWriter w(function);
  WriteTable(name, w.Constant("table", "value", onnx::AttributeProto::TENSOR)->mutable_t());
  FunctionWriter::SetInt(w.Node("Cast", {"packed"}, "index"), "to", onnx::TensorProto::INT32);
  FunctionWriter::SetInt(w.Node("Gather", {"table", "index"}, "bytes"), "axis", 0);
  w.Ints("all", -1);
  w.Node("Reshape", {"bytes", "all"}, "flat");
  w.Constant("dims", "value_ints", onnx::AttributeProto::INTS)->set_ref_attr_name("shape");
  FunctionWriter::SetInt(w.Node("ReduceProd", {"dims"}, "count"), "keepdims", 1);
  w.Ints("zero", 0);
  w.Node("Slice", {"flat", "zero", "count"}, "kept");
  w.Node("Reshape", {"kept", "dims"}, "values");
}

void WriteQuantizeRows(int opset, onnx::FunctionProto* function) {
  constexpr int kAxesAreAnInput = 18;
  function->add_input("x");
  for (const char* output : {"codes", "scale", "zero_point"}) function->add_output(output);
  FunctionWriter w(function);
  w.Float("zero", 0.0f);
  w.Float("steps", 255.0f);
  w.Float("smallest", kSmallestRowScale);
  w.Float("largest", kLargestRowScale);
  if (opset >= kAxesAreAnInput) w.Ints("axes", -1);
  const auto extreme = [&](const std::string& reduce, const std::string& include,
                           const std::string& output) {
    const std::string seen = output + "_seen";
    if (opset >= kAxesAreAnInput) {
      w.Node(reduce, {"x", "axes"}, seen);
    } else {
      w.SetInts(w.Node(reduce, {"x"}, seen), "axes", -1);
    }
    w.Node(include, {seen, "zero"}, output);
  };
  extreme("ReduceMin", "Min", "low");
  extreme("ReduceMax", "Max", "high");
  w.Node("Sub", {"high", "low"}, "span");
  w.Node("Div", {"span", "steps"}, "step");
  w.Node("Clip", {"step", "smallest", "largest"}, "scale");
  w.Node("Div", {"low", "scale"}, "below");
  w.Node("Round", {"below"}, "below_rounded");
  w.Node("Neg", {"below_rounded"}, "above");
  w.Node("Clip", {"above", "zero", "steps"}, "offset");
  w.Cast("offset", onnx::TensorProto::UINT8, "zero_point");
  w.Node("Div", {"x", "scale"}, "scaled");
  w.Node("Round", {"scaled"}, "rounded");
  w.Node("Add", {"rounded", "offset"}, "shifted");
  w.Node("Clip", {"shifted", "zero", "steps"}, "saturated");
  w.Cast("saturated", onnx::TensorProto::UINT8, "codes");
}

void WriteDequantizeRows(onnx::FunctionProto* function) {
  for (const char* input : {"codes", "scale", "zero_point"}) function->add_input(input);
  function->add_output("x");
  FunctionWriter w(function);
  w.Cast("codes", onnx::TensorProto::FLOAT, "shifted");
  w.Cast("zero_point", onnx::TensorProto::FLOAT, "offset");
  w.Node("Sub", {"shifted", "offset"}, "rounded");
  w.Node("Mul", {"rounded", "scale"}, "x");
}

void WriteFunction(const std::string& name, int opset, onnx::FunctionProto* function) {
  function->set_domain(std::string(kHalftoneDomain));
  function->set_name(name);
  auto* import = function->add_opset_import();
  import->set_domain("");
  import->set_version(opset);
  if (name == kDynamicQuantizeRows) {
    WriteQuantizeRows(opset, function);
  } else if (name == kDequantizeRows) {
    WriteDequantizeRows(function);
  } else {
    WriteUnpack(name, function);
  }
}

}  // namespace

void AddOwnFunctions(const Graph& graph, onnx::ModelProto* model) {
  std::set<std::string> names;
  CollectCalls(graph, names);
  for (const std::string& name : names) {
    WriteFunction(name, graph.opset(), model->add_functions());
  }
}

void DropOwnFunctions(onnx::ModelProto& model) {
  auto* functions = model.mutable_functions();
  for (int i = functions->size() - 1; i >= 0; --i) {
    const onnx::FunctionProto& f = functions->Get(i);
    if (f.domain() == kHalftoneDomain && FindOp(kHalftoneDomain, f.name(), kHalftoneOpset)) {
      functions->DeleteSubrange(i, 1);
    }
  }
}

}  // namespace halftone
