#include "core/exec/lower/dense.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "core/base/checked_math.h"
#include "core/base/status_macros.h"

namespace halftone {

using dnnl::memory;

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

memory::desc DenseWeights(const Dense& d, DataType type, bool inner_product) {
  const int64_t k_stride = d.transposed_weights ? 1 : d.n;
  const int64_t n_stride = d.transposed_weights ? d.k : 1;
  if (inner_product) return memory::desc({d.n, d.k}, DnnlType(type), {n_stride, k_stride});
  return memory::desc({d.k, d.n}, DnnlType(type), {k_stride, n_stride});
}

std::vector<int64_t> ColumnSums(const ComputeMatch& m, const Dense& d) {
  const auto q = m.weights->constant->constant().data<int8_t>();
  std::vector<int64_t> sums(d.n, 0);
  for (int64_t i = 0; i < d.k * d.n; ++i) sums[d.transposed_weights ? i / d.k : i % d.n] += q[i];
  return sums;
}

bool NeedsParts(const Dense& d, DataType source, DataType weights) {
  return source == DataType::kF32 && BitWidth(weights) == 16 && d.k > kMaxBlockedK;
}

namespace {

// What oneDNN may choose the layout of. `rows`: as [n, k], which packed integers widen to.
memory::desc WantedWeights(const Dense& d, DataType weights, bool rows) {
  if (rows) return DenseWeights({d.m, d.k, d.n, /*transposed_weights=*/true}, weights, false);
  return memory::desc({d.k, d.n}, DnnlType(weights), memory::format_tag::any);
}

memory::desc RowsDesc(int64_t rows, int64_t length, DataType type, int64_t distance) {
  return memory::desc({rows, length}, DnnlType(type), {distance == 0 ? length : distance, 1});
}

absl::StatusOr<DenseProduct> CreateMatMul(const Dense& d, DataType source, DataType weights,
                                          bool rows, FusedTail tail) {
  return TryDnnl("matmul", [&] {
    const auto bias = tail.bias.empty() ? memory::desc() : PlainDesc({1, d.n}, DataType::kF32);
    dnnl::matmul::primitive_desc pd(
        CpuEngine(), RowsDesc(d.m, d.k, source, d.source_distance), WantedWeights(d, weights, rows),
        bias, RowsDesc(d.m, d.n, tail.destination, d.result_distance), tail.attr);
    return DenseProduct{FromDescriptor<dnnl::matmul>(pd, bias, std::move(tail))};
  });
}

// See NeedsParts.
absl::StatusOr<DenseProduct> CreateParts(const Dense& d, DataType source, DataType weights,
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
    HT_ASSIGN_OR_RETURN(DenseProduct c, CreateMatMul(part, source, weights, /*rows=*/false,
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

}  // namespace

absl::StatusOr<DenseProduct> CreateProduct(const Dense& d, DataType source, DataType weights,
                                           bool rows, FusedTail tail) {
  if (!rows && NeedsParts(d, source, weights)) {
    return CreateParts(d, source, weights, std::move(tail));
  }
  return CreateMatMul(d, source, weights, rows, std::move(tail));
}

absl::StatusOr<DenseProduct> CreateInnerProduct(const Dense& d, DataType source, DataType weights,
                                                FusedTail tail) {
  return TryDnnl("inner product", [&] {
    const auto bias = tail.bias.empty() ? memory::desc() : PlainDesc({d.n}, DataType::kF32);
    dnnl::inner_product_forward::primitive_desc pd(
        CpuEngine(), dnnl::prop_kind::forward_inference, PlainDesc({d.m, d.k}, source),
        memory::desc({d.n, d.k}, DnnlType(weights), memory::format_tag::any), bias,
        PlainDesc({d.m, d.n}, tail.destination), tail.attr);
    return DenseProduct{FromDescriptor<dnnl::inner_product_forward>(pd, bias, std::move(tail)),
                        true};
  });
}

bool WorthInnerProduct(absl::string_view matmul_impl) {
  return !absl::StrContains(matmul_impl, "brg");
}

}  // namespace halftone
