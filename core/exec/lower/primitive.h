// Turning a oneDNN primitive into a step.
#ifndef HALFTONE_CORE_EXEC_LOWER_PRIMITIVE_H_
#define HALFTONE_CORE_EXEC_LOWER_PRIMITIVE_H_

#include <dnnl.hpp>
#include <functional>
#include <optional>
#include <vector>

#include "core/exec/lowering.h"

namespace halftone {

struct PrimitiveArg {
  int index;  // DNNL_ARG_…
  dnnl::memory::desc desc;
  BufferId buffer;
  int64_t byte_offset = 0;
};

// Weights that are stored narrow and become f32 in scratch just before the primitive runs.
struct WidenedWeights {
  BufferId buffer = -1;  // of elements of type `stored`; -1: `widen` knows
  DataType stored = DataType::kF16;
  dnnl::memory::desc desc;            // f32, as the primitive wants it
  std::function<void(float*)> widen;  // writes what desc describes
  int64_t bytes = 0;                  // that `widen` reads
};

// A u8 or i8 zero point computed at run time; primitives want it as s32.
struct RuntimeZeroPoint {
  int index;  // DNNL_ARG_ATTR_ZERO_POINTS | …
  BufferId buffer;
};

struct PrimitiveCall {
  dnnl::primitive primitive;
  dnnl::memory::desc scratchpad;
  std::vector<PrimitiveArg> args;
};

struct PrimitiveStep {
  std::vector<PrimitiveCall> before;  // run first, in order
  dnnl::primitive primitive;
  dnnl::memory::desc scratchpad;
  std::vector<PrimitiveArg> args;
  std::optional<WidenedWeights> widened;
  std::optional<RuntimeZeroPoint> zero_point;
};

// Attributes with what every primitive of ours has in common (scratchpad given by the user).
dnnl::primitive_attr BaseAttributes();

void AddPrimitive(ProgramBuilder& builder, StepInfo info, PrimitiveStep step);

// The step of a node that is one primitive and nothing else.
template <typename Primitive>
void AddPrimitive(ProgramBuilder& builder, const Node& node,
                  const typename Primitive::primitive_desc& pd, DataType precision,
                  std::vector<PrimitiveArg> args) {
  AddPrimitive(
      builder,
      {.node = node.name(),
       .op = node.op(),
       .implementation = pd.impl_info_str(),
       .precision = std::string(Name(precision))},
      {.primitive = Primitive(pd), .scratchpad = pd.scratchpad_desc(), .args = std::move(args)});
}

// One-dimensional f32 or s32 constants for attributes.
BufferId FloatConstant(ProgramBuilder& builder, absl::Span<const float> values);
BufferId IntConstant(ProgramBuilder& builder, int32_t value);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_LOWER_PRIMITIVE_H_
