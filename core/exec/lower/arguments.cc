#include "core/exec/lower/arguments.h"

#include <vector>

#include "core/exec/kernels/copy.h"

namespace halftone {

std::optional<Shape> ConstantInts(const Value* v) {
  if (v == nullptr || !v->is_constant()) return std::nullopt;
  absl::StatusOr<Shape> values = ToInt64s(v->constant());
  if (!values.ok()) return std::nullopt;
  return *values;
}

std::optional<Shape> InputOrAttribute(const Node& node, int input, absl::string_view attribute) {
  if (node.input(input) != nullptr) return ConstantInts(node.input(input));
  if (const auto* ints = node.attributes().Find<std::vector<int64_t>>(attribute)) {
    return Shape(ints->begin(), ints->end());
  }
  return std::nullopt;
}

bool WholeBytes(const Value* v) { return BitWidth(*v->type().type) >= 8; }
int ElementBytes(const Value* v) { return BitWidth(*v->type().type) / 8; }

Shape StridesFor(const Shape& shape, Layout layout) {
  return layout == Layout::kChannelsLast ? ChannelsLastStrides(shape) : RowMajorStrides(shape);
}

bool SameStrides(const Shape& shape, const Shape& a, const Shape& b) {
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] != 1 && a[i] != b[i]) return false;
  }
  return true;
}

bool IsDense(const Shape& shape, const Shape& strides, Layout layout) {
  if (layout == Layout::kChannelsLast && shape.size() < 3) return false;
  return SameStrides(shape, strides, StridesFor(shape, layout));
}

Shape StorageOrder(const Shape& per_dimension, Layout layout) {
  if (layout == Layout::kPlain) return per_dimension;
  Shape out{per_dimension[0]};
  out.insert(out.end(), per_dimension.begin() + 2, per_dimension.end());
  out.push_back(per_dimension[1]);
  return out;
}

}  // namespace halftone
