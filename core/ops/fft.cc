#include "core/ops/fft.h"

#include <bit>
#include <cstdint>
#include <numbers>
#include <utility>

namespace halftone {
namespace {

Complex UnitRoot(double turns) { return std::polar(1.0, 2 * std::numbers::pi * turns); }

// Cooley-Tukey in place. Requires: the length is a power of two.
void PowerOfTwo(std::vector<Complex>& x, double sign) {
  const size_t n = x.size();
  for (size_t i = 1, j = 0; i < n; ++i) {  // bit-reversed order
    size_t bit = n >> 1;
    for (; (j & bit) != 0; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) std::swap(x[i], x[j]);
  }
  for (size_t length = 2; length <= n; length *= 2) {
    std::vector<Complex> roots(length / 2);
    for (size_t k = 0; k < roots.size(); ++k) {
      roots[k] = UnitRoot(sign * static_cast<double>(k) / static_cast<double>(length));
    }
    for (size_t start = 0; start < n; start += length) {
      for (size_t k = 0; k < roots.size(); ++k) {
        const Complex even = x[start + k], odd = x[start + k + roots.size()] * roots[k];
        x[start + k] = even + odd;
        x[start + k + roots.size()] = even - odd;
      }
    }
  }
}

// Bluestein: 2nk = n² + k² - (k - n)² makes the transform a convolution, whose length is free.
std::vector<Complex> AnyLength(const std::vector<Complex>& x, double sign) {
  const size_t n = x.size(), padded = std::bit_ceil(2 * n - 1);
  std::vector<Complex> chirp(n);
  for (size_t k = 0; k < n; ++k) {
    const uint64_t square = static_cast<uint64_t>(k) * k % (2 * n);  // keeps the angle exact
    chirp[k] = UnitRoot(sign * static_cast<double>(square) / static_cast<double>(2 * n));
  }
  std::vector<Complex> a(padded), b(padded);
  for (size_t k = 0; k < n; ++k) {
    a[k] = x[k] * chirp[k];
    b[k] = std::conj(chirp[k]);
    if (k > 0) b[padded - k] = b[k];
  }
  PowerOfTwo(a, -1);
  PowerOfTwo(b, -1);
  for (size_t k = 0; k < padded; ++k) a[k] *= b[k];
  PowerOfTwo(a, 1);
  std::vector<Complex> out(n);
  for (size_t k = 0; k < n; ++k) out[k] = a[k] * chirp[k] / static_cast<double>(padded);
  return out;
}

}  // namespace

std::vector<Complex> Fft(std::vector<Complex> x, bool inverse) {
  const double sign = inverse ? 1 : -1;
  if (x.size() <= 1) return x;
  if (!std::has_single_bit(x.size())) return AnyLength(x, sign);
  PowerOfTwo(x, sign);
  return x;
}

}  // namespace halftone
