#include "core/passes/weight_narrower.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/ops/evaluate.h"
#include "core/ops/unpack.h"
#include "core/quant/error_stats.h"

namespace halftone {
namespace {

// Adds the nodes that widen one weight tensor; names begin with `name`.
class Widener {
 public:
  Widener(Graph& graph, std::string name, const NarrowWeights& narrow, const WeightFormat& format)
      : graph_(graph), name_(std::move(name)), narrow_(narrow), format_(format) {}

  Value* Widen(Value* stored) {
    Value* out = IsInteger(format_.type) ? Dequantize(stored)
                                         : Add("Cast", "_widened", {stored},
                                               {{"to", int64_t{Info(DataType::kF32).onnx_code}}});
    if (format_.order != WeightOrder::kAsIs) out = InOwnShape(out);
    out->set_type({DataType::kF32, Symbolic(narrow_.shape)});
    return out;
  }

 private:
  Value* Add(const std::string& op, absl::string_view suffix, std::vector<Value*> inputs,
             Attributes attributes = {}, absl::string_view domain = "") {
    return graph_
        .AddNode({.op = op,
                  .domain = std::string(domain),
                  .name = absl::StrCat(name_, "_", op),
                  .inputs = std::move(inputs),
                  .outputs = {graph_.UniqueName(absl::StrCat(name_, suffix))},
                  .attributes = std::move(attributes)})
        ->output(0);
  }

  Value* Unpack(Value* stored) {
    const Shape shape = StoredShape(narrow_.shape, format_);
    graph_.opsets()[std::string(kHalftoneDomain)] = kHalftoneOpset;
    const auto op = format_.type == WeightType::kTernary ? kUnpackTernary : kUnpackBinary;
    Value* out =
        Add(std::string(op), "_unpacked", {stored},
            {{"shape", std::vector<int64_t>(shape.begin(), shape.end())}}, kHalftoneDomain);
    out->set_type({DataType::kI8, Symbolic(shape)});
    return out;
  }

  Value* Dequantize(Value* stored) {
    Value* codes = stored;
    if (format_.type == WeightType::kTernary || format_.type == WeightType::kBinary) {
      codes = Unpack(stored);
    }
    std::vector<Value*> inputs = {codes,
                                  graph_.AddConstant(absl::StrCat(name_, "_scale"), narrow_.scale)};
    if (narrow_.has_zero_point()) {
      inputs.push_back(graph_.AddConstant(absl::StrCat(name_, "_zero_point"), narrow_.zero_point));
    }
    Attributes attributes;
    if (format_.group_size > 0) {
      attributes.Set("axis", int64_t{format_.group_axis});
      attributes.Set("block_size", format_.group_size);
    } else if (format_.channel_axis) {
      attributes.Set("axis", int64_t{*format_.channel_axis});
    }
    Value* out = Add("DequantizeLinear", "_dequantized", std::move(inputs), std::move(attributes));
    out->set_type({DataType::kF32, Symbolic(StoredShape(narrow_.shape, format_))});
    return out;
  }

  Value* Reshape(Value* x, const Shape& shape) {
    const int64_t rank = static_cast<int64_t>(shape.size());
    Value* target = graph_.AddConstant(absl::StrCat(name_, "_shape"),
                                       Tensor::Of<int64_t>({rank}, absl::MakeConstSpan(shape)));
    Value* out = Add("Reshape", "_reshaped", {x, target});
    out->set_type({DataType::kF32, Symbolic(shape)});
    return out;
  }

  // From rows of output channels.
  Value* InOwnShape(Value* rows) {
    const Shape& shape = narrow_.shape;
    if (format_.order == WeightOrder::kConvRows) return Reshape(rows, shape);
    const int64_t groups = format_.conv_groups;
    Shape grouped = {groups, shape[1], shape[0] / groups};
    std::vector<int64_t> perm = {0, 2, 1};
    for (size_t i = 2; i < shape.size(); ++i) {
      grouped.push_back(shape[i]);
      perm.push_back(static_cast<int64_t>(i) + 1);
    }
    Value* moved =
        Add("Transpose", "_transposed", {Reshape(rows, grouped)}, {{"perm", std::move(perm)}});
    std::swap(grouped[1], grouped[2]);
    moved->set_type({DataType::kF32, Symbolic(grouped)});
    return Reshape(moved, shape);
  }

  Graph& graph_;
  const std::string name_;
  const NarrowWeights& narrow_;
  const WeightFormat& format_;
};

}  // namespace

absl::StatusOr<Tensor> WidenWeights(const NarrowWeights& narrow, const WeightFormat& format) {
  Graph graph("widen");
  graph.opsets()[""] = RequiredOpset(format.type, format.group_size > 0);
  Value* stored = graph.AddConstant("w", narrow.stored);
  graph.AddOutput(Widener(graph, "w", narrow, format).Widen(stored));
  HT_RETURN_IF_ERROR(graph.SortTopologically());
  HT_ASSIGN_OR_RETURN(const std::vector<Tensor> wide, EvaluateGraph(graph, {}));
  return wide[0];
}

absl::StatusOr<double> WeightSqnr(const Tensor& weights, const NarrowWeights& narrow,
                                  const WeightFormat& format) {
  HT_ASSIGN_OR_RETURN(const Tensor wide, WidenWeights(narrow, format));
  ErrorStats stats;
  stats.Add(weights.data<float>(), wide.data<float>());
  return stats.sqnr_db();
}

int RequiredOpset(WeightType type, bool grouped) {
  // Per axis, and bf16 in Cast: 13. Blocks, i16 and 4 bits: 21.
  const bool newer = type == WeightType::kI16 || type == WeightType::kI4 || type == WeightType::kU4;
  return newer || grouped ? 21 : 13;
}

absl::StatusOr<WeightNarrower::Entry*> WeightNarrower::Store(const Node& node, int index,
                                                             const WeightFormat& format) {
  const Value* weights = node.input(index);
  const auto key = std::make_pair(weights->name(), format);
  const auto it = entries_.find(key);
  if (it != entries_.end()) return &it->second;
  Entry entry;
  HT_ASSIGN_OR_RETURN(entry.narrow, narrow_ ? narrow_(node, index, format)
                                            : NarrowTheWeights(weights->constant(), format));
  const std::string suffix =
      IsInteger(format.type) ? "quantized" : std::string(Name(entry.narrow.stored.type()));
  entry.stored =
      graph_.AddConstant(absl::StrCat(weights->name(), "_", suffix), entry.narrow.stored);
  return &(entries_[key] = std::move(entry));
}

absl::StatusOr<Tensor> WeightNarrower::Widened(const Node& node, int index,
                                               const WeightFormat& format) {
  HT_ASSIGN_OR_RETURN(const Entry* entry, Store(node, index, format));
  return WidenWeights(entry->narrow, format);
}

absl::StatusOr<int64_t> WeightNarrower::Narrow(Node* node, int index, const WeightFormat& format) {
  Value* weights = node->input(index);
  HT_ASSIGN_OR_RETURN(Entry* const entry, Store(*node, index, format));
  if (entry->widened == nullptr) {
    entry->widened = Widener(graph_, weights->name(), entry->narrow, format).Widen(entry->stored);
  }
  graph_.SetInput(node, index, entry->widened);
  return entry->narrow.bytes();
}

absl::StatusOr<int64_t> WeightNarrower::NarrowThrough(Node* node, int index,
                                                      const WeightFormat& format) {
  const std::string weights = node->input(index)->name();
  HT_ASSIGN_OR_RETURN(Entry* const entry, Store(*node, index, format));
  graph_.SetInput(node, index, entry->stored);
  Value* out = node->output(0);
  const std::string name = out->name();
  const ValueType wide = out->type();
  const bool scaled = IsInteger(format.type);
  Node* cast = graph_.AddNode({.op = "Cast",
                               .name = absl::StrCat(node->name(), "_Cast"),
                               .outputs = {absl::StrCat(name, scaled ? "_codes" : "_widened")},
                               .attributes = {{"to", int64_t{Info(DataType::kF32).onnx_code}}}});
  Value* widened = cast->output(0);
  widened->set_type(wide);
  if (scaled) widened = ScaleRows(*node, widened, weights, entry->narrow);
  graph_.ReplaceUses(out, widened);
  graph_.SetInput(cast, 0, out);
  graph_.RenameValue(out, graph_.UniqueName(absl::StrCat(name, "_narrow")));
  graph_.RenameValue(widened, name);
  out->set_type({entry->stored->type().type, wide.shape});
  return entry->narrow.bytes();
}

Value* WeightNarrower::ScaleRows(const Node& gather, Value* codes, const std::string& weights,
                                 const NarrowWeights& narrow) {
  const std::string name = gather.output(0)->name();
  ValueType one = codes->type();
  if (one.shape && !one.shape->empty()) one.shape->back() = Dim(1);
  Node* scales =
      graph_.AddNode({.op = "Gather",
                      .name = absl::StrCat(gather.name(), "_scale"),
                      .inputs = {graph_.AddConstant(absl::StrCat(weights, "_scale"), narrow.scale),
                                 gather.input(1)},
                      .outputs = {absl::StrCat(name, "_scale")},
                      .attributes = {{"axis", int64_t{0}}}});
  scales->output(0)->set_type(one);
  Value* scaled = graph_
                      .AddNode({.op = "Mul",
                                .name = absl::StrCat(gather.name(), "_Mul"),
                                .inputs = {codes, scales->output(0)},
                                .outputs = {absl::StrCat(name, "_scaled")}})
                      ->output(0);
  scaled->set_type(codes->type());
  return scaled;
}

}  // namespace halftone
