// Products of few rows with packed float weights, which are read once for several rows and become
// f32 in registers.
#ifndef HALFTONE_CORE_EXEC_KERNELS_PANELS_H_
#define HALFTONE_CORE_EXEC_KERNELS_PANELS_H_

#include <cstdint>
#include <vector>

#include "core/tensor/data_type.h"

namespace halftone {

// A matrix [k, n] in panels of kPanelColumns columns, each panel row by row; n is padded by zeros.
inline constexpr int64_t kPanelColumns = 64;
int64_t PaddedColumns(int64_t n);

// Element (i, c) is matrix[i * k_stride + c * n_stride]: f32, or the bits of f16 or bf16.
template <typename T>
std::vector<T> PackPanels(const T* matrix, int64_t k, int64_t n, int64_t k_stride,
                          int64_t n_stride) {
  std::vector<T> out(PaddedColumns(n) * k, T{});
  for (int64_t c = 0; c < n; ++c) {
    T* column = out.data() + c / kPanelColumns * kPanelColumns * k + c % kPanelColumns;
    for (int64_t i = 0; i < k; ++i) {
      column[i * kPanelColumns] = matrix[i * k_stride + c * n_stride];
    }
  }
  return out;
}

// Packed elements of the type f32, f16 or bf16.
struct Panels {
  const void* data = nullptr;
  DataType type = DataType::kF32;
};

// out[m, PaddedColumns(n)] += x[m, k] · panels, in f32. Rows of x are `x_stride` apart. Each sum
// runs over k in order. Splits panels over the calling thread's team.
void MultiplyPanels(const float* x, int64_t x_stride, int64_t m, int64_t k, const Panels& panels,
                    int64_t n, float* out);

// y[m, n] = x[m, k] · panels + bias[n], likewise; `bias` may be null. `relu`: what is less than 0
// becomes 0. All of a panel's columns are one thread's, from the bias to the end.
void MultiplyPanels(const float* x, int64_t m, int64_t k, const Panels& panels, int64_t n,
                    const float* bias, bool relu, float* y);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_PANELS_H_
