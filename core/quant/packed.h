// Integers of 1, 2 and 4 bits in bytes. Pure functions: no allocation, any thread.
//
// The first code lies in the lowest bits of the first byte: ONNX's order for INT4 and UINT4, and
// for the INT2 of later opsets. n codes take ceil(n * bits / 8) bytes (PackedBytes in
// checked_math.h); what is left of the last byte is 0.
#ifndef HALFTONE_CORE_QUANT_PACKED_H_
#define HALFTONE_CORE_QUANT_PACKED_H_

#include <cstdint>

#include "absl/types/span.h"

namespace halftone {

// Packs the low `bits` bits of each code. Requires: bits is 1, 2 or 4; packed has exactly the bytes
// that the codes take.
void PackCodes(absl::Span<const uint8_t> codes, int bits, absl::Span<uint8_t> packed);
// The codes as numbers from 0 to 2^bits - 1. Requires: as above.
void UnpackCodes(absl::Span<const uint8_t> packed, int bits, absl::Span<uint8_t> codes);
// The codes as two's complement: from -2^(bits-1) to 2^(bits-1) - 1. Requires: as above.
void UnpackSigned(absl::Span<const uint8_t> packed, int bits, absl::Span<int8_t> codes);

// Ternary weights: -1, 0 and 1 as two's complement of 2 bits. The code that is left over, 2, reads
// as -2. Requires: values in {-1, 0, 1}.
void PackTernary(absl::Span<const int8_t> values, absl::Span<uint8_t> packed);
void UnpackTernary(absl::Span<const uint8_t> packed, absl::Span<int8_t> values);

// Binary weights: bit 1 is 1, bit 0 is -1. Requires: values in {-1, 1}.
void PackBinary(absl::Span<const int8_t> values, absl::Span<uint8_t> packed);
void UnpackBinary(absl::Span<const uint8_t> packed, absl::Span<int8_t> values);

}  // namespace halftone

#endif  // HALFTONE_CORE_QUANT_PACKED_H_
