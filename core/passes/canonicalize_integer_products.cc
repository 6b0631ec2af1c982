#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/passes/portable.h"
#include "core/passes/raise_opset.h"
#include "core/passes/rewrite_util.h"

namespace halftone {
namespace {

const Node* ProducerIf(const Value* value, absl::string_view op) {
  return value != nullptr && IsOp(value->producer(), op) ? value->producer() : nullptr;
}

// Cast(product) · (scale of x · scale of w), where x comes from DynamicQuantizeLinear.
struct IntegerProduct {
  const Node* product = nullptr;   // MatMulInteger or ConvInteger
  const Node* quantize = nullptr;  // of its data
  Value* weight_scale = nullptr;
};

// Whether scale and zero point fit a DequantizeLinear of the weights along `axis`.
bool Fits(const Node& product, const Value* scale, int axis) {
  const Tensor* s = FloatConstantOf(scale);
  const Tensor* w = ConstantOf(product.input(1));
  if (s == nullptr || w == nullptr || w->rank() < 2) return false;
  const Value* zero = product.input(3);
  if (zero != nullptr) {
    const Tensor* z = ConstantOf(zero);
    if (z == nullptr || z->num_elements() != s->num_elements()) return false;
  }
  if (s->num_elements() == 1) return s->rank() <= 1;
  return s->rank() == 1 && s->dim(0) == w->dim(axis) && IsOp(&product, "MatMulInteger");
}

int ChannelAxis(const Node& product) {
  return IsOp(&product, "ConvInteger") ? 0 : RankOf(product.input(1)) - 1;
}

std::optional<IntegerProduct> Match(const Node& mul) {
  for (int i = 0; i < 2; ++i) {
    const Node* cast = ProducerIf(mul.input(i), "Cast");
    const Node* scales = ProducerIf(mul.input(1 - i), "Mul");
    if (cast == nullptr || scales == nullptr) continue;
    const Node* product = cast->input(0)->producer();
    if (!IsOp(product, "MatMulInteger") && !IsOp(product, "ConvInteger")) continue;
    const Node* quantize = ProducerIf(product->input(0), "DynamicQuantizeLinear");
    if (quantize == nullptr || product->input(0) != quantize->output(0) ||
        product->input(2) != quantize->output(2)) {
      continue;
    }
    for (int k = 0; k < 2; ++k) {
      Value* other = scales->input(1 - k);
      if (scales->input(k) == quantize->output(1) && Fits(*product, other, ChannelAxis(*product))) {
        return IntegerProduct{product, quantize, other};
      }
    }
  }
  return std::nullopt;
}

void Rewrite(Graph& graph, const Node& mul, const IntegerProduct& match) {
  const Node& product = *match.product;
  const std::string name = product.name();
  const auto dequantize = [&](Value* data, Value* scale, Value* zero, int64_t axis) {
    NodeSpec spec{.op = "DequantizeLinear",
                  .name = absl::StrCat(name, "_", data->name()),
                  .inputs = {data, scale},
                  .outputs = {absl::StrCat(data->name(), "_dequantized")},
                  .attributes = {{"axis", axis}}};
    if (zero != nullptr) spec.inputs.push_back(zero);
    Value* out = graph.AddNode(std::move(spec))->output(0);
    out->set_type({DataType::kF32, data->type().shape});
    return out;
  };
  Value* x = dequantize(product.input(0), match.quantize->output(1), match.quantize->output(2), 0);
  Value* w =
      dequantize(product.input(1), match.weight_scale, product.input(3), ChannelAxis(product));
  ReplaceByNode(graph, mul.output(0),
                {.op = IsOp(&product, "ConvInteger") ? "Conv" : "MatMul",
                 .name = name,
                 .inputs = {x, w},
                 .attributes = product.attributes()});
}

}  // namespace

absl::StatusOr<bool> CanonicalizeIntegerProducts(Graph& graph) {
  const auto find = [&] {
    std::vector<std::pair<const Node*, IntegerProduct>> found;
    for (const Node* node : graph.nodes()) {
      if (!IsOp(node, "Mul")) continue;
      if (const auto match = Match(*node)) found.emplace_back(node, *match);
    }
    return found;
  };
  // DequantizeLinear along an axis came with opset 13.
  if (find().empty() || !RaiseOpset(graph, 13).ok()) return false;
  const auto found = find();
  for (const auto& [mul, match] : found) Rewrite(graph, *mul, match);
  const bool changed = !found.empty();
  if (changed) graph.RemoveUnused();
  return changed;
}

}  // namespace halftone
