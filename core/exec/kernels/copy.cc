#include "core/exec/kernels/copy.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace halftone {
namespace {

// Below this many bytes a team of threads costs more than it saves.
constexpr int64_t kParallelBytes = 1 << 17;
constexpr int64_t kStrip = 64;  // rows that one iteration moves
constexpr int64_t kShortRowBytes = 1 << 12;

// kCols planes become the channels of an image: a number that the compiler knows becomes shuffles.
template <int64_t kCols, typename T>
__attribute__((target_clones("default", "avx2"))) void Interleave(const T* __restrict src,
                                                                  T* __restrict dst, int64_t rows,
                                                                  int64_t src_col_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < kCols; ++c) dst[r * kCols + c] = src[c * src_col_stride + r];
  }
}

// rows × cols; rows are contiguous in src, columns in dst: a transpose in tiles of 16 × 16 so that
// both sides stay within a few cache lines.
template <typename T>
void TransposeTile(const T* src, T* dst, int64_t rows, int64_t cols, int64_t src_col_stride,
                   int64_t dst_row_stride) {
  if (cols == 3 && dst_row_stride == 3) return Interleave<3>(src, dst, rows, src_col_stride);
  constexpr int64_t kTile = 16;
  for (int64_t r0 = 0; r0 < rows; r0 += kTile) {
    const int64_t r1 = std::min(rows, r0 + kTile);
    for (int64_t c0 = 0; c0 < cols; c0 += kTile) {
      const int64_t c1 = std::min(cols, c0 + kTile);
      for (int64_t r = r0; r < r1; ++r) {
        for (int64_t c = c0; c < c1; ++c) dst[r * dst_row_stride + c] = src[c * src_col_stride + r];
      }
    }
  }
}

// Any distance that the compiler knows becomes shuffles of whole vectors.
template <int64_t kStride, typename T>
void GatherRow(const T* __restrict src, T* __restrict dst, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dst[i] = src[i * kStride];
}

template <typename T>
void CopyRow(const T* src, T* dst, int64_t n, int64_t src_stride, int64_t dst_stride) {
  if (dst_stride != 1) {
    for (int64_t i = 0; i < n; ++i) dst[i * dst_stride] = src[i * src_stride];
  } else if (src_stride == 1) {
    std::memcpy(dst, src, static_cast<size_t>(n) * sizeof(T));
  } else if (src_stride == 2) {  // every other channel: a channel shuffle read back
    GatherRow<2>(src, dst, n);
  } else {
    for (int64_t i = 0; i < n; ++i) dst[i] = src[i * src_stride];
  }
}

// The dimension along which the source is contiguous while the last one is contiguous in the
// destination; -1 when the copy is no transpose.
int TransposedDimension(const StridedCopy& c) {
  const int last = static_cast<int>(c.shape.size()) - 1;
  if (c.dst_strides[last] != 1 || c.src_strides[last] == 1) return -1;
  for (int i = 0; i < last; ++i) {
    if (c.src_strides[i] == 1) return i;
  }
  return -1;
}

template <typename T>
void RunTyped(const StridedCopy& c, const T* src, T* dst) {
  const int rank = static_cast<int>(c.shape.size());
  if (rank == 0) {
    dst[c.dst_offset] = src[c.src_offset];
    return;
  }
  const int last = rank - 1;
  const int transposed = TransposedDimension(c);
  // One iteration moves a strip of rows along this dimension, so that few of them divide: rows of a
  // transpose, or short rows one after the other.
  const bool short_rows = c.shape[last] * static_cast<int64_t>(sizeof(T)) <= kShortRowBytes;
  const int rows_dim = transposed >= 0 ? transposed : short_rows ? last - 1 : -1;
  Shape trips(c.shape.begin(), c.shape.end() - 1);
  if (rows_dim >= 0) trips[rows_dim] = (c.shape[rows_dim] + kStrip - 1) / kStrip;
  const int64_t total = ElementCount(trips);
  const bool parallel = ElementCount(c.shape) * static_cast<int64_t>(sizeof(T)) >= kParallelBytes;
#pragma omp parallel for if (parallel && total > 1) schedule(static)
  for (int64_t flat = 0; flat < total; ++flat) {
    int64_t rest = flat, s = c.src_offset, d = c.dst_offset, rows = 1;
    for (int i = last - 1; i >= 0; --i) {
      int64_t index = rest % trips[i];
      rest /= trips[i];
      if (i == rows_dim) {
        index *= kStrip;
        rows = std::min(kStrip, c.shape[i] - index);
      }
      s += index * c.src_strides[i];
      d += index * c.dst_strides[i];
    }
    if (transposed >= 0) {
      TransposeTile(src + s, dst + d, rows, c.shape[last], c.src_strides[last],
                    c.dst_strides[rows_dim]);
      continue;
    }
    for (int64_t r = 0; r < rows; ++r) {
      CopyRow(src + s, dst + d, c.shape[last], c.src_strides[last], c.dst_strides[last]);
      if (rows_dim < 0) break;
      s += c.src_strides[rows_dim];
      d += c.dst_strides[rows_dim];
    }
  }
}

}  // namespace

StridedCopy Simplify(const StridedCopy& copy) {
  struct Dimension {
    int64_t size, src, dst;
  };
  std::vector<Dimension> dims;
  for (size_t i = 0; i < copy.shape.size(); ++i) {
    if (copy.shape[i] != 1) {
      dims.push_back({copy.shape[i], copy.src_strides[i], copy.dst_strides[i]});
    }
  }
  std::stable_sort(dims.begin(), dims.end(),
                   [](const Dimension& a, const Dimension& b) { return a.dst > b.dst; });
  std::vector<Dimension> merged;
  for (const Dimension& d : dims) {
    if (!merged.empty() && merged.back().src == d.size * d.src &&
        merged.back().dst == d.size * d.dst) {
      merged.back() = {merged.back().size * d.size, d.src, d.dst};
    } else {
      merged.push_back(d);
    }
  }
  StridedCopy out = copy;
  out.shape.clear();
  out.src_strides.clear();
  out.dst_strides.clear();
  for (const Dimension& d : merged) {
    out.shape.push_back(d.size);
    out.src_strides.push_back(d.src);
    out.dst_strides.push_back(d.dst);
  }
  return out;
}

void RunStridedCopy(const StridedCopy& c, const void* src, void* dst) {
  switch (c.element_bytes) {
    case 1:
      return RunTyped(c, static_cast<const uint8_t*>(src), static_cast<uint8_t*>(dst));
    case 2:
      return RunTyped(c, static_cast<const uint16_t*>(src), static_cast<uint16_t*>(dst));
    case 4:
      return RunTyped(c, static_cast<const uint32_t*>(src), static_cast<uint32_t*>(dst));
    default:
      return RunTyped(c, static_cast<const uint64_t*>(src), static_cast<uint64_t*>(dst));
  }
}

Shape ChannelsLastStrides(absl::Span<const int64_t> shape) {
  Shape strides(shape.size(), 1);
  int64_t stride = shape[1];
  for (int i = static_cast<int>(shape.size()) - 1; i >= 2; --i) {
    strides[i] = stride;
    stride *= shape[i];
  }
  strides[0] = stride;
  return strides;
}

}  // namespace halftone
