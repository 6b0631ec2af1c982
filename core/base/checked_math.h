// Arithmetic on numbers that come from outside: overflow is an error, never a wrap.
#ifndef HALFTONE_CORE_BASE_CHECKED_MATH_H_
#define HALFTONE_CORE_BASE_CHECKED_MATH_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace halftone {

// The product of `dims`; 1 for none. Fails with InvalidArgument on a negative dimension or
// overflow.
absl::StatusOr<int64_t> NumElements(absl::Span<const int64_t> dims);

// Bytes of `elements` packed elements of `bits` bits, rounded up to whole bytes.
// Fails with InvalidArgument on overflow or a negative count.
absl::StatusOr<int64_t> PackedBytes(int64_t elements, int bits);

// Rounds up to a multiple of `alignment`. Requires: alignment > 0, value >= 0, no overflow.
constexpr int64_t AlignUp(int64_t value, int64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}
constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace halftone

#endif  // HALFTONE_CORE_BASE_CHECKED_MATH_H_
