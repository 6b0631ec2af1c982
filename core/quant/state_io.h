// Numbers to bytes and back, little-endian on every machine: the written state of observers.
#ifndef HALFTONE_CORE_QUANT_STATE_IO_H_
#define HALFTONE_CORE_QUANT_STATE_IO_H_

#include <bit>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/quant/qparams.h"

namespace halftone {

// Appends to a string that the caller owns.
class StateWriter {
 public:
  explicit StateWriter(std::string& out) : out_(out) {}

  // Seven bits per byte, smallest first: small numbers take one byte.
  void Unsigned(uint64_t v) {
    for (; v >= 0x80; v >>= 7) out_.push_back(static_cast<char>(v | 0x80));
    out_.push_back(static_cast<char>(v));
  }
  void Signed(int64_t v) {  // zigzag: small magnitudes stay small
    Unsigned((static_cast<uint64_t>(v) << 1) ^ static_cast<uint64_t>(v >> 63));
  }
  void Double(double v) {
    const auto bits = std::bit_cast<uint64_t>(v);
    for (int shift = 0; shift < 64; shift += 8) out_.push_back(static_cast<char>(bits >> shift));
  }
  void Range(const ValueRange& r) {  // doubles hold every float exactly
    Double(r.min);
    Double(r.max);
  }
  void Text(absl::string_view s) {
    Unsigned(s.size());
    out_.append(s.data(), s.size());
  }

 private:
  std::string& out_;
};

// Reads from bytes that the caller keeps alive. Whatever they contain, nothing is read beyond their
// end: DATA_LOSS instead.
class StateReader {
 public:
  explicit StateReader(absl::string_view bytes) : bytes_(bytes) {}

  absl::StatusOr<uint64_t> Unsigned();
  absl::StatusOr<int64_t> Signed();
  absl::StatusOr<double> Double();
  absl::StatusOr<ValueRange> Range();
  absl::StatusOr<absl::string_view> Text();  // a part of the bytes
  // A number of things that were counted: DATA_LOSS when negative.
  absl::StatusOr<int64_t> Count();

  bool at_end() const { return bytes_.empty(); }

 private:
  absl::string_view bytes_;
};

}  // namespace halftone

#endif  // HALFTONE_CORE_QUANT_STATE_IO_H_
