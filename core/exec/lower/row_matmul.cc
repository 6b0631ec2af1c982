// Products of rows that are quantized one by one, with constant i8 weights, on oneDNN.
#include "core/base/status_macros.h"
#include "core/exec/kernels/row_quant.h"
#include "core/exec/lower/dense.h"
#include "core/exec/lower/gemv.h"
#include "core/exec/lower/rules.h"

namespace halftone {
namespace {

// Sums of more products of a u8 and an i8 may not fit into 32 bits.
constexpr int64_t kMaxExactSum = (int64_t{1} << 31) / (255 * 128);

// u8 · i8 → s32, without attributes. The sums of a row get its scale in a step behind: oneDNN has
// scales per row in reference code only.
absl::StatusOr<DenseProduct> CreateAccumulators(const Dense& d) {
  const auto plain = [] {
    return FusedTail{.attr = BaseAttributes(), .destination = DataType::kI32};
  };
  absl::StatusOr<DenseProduct> best =
      CreateProduct(d, DataType::kU8, DataType::kI8, /*rows=*/false, plain());
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
  absl::StatusOr<DenseProduct> c = CreateAccumulators(*d);
  if (!c.ok()) {
    *reason = std::string(c.status().message());
    return false;
  }
  HT_ASSIGN_OR_RETURN(const WeightBuffer weights,
                      PackWeights(b, *m.weights, /*narrow=*/false,
                                  DenseWeights(*d, DataType::kI8, c->inner_product),
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

}  // namespace halftone
