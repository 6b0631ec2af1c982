#include "core/quant/packed.h"

#include <algorithm>

namespace halftone {
namespace {

// Calls set(i, code) for the codes 0 … n - 1.
template <typename Set>
void ForEachCode(absl::Span<const uint8_t> packed, int bits, size_t n, Set set) {
  const size_t per_byte = static_cast<size_t>(8 / bits);
  const auto mask = static_cast<uint8_t>((1 << bits) - 1);
  for (size_t i = 0, byte = 0; i < n; ++byte) {
    uint8_t rest = packed[byte];
    for (const size_t end = std::min(n, i + per_byte); i < end; ++i) {
      set(i, static_cast<uint8_t>(rest & mask));
      rest = static_cast<uint8_t>(rest >> bits);
    }
  }
}

template <typename Code>
void Pack(size_t n, int bits, Code code, absl::Span<uint8_t> packed) {
  const size_t per_byte = static_cast<size_t>(8 / bits);
  const int mask = (1 << bits) - 1;
  for (size_t byte = 0, i = 0; byte < packed.size(); ++byte) {
    int out = 0;
    for (size_t k = 0; k < per_byte && i < n; ++k, ++i) {
      out |= (code(i) & mask) << (static_cast<int>(k) * bits);
    }
    packed[byte] = static_cast<uint8_t>(out);
  }
}

}  // namespace

void PackCodes(absl::Span<const uint8_t> codes, int bits, absl::Span<uint8_t> packed) {
  Pack(codes.size(), bits, [&](size_t i) { return int{codes[i]}; }, packed);
}

void UnpackCodes(absl::Span<const uint8_t> packed, int bits, absl::Span<uint8_t> codes) {
  ForEachCode(packed, bits, codes.size(), [&](size_t i, uint8_t code) { codes[i] = code; });
}

void UnpackSigned(absl::Span<const uint8_t> packed, int bits, absl::Span<int8_t> codes) {
  const int half = 1 << (bits - 1);
  ForEachCode(packed, bits, codes.size(), [&](size_t i, uint8_t code) {
    codes[i] = static_cast<int8_t>((code ^ half) - half);
  });
}

void PackTernary(absl::Span<const int8_t> values, absl::Span<uint8_t> packed) {
  Pack(values.size(), 2, [&](size_t i) { return int{values[i]}; }, packed);
}

void UnpackTernary(absl::Span<const uint8_t> packed, absl::Span<int8_t> values) {
  UnpackSigned(packed, 2, values);
}

void PackBinary(absl::Span<const int8_t> values, absl::Span<uint8_t> packed) {
  Pack(values.size(), 1, [&](size_t i) { return values[i] > 0 ? 1 : 0; }, packed);
}

void UnpackBinary(absl::Span<const uint8_t> packed, absl::Span<int8_t> values) {
  ForEachCode(packed, 1, values.size(),
              [&](size_t i, uint8_t code) { values[i] = static_cast<int8_t>(2 * code - 1); });
}

}  // namespace halftone
