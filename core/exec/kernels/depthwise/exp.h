// exp(-y) in f32, in the operations that vector registers do, too.
#ifndef HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_EXP_H_
#define HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_EXP_H_

#include <bit>
#include <cmath>
#include <cstdint>

namespace halftone {

// exp(-y) = 2^n * 2^rest, where n is -y / ln 2 rounded and 2^rest a polynomial, highest power
// first: the minimax fit of degree 5 on [-0.5, 0.5] that is 1 at 0, 1.1e-7 off at most.
struct ExpConstants {
  // What lies beyond counts as this much: 1 + exp(-y) is then 1, or more than 1e37.
  static constexpr float kLimit = 87.0f;
  static constexpr float kLog2E = 1.44269504f;
  static constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to integers
  static constexpr int kTerms = 6;
  static constexpr float kPower[kTerms] = {0.00132647273f, 0.00967151299f, 0.0555073358f,
                                           0.240222424f,   0.693147004f,   1.0f};
};

// Relative error below 4e-7 for |y| <= 16, 2e-6 for |y| <= 87. Requires: not NaN.
inline float ExpOfMinus(float y) {
  using C = ExpConstants;
  const float low = y > -C::kLimit ? y : -C::kLimit;
  const float x = low < C::kLimit ? low : C::kLimit;
  const float shifted = std::fma(x, -C::kLog2E, C::kShift);
  const float rest = std::fma(x, -C::kLog2E, -(shifted - C::kShift));
  float p = C::kPower[0];
  for (int i = 1; i < C::kTerms; ++i) p = std::fma(p, rest, C::kPower[i]);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(p) +
                              (std::bit_cast<uint32_t>(shifted) << 23));
}

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_EXP_H_
