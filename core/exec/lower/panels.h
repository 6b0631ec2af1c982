// Constant matrices as panels (kernels/panels), and products of few rows with them.
#ifndef HALFTONE_CORE_EXEC_LOWER_PANELS_H_
#define HALFTONE_CORE_EXEC_LOWER_PANELS_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "core/exec/fusion.h"
#include "core/exec/kernels/panels.h"
#include "core/exec/lowering.h"

namespace halftone {

struct PackedPanels {
  BufferId buffer = -1;
  DataType type = DataType::kF32;

  Panels In(Binding& b) const { return {buffer < 0 ? nullptr : b.pointer(buffer), type}; }
};

// A matrix [k, n] in a constant, in elements.
struct MatrixPart {
  int64_t k = 0, n = 0, k_stride = 0, n_stride = 0, offset = 0;
};

// How panels of these weights are kept: f16 and bf16 as they are, unless they are to be widened
// once; all else as f32.
DataType PanelType(const ProgramBuilder& builder, const std::optional<WeightMatch>& weights);

// The part of the value as panels, packed once per plan. Requires: ConstantFloats has the value.
absl::StatusOr<PackedPanels> PackMatrix(ProgramBuilder& builder, const Value* value,
                                        const MatrixPart& part);

// Lowers the match, a product of `m` plain rows with f32, f16 or bf16 weights, in f32; false when
// there are too many rows or too few outputs, or a bias that is not one number per output. `why`
// becomes the step's detail.
absl::StatusOr<bool> LowerPanels(ProgramBuilder& builder, const ComputeMatch& match, int64_t m,
                                 const MatrixPart& weights, std::string why);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_LOWER_PANELS_H_
