// 8-bit floats: storage types that convert to and from wider floats.
#ifndef HALFTONE_CORE_TENSOR_FLOAT8_H_
#define HALFTONE_CORE_TENSOR_FLOAT8_H_

#include <cstdint>

#include "core/tensor/data_type.h"

namespace halftone {

// `x` rounded to nearest even, as the bit pattern of `type`. Infinity and what rounds past the
// largest finite value become that value, or without `saturate` the type's infinity (e5m2) or NaN
// (the others). The FNUZ types have one zero and one NaN, both without sign.
// Requires: IsFloat8(type).
uint8_t EncodeFloat8(DataType type, double x, bool saturate);

// The exact value of a bit pattern. Requires: IsFloat8(type).
float DecodeFloat8(DataType type, uint8_t bits);

}  // namespace halftone

#endif  // HALFTONE_CORE_TENSOR_FLOAT8_H_
