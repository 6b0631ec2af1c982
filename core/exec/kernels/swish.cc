#include "core/exec/kernels/swish.h"

#include <algorithm>
#include <cstring>

#include "core/exec/kernels/avx512_math.h"

namespace halftone {
namespace {

constexpr int64_t kParallelElements = 1 << 15;
constexpr int64_t kPiece = 1 << 13;
constexpr int64_t kLanes = 16;

HT_AVX512 void SwishF32(float* y, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    _mm512_storeu_ps(y + i, Swish16<SwishPrecision::kF32>(_mm512_loadu_ps(y + i)));
  }
}

HT_AVX512_BF16 void SwishBF16(uint16_t* y, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    auto* p = reinterpret_cast<__m256i*>(y + i);
    StoreBF16(p, Swish16<SwishPrecision::kBF16>(LoadBF16(p)));
  }
}

// `swish` takes multiples of kLanes.
template <typename T>
void RunPieces(void (*swish)(T*, int64_t), T* y, int64_t n) {
#pragma omp parallel for if (n >= kParallelElements) schedule(static)
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t count = std::min(kPiece, n - begin), whole = count / kLanes * kLanes;
    swish(y + begin, whole);
    if (whole == count) continue;
    T rest[kLanes] = {};
    std::memcpy(rest, y + begin + whole, static_cast<size_t>(count - whole) * sizeof(T));
    swish(rest, kLanes);
    std::memcpy(y + begin + whole, rest, static_cast<size_t>(count - whole) * sizeof(T));
  }
}

}  // namespace

bool HasSwish(const CpuFeatures& features, DataType type) {
  return features.avx512 && (type == DataType::kF32 || (type == DataType::kBF16 && features.bf16));
}

void RunSwish(DataType type, void* y, int64_t n) {
  if (type == DataType::kBF16) {
    RunPieces(SwishBF16, static_cast<uint16_t*>(y), n);
  } else {
    RunPieces(SwishF32, static_cast<float*>(y), n);
  }
}

}  // namespace halftone
