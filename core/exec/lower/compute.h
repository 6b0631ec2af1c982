// What the lowering of Conv, ConvTranspose, MatMul and Gemm has in common: packed weights, and
// bias, activation, residual and quantization as attributes of one primitive.
#ifndef HALFTONE_CORE_EXEC_LOWER_COMPUTE_H_
#define HALFTONE_CORE_EXEC_LOWER_COMPUTE_H_

#include <dnnl.hpp>
#include <string>
#include <vector>

#include "core/exec/fusion.h"
#include "core/exec/lower/packing.h"
#include "core/exec/lower/primitive.h"
#include "core/exec/lowering.h"

namespace halftone {

// How the multiply-accumulate itself computes.
enum class ComputeMode : uint8_t {
  kF32,          // f32 · f32; weights stored as f32, or widened when they are packed
  kBF16,         // bf16 · bf16 → f32, native; weights stored as bf16 or f32
  kHalfWeights,  // f32 · f16 or bf16 weights as the primitive's own input (matmul)
  kWidened,      // f32 · weights stored as f16, bf16 or integers and widened before each run
  kInt8,         // u8 or i8 · i8 → i32, native
};

// True when sums of u8 · i8 with these weights may leave 16 bits, and this CPU pairs them there.
// Requires: weights of the form kI8.
bool MaySaturate(const ComputeMatch& match, const CpuFeatures& features);
// The mode for a match on this CPU. `reason` says why integers or bf16 cannot be used where the
// model asks for them (e.g. saturation without VNNI), or that 16-bit weights are f32 when packed.
ComputeMode ChooseMode(const ComputeMatch& match, const LoweringOptions& options,
                       bool half_weights_native, std::string* reason);
// Float arithmetic, whatever the weights are stored as.
ComputeMode FloatMode(const ComputeMatch& match, const LoweringOptions& options);
// The detail of a step whose 16-bit weights were packed as f32, see LoweringOptions::widen_once.
inline constexpr char kWidenedOnce[] = "weights widened once";

// "u8s8", "f16 weights, f32 compute", …
std::string PrecisionName(ComputeMode mode, const ComputeMatch& match);
// Float arithmetic with these weights: "f32", "f16 weights, f32 compute", …
std::string WeightsName(const WeightMatch& weights);
// "int4 weights, f32 compute". Requires: the form kCodes.
std::string CodesName(const WeightMatch& weights);

// "Conv+Add+Relu": the anchor and the first `tail_ops` operations behind it.
std::string FusedName(const ComputeMatch& match, size_t tail_ops);

// An argument of the primitive whose buffer is made only once the primitive is known to exist.
struct LazyArg {
  int index = 0;
  dnnl::memory::desc desc;
  const Value* value = nullptr;  // fetched with `layout` and `type`; else a constant:
  Layout layout = Layout::kPlain;
  DataType type = DataType::kF32;
  std::vector<float> floats;
  std::optional<int32_t> integer;
};

// Everything of a primitive but its shape: attributes, their arguments, and what the result is.
struct FusedTail {
  dnnl::primitive_attr attr;
  std::vector<LazyArg> args;
  std::optional<const Value*> runtime_zero_point;
  size_t tail_ops = 0;  // how many of match.tail are inside
  DataType destination = DataType::kF32;
  const Value* sum_into = nullptr;  // in-place sum: the destination starts as this value
  std::vector<float> bias;          // for the primitive's bias argument; empty: none
  bool swish_behind = false;        // the last of tail_ops, SiLU, is a pass over the result
};

struct TailRequest {
  ComputeMode mode = ComputeMode::kF32;
  Layout layout = Layout::kPlain;  // of the result and of residuals
  Shape result_shape;              // as the primitive sees it: maybe flattened to stored rows
  int channel_axis = 1;            // in result_shape
  int weight_scale_mask = 1;       // oneDNN mask for per-channel weight scales
  // Sum over the inputs of q_w, per channel: then a static source zero point goes into the bias
  // (exact where nothing is padded) instead of to the primitive. Empty: pass it on.
  std::vector<double> weight_sums;
  bool accumulate = false;  // the result is added to what the destination holds: f32 only
  bool swish_pass = false;  // SiLU at the end may be a pass of its own: the result is dense
};

// Attributes for the first `tail_ops` operations of the tail. UNIMPLEMENTED when they cannot be
// expressed. Adds nothing to the program.
absl::StatusOr<FusedTail> DescribeTail(ProgramBuilder& builder, const ComputeMatch& match,
                                       const TailRequest& request, size_t tail_ops);

// Part of a sum that a primitive completes: it runs before, into the same destination, and reads
// the source from element `source_begin` on.
struct PartialCompute {
  dnnl::primitive primitive;
  dnnl::memory::desc source, weights, destination, scratchpad;
  int64_t source_begin = 0;
  WeightBuffer packed;
};

// A primitive that exists, and what it wants of its operands.
struct ComputePrimitive {
  dnnl::primitive primitive;
  dnnl::memory::desc source, weights, bias, destination, scratchpad;
  std::string implementation;
  FusedTail tail;
  int64_t source_begin = 0;  // see PartialCompute
  std::vector<PartialCompute> before;
};

template <typename Primitive>
ComputePrimitive FromDescriptor(const typename Primitive::primitive_desc& pd,
                                const dnnl::memory::desc& bias, FusedTail tail) {
  return {Primitive(pd), pd.src_desc(),        pd.weights_desc(),  bias,
          pd.dst_desc(), pd.scratchpad_desc(), pd.impl_info_str(), std::move(tail)};
}

// The activations that the primitive reads, and their stored type.
const Value* SourceValue(const ComputeMatch& match, ComputeMode mode);
DataType SourceType(const ComputeMatch& match, ComputeMode mode);

// Makes the arguments' buffers (conversion steps included).
absl::StatusOr<std::vector<PrimitiveArg>> CommitTail(ProgramBuilder& builder,
                                                     const FusedTail& tail);

// Lowers the rest of the tail, node by node.
absl::Status LowerRest(ProgramBuilder& builder, const ComputeMatch& match, size_t tail_ops);

// Where activations and result lie: in a layout, or by the strides of the primitive from here on.
struct ComputePlaces {
  Layout layout = Layout::kPlain;
  std::optional<ProgramBuilder::StridedSource> source, result;
};

// The last part of every rule with constant weights: fetches the operands, defines the result, adds
// the step (with the copy that an in-place sum needs) and lowers what of the tail did not fit.
// `why` becomes the step's detail.
absl::Status FinishCompute(ProgramBuilder& builder, const ComputeMatch& match, ComputeMode mode,
                           ComputePrimitive chosen, const WeightBuffer& weights,
                           const ComputePlaces& places, std::string why);

// The values of an f32 constant, or of DequantizeLinear of a constant; nullopt otherwise.
std::optional<std::vector<float>> ConstantFloats(const ProgramBuilder& builder, const Value* value);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_LOWER_COMPUTE_H_
