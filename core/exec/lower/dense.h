// Products [m, k] · [k, n] with constant weights as oneDNN primitives.
#ifndef HALFTONE_CORE_EXEC_LOWER_DENSE_H_
#define HALFTONE_CORE_EXEC_LOWER_DENSE_H_

#include <dnnl.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/exec/lower/compute.h"

namespace halftone {

struct Dense {  // [m, k] · [k, n]
  int64_t m = 0, k = 0, n = 0;
  bool transposed_weights = false;  // the constant is [n, k]
  // Elements from one row to the next; 0: they lie end to end.
  int64_t source_distance = 0, result_distance = 0;
};

struct DenseProduct {
  ComputePrimitive primitive;
  bool inner_product = false;
};

// Of a MatMul or Gemm; nullopt, and why, when it is not such a product.
std::optional<Dense> ReadDense(const ProgramBuilder& b, const ComputeMatch& m, std::string* reason);

// The constant as it lies, as [k, n], or as [n, k] for an inner product.
dnnl::memory::desc DenseWeights(const Dense& d, DataType type, bool inner_product);
// Per output channel, the sum of the stored i8 weights.
std::vector<int64_t> ColumnSums(const ComputeMatch& m, const Dense& d);

// f32 · f16 or bf16 in oneDNN's own blocked layout is wrong, and reads beyond the weights, as soon
// as k needs a second block of 512 (3.7.2, avx512_core). Plain layouts are right, but up to 3 times
// slower with few rows. So such a product is a sum of products with up to 512 of k each, which cost
// what one with f32 weights in its blocked layout does.
inline constexpr int64_t kMaxBlockedK = 512;
bool NeedsParts(const Dense& d, DataType source, DataType weights);

// A product, as a sum of parts where it needs them: the tail adds the last of them to the others.
// `rows`: the weights are [n, k], which packed integers widen to.
absl::StatusOr<DenseProduct> CreateProduct(const Dense& d, DataType source, DataType weights,
                                           bool rows, FusedTail tail);
absl::StatusOr<DenseProduct> CreateInnerProduct(const Dense& d, DataType source, DataType weights,
                                                FusedTail tail);
// oneDNN's matmul falls back to its old GEMM on CPUs without AVX-512; the inner product of the same
// shape then has the better kernel (measured 1.15 × in f32 at m = 128, 2 × in int8 at m = 1).
bool WorthInnerProduct(absl::string_view matmul_implementation);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_LOWER_DENSE_H_
