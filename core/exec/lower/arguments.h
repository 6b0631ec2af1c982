// What rules of many families read: constant arguments of a node, and strides of stored tensors.
#ifndef HALFTONE_CORE_EXEC_LOWER_ARGUMENTS_H_
#define HALFTONE_CORE_EXEC_LOWER_ARGUMENTS_H_

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"
#include "core/exec/lowering.h"
#include "core/graph/graph.h"
#include "core/tensor/shape.h"

namespace halftone {

// Constant integers behind a value; nullopt when it is absent or not constant.
std::optional<Shape> ConstantInts(const Value* v);
// From an input (newer opsets) or an attribute; nullopt when neither is there or known.
std::optional<Shape> InputOrAttribute(const Node& node, int input, absl::string_view attribute);

// Four-bit elements are packed two to a byte; nothing here moves those.
bool WholeBytes(const Value* v);
int ElementBytes(const Value* v);

// Strides of a dense tensor, parallel to its logical dimensions.
Shape StridesFor(const Shape& shape, Layout layout);
// Equal as far as any element of the shape is addressed by them.
bool SameStrides(const Shape& shape, const Shape& a, const Shape& b);
// The strides of a dense tensor, up to dimensions of size 1.
bool IsDense(const Shape& shape, const Shape& strides, Layout layout);
// Any list with one entry per dimension, in storage order: channels last moves entry 1 to the end.
Shape StorageOrder(const Shape& per_dimension, Layout layout);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_LOWER_ARGUMENTS_H_
