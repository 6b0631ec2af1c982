#include "core/exec/kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace halftone {
namespace {

constexpr int64_t kParallelElements = 1 << 15;

#define HT_VECTORIZED __attribute__((target_clones("default", "avx2", "avx512f")))

// One contiguous output row; strides of the inputs are 0 or 1.
#define HT_BINARY_ROW(NAME, EXPR)                                                             \
  HT_VECTORIZED void NAME(const float* a, int64_t sa, const float* b, int64_t sb, float* out, \
                          int64_t n) {                                                        \
    if (sa == 1 && sb == 1) {                                                                 \
      for (int64_t i = 0; i < n; ++i) {                                                       \
        const float x = a[i], y = b[i];                                                       \
        out[i] = EXPR;                                                                        \
      }                                                                                       \
    } else if (sa == 1) {                                                                     \
      const float y = b[0];                                                                   \
      for (int64_t i = 0; i < n; ++i) {                                                       \
        const float x = a[i];                                                                 \
        out[i] = EXPR;                                                                        \
      }                                                                                       \
    } else if (sb == 1) {                                                                     \
      const float x = a[0];                                                                   \
      for (int64_t i = 0; i < n; ++i) {                                                       \
        const float y = b[i];                                                                 \
        out[i] = EXPR;                                                                        \
      }                                                                                       \
    } else {                                                                                  \
      const float x = a[0], y = b[0];                                                         \
      std::fill_n(out, n, EXPR);                                                              \
    }                                                                                         \
  }
HT_BINARY_ROW(AddRow, x + y)
HT_BINARY_ROW(SubRow, x - y)
HT_BINARY_ROW(MulRow, x* y)
HT_BINARY_ROW(DivRow, x / y)
// ONNX lets NaN win; the comparison order does that for x and the addition for y.
HT_BINARY_ROW(MinRow, (x != x || y != y) ? x + y : (x < y ? x : y))
HT_BINARY_ROW(MaxRow, (x != x || y != y) ? x + y : (x > y ? x : y))
HT_BINARY_ROW(PReluRow, x < 0 ? x * y : x)
#undef HT_BINARY_ROW

void PowRow(const float* a, int64_t sa, const float* b, int64_t sb, float* out, int64_t n) {
  if (sb == 0 && b[0] == 2.0f) {
    for (int64_t i = 0; i < n; ++i) out[i] = a[i * sa] * a[i * sa];
    return;
  }
  for (int64_t i = 0; i < n; ++i) out[i] = std::pow(a[i * sa], b[i * sb]);
}

using RowFn = void (*)(const float*, int64_t, const float*, int64_t, float*, int64_t);
constexpr RowFn kRows[] = {AddRow, SubRow, MulRow, DivRow, MinRow, MaxRow, PowRow, PReluRow};

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

Broadcast Simplify(const Broadcast& in) {
  Broadcast out;
  const auto mergeable = [](int64_t outer, int64_t size, int64_t inner) {
    return outer == size * inner;  // contiguous, or 0 == size · 0: repeated in both
  };
  for (size_t i = 0; i < in.shape.size(); ++i) {
    if (in.shape[i] == 1) continue;
    if (!out.shape.empty() && mergeable(out.a_strides.back(), in.shape[i], in.a_strides[i]) &&
        mergeable(out.b_strides.back(), in.shape[i], in.b_strides[i])) {
      out.shape.back() *= in.shape[i];
      out.a_strides.back() = in.a_strides[i];
      out.b_strides.back() = in.b_strides[i];
    } else {
      out.shape.push_back(in.shape[i]);
      out.a_strides.push_back(in.a_strides[i]);
      out.b_strides.push_back(in.b_strides[i]);
    }
  }
  if (out.shape.empty()) return {{1}, {0}, {0}};
  return out;
}

void RunBinaryF32(BinaryOp op, const Broadcast& bc, const float* a, const float* b, float* out) {
  const RowFn row = kRows[static_cast<int>(op)];
  const int last = static_cast<int>(bc.shape.size()) - 1;
  const int64_t total = ElementCount(bc.shape);
  // A single long row is split so that a team can share it.
  const int64_t row_length = bc.shape[last];
  constexpr int64_t kPiece = 1 << 13;
  const int64_t pieces = (row_length + kPiece - 1) / kPiece;
  const int64_t rows = row_length == 0 ? 0 : total / row_length;
#pragma omp parallel for if (total >= kParallelElements) schedule(static)
  for (int64_t task = 0; task < rows * pieces; ++task) {
    const int64_t r = task / pieces, begin = task % pieces * kPiece;
    int64_t rest = r, pa = 0, pb = 0;
    for (int i = last - 1; i >= 0; --i) {
      const int64_t index = rest % bc.shape[i];
      rest /= bc.shape[i];
      pa += index * bc.a_strides[i];
      pb += index * bc.b_strides[i];
    }
    row(a + pa + begin * bc.a_strides[last], bc.a_strides[last],
        b + pb + begin * bc.b_strides[last], bc.b_strides[last], out + r * row_length + begin,
        std::min(kPiece, row_length - begin));
  }
}

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
