#include "core/exec/kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace halftone {
namespace {

constexpr int64_t kParallelElements = 1 << 15;

#define HT_VECTORIZED __attribute__((target_clones("default", "avx2", "avx512f")))

template <typename A, typename B, typename Q>
HT_VECTORIZED void AddChunk(const A* a, float sa, int32_t za, const B* b, float sb, int32_t zb,
                            float low, float inverse_scale, int32_t zero_point, Q* out, int64_t n) {
  constexpr float kLow = std::numeric_limits<Q>::min(), kHigh = std::numeric_limits<Q>::max();
  const float zp = static_cast<float>(zero_point);
  for (int64_t i = 0; i < n; ++i) {
    float x = sa * static_cast<float>(static_cast<int32_t>(a[i]) - za) +
              sb * static_cast<float>(static_cast<int32_t>(b[i]) - zb);
    x = std::max(x, low);
    // Adding and subtracting 1.5·2^23 rounds to nearest even; the sum was clamped well below it.
    float y = std::min(std::max(x * inverse_scale, kLow - zp), kHigh - zp);
    y = (y + 12582912.0f) - 12582912.0f;
    out[i] = static_cast<Q>(static_cast<int32_t>(y) + zero_point);
  }
}

template <typename Q>
HT_VECTORIZED void SumRows(const Q* src, int64_t rows, int64_t channels, int32_t* sums) {
  std::fill_n(sums, channels, 0);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < channels; ++c) sums[c] += src[r * channels + c];
  }
}

// Calls f(u8 or i8 pointer) for the type of the view.
template <typename F>
void WithPointer(const QuantizedView& view, const void* p, F f) {
  if (view.type == DataType::kU8) {
    f(static_cast<const uint8_t*>(p));
  } else {
    f(static_cast<const int8_t*>(p));
  }
}

}  // namespace

void RunQuantizedAdd(const QuantizedView& a_view, const void* a, const QuantizedView& b_view,
                     const void* b, bool relu, const QuantizedView& out_view, void* out,
                     int64_t n) {
  const float low = relu ? 0.0f : std::numeric_limits<float>::lowest();
  const float inverse = 1.0f / out_view.scale;
  constexpr int64_t kPiece = 1 << 13;
#pragma omp parallel for if (n >= kParallelElements) schedule(static)
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t count = std::min(kPiece, n - begin);
    WithPointer(a_view, a, [&](auto* pa) {
      WithPointer(b_view, b, [&](auto* pb) {
        const auto run = [&](auto* po) {
          AddChunk(pa + begin, a_view.scale, a_view.zero_point, pb + begin, b_view.scale,
                   b_view.zero_point, low, inverse, out_view.zero_point, po + begin, count);
        };
        if (out_view.type == DataType::kU8) {
          run(static_cast<uint8_t*>(out));
        } else {
          run(static_cast<int8_t*>(out));
        }
      });
    });
  }
}

void RunQuantizedMean(const QuantizedView& view, const void* src, int64_t batch, int64_t spatial,
                      int64_t channels, float* out) {
  std::vector<int32_t> sums(channels);
  for (int64_t n = 0; n < batch; ++n) {
    WithPointer(view, src, [&](auto* p) {
      SumRows(p + n * spatial * channels, spatial, channels, sums.data());
    });
    for (int64_t c = 0; c < channels; ++c) {
      const double mean = static_cast<double>(sums[c]) / static_cast<double>(spatial);
      out[n * channels + c] = static_cast<float>((mean - view.zero_point) * view.scale);
    }
  }
}

}  // namespace halftone
