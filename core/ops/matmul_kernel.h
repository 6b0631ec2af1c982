// The plain matrix product that MatMul, Gemm, the integer and the quantized products share.
#ifndef HALFTONE_CORE_OPS_MATMUL_KERNEL_H_
#define HALFTONE_CORE_OPS_MATMUL_KERNEL_H_

#include <algorithm>
#include <cstdint>

#include "absl/status/statusor.h"
#include "core/ops/eval_util.h"
#include "core/ops/infer_util.h"

namespace halftone {

// out[m,n] = a[m,k] · b[k,n], all row-major and contiguous. Rows of b stream through the inner
// loop. Integers wrap.
template <typename T, typename U = std::conditional_t<std::is_integral_v<T>, std::make_unsigned<T>,
                                                      std::type_identity<T>>::type>
void MatrixProduct(int64_t m, int64_t n, int64_t k, const T* a, const T* b, T* out) {
  for (int64_t i = 0; i < m; ++i) {
    T* row = out + i * n;
    std::fill(row, row + n, T{0});
    for (int64_t p = 0; p < k; ++p) {
      const U factor = static_cast<U>(a[i * k + p]);
      const T* b_row = b + p * n;
      for (int64_t j = 0; j < n; ++j) {
        row[j] = static_cast<T>(static_cast<U>(row[j]) + factor * static_cast<U>(b_row[j]));
      }
    }
  }
}

// numpy.matmul's shape: 1-D operands lose their unit axis again, leading axes broadcast.
absl::StatusOr<SymbolicShape> MatMulShape(const InferContext& c, const SymbolicShape& a,
                                          const SymbolicShape& b);

// numpy.matmul into `out`, whose shape is MatMulShape's; all three of element type T.
template <typename T>
void BatchedMatMul(const Tensor& a, const Tensor& b, Tensor& out) {
  Shape sa = a.shape(), sb = b.shape();
  if (sa.size() == 1) sa.insert(sa.begin(), 1);
  if (sb.size() == 1) sb.push_back(1);
  const int64_t m = sa[sa.size() - 2], k = sa.back(), n = sb.back();
  const Shape batch_a(sa.begin(), sa.end() - 2), batch_b(sb.begin(), sb.end() - 2);
  Shape batch(std::max(batch_a.size(), batch_b.size()), 1);
  for (const Shape* s : {&batch_a, &batch_b}) {
    for (size_t i = 0; i < s->size(); ++i) {
      int64_t& d = batch[i + batch.size() - s->size()];
      if ((*s)[i] != 1) d = (*s)[i];
    }
  }
  const T* pa = Raw<T>(a);
  const T* pb = Raw<T>(b);
  T* to = MutableRaw<T>(out);
  ForEachRow(batch, {BroadcastStrides(batch_a, batch), BroadcastStrides(batch_b, batch)},
             [&](int64_t count, const int64_t* offsets, const int64_t* steps) {
               for (int64_t i = 0; i < count; ++i) {
                 MatrixProduct<T>(m, n, k, pa + (offsets[0] + i * steps[0]) * m * k,
                                  pb + (offsets[1] + i * steps[1]) * k * n, to);
                 to += m * n;
               }
             });
}

}  // namespace halftone

#endif  // HALFTONE_CORE_OPS_MATMUL_KERNEL_H_
