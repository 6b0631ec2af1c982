// MatMul, Gemm and convolutions of single positions by constant weights, packed once, on oneDNN.
#include <algorithm>

#include "core/base/status_macros.h"
#include "core/exec/kernels/convert.h"
#include "core/exec/lower/arguments.h"
#include "core/exec/lower/dense.h"
#include "core/exec/lower/gemv.h"
#include "core/exec/lower/panels.h"
#include "core/exec/lower/rules.h"

namespace halftone {
namespace {

using dnnl::memory;

// What the constant is packed from, and what the primitive reads.
DataType PlainType(const ComputeMatch& m, ComputeMode mode) {
  const bool wide = mode == ComputeMode::kWidened || mode == ComputeMode::kF32;
  return wide ? DataType::kF32 : m.weights->constant->constant().type();
}
DataType WeightType(const ComputeMatch& m, ComputeMode mode) {
  return mode == ComputeMode::kBF16 ? DataType::kBF16 : PlainType(m, mode);
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

absl::StatusOr<DenseProduct> Choose(ProgramBuilder& b, const ComputeMatch& m, const Dense& d,
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
    absl::StatusOr<DenseProduct> best = CreateProduct(d, source, weights, rows, *std::move(tail));
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
  const memory::desc whole = DenseWeights(d, PlainType(m, mode), /*inner_product=*/false);
  return PackWeights(b, *m.weights, mode == ComputeMode::kWidened,
                     whole.submemory_desc(wanted.get_dims(), {begin, 0}), wanted,
                     absl::StrCat("mm@", begin));
}

// Packs those of earlier parts, too.
absl::StatusOr<WeightBuffer> WeightsFor(ProgramBuilder& b, const ComputeMatch& m, const Dense& d,
                                        ComputeMode mode, DenseProduct& c) {
  if (m.weights->form != WeightForm::kCodes) {
    for (PartialCompute& part : c.primitive.before) {
      HT_ASSIGN_OR_RETURN(part.packed, PackPart(b, m, d, mode, part.source_begin, part.weights));
    }
    if (!c.primitive.before.empty()) {
      return PackPart(b, m, d, mode, c.primitive.source_begin, c.primitive.weights);
    }
    return PackWeights(b, *m.weights, mode == ComputeMode::kWidened,
                       DenseWeights(d, PlainType(m, mode), c.inner_product), c.primitive.weights,
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
  absl::StatusOr<DenseProduct> c =
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

// Few rows: f16 and bf16 weights, and f32 ones that stay in the last cache from one run to the next
// (oneDNN reads those of a classifier at 14 GB/s, panels are read at 25).
bool WantsPanels(const ProgramBuilder& b, const ComputeMatch& m, const Dense& d,
                 std::string* reason) {
  constexpr int64_t kCachedBytes = 16 << 20;
  const ComputeMode mode = ChooseMode(m, b.options(), /*half_weights_native=*/true, reason);
  return mode == ComputeMode::kHalfWeights ||
         (mode == ComputeMode::kF32 && b.options().features.avx512 &&
          d.k * d.n * 4 <= kCachedBytes);
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
  std::string why;
  if (WantsPanels(b, m, *dense, &why)) {
    HT_ASSIGN_OR_RETURN(const bool done, LowerPanels(b, m, dense->m, PartOf(*dense), why));
    if (done) return true;
  }
  why.clear();
  HT_ASSIGN_OR_RETURN(const bool by_strides, LowerRows(b, m, *dense, Layout::kPlain, false));
  if (by_strides) return true;
  ComputeMode mode = ModeFor(b, m, *dense, &why);
  absl::StatusOr<DenseProduct> c = Choose(b, m, *dense, mode, WeightSums(m, *dense, mode));
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
    HT_ASSIGN_OR_RETURN(const bool done, LowerPanels(b, *unit.match, dense->m, PartOf(*dense), ""));
    if (done) return true;
  }
  return LowerRows(b, *unit.match, *dense, Layout::kChannelsLast,
                   BetterThanWidening(b, *unit.match, *dense));
}

}  // namespace halftone
