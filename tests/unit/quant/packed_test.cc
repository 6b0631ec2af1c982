#include "core/quant/packed.h"

#include <random>
#include <vector>

#include "core/base/checked_math.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;

size_t Bytes(size_t n, int bits) {
  return static_cast<size_t>(PackedBytes(static_cast<int64_t>(n), bits).value());
}

TEST(PackCodes, FirstCodeLiesInTheLowestBits) {
  std::vector<uint8_t> packed(2);
  PackCodes({1, 2, 15}, 4, absl::MakeSpan(packed));
  EXPECT_THAT(packed, ElementsAre(0x21, 0x0f));
  PackCodes({1, 2, 3, 0, 2}, 2, absl::MakeSpan(packed));
  EXPECT_THAT(packed, ElementsAre(0b00111001, 0b10));
  PackCodes({1, 0, 0, 0, 0, 0, 0, 1, 1}, 1, absl::MakeSpan(packed));
  EXPECT_THAT(packed, ElementsAre(0x81, 0x01));
}

TEST(UnpackSigned, IsTwosComplement) {
  std::vector<int8_t> codes(2);
  UnpackSigned({0x8f}, 4, absl::MakeSpan(codes));
  EXPECT_THAT(codes, ElementsAre(-1, -8));
}

TEST(PackTernary, IsTwosComplementOfTwoBits) {
  std::vector<uint8_t> packed(1);
  PackTernary({-1, 0, 1, -1}, absl::MakeSpan(packed));
  EXPECT_THAT(packed, ElementsAre(0b11010011));
}

TEST(PackBinary, BitZeroIsMinusOne) {
  std::vector<uint8_t> packed(1);
  PackBinary({1, -1, 1}, absl::MakeSpan(packed));
  EXPECT_THAT(packed, ElementsAre(0b101));
}

// Every size up to some bytes, so that the last byte is full, and not.
TEST(Packed, EverySizeRoundTrips) {
  std::mt19937 rng(1);
  for (size_t n = 0; n < 70; ++n) {
    for (const int bits : {1, 2, 4}) {
      std::vector<uint8_t> codes(n), back(n), packed(Bytes(n, bits), 0xaa);
      for (uint8_t& c : codes) c = static_cast<uint8_t>(rng() % (1u << bits));
      PackCodes(codes, bits, absl::MakeSpan(packed));
      UnpackCodes(packed, bits, absl::MakeSpan(back));
      EXPECT_EQ(back, codes) << n << " codes of " << bits;
      std::vector<int8_t> numbers(n);
      UnpackSigned(packed, bits, absl::MakeSpan(numbers));
      for (size_t i = 0; i < n; ++i) {
        EXPECT_EQ(numbers[i] & ((1 << bits) - 1), codes[i]);
        EXPECT_GE(numbers[i], -(1 << (bits - 1)));
        EXPECT_LT(numbers[i], 1 << (bits - 1));
      }
      const size_t used = n * static_cast<size_t>(bits) % 8;
      if (used != 0) {
        EXPECT_EQ(packed.back() >> used, 0) << "the rest of the last byte";
      }
    }
    std::vector<int8_t> ternary(n), binary(n), back(n);
    for (int8_t& t : ternary) t = static_cast<int8_t>(static_cast<int>(rng() % 3) - 1);
    for (int8_t& b : binary) b = rng() % 2 == 0 ? 1 : -1;
    std::vector<uint8_t> packed(Bytes(n, 2));
    PackTernary(ternary, absl::MakeSpan(packed));
    UnpackTernary(packed, absl::MakeSpan(back));
    EXPECT_EQ(back, ternary);
    packed.resize(Bytes(n, 1));
    PackBinary(binary, absl::MakeSpan(packed));
    UnpackBinary(packed, absl::MakeSpan(back));
    EXPECT_EQ(back, binary);
  }
}

}  // namespace
}  // namespace halftone
