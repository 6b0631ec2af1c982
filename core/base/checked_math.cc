#include "core/base/checked_math.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace halftone {

absl::StatusOr<int64_t> NumElements(absl::Span<const int64_t> dims) {
  int64_t n = 1;
  bool has_zero = false;
  for (int64_t d : dims) {
    if (d < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("shape [", absl::StrJoin(dims, ","), "] has a negative dimension"));
    }
    has_zero |= d == 0;
    // A zero elsewhere must not hide an overflow that a stride computation would meet.
    if (d != 0 && __builtin_mul_overflow(n, d, &n)) {
      return absl::InvalidArgumentError(
          absl::StrCat("shape [", absl::StrJoin(dims, ","), "] has more than 2^63 elements"));
    }
  }
  return has_zero ? 0 : n;
}

absl::StatusOr<int64_t> PackedBytes(int64_t elements, int bits) {
  int64_t total = 0;
  if (elements < 0 || __builtin_mul_overflow(elements, int64_t{bits}, &total) ||
      __builtin_add_overflow(total, int64_t{7}, &total)) {
    return absl::InvalidArgumentError(
        absl::StrCat(elements, " elements of ", bits, " bits have no valid size"));
  }
  return total / 8;
}

}  // namespace halftone
