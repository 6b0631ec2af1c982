// Reads weights that a graph keeps as integers: their codes, and where each one's scale is.
#ifndef HALFTONE_CORE_EXEC_LOWER_CODES_H_
#define HALFTONE_CORE_EXEC_LOWER_CODES_H_

#include <cstdint>
#include <dnnl.hpp>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "core/exec/fusion.h"
#include "core/exec/kernels/blocked_codes.h"
#include "core/exec/kernels/gemv/gemv.h"
#include "core/graph/graph.h"

namespace halftone {

// Weights seen as [outputs, what each sums over]: element (r, c) of the matrix is element
// rows[r] + columns[c] of the tensor.
struct MatrixView {
  std::vector<int64_t> rows, columns;
};
MatrixView DenseView(int64_t k, int64_t n, bool transposed);  // [k, n], transposed: [n, k]
// Conv: [M, C/g, taps…]; transposed: [C, M/g, taps…]. Rows count output channels, columns input
// channels of one group and taps.
MatrixView ConvView(const Shape& weights, int64_t groups, bool transposed);

// Requires: MatchWeights gave the form kCodes. Not fast: once per plan.
absl::StatusOr<CodeMatrix> ReadCodes(const Graph& graph, const WeightMatch& weights,
                                     const MatrixView& view);

// The order of a primitive's convolution weights, [g,] o, i, spatial…; nullopt when its bytes have
// gaps.
std::optional<WeightLayout> ReadLayout(const dnnl::memory::desc& desc, bool grouped);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_LOWER_CODES_H_
