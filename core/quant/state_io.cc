#include "core/quant/state_io.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

absl::Status Truncated(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("observer state: it ends within ", what));
}

}  // namespace

absl::StatusOr<uint64_t> StateReader::Unsigned() {
  uint64_t v = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (bytes_.empty()) return Truncated("a number");
    const auto byte = static_cast<uint8_t>(bytes_.front());
    bytes_.remove_prefix(1);
    v |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) return v;
  }
  return absl::DataLossError("observer state: a number has more than 64 bits");
}

absl::StatusOr<int64_t> StateReader::Signed() {
  HT_ASSIGN_OR_RETURN(const uint64_t v, Unsigned());
  return static_cast<int64_t>((v >> 1) ^ (~(v & 1) + 1));
}

absl::StatusOr<double> StateReader::Double() {
  if (bytes_.size() < 8) return Truncated("a number");
  uint64_t bits = 0;
  for (int i = 0; i < 8; ++i) bits |= uint64_t{static_cast<uint8_t>(bytes_[i])} << (8 * i);
  bytes_.remove_prefix(8);
  return std::bit_cast<double>(bits);
}

absl::StatusOr<ValueRange> StateReader::Range() {
  HT_ASSIGN_OR_RETURN(const double min, Double());
  HT_ASSIGN_OR_RETURN(const double max, Double());
  const ValueRange range{static_cast<float>(min), static_cast<float>(max)};
  const bool empty = range == ValueRange{};
  if (!empty && !(min <= max && std::isfinite(range.min) && std::isfinite(range.max))) {
    return absl::DataLossError(absl::StrCat("observer state: got the range [", min, ", ", max,
                                            "], want finite and ordered ends"));
  }
  return range;
}

absl::StatusOr<absl::string_view> StateReader::Text() {
  HT_ASSIGN_OR_RETURN(const uint64_t size, Unsigned());
  if (size > bytes_.size()) return Truncated("a text");
  const absl::string_view text = bytes_.substr(0, size);
  bytes_.remove_prefix(size);
  return text;
}

absl::StatusOr<int64_t> StateReader::Count() {
  HT_ASSIGN_OR_RETURN(const int64_t v, Signed());
  if (v < 0) return absl::DataLossError(absl::StrCat("observer state: got the count ", v));
  return v;
}

}  // namespace halftone
