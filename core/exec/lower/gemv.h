// Products of a few rows with packed integer weights.
#ifndef HALFTONE_CORE_EXEC_LOWER_GEMV_H_
#define HALFTONE_CORE_EXEC_LOWER_GEMV_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "core/exec/kernels/gemv/gemv.h"
#include "core/exec/lowering.h"

namespace halftone {

// The bias of a product with `outputs` outputs, one number each, and how many operations of the
// tail it takes; nullopt when it is no such constant.
struct ProductBias {
  std::vector<float> values;  // empty: none
  size_t tail_ops = 0;
};
std::optional<ProductBias> ReadProductBias(const ProgramBuilder& builder, const ComputeMatch& match,
                                           int64_t outputs);

// Lowers the match, a product of `m` rows with these weights, to PackedRows::Multiply; false when
// there are too many rows, or groups that it does not take.
absl::StatusOr<bool> LowerGemv(ProgramBuilder& builder, const ComputeMatch& match, int64_t m,
                               const std::shared_ptr<const PackedRows>& weights);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_LOWER_GEMV_H_
