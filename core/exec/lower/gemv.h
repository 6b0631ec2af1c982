// Products of a few rows with packed integer weights.
#ifndef HALFTONE_CORE_EXEC_LOWER_GEMV_H_
#define HALFTONE_CORE_EXEC_LOWER_GEMV_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "core/exec/kernels/gemv/gemv.h"
#include "core/exec/lowering.h"

namespace halftone {

// Lowers the match, a product of `m` rows with these weights, to PackedRows::Multiply; false when
// there are too many rows, or groups that it does not take.
absl::StatusOr<bool> LowerGemv(ProgramBuilder& builder, const ComputeMatch& match, int64_t m,
                               const std::shared_ptr<const PackedRows>& weights);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_LOWER_GEMV_H_
