// Matrices in float: MatMul, Gemm, Det.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/status_macros.h"
#include "core/ops/families.h"
#include "core/ops/matmul_kernel.h"

namespace halftone {

absl::StatusOr<SymbolicShape> MatMulShape(const InferContext& c, const SymbolicShape& a,
                                          const SymbolicShape& b) {
  if (!a.has_value() || !b.has_value()) return SymbolicShape();
  if (a->empty() || b->empty()) return c.Error("got a scalar, want rank 1 or more");
  const Dim& inner_a = a->back();
  const Dim& inner_b = b->size() == 1 ? (*b)[0] : (*b)[b->size() - 2];
  if (inner_a.known() && inner_b.known() && inner_a.value != inner_b.value) {
    return c.Error(absl::StrCat("shapes ", ToString(a), " and ", ToString(b),
                                " do not multiply: ", inner_a.value, " against ", inner_b.value));
  }
  const auto batch = [](const Dims& s) {
    return s.size() < 2 ? Dims() : Dims(s.begin(), s.end() - 2);
  };
  HT_ASSIGN_OR_RETURN(SymbolicShape out, Broadcast(c, batch(*a), batch(*b)));
  if (a->size() > 1) out->push_back((*a)[a->size() - 2]);
  if (b->size() > 1) out->push_back(b->back());
  return out;
}

namespace {

constexpr TypeSet kMatMulTypes =
    kFloatTypes | Types(DataType::kI32, DataType::kI64, DataType::kU32, DataType::kU64);

absl::Status InferMatMul(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckSameType(c, 0, 1));
  HT_ASSIGN_OR_RETURN(SymbolicShape shape, MatMulShape(c, c.input(0).shape, c.input(1).shape));
  c.set_output(0, c.input(0).type.has_value() ? c.input(0).type : c.input(1).type,
               std::move(shape));
  return absl::OkStatus();
}

absl::Status EvalMatMul(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  return DispatchWide(c, out->type(), [&](auto tag) {
    BatchedMatMul<decltype(tag)>(c.input(0), c.input(1), *out);
  });
}

absl::Status InferGemm(InferContext& c) {
  for (const int i : {0, 1}) {
    HT_RETURN_IF_ERROR(CheckRank(c, i, 2, 2));
    HT_RETURN_IF_ERROR(CheckSameType(c, 0, i + 1));
  }
  const SymbolicShape& a = c.input(0).shape;
  const SymbolicShape& b = c.input(1).shape;
  const int ta = c.attributes().Int("transA", 0) != 0, tb = c.attributes().Int("transB", 0) != 0;
  Dims out(2);
  if (a.has_value()) out[0] = (*a)[ta];
  if (b.has_value()) out[1] = (*b)[1 - tb];
  if (a.has_value() && b.has_value()) {
    const Dim& inner_a = (*a)[1 - ta];
    const Dim& inner_b = (*b)[tb];
    if (inner_a.known() && inner_b.known() && inner_a.value != inner_b.value) {
      return c.Error(absl::StrCat("shapes ", ToString(a), " and ", ToString(b),
                                  " do not multiply: ", inner_a.value, " against ", inner_b.value));
    }
  }
  if (c.has_input(2)) HT_RETURN_IF_ERROR(CheckBroadcastsTo(c, c.input(2).shape, out));
  c.set_output(0, c.input(0).type, std::move(out));
  return absl::OkStatus();
}

// The matrix or its transpose, contiguous.
template <typename T>
std::vector<T> Oriented(const Tensor& t, bool transposed) {
  const auto x = t.data<T>();
  std::vector<T> out(x.begin(), x.end());
  if (!transposed) return out;
  const int64_t rows = t.dim(0), columns = t.dim(1);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) out[j * rows + i] = x[i * columns + j];
  }
  return out;
}

absl::Status EvalGemm(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const bool ta = c.attributes().Int("transA", 0) != 0, tb = c.attributes().Int("transB", 0) != 0;
  const float alpha = c.attributes().Float("alpha", 1), beta = c.attributes().Float("beta", 1);
  return DispatchWide(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    const std::vector<T> a = Oriented<T>(c.input(0), ta), b = Oriented<T>(c.input(1), tb);
    const int64_t k = c.input(0).dim(ta ? 0 : 1);
    T* y = out->mutable_data<T>().data();
    MatrixProduct<T>(out->dim(0), out->dim(1), k, a.data(), b.data(), y);
    const auto scaled = [](float factor, T x) {  // an integer beyond 2^24 is no float
      return factor == 1 ? x : static_cast<T>(factor * x);
    };
    for (int64_t i = 0; i < out->num_elements(); ++i) y[i] = scaled(alpha, y[i]);
    if (!c.has_input(2)) return;
    const T* bias = c.input(2).data<T>().data();
    ForEachRow(out->shape(), {BroadcastStrides(c.input(2).shape(), out->shape())},
               [&](int64_t count, const int64_t* offsets, const int64_t* steps) {
                 for (int64_t i = 0; i < count; ++i) {
                   y[i] += scaled(beta, bias[offsets[0] + i * steps[0]]);
                 }
                 y += count;
               });
  });
}

// --- Det -----------------------------------------------------------------------------------------

absl::Status InferDet(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 2, 64));
  SymbolicShape shape = c.input(0).shape;
  if (shape.has_value()) {
    HT_RETURN_IF_ERROR(Unify(c, (*shape)[shape->size() - 2], shape->back()).status());
    shape->resize(shape->size() - 2);
  }
  c.set_output(0, c.input(0).type, std::move(shape));
  return absl::OkStatus();
}

// Gaussian elimination with row pivots; `a` holds n rows.
double Determinant(std::vector<double> a, int64_t n) {
  double det = 1;
  for (int64_t k = 0; k < n; ++k) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < n; ++i) {
      if (std::abs(a[i * n + k]) > std::abs(a[pivot * n + k])) pivot = i;
    }
    if (a[pivot * n + k] == 0) return 0;
    if (pivot != k) {
      std::swap_ranges(&a[k * n], &a[k * n] + n, &a[pivot * n]);
      det = -det;
    }
    det *= a[k * n + k];
    for (int64_t i = k + 1; i < n; ++i) {
      const double factor = a[i * n + k] / a[k * n + k];
      for (int64_t j = k; j < n; ++j) a[i * n + j] -= factor * a[k * n + j];
    }
  }
  return det;
}

absl::Status EvalDet(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Tensor& x = c.input(0);
  const int64_t n = x.dim(x.rank() - 1);
  return DispatchFloat(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    const T* from = Raw<T>(x);
    for (T& y : out->mutable_data<T>()) {
      y = static_cast<T>(Determinant({from, from + n * n}, n));
      from += n * n;
    }
  });
}

constexpr OpDef kDet = {.name = "Det",
                        .since_opset = 11,
                        .infer = InferDet,
                        .eval = Widened<EvalDet>,
                        .types = kFloatTypes,
                        .tolerance = kAccumulate};
constexpr OpDef kMatMul = {.name = "MatMul",
                           .since_opset = 1,
                           .inputs = {2, 2},
                           .infer = InferMatMul,
                           .eval = WidenedNumbers<EvalMatMul>,
                           .types = kMatMulTypes,
                           .quant = QuantBehavior::kComputeInt8,
                           .tolerance = kAccumulate};
constexpr OpDef kGemm = {.name = "Gemm",
                         .since_opset = 7,
                         .inputs = {2, 3},
                         .infer = InferGemm,
                         .eval = WidenedNumbers<EvalGemm>,
                         .types = kMatMulTypes,
                         .quant = QuantBehavior::kComputeInt8,
                         .tolerance = kAccumulate};
constexpr std::array kRows = {kMatMul, kGemm, kDet};

}  // namespace

absl::Span<const OpDef> MatMulOps() { return kRows; }

}  // namespace halftone
