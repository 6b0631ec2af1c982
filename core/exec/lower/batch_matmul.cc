// Products of two matrices that are computed at run time, in f32 or in 8 bits: on oneDNN, through
// strides.
#include <algorithm>

#include "core/base/status_macros.h"
#include "core/exec/lower/arguments.h"
#include "core/exec/lower/compute.h"
#include "core/exec/lower/rules.h"

namespace halftone {
namespace {

using dnnl::memory;

// Dimensions padded with leading ones to `rank`, and the strides in which they lie.
struct Operand {
  const Value* value = nullptr;
  DataType type = DataType::kF32;
  Shape shape, strides;
  bool strided = false;  // read where it lies, from `offset` on; otherwise fetched dense
  int64_t offset = 0;
};

// A matrix that a view reaches through strides that the primitive takes: one of the last two is 1,
// and rows do not overlap.
bool TakesStrides(const Shape& shape, const Shape& strides) {
  const size_t n = strides.size();
  if (n < 2 || std::min(strides[n - 1], strides[n - 2]) != 1) return false;
  for (size_t i = 0; i < n; ++i) {
    if (strides[i] < 1 && shape[i] != 1) return false;
  }
  return true;
}

Operand ReadOperand(ProgramBuilder& b, const Value* value, size_t rank, bool strided,
                    bool as_column) {
  Operand o{.value = value, .type = *value->type().type, .shape = b.ShapeOf(value)};
  o.strides = RowMajorStrides(o.shape);
  const Place place = value->is_constant() ? Place{} : b.PlaceOf(value);
  if (strided && !value->is_constant() && place.type == o.type) {
    Shape strides = place.view ? place.view->strides : StridesFor(o.shape, place.layout);
    // Any stride reaches a dimension of size 1, but oneDNN 3.7.2 draws conclusions from it: equal
    // to that of the rows, it is taken for their distance; beyond that of an outer dimension, the
    // batches of a broadcast product go astray. Stepping over all that lies inside is safe.
    int64_t extent = 1;
    for (size_t i = strides.size(); i-- > 0;) {
      if (o.shape[i] == 1) strides[i] = extent;
      extent = std::max(extent, strides[i] * o.shape[i]);
    }
    if (TakesStrides(o.shape, strides)) {
      o.strides = strides;
      o.offset = place.view ? place.view->offset : 0;
      o.strided = true;
    }
  }
  if (o.shape.size() == 1) {  // a vector is a row on the left and a column on the right
    const int64_t extent = o.shape[0] * o.strides[0];
    if (as_column) {
      o.shape.push_back(1);
      o.strides.push_back(1);
    } else {
      o.shape.insert(o.shape.begin(), 1);
      o.strides.insert(o.strides.begin(), extent);
    }
  }
  while (o.shape.size() < rank) {
    const int64_t outer = o.shape.empty() ? 1 : o.shape[0] * o.strides[0];
    o.shape.insert(o.shape.begin(), 1);
    o.strides.insert(o.strides.begin(), outer);
  }
  return o;
}

memory::desc OperandDesc(const Operand& o) {
  return memory::desc(DnnlDims(o.shape), DnnlType(o.type), DnnlDims(o.strides));
}

absl::StatusOr<PrimitiveArg> FetchOperand(ProgramBuilder& b, int index, const Operand& o,
                                          const memory::desc& desc) {
  if (!o.strided) {
    HT_ASSIGN_OR_RETURN(const BufferId buffer, b.FetchPlain(o.value));
    return PrimitiveArg{index, desc, buffer};
  }
  return PrimitiveArg{index, desc, b.PlaceOf(o.value).buffer, o.offset * BitWidth(o.type) / 8};
}

struct Product {
  Operand a, b, result;
  FusedTail tail;
  dnnl::matmul::primitive_desc pd;
};

// In f32, or in integers where the match has both sides in 8 bits.
absl::StatusOr<Product> CreateProduct(ProgramBuilder& b, const ComputeMatch& m, ComputeMode mode,
                                      bool strided, bool fold_result, size_t tail_ops) {
  Shape out = b.ShapeOf(m.anchor->output(0));
  const bool integers = mode == ComputeMode::kInt8;
  const Value* left = SourceValue(m, mode);
  const Value* right = integers ? m.right_quant->quantized : m.anchor->input(1);
  if (b.ShapeOf(right).size() == 1) out.push_back(1);
  if (b.ShapeOf(left).size() == 1) out.insert(out.end() - 1, 1);
  const size_t rank = out.size();
  Product p;
  HT_RETURN_IF_ERROR(b.EnsurePlaced(left));
  HT_RETURN_IF_ERROR(b.EnsurePlaced(right));
  p.a = ReadOperand(b, left, rank, strided, false);
  p.b = ReadOperand(b, right, rank, strided, true);
  p.result = {.value = m.result(tail_ops), .shape = out, .strides = RowMajorStrides(out)};
  if (fold_result) {
    const auto& perm = m.transpose_result->permutation;
    p.result.value = m.transpose_result->node->output(0);
    const Shape stored = RowMajorStrides(b.ShapeOf(p.result.value));
    for (size_t i = 0; i < perm.size(); ++i) p.result.strides[perm[i]] = stored[i];
  }
  const TailRequest request{
      .mode = mode, .result_shape = out, .channel_axis = static_cast<int>(rank) - 1};
  HT_ASSIGN_OR_RETURN(p.tail, DescribeTail(b, m, request, tail_ops));
  if (!p.tail.bias.empty()) return absl::UnimplementedError("bias on a run-time product");
  if (BitWidth(p.tail.destination) != 32 && !integers) {
    return absl::UnimplementedError("quantized result of floats");
  }
  if (p.tail.sum_into != nullptr) return absl::UnimplementedError("sum in 8 bits");
  p.result.type = p.tail.destination;
  auto pd = TryDnnl("matmul", [&] {
    return dnnl::matmul::primitive_desc(CpuEngine(), OperandDesc(p.a), OperandDesc(p.b),
                                        OperandDesc(p.result), p.tail.attr);
  });
  if (!pd.ok()) return pd.status();
  if (IsReferenceImpl(pd->impl_info_str())) return absl::UnimplementedError("only ref");
  p.pd = *std::move(pd);
  return p;
}

// The first that has a fast implementation, from views read in place to dense copies, with as much
// of the tail inside as possible.
struct ChosenProduct {
  Product product;
  bool folds_result = false;
};
absl::StatusOr<ChosenProduct> ChooseProduct(ProgramBuilder& b, const ComputeMatch& m,
                                            ComputeMode mode) {
  const bool vector = b.ShapeOf(m.input).size() < 2 || b.ShapeOf(m.anchor->input(1)).size() < 2;
  absl::Status failed;
  for (const bool strided : {true, false}) {
    for (size_t ops = m.tail.size() + 1; ops-- > 0;) {
      const bool may_fold = m.transpose_result && ops == m.tail.size() && !vector;
      for (const bool fold : {true, false}) {
        if (fold && !may_fold) continue;
        absl::StatusOr<Product> p = CreateProduct(b, m, mode, strided, fold, ops);
        if (p.ok()) return ChosenProduct{*std::move(p), fold};
        failed = p.status();
      }
    }
  }
  return failed;
}

// Without VNNI the integer products saturate.
ComputeMode ModeOf(const ComputeMatch& m, const LoweringOptions& options) {
  return m.right_quant && options.features.vnni ? ComputeMode::kInt8 : ComputeMode::kF32;
}

}  // namespace

absl::StatusOr<bool> LowerBatchMatMul(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  if (unit.match == nullptr) {
    *reason = "not f32";
    return false;
  }
  ComputeMatch m = *unit.match;
  // A constant matrix for each batch is read as the floats that it stands for.
  m.weights.reset();
  const Value* right = m.anchor->input(1);
  const bool f32 = m.input->type().type == DataType::kF32 && right->type().type == DataType::kF32;
  if (m.anchor->op() != "MatMul" || !f32 || ElementCount(b.ShapeOf(m.input)) == 0 ||
      ElementCount(b.ShapeOf(right)) == 0) {
    *reason = "not a product of f32 matrices";
    return false;
  }
  ComputeMode mode = ModeOf(m, b.options());
  absl::StatusOr<ChosenProduct> chosen = ChooseProduct(b, m, mode);
  if (!chosen.ok() && mode == ComputeMode::kInt8) {
    mode = ComputeMode::kF32;
    chosen = ChooseProduct(b, m, mode);
  }
  if (!chosen.ok()) {
    *reason = std::string(chosen.status().message());
    return false;
  }
  const Product* p = &chosen->product;
  HT_ASSIGN_OR_RETURN(const PrimitiveArg left_arg,
                      FetchOperand(b, DNNL_ARG_SRC, p->a, p->pd.src_desc()));
  HT_ASSIGN_OR_RETURN(const PrimitiveArg right_arg,
                      FetchOperand(b, DNNL_ARG_WEIGHTS, p->b, p->pd.weights_desc()));
  PrimitiveStep step{.primitive = dnnl::matmul(p->pd), .scratchpad = p->pd.scratchpad_desc()};
  HT_ASSIGN_OR_RETURN(step.args, CommitTail(b, p->tail));
  const BufferId result = b.Define(p->result.value, Layout::kPlain, p->result.type);
  step.args.push_back(left_arg);
  step.args.push_back(right_arg);
  step.args.push_back({DNNL_ARG_DST, p->pd.dst_desc(), result});
  const size_t fused = p->tail.tail_ops;
  AddPrimitive(b,
               {.node = m.anchor->name(),
                .op = FusedName(m, fused),
                .implementation = p->pd.impl_info_str(),
                .precision = PrecisionName(mode, m)},
               std::move(step));
  HT_RETURN_IF_ERROR(LowerRest(b, m, fused));
  if (m.transpose_result && !chosen->folds_result) {
    HT_RETURN_IF_ERROR(b.LowerAlone(m.transpose_result->node));
  }
  return true;
}

}  // namespace halftone
