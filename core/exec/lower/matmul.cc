// MatMul and Gemm on oneDNN: constant weights packed once, run-time matrices through strides.
#include <algorithm>

#include "absl/strings/match.h"
#include "core/base/status_macros.h"
#include "core/exec/lower/arguments.h"
#include "core/exec/lower/compute.h"
#include "core/exec/lower/rules.h"

namespace halftone {
namespace {

using dnnl::memory;

struct Dense {  // [m, k] · [k, n]
  int64_t m = 0, k = 0, n = 0;
  bool transposed_weights = false;  // the constant is [n, k]
};

struct Candidate {
  dnnl::primitive primitive;
  memory::desc source, weights, bias, destination, scratchpad;
  std::string implementation;
  FusedTail tail;
  bool inner_product = false;
};

std::optional<Dense> ReadDense(const ProgramBuilder& b, const ComputeMatch& m,
                               std::string* reason) {
  const Attributes& a = m.anchor->attributes();
  const Shape& w = m.weights->constant->constant().shape();
  Dense d;
  if (m.anchor->op() == "Gemm") {
    if (a.Int("transA", 0) != 0 || a.Float("alpha", 1) != 1 ||
        (m.bias != nullptr && a.Float("beta", 1) != 1)) {
      *reason = "transA, alpha or beta";
      return std::nullopt;
    }
    d.transposed_weights = a.Int("transB", 0) != 0;
  }
  const Shape x = b.ShapeOf(m.input);
  if (w.size() != 2 || x.empty()) {
    *reason = "weights are not a matrix";
    return std::nullopt;
  }
  d.k = w[d.transposed_weights ? 1 : 0];
  d.n = w[d.transposed_weights ? 0 : 1];
  d.m = x.back() == 0 ? 0 : ElementCount(x) / x.back();
  if (d.m == 0 || d.k == 0 || d.n == 0) {
    *reason = "empty operand";
    return std::nullopt;
  }
  return d;
}

DataType SourceType(const ComputeMatch& m, ComputeMode mode) {
  if (mode == ComputeMode::kInt8) return m.input_quant->type;
  return mode == ComputeMode::kBF16 ? DataType::kBF16 : DataType::kF32;
}

DataType WeightType(const ComputeMatch& m, ComputeMode mode) {
  return mode == ComputeMode::kWidened ? DataType::kF32 : m.weights->constant->constant().type();
}

memory::desc PlainWeights(const Dense& d, DataType type, bool inner_product) {
  const int64_t k_stride = d.transposed_weights ? 1 : d.n;
  const int64_t n_stride = d.transposed_weights ? d.k : 1;
  if (inner_product) return memory::desc({d.n, d.k}, DnnlType(type), {n_stride, k_stride});
  return memory::desc({d.k, d.n}, DnnlType(type), {k_stride, n_stride});
}

// What oneDNN may choose the layout of. f32 · f16 or bf16 in its own blocked layout is wrong, and
// reads beyond the weights, as soon as k needs a second block of 512 (3.7.2, avx512_core); plain
// layouts are right, and save the copy.
memory::desc WantedWeights(const Dense& d, DataType source, DataType weights) {
  constexpr int64_t kMaxBlockedK = 512;
  if (source == DataType::kF32 && BitWidth(weights) == 16 && d.k > kMaxBlockedK) {
    return PlainWeights(d, weights, /*inner_product=*/false);
  }
  return memory::desc({d.k, d.n}, DnnlType(weights), memory::format_tag::any);
}

absl::StatusOr<Candidate> CreateMatMul(const Dense& d, DataType source, DataType weights,
                                       FusedTail tail) {
  return TryDnnl("matmul", [&] {
    const auto bias = tail.bias.empty() ? memory::desc() : PlainDesc({1, d.n}, DataType::kF32);
    dnnl::matmul::primitive_desc pd(CpuEngine(), PlainDesc({d.m, d.k}, source),
                                    WantedWeights(d, source, weights), bias,
                                    PlainDesc({d.m, d.n}, tail.destination), tail.attr);
    return Candidate{
        dnnl::matmul(pd),     pd.src_desc(),      pd.weights_desc(), bias, pd.dst_desc(),
        pd.scratchpad_desc(), pd.impl_info_str(), std::move(tail),   false};
  });
}

absl::StatusOr<Candidate> CreateInnerProduct(const Dense& d, DataType source, DataType weights,
                                             FusedTail tail) {
  return TryDnnl("inner product", [&] {
    const auto bias = tail.bias.empty() ? memory::desc() : PlainDesc({d.n}, DataType::kF32);
    dnnl::inner_product_forward::primitive_desc pd(
        CpuEngine(), dnnl::prop_kind::forward_inference, PlainDesc({d.m, d.k}, source),
        memory::desc({d.n, d.k}, DnnlType(weights), memory::format_tag::any), bias,
        PlainDesc({d.m, d.n}, tail.destination), tail.attr);
    return Candidate{dnnl::inner_product_forward(pd),
                     pd.src_desc(),
                     pd.weights_desc(),
                     bias,
                     pd.dst_desc(),
                     pd.scratchpad_desc(),
                     pd.impl_info_str(),
                     std::move(tail),
                     true};
  });
}

// oneDNN's matmul falls back to its old GEMM on CPUs without AVX-512; the inner product of the same
// shape then has the better kernel (measured 1.15 × in f32 at m = 128, 2 × in int8 at m = 1).
bool WorthInnerProduct(absl::string_view matmul_impl) {
  return !absl::StrContains(matmul_impl, "brg");
}

absl::StatusOr<Candidate> Choose(ProgramBuilder& b, const ComputeMatch& m, const Dense& d,
                                 ComputeMode mode, const std::vector<double>& weight_sums) {
  const DataType source = SourceType(m, mode), weights = WeightType(m, mode);
  TailRequest request{.mode = mode,
                      .result_shape = {d.m, d.n},
                      .channel_axis = 1,
                      .weight_scale_mask = 2,
                      .weight_sums = weight_sums};
  absl::Status last = absl::UnimplementedError("no tail fits");
  for (size_t ops = m.tail.size() + 1; ops-- > 0;) {
    absl::StatusOr<FusedTail> tail = DescribeTail(b, m, request, ops);
    if (!tail.ok()) {
      last = tail.status();
      continue;
    }
    absl::StatusOr<Candidate> best = CreateMatMul(d, source, weights, *std::move(tail));
    const bool matmul_ok = best.ok() && !IsReferenceImpl(best->implementation);
    if ((!matmul_ok || WorthInnerProduct(best->implementation)) &&
        mode != ComputeMode::kHalfWeights) {
      TailRequest ip_request = request;
      ip_request.weight_scale_mask = 1;
      absl::StatusOr<FusedTail> ip_tail = DescribeTail(b, m, ip_request, ops);
      if (ip_tail.ok() && !ip_tail->runtime_zero_point) {
        auto ip = CreateInnerProduct(d, source, weights, *std::move(ip_tail));
        if (ip.ok() && !IsReferenceImpl(ip->implementation)) best = std::move(ip);
      }
    }
    if (best.ok() && !IsReferenceImpl(best->implementation)) return best;
    last = best.ok() ? absl::UnimplementedError(absl::StrCat("only ", best->implementation))
                     : best.status();
  }
  return last;
}

// Per output channel, the sum of the stored i8 weights.
std::vector<double> WeightSums(const ComputeMatch& m, const Dense& d) {
  const auto q = m.weights->constant->constant().data<int8_t>();
  std::vector<int64_t> sums(d.n, 0);
  for (int64_t i = 0; i < d.k * d.n; ++i) sums[d.transposed_weights ? i / d.k : i % d.n] += q[i];
  return std::vector<double>(sums.begin(), sums.end());
}

}  // namespace

absl::StatusOr<bool> LowerMatMul(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  if (unit.match == nullptr) {
    *reason = "not f32";
    return false;
  }
  const ComputeMatch& m = *unit.match;
  if (!m.weights) {
    *reason = "weights are not constant";
    return false;
  }
  const auto dense = ReadDense(b, m, reason);
  if (!dense) return false;
  std::string why;
  ComputeMode mode = ChooseMode(m, b.options(), /*half_weights_native=*/true, &why);
  std::vector<double> sums;
  if (mode == ComputeMode::kInt8 && m.input_quant->is_static) sums = WeightSums(m, *dense);
  absl::StatusOr<Candidate> c = Choose(b, m, *dense, mode, sums);
  if (!c.ok() && mode != ComputeMode::kF32 && mode != ComputeMode::kWidened) {
    why = std::string(c.status().message());
    mode = ComputeMode::kWidened;
    c = Choose(b, m, *dense, mode, {});
  }
  if (!c.ok()) {
    *reason = std::string(c.status().message());
    return false;
  }
  HT_ASSIGN_OR_RETURN(
      const WeightBuffer weights,
      PackWeights(b, *m.weights, mode, PlainWeights(*dense, WeightType(m, mode), c->inner_product),
                  c->weights, c->inner_product ? "ip" : "mm"));
  const Value* x = mode == ComputeMode::kInt8 ? m.input_quant->quantized : m.input;
  HT_ASSIGN_OR_RETURN(const BufferId source, b.Fetch(x, Layout::kPlain, SourceType(m, mode)));
  PrimitiveStep step{.primitive = c->primitive, .scratchpad = c->scratchpad};
  HT_ASSIGN_OR_RETURN(step.args, CommitTail(b, c->tail));
  for (PrimitiveArg& arg : step.args) {
    if (arg.index == DNNL_ARG_BIAS) arg.desc = c->bias;
  }
  if (c->tail.runtime_zero_point) {
    HT_ASSIGN_OR_RETURN(const BufferId zp, b.FetchPlain(*c->tail.runtime_zero_point));
    step.zero_point = RuntimeZeroPoint{DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_SRC, zp};
  }
  HT_ASSIGN_OR_RETURN(const BufferId result, DefineResult(b, m, c->tail, Layout::kPlain));
  step.args.push_back({DNNL_ARG_SRC, c->source, source});
  step.args.push_back({DNNL_ARG_DST, c->destination, result});
  if (weights.widened) {
    step.widened = weights.widened;
  } else {
    step.args.push_back({DNNL_ARG_WEIGHTS, weights.desc, weights.buffer});
  }
  const size_t fused = c->tail.tail_ops;
  AddPrimitive(b,
               {.node = m.anchor->name(),
                .op = FusedName(m, fused),
                .implementation = c->implementation,
                .precision = PrecisionName(mode, m),
                .detail = why},
               std::move(step));
  HT_RETURN_IF_ERROR(LowerRest(b, m, fused));
  return true;
}

namespace {

// Dimensions padded with leading ones to `rank`, and the strides in which they lie.
struct Operand {
  const Value* value = nullptr;
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
  Operand o{.value = value, .shape = b.ShapeOf(value)};
  o.strides = RowMajorStrides(o.shape);
  const Place place = value->is_constant() ? Place{} : b.PlaceOf(value);
  if (strided && !value->is_constant() && place.type == DataType::kF32) {
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
  return memory::desc(DnnlDims(o.shape), memory::data_type::f32, DnnlDims(o.strides));
}

absl::StatusOr<PrimitiveArg> FetchOperand(ProgramBuilder& b, int index, const Operand& o,
                                          const memory::desc& desc) {
  if (!o.strided) {
    HT_ASSIGN_OR_RETURN(const BufferId buffer, b.FetchPlain(o.value));
    return PrimitiveArg{index, desc, buffer};
  }
  return PrimitiveArg{index, desc, b.PlaceOf(o.value).buffer,
                      o.offset * static_cast<int64_t>(sizeof(float))};
}

struct Product {
  Operand a, b, result;
  FusedTail tail;
  dnnl::matmul::primitive_desc pd;
};

absl::StatusOr<Product> CreateProduct(ProgramBuilder& b, const ComputeMatch& m, bool strided,
                                      bool fold_result, size_t tail_ops) {
  Shape out = b.ShapeOf(m.anchor->output(0));
  const Value* right = m.anchor->input(1);
  if (b.ShapeOf(right).size() == 1) out.push_back(1);
  if (b.ShapeOf(m.input).size() == 1) out.insert(out.end() - 1, 1);
  const size_t rank = out.size();
  Product p;
  p.a = ReadOperand(b, m.input, rank, strided, false);
  p.b = ReadOperand(b, right, rank, strided, true);
  p.result = {.value = m.result(tail_ops), .shape = out, .strides = RowMajorStrides(out)};
  if (fold_result) {
    const auto& perm = m.transpose_result->permutation;
    p.result.value = m.transpose_result->node->output(0);
    const Shape stored = RowMajorStrides(b.ShapeOf(p.result.value));
    for (size_t i = 0; i < perm.size(); ++i) p.result.strides[perm[i]] = stored[i];
  }
  const TailRequest request{.result_shape = out, .channel_axis = static_cast<int>(rank) - 1};
  HT_ASSIGN_OR_RETURN(p.tail, DescribeTail(b, m, request, tail_ops));
  if (!p.tail.bias.empty()) return absl::UnimplementedError("bias on a run-time product");
  if (BitWidth(p.tail.destination) != 32) return absl::UnimplementedError("quantized result");
  auto pd = TryDnnl("matmul", [&] {
    return dnnl::matmul::primitive_desc(CpuEngine(), OperandDesc(p.a), OperandDesc(p.b),
                                        OperandDesc(p.result), p.tail.attr);
  });
  if (!pd.ok()) return pd.status();
  if (IsReferenceImpl(pd->impl_info_str())) return absl::UnimplementedError("only ref");
  p.pd = *std::move(pd);
  return p;
}

}  // namespace

absl::StatusOr<bool> LowerBatchMatMul(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  if (unit.match == nullptr) {
    *reason = "not f32";
    return false;
  }
  const ComputeMatch& m = *unit.match;
  const Value* right = m.anchor->input(1);
  const bool f32 = m.input->type().type == DataType::kF32 && right->type().type == DataType::kF32;
  if (m.anchor->op() != "MatMul" || !f32 || ElementCount(b.ShapeOf(m.input)) == 0 ||
      ElementCount(b.ShapeOf(right)) == 0) {
    *reason = "not a product of f32 matrices";
    return false;
  }
  // From views read in place to dense copies; the first that has a fast implementation.
  absl::StatusOr<Product> p = absl::UnimplementedError("");
  const bool vector = b.ShapeOf(m.input).size() < 2 || b.ShapeOf(right).size() < 2;
  bool fold_result = false;
  for (const bool strided : {true, false}) {
    for (size_t ops = m.tail.size() + 1; ops-- > 0 && !p.ok();) {
      fold_result = m.transpose_result && ops == m.tail.size() && !vector;
      p = CreateProduct(b, m, strided, fold_result, ops);
      if (!p.ok() && fold_result) {
        fold_result = false;
        p = CreateProduct(b, m, strided, false, ops);
      }
    }
  }
  if (!p.ok()) {
    *reason = std::string(p.status().message());
    return false;
  }
  HT_ASSIGN_OR_RETURN(const PrimitiveArg left_arg,
                      FetchOperand(b, DNNL_ARG_SRC, p->a, p->pd.src_desc()));
  HT_ASSIGN_OR_RETURN(const PrimitiveArg right_arg,
                      FetchOperand(b, DNNL_ARG_WEIGHTS, p->b, p->pd.weights_desc()));
  PrimitiveStep step{.primitive = dnnl::matmul(p->pd), .scratchpad = p->pd.scratchpad_desc()};
  HT_ASSIGN_OR_RETURN(step.args, CommitTail(b, p->tail));
  const BufferId result = b.Define(p->result.value, Layout::kPlain, DataType::kF32);
  step.args.push_back(left_arg);
  step.args.push_back(right_arg);
  step.args.push_back({DNNL_ARG_DST, p->pd.dst_desc(), result});
  const size_t fused = p->tail.tail_ops;
  AddPrimitive(b,
               {.node = m.anchor->name(),
                .op = FusedName(m, fused),
                .implementation = p->pd.impl_info_str(),
                .precision = "f32"},
               std::move(step));
  HT_RETURN_IF_ERROR(LowerRest(b, m, fused));
  if (m.transpose_result && !fold_result) {
    HT_RETURN_IF_ERROR(b.LowerAlone(m.transpose_result->node));
  }
  return true;
}

}  // namespace halftone
