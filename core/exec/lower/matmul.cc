// MatMul, Gemm and convolutions of single positions by constant weights, packed once, on oneDNN.
#include <algorithm>

#include "absl/strings/match.h"
#include "core/base/checked_math.h"
#include "core/base/status_macros.h"
#include "core/exec/kernels/convert.h"
#include "core/exec/kernels/row_quant.h"
#include "core/exec/lower/arguments.h"
#include "core/exec/lower/compute.h"
#include "core/exec/lower/gemv.h"
#include "core/exec/lower/panels.h"
#include "core/exec/lower/rules.h"

namespace halftone {
namespace {

using dnnl::memory;

struct Dense {  // [m, k] · [k, n]
  int64_t m = 0, k = 0, n = 0;
  bool transposed_weights = false;  // the constant is [n, k]
  // Elements from one row to the next; 0: they lie end to end.
  int64_t source_distance = 0, result_distance = 0;
};

struct Candidate {
  ComputePrimitive primitive;
  bool inner_product = false;
};

std::optional<Dense> ReadDense(const ProgramBuilder& b, const ComputeMatch& m,
                               std::string* reason) {
  const Attributes& a = m.anchor->attributes();
  const Shape& w = m.weights->shape;
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

// What the constant is packed from, and what the primitive reads.
DataType PlainType(const ComputeMatch& m, ComputeMode mode) {
  const bool wide = mode == ComputeMode::kWidened || mode == ComputeMode::kF32;
  return wide ? DataType::kF32 : m.weights->constant->constant().type();
}
DataType WeightType(const ComputeMatch& m, ComputeMode mode) {
  return mode == ComputeMode::kBF16 ? DataType::kBF16 : PlainType(m, mode);
}

memory::desc PlainWeights(const Dense& d, DataType type, bool inner_product) {
  const int64_t k_stride = d.transposed_weights ? 1 : d.n;
  const int64_t n_stride = d.transposed_weights ? d.k : 1;
  if (inner_product) return memory::desc({d.n, d.k}, DnnlType(type), {n_stride, k_stride});
  return memory::desc({d.k, d.n}, DnnlType(type), {k_stride, n_stride});
}

// f32 · f16 or bf16 in oneDNN's own blocked layout is wrong, and reads beyond the weights, as soon
// as k needs a second block of 512 (3.7.2, avx512_core). Plain layouts are right, but up to 3 times
// slower with few rows. So such a product is a sum of products with up to 512 of k each, which cost
// what one with f32 weights in its blocked layout does.
constexpr int64_t kMaxBlockedK = 512;
bool NeedsParts(const Dense& d, DataType source, DataType weights) {
  return source == DataType::kF32 && BitWidth(weights) == 16 && d.k > kMaxBlockedK;
}

// How the product computes. Half-width weights that need parts are widened once where they are
// few, as those of a classifier's last layer are: the second part takes longer than the first.
ComputeMode ModeFor(const ProgramBuilder& b, const ComputeMatch& m, const Dense& d,
                    std::string* reason) {
  constexpr int64_t kFewWeights = 1 << 14;
  const ComputeMode mode = ChooseMode(m, b.options(), /*half_weights_native=*/true, reason);
  if (mode != ComputeMode::kHalfWeights || d.k <= kMaxBlockedK || d.k * d.n > kFewWeights) {
    return mode;
  }
  *reason = kWidenedOnce;
  return ComputeMode::kF32;
}

// What oneDNN may choose the layout of. `rows`: as [n, k], which packed integers widen to.
memory::desc WantedWeights(const Dense& d, DataType weights, bool rows) {
  if (rows) return PlainWeights({d.m, d.k, d.n, /*transposed_weights=*/true}, weights, false);
  return memory::desc({d.k, d.n}, DnnlType(weights), memory::format_tag::any);
}

memory::desc RowsDesc(int64_t rows, int64_t length, DataType type, int64_t distance) {
  return memory::desc({rows, length}, DnnlType(type), {distance == 0 ? length : distance, 1});
}

absl::StatusOr<Candidate> CreateMatMul(const Dense& d, DataType source, DataType weights, bool rows,
                                       FusedTail tail) {
  return TryDnnl("matmul", [&] {
    const auto bias = tail.bias.empty() ? memory::desc() : PlainDesc({1, d.n}, DataType::kF32);
    dnnl::matmul::primitive_desc pd(
        CpuEngine(), RowsDesc(d.m, d.k, source, d.source_distance), WantedWeights(d, weights, rows),
        bias, RowsDesc(d.m, d.n, tail.destination, d.result_distance), tail.attr);
    return Candidate{FromDescriptor<dnnl::matmul>(pd, bias, std::move(tail))};
  });
}

// The product as a sum of parts, see NeedsParts. The tail adds the last of them to the others.
absl::StatusOr<Candidate> CreateParts(const Dense& d, DataType source, DataType weights,
                                      FusedTail tail) {
  const int64_t count = (d.k + kMaxBlockedK - 1) / kMaxBlockedK;
  const int64_t length = AlignUp((d.k + count - 1) / count, 64);
  std::vector<PartialCompute> before;
  for (int64_t begin = 0;; begin += length) {
    Dense part = d;
    part.source_distance = d.source_distance == 0 ? d.k : d.source_distance;
    part.k = std::min(length, d.k - begin);
    const bool last = begin + part.k == d.k;
    FusedTail sum{.attr = BaseAttributes()};
    if (begin > 0) {
      dnnl::post_ops add;
      add.append_sum(1.0f);
      sum.attr.set_post_ops(add);
    }
    HT_ASSIGN_OR_RETURN(Candidate c, CreateMatMul(part, source, weights, /*rows=*/false,
                                                  last ? std::move(tail) : std::move(sum)));
    ComputePrimitive& p = c.primitive;
    if (IsReferenceImpl(p.implementation)) {
      return absl::UnimplementedError(absl::StrCat("only ", p.implementation));
    }
    if (last) {
      p.source_begin = begin;
      p.before = std::move(before);
      absl::StrAppend(&p.implementation, " x", count);
      return c;
    }
    before.push_back({p.primitive, p.source, p.weights, p.destination, p.scratchpad, begin, {}});
  }
}

// Requires: a tail for RequestFor the same product.
absl::StatusOr<Candidate> CreateProduct(const Dense& d, DataType source, DataType weights,
                                        bool rows, FusedTail tail) {
  if (!rows && NeedsParts(d, source, weights)) {
    return CreateParts(d, source, weights, std::move(tail));
  }
  return CreateMatMul(d, source, weights, rows, std::move(tail));
}

absl::StatusOr<Candidate> CreateInnerProduct(const Dense& d, DataType source, DataType weights,
                                             FusedTail tail) {
  return TryDnnl("inner product", [&] {
    const auto bias = tail.bias.empty() ? memory::desc() : PlainDesc({d.n}, DataType::kF32);
    dnnl::inner_product_forward::primitive_desc pd(
        CpuEngine(), dnnl::prop_kind::forward_inference, PlainDesc({d.m, d.k}, source),
        memory::desc({d.n, d.k}, DnnlType(weights), memory::format_tag::any), bias,
        PlainDesc({d.m, d.n}, tail.destination), tail.attr);
    return Candidate{FromDescriptor<dnnl::inner_product_forward>(pd, bias, std::move(tail)), true};
  });
}

// oneDNN's matmul falls back to its old GEMM on CPUs without AVX-512; the inner product of the same
// shape then has the better kernel (measured 1.15 × in f32 at m = 128, 2 × in int8 at m = 1).
bool WorthInnerProduct(absl::string_view matmul_impl) {
  return !absl::StrContains(matmul_impl, "brg");
}

TailRequest RequestFor(const ComputeMatch& m, const Dense& d, ComputeMode mode, Layout layout,
                       const std::vector<double>& weight_sums) {
  return {.mode = mode,
          .layout = layout,
          .result_shape = {d.m, d.n},
          .channel_axis = 1,
          .weight_scale_mask = 2,
          .weight_sums = weight_sums,
          .accumulate = m.weights->form != WeightForm::kCodes &&
                        NeedsParts(d, SourceType(m, mode), WeightType(m, mode))};
}

absl::StatusOr<Candidate> Choose(ProgramBuilder& b, const ComputeMatch& m, const Dense& d,
                                 ComputeMode mode, const std::vector<double>& weight_sums) {
  const DataType source = SourceType(m, mode), weights = WeightType(m, mode);
  TailRequest request = RequestFor(m, d, mode, Layout::kPlain, weight_sums);
  request.swish_pass = true;
  const bool rows = m.weights->form == WeightForm::kCodes;
  absl::Status last = absl::UnimplementedError("no tail fits");
  for (size_t ops = m.tail.size() + 1; ops-- > 0;) {
    absl::StatusOr<FusedTail> tail = DescribeTail(b, m, request, ops);
    if (!tail.ok()) {
      last = tail.status();
      continue;
    }
    absl::StatusOr<Candidate> best = CreateProduct(d, source, weights, rows, *std::move(tail));
    const bool matmul_ok = best.ok() && !IsReferenceImpl(best->primitive.implementation);
    if ((!matmul_ok || WorthInnerProduct(best->primitive.implementation)) &&
        mode != ComputeMode::kHalfWeights && !rows) {
      TailRequest ip_request = request;
      ip_request.weight_scale_mask = 1;
      absl::StatusOr<FusedTail> ip_tail = DescribeTail(b, m, ip_request, ops);
      if (ip_tail.ok() && !ip_tail->runtime_zero_point) {
        auto ip = CreateInnerProduct(d, source, weights, *std::move(ip_tail));
        if (ip.ok() && !IsReferenceImpl(ip->primitive.implementation)) best = std::move(ip);
      }
    }
    if (best.ok() && !IsReferenceImpl(best->primitive.implementation)) return best;
    last = best.ok()
               ? absl::UnimplementedError(absl::StrCat("only ", best->primitive.implementation))
               : best.status();
  }
  return last;
}

// Per output channel, the sum of the stored i8 weights.
std::vector<int64_t> ColumnSums(const ComputeMatch& m, const Dense& d) {
  const auto q = m.weights->constant->constant().data<int8_t>();
  std::vector<int64_t> sums(d.n, 0);
  for (int64_t i = 0; i < d.k * d.n; ++i) sums[d.transposed_weights ? i / d.k : i % d.n] += q[i];
  return sums;
}
// Empty where nothing asks for them.
std::vector<double> WeightSums(const ComputeMatch& m, const Dense& d, ComputeMode mode) {
  if (mode != ComputeMode::kInt8 || !m.input_quant->is_static) return {};
  const std::vector<int64_t> sums = ColumnSums(m, d);
  return std::vector<double>(sums.begin(), sums.end());
}

// Integers of any width, for PackedRows::Multiply and to be widened.
absl::StatusOr<std::shared_ptr<const PackedRows>> PackDense(ProgramBuilder& b,
                                                            const ComputeMatch& m, const Dense& d) {
  return PackRows(b, *m.weights, DenseView(d.k, d.n, d.transposed_weights));
}

// The weights for k from `begin` on, in the layout `wanted`.
absl::StatusOr<WeightBuffer> PackPart(ProgramBuilder& b, const ComputeMatch& m, const Dense& d,
                                      ComputeMode mode, int64_t begin, const memory::desc& wanted) {
  const memory::desc whole = PlainWeights(d, PlainType(m, mode), /*inner_product=*/false);
  return PackWeights(b, *m.weights, mode == ComputeMode::kWidened,
                     whole.submemory_desc(wanted.get_dims(), {begin, 0}), wanted,
                     absl::StrCat("mm@", begin));
}

// Packs those of earlier parts, too.
absl::StatusOr<WeightBuffer> WeightsFor(ProgramBuilder& b, const ComputeMatch& m, const Dense& d,
                                        ComputeMode mode, Candidate& c) {
  if (m.weights->form != WeightForm::kCodes) {
    for (PartialCompute& part : c.primitive.before) {
      HT_ASSIGN_OR_RETURN(part.packed, PackPart(b, m, d, mode, part.source_begin, part.weights));
    }
    if (!c.primitive.before.empty()) {
      return PackPart(b, m, d, mode, c.primitive.source_begin, c.primitive.weights);
    }
    return PackWeights(b, *m.weights, mode == ComputeMode::kWidened,
                       PlainWeights(d, PlainType(m, mode), c.inner_product), c.primitive.weights,
                       c.inner_product ? "ip" : "mm");
  }
  HT_ASSIGN_OR_RETURN(const auto rows, PackDense(b, m, d));
  return WeightBuffer{
      .desc = c.primitive.weights,
      .widened = WidenedWeights{.desc = c.primitive.weights,
                                .widen = [rows](float* out) { rows->Widen(0, rows->rows(), out); },
                                .bytes = rows->bytes()}};
}

// The distance of equally spaced rows along the innermost stored dimension; nullopt when they
// overlap or their elements are apart.
std::optional<int64_t> RowDistance(const Shape& shape, const Shape& strides, Layout layout) {
  const Shape sizes = StorageOrder(shape, layout), steps = StorageOrder(strides, layout);
  // oneDNN draws conclusions from the stride of a dimension of size 1.
  if (sizes.empty() || sizes.back() < 2 || steps.back() != 1) return std::nullopt;
  int64_t distance = 0, next = 0;  // of rows; of whatever is one dimension further out
  for (size_t i = sizes.size() - 1; i-- > 0;) {
    if (sizes[i] == 1) continue;
    if (distance == 0) {
      distance = next = steps[i];
    } else if (steps[i] != next) {
      return std::nullopt;
    }
    next *= sizes[i];
  }
  if (distance == 0) return sizes.back();
  return distance >= sizes.back() ? std::optional(distance) : std::nullopt;
}

// A product whose operands lie apart: it reads a slice where it lies, and writes a part of what a
// Concat collects. False when neither is the case and `dense_too` is not set, or when there is no
// fast implementation.
absl::StatusOr<bool> LowerRows(ProgramBuilder& b, const ComputeMatch& m, Dense d, Layout layout,
                               bool dense_too) {
  std::string why;
  const ComputeMode mode = ModeFor(b, m, d, &why);
  // Then the float input has no place before somebody fetches it.
  if (m.row_quant || (m.input_quant && mode != ComputeMode::kInt8)) return false;
  const std::vector<double> sums = WeightSums(m, d, mode);
  TailRequest request = RequestFor(m, d, mode, layout, sums);
  request.swish_pass = dense_too;
  absl::StatusOr<FusedTail> tail = DescribeTail(b, m, request, m.tail.size());
  if (!tail.ok()) return false;
  ComputePlaces places{.layout = layout};
  const Value* x = SourceValue(m, mode);
  const Value* result = m.result(m.tail.size());
  // A DequantizeLinear that the product did not absorb has no place before it is fetched: dense.
  const Place at = m.input_quant && x == m.input ? Place{} : b.PlaceOf(x);
  if (at.view != nullptr && at.type == SourceType(m, mode)) {
    if (const auto distance = RowDistance(b.ShapeOf(x), at.view->strides, layout)) {
      d.source_distance = *distance;
      places.source = {at.buffer, *at.view};
    }
  }
  // Residuals are dense, and primitives want them where the result is, or in its strides.
  const bool residual = std::any_of(m.tail.begin(), m.tail.end(),
                                    [](const TailOp& op) { return op.kind == TailOp::Kind::kAdd; });
  if (const auto slice = b.SliceFor(result, layout, tail->destination);
      slice && !residual && !tail->swish_behind) {
    const Shape shape = b.ShapeOf(result);
    const auto distance = RowDistance(shape, slice->view.strides, layout);
    // A part without gaps needs no care here: the Concat takes the whole buffer.
    if (distance && !IsDense(shape, slice->view.strides, layout)) {
      d.result_distance = *distance;
      places.result = slice;
      absl::StrAppend(&why, why.empty() ? "" : "; ", "part of a Concat");
    }
  }
  if (!places.source && !places.result && !dense_too) return false;
  absl::StatusOr<Candidate> c =
      CreateProduct(d, SourceType(m, mode), WeightType(m, mode),
                    m.weights->form == WeightForm::kCodes, *std::move(tail));
  if (!c.ok() || WorthInnerProduct(c->primitive.implementation)) return false;
  HT_ASSIGN_OR_RETURN(const WeightBuffer weights, WeightsFor(b, m, d, mode, *c));
  HT_RETURN_IF_ERROR(
      FinishCompute(b, m, mode, std::move(c->primitive), weights, places, std::move(why)));
  return true;
}

// f16 or bf16 weights that an f32 product reads as they are.
bool StaysHalf(const ProgramBuilder& b, const ComputeMatch& m) {
  std::string why;
  return ChooseMode(m, b.options(), /*half_weights_native=*/true, &why) ==
         ComputeMode::kHalfWeights;
}

MatrixPart PartOf(const Dense& d) {
  if (d.transposed_weights) return {.k = d.k, .n = d.n, .k_stride = 1, .n_stride = d.k};
  return {.k = d.k, .n = d.n, .k_stride = d.n, .n_stride = 1};
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
  if (m.weights->form == WeightForm::kCodes) {
    HT_ASSIGN_OR_RETURN(const auto rows, PackDense(b, m, *dense));
    HT_ASSIGN_OR_RETURN(const bool done, LowerGemv(b, m, dense->m, rows));
    if (done) return true;
  }
  if (StaysHalf(b, m)) {
    HT_ASSIGN_OR_RETURN(const bool done, LowerPanels(b, m, dense->m, PartOf(*dense)));
    if (done) return true;
  }
  HT_ASSIGN_OR_RETURN(const bool by_strides, LowerRows(b, m, *dense, Layout::kPlain, false));
  if (by_strides) return true;
  std::string why;
  ComputeMode mode = ModeFor(b, m, *dense, &why);
  absl::StatusOr<Candidate> c = Choose(b, m, *dense, mode, WeightSums(m, *dense, mode));
  if (!c.ok() && mode != ComputeMode::kF32 && mode != ComputeMode::kWidened) {
    why = std::string(c.status().message());
    mode = FloatMode(m, b.options());
    c = Choose(b, m, *dense, mode, {});
  }
  if (!c.ok()) {
    *reason = std::string(c.status().message());
    return false;
  }
  HT_ASSIGN_OR_RETURN(const WeightBuffer weights, WeightsFor(b, m, *dense, mode, *c));
  HT_RETURN_IF_ERROR(FinishCompute(b, m, mode, std::move(c->primitive), weights, {Layout::kPlain},
                                   std::move(why)));
  return true;
}

namespace {

// Sums of more products of a u8 and an i8 may not fit into 32 bits.
constexpr int64_t kMaxExactSum = (int64_t{1} << 31) / (255 * 128);

// u8 · i8 → s32, without attributes. The sums of a row get its scale in a step behind: oneDNN has
// scales per row in reference code only.
absl::StatusOr<Candidate> CreateAccumulators(const Dense& d) {
  const auto plain = [] {
    return FusedTail{.attr = BaseAttributes(), .destination = DataType::kI32};
  };
  absl::StatusOr<Candidate> best =
      CreateMatMul(d, DataType::kU8, DataType::kI8, /*rows=*/false, plain());
  if (!best.ok() || WorthInnerProduct(best->primitive.implementation)) {
    auto ip = CreateInnerProduct(d, DataType::kU8, DataType::kI8, plain());
    if (ip.ok() && !IsReferenceImpl(ip->primitive.implementation)) best = std::move(ip);
  }
  if (best.ok() && IsReferenceImpl(best->primitive.implementation)) {
    return absl::UnimplementedError(absl::StrCat("only ", best->primitive.implementation));
  }
  return best;
}

void AddScaleRows(ProgramBuilder& b, const ComputeMatch& m, const Dense& d,
                  const std::vector<float>& bias, BufferId scale, BufferId zero_point,
                  BufferId result) {
  const auto channels = [&](std::vector<float> values, float otherwise) {
    if (values.size() != static_cast<size_t>(d.n)) {
      values.assign(static_cast<size_t>(d.n), values.empty() ? otherwise : values[0]);
    }
    return FloatConstant(b, values);
  };
  const std::vector<int64_t> sums = ColumnSums(m, d);
  const std::vector<int32_t> narrow(sums.begin(), sums.end());
  const BufferId weight_sums = b.Constant(Tensor::Of<int32_t>({d.n}, absl::MakeConstSpan(narrow)));
  const BufferId weight_scales = channels(m.weights->scales, 1.0f);
  const BufferId biases = channels(bias, 0.0f);
  b.AddStep({.node = m.anchor->name(),
             .op = "scale rows",
             .implementation = "scale rows",
             .precision = "int8"},
            {scale, zero_point, weight_sums, weight_scales, biases, result},
            [=](Binding& bind) -> BoundStep {
              return [=, &bind] {
                ScaleRows({.rows = d.m,
                           .n = d.n,
                           .scale = bind.as<float>(scale),
                           .zero_point = bind.as<uint8_t>(zero_point),
                           .weight_scale = bind.as<float>(weight_scales),
                           .weight_sum = bind.as<int32_t>(weight_sums),
                           .bias = bind.as<float>(biases)},
                          bind.as<int32_t>(result), bind.as<float>(result));
                return absl::OkStatus();
              };
            });
}

}  // namespace

absl::StatusOr<bool> LowerRowMatMul(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  if (unit.match == nullptr || !unit.match->row_quant) return false;
  const ComputeMatch& m = *unit.match;
  const auto d = ReadDense(b, m, reason);
  if (!d) return false;
  if (d->k > kMaxExactSum || MaySaturate(m, b.options().features)) {
    *reason = d->k > kMaxExactSum ? "sums beyond 32 bits"
                                  : "no VNNI: 8-bit weights would saturate, so float arithmetic";
    return false;
  }
  const std::optional<ProductBias> bias = ReadProductBias(b, m, d->n);
  if (!bias) {
    *reason = "bias is not one number per channel";
    return false;
  }
  absl::StatusOr<Candidate> c = CreateAccumulators(*d);
  if (!c.ok()) {
    *reason = std::string(c.status().message());
    return false;
  }
  HT_ASSIGN_OR_RETURN(const WeightBuffer weights,
                      PackWeights(b, *m.weights, /*narrow=*/false,
                                  PlainWeights(*d, DataType::kI8, c->inner_product),
                                  c->primitive.weights, c->inner_product ? "ip" : "mm"));
  HT_ASSIGN_OR_RETURN(const BufferId codes,
                      b.Fetch(m.row_quant->codes, Layout::kPlain, DataType::kU8));
  HT_ASSIGN_OR_RETURN(const BufferId scale, b.FetchPlain(m.row_quant->scale));
  HT_ASSIGN_OR_RETURN(const BufferId zero_point, b.FetchPlain(m.row_quant->zero_point));
  const BufferId result = b.Define(m.result(bias->tail_ops), Layout::kPlain, DataType::kF32);
  AddPrimitive(b,
               {.node = m.anchor->name(),
                .op = FusedName(m, bias->tail_ops),
                .implementation = c->primitive.implementation,
                .precision = "u8s8"},
               {.primitive = c->primitive.primitive,
                .scratchpad = c->primitive.scratchpad,
                .args = {{DNNL_ARG_SRC, c->primitive.source, codes},
                         {DNNL_ARG_WEIGHTS, weights.desc, weights.buffer},
                         {DNNL_ARG_DST, c->primitive.destination, result}}});
  AddScaleRows(b, m, *d, bias->values, scale, zero_point, result);
  HT_RETURN_IF_ERROR(LowerRest(b, m, bias->tail_ops));
  return true;
}

namespace {

// A convolution of single positions, as the product [positions, channels] · [channels, outputs].
std::optional<Dense> ReadPointwise(const ProgramBuilder& b, const ComputeMatch& m) {
  const Attributes& a = m.anchor->attributes();
  const Shape& w = m.weights->shape;
  const Shape x = b.ShapeOf(m.input), out = b.ShapeOf(m.anchor->output(0));
  const auto pads = a.Ints("pads");
  if (w.size() < 3 || ElementCount(absl::MakeConstSpan(w).subspan(2)) != 1 ||
      a.Int("group", 1) != 1 || ElementCount(out) == 0 || ElementCount(x) == 0 ||
      !std::equal(x.begin() + 2, x.end(), out.begin() + 2, out.end()) ||
      std::any_of(pads.begin(), pads.end(), [](int64_t p) { return p != 0; })) {
    return std::nullopt;
  }
  return Dense{.m = ElementCount(x) / x[1], .k = w[1], .n = w[0], .transposed_weights = true};
}

// Where its operands are dense, the convolution is as fast and does more. But it has no kernel for
// f16 weights: widening them is a parallel region more, which costs a time slice wherever somebody
// else wants the cores. Fewer weights widen without one, and for many positions in no time.
bool BetterThanWidening(const ProgramBuilder& b, const ComputeMatch& m, const Dense& d) {
  constexpr int64_t kManyPositions = 64;
  const bool widens_at_once = d.k * d.n < kParallelConversion && d.m >= kManyPositions;
  return StaysHalf(b, m) && !widens_at_once &&
         !NeedsParts(d, DataType::kF32, m.weights->constant->constant().type());
}

}  // namespace

absl::StatusOr<bool> LowerPointwise(ProgramBuilder& b, const Unit& unit, std::string* /*reason*/) {
  if (unit.match == nullptr || !unit.match->weights) return false;
  const auto dense = ReadPointwise(b, *unit.match);
  if (!dense) return false;
  // Of one position per image: plain rows.
  if (dense->k > kMaxBlockedK && dense->m == b.ShapeOf(unit.match->input)[0] &&
      StaysHalf(b, *unit.match)) {
    HT_ASSIGN_OR_RETURN(const bool done, LowerPanels(b, *unit.match, dense->m, PartOf(*dense)));
    if (done) return true;
  }
  return LowerRows(b, *unit.match, *dense, Layout::kChannelsLast,
                   BetterThanWidening(b, *unit.match, *dense));
}

}  // namespace halftone
