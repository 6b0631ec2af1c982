// Shapes: concrete ones and ones with symbolic dimensions.
#ifndef HALFTONE_CORE_TENSOR_SHAPE_H_
#define HALFTONE_CORE_TENSOR_SHAPE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/types/span.h"

namespace halftone {

// Concrete dimensions, row-major, all >= 0.
using Shape = absl::InlinedVector<int64_t, 6>;

std::string ToString(absl::Span<const int64_t> shape);  // "[1,3,224,224]"

// Requires: a valid shape (see NumElements), as every Tensor has.
int64_t ElementCount(absl::Span<const int64_t> shape);

// Strides in elements of the contiguous row-major layout.
Shape RowMajorStrides(absl::Span<const int64_t> shape);

// A dimension known as a number, by a name ("batch": equal names are equal sizes), or not at all.
struct Dim {
  int64_t value = -1;  // >= 0 when known
  std::string symbol;  // only when value < 0; empty: unknown

  Dim() = default;
  Dim(int64_t v) : value(v) {}  // NOLINT: numbers are dimensions
  explicit Dim(std::string s) : symbol(std::move(s)) {}

  bool known() const { return value >= 0; }
  // The same size for certain.
  bool operator==(const Dim& o) const {
    return known() ? value == o.value : (!o.known() && !symbol.empty() && symbol == o.symbol);
  }
};

// A shape with symbolic dimensions; nullopt: not even the rank is known.
using Dims = std::vector<Dim>;
using SymbolicShape = std::optional<Dims>;

std::string ToString(const SymbolicShape& shape);  // "[batch,3,?,?]", "?" for an unknown rank
SymbolicShape Symbolic(absl::Span<const int64_t> shape);
// The concrete shape if every dimension is a number.
std::optional<Shape> Concrete(const SymbolicShape& shape);

}  // namespace halftone

#endif  // HALFTONE_CORE_TENSOR_SHAPE_H_
