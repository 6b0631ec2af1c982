// y * sigmoid(y), SiLU, as a pass of its own: oneDNN's post-operation takes 0.36 ns for an element,
// this 0.05 to 0.2 while the tensor is in a cache.
#ifndef HALFTONE_CORE_EXEC_KERNELS_SWISH_H_
#define HALFTONE_CORE_EXEC_KERNELS_SWISH_H_

#include <cstdint>

#include "core/exec/cpu_features.h"
#include "core/tensor/data_type.h"

namespace halftone {

// Whether RunSwish takes this type on this CPU: f32 or bf16, with AVX-512.
bool HasSwish(const CpuFeatures& features, DataType type);

// In place. Errors: see avx512_math.h; of bf16 the result is rounded once behind that. Splits the
// elements over the calling thread's team. Requires: HasSwish.
void RunSwish(DataType type, void* y, int64_t n);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_SWISH_H_
