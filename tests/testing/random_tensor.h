// Seeded random tensors and closeness checks.
#ifndef HALFTONE_TESTS_TESTING_RANDOM_TENSOR_H_
#define HALFTONE_TESTS_TESTING_RANDOM_TENSOR_H_

#include <cstdint>
#include <random>

#include "absl/types/span.h"
#include "core/ops/op_def.h"
#include "core/tensor/tensor.h"

namespace halftone {

// f32, uniform in [low, high).
Tensor RandomF32(absl::Span<const int64_t> shape, uint32_t seed, float low = -1, float high = 1);
// i8 or u8, uniform in [low, high].
Tensor RandomInts(DataType type, absl::Span<const int64_t> shape, uint32_t seed, int low, int high);

// The largest |got - want| / (absolute + relative · max|want|); at most 1 means "agrees". Infinity
// for different types or shapes, or where exactly one side is NaN.
double Disagreement(const Tensor& got, const Tensor& want, Tolerance tolerance);

}  // namespace halftone

#endif  // HALFTONE_TESTS_TESTING_RANDOM_TENSOR_H_
