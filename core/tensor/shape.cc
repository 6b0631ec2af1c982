#include "core/tensor/shape.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace halftone {

std::string ToString(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ","), "]");
}

int64_t ElementCount(absl::Span<const int64_t> shape) {
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  return n;
}

Shape RowMajorStrides(absl::Span<const int64_t> shape) {
  Shape strides(shape.size(), 1);
  for (int i = static_cast<int>(shape.size()) - 2; i >= 0; --i) {
    strides[i] = strides[i + 1] * shape[i + 1];
  }
  return strides;
}

std::string ToString(const SymbolicShape& shape) {
  if (!shape.has_value()) return "?";
  return absl::StrCat("[",
                      absl::StrJoin(*shape, ",",
                                    [](std::string* out, const Dim& d) {
                                      if (d.known()) {
                                        absl::StrAppend(out, d.value);
                                      } else {
                                        absl::StrAppend(out, d.symbol.empty() ? "?" : d.symbol);
                                      }
                                    }),
                      "]");
}

SymbolicShape Symbolic(absl::Span<const int64_t> shape) { return Dims(shape.begin(), shape.end()); }

std::optional<Shape> Concrete(const SymbolicShape& shape) {
  if (!shape.has_value()) return std::nullopt;
  Shape out;
  for (const Dim& d : *shape) {
    if (!d.known()) return std::nullopt;
    out.push_back(d.value);
  }
  return out;
}

}  // namespace halftone
