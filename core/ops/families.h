// The families of the operator table; one .cc each. Only registry.cc wants this.
#ifndef HALFTONE_CORE_OPS_FAMILIES_H_
#define HALFTONE_CORE_OPS_FAMILIES_H_

#include "absl/types/span.h"
#include "core/ops/op_def.h"

namespace halftone {

// A row whose implementations agree in every bit: operators that move, select or count.
constexpr OpDef ExactRow(absl::string_view name, int since, Arity inputs, InferFn infer,
                         EvalFn eval, TypeSet types,
                         QuantBehavior quant = QuantBehavior::kFloatOnly) {
  return {.name = name,
          .since_opset = since,
          .inputs = inputs,
          .infer = infer,
          .eval = eval,
          .types = types,
          .quant = quant,
          .tolerance = kExact};
}

absl::Span<const OpDef> UnaryOps();
absl::Span<const OpDef> BinaryOps();
absl::Span<const OpDef> MatMulOps();
absl::Span<const OpDef> ConvOps();
absl::Span<const OpDef> PoolOps();
absl::Span<const OpDef> NormOps();
absl::Span<const OpDef> ReduceOps();
absl::Span<const OpDef> SoftmaxOps();
absl::Span<const OpDef> ShapeOps();
absl::Span<const OpDef> CreationOps();
absl::Span<const OpDef> MovementOps();
absl::Span<const OpDef> SliceOps();
absl::Span<const OpDef> IndexingOps();
absl::Span<const OpDef> SelectionOps();
absl::Span<const OpDef> ResizeOps();
absl::Span<const OpDef> QuantOps();
absl::Span<const OpDef> QuantComputeOps();
absl::Span<const OpDef> RecurrentOps();
absl::Span<const OpDef> ControlFlowOps();
absl::Span<const OpDef> EinsumOps();
absl::Span<const OpDef> CompositeOps();
absl::Span<const OpDef> SignalOps();
absl::Span<const OpDef> SamplingOps();
absl::Span<const OpDef> DetectionOps();
absl::Span<const OpDef> PatchOps();
absl::Span<const OpDef> RandomOps();
absl::Span<const OpDef> LossOps();
absl::Span<const OpDef> TextOps();
absl::Span<const OpDef> LegacyOps();
absl::Span<const OpDef> ImageOps();
absl::Span<const OpDef> UnpackOps();
absl::Span<const OpDef> RowQuantOps();

}  // namespace halftone

#endif  // HALFTONE_CORE_OPS_FAMILIES_H_
