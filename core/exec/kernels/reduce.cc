#include "core/exec/kernels/reduce.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace halftone {
namespace {

constexpr int64_t kParallelElements = 1 << 15;
constexpr int64_t kColumns = 256;  // accumulators that one task keeps in the first cache

#define HT_VECTORIZED __attribute__((target_clones("default", "avx2", "avx512f")))

// What a reduction adds up in: double for floats; integers wrap, which unsigned ones do.
template <typename T>
using Wide = typename std::conditional_t<std::is_floating_point_v<T>, std::type_identity<double>,
                                         std::make_unsigned<T>>::type;

template <typename T>
struct Sum {
  using Acc = Wide<T>;
  static Acc Start() { return 0; }
  static Acc Add(Acc a, T x) { return a + static_cast<Acc>(x); }
  static Acc Join(Acc a, Acc b) { return a + b; }
  static T Finish(Acc a, int64_t) { return static_cast<T>(a); }
};
template <typename T>
struct Mean : Sum<T> {
  static T Finish(Wide<T> a, int64_t n) { return static_cast<T>(a / static_cast<Wide<T>>(n)); }
};
template <typename T>
struct L1 : Sum<T> {
  static Wide<T> Add(Wide<T> a, T x) { return a + static_cast<Wide<T>>(x < 0 ? -x : x); }
};
template <typename T>
struct SumSquare : Sum<T> {
  static Wide<T> Add(Wide<T> a, T x) { return a + static_cast<Wide<T>>(x) * x; }
};
template <typename T>
struct L2 : SumSquare<T> {
  static T Finish(Wide<T> a, int64_t) { return static_cast<T>(std::sqrt(a)); }
};
template <typename T>
struct LogSum : Sum<T> {
  static T Finish(Wide<T> a, int64_t) { return static_cast<T>(std::log(a)); }
};
template <typename T>
struct Prod : Sum<T> {
  static Wide<T> Start() { return 1; }
  static Wide<T> Add(Wide<T> a, T x) { return a * static_cast<Wide<T>>(x); }
  static Wide<T> Join(Wide<T> a, Wide<T> b) { return a * b; }
};
// NaN wins, as in the reference.
template <typename T>
struct Max {
  using Acc = T;
  static T Start() {
    return std::is_floating_point_v<T> ? -std::numeric_limits<T>::infinity()
                                       : std::numeric_limits<T>::lowest();
  }
  static T Add(T a, T x) { return x > a || x != x ? x : a; }
  static T Join(T a, T b) { return Add(a, b); }
  static T Finish(T a, int64_t) { return a; }
};
template <typename T>
struct Min : Max<T> {
  static T Start() {
    return std::is_floating_point_v<T> ? std::numeric_limits<T>::infinity()
                                       : std::numeric_limits<T>::max();
  }
  static T Add(T a, T x) { return x < a || x != x ? x : a; }
  static T Join(T a, T b) { return Add(a, b); }
};

// One number from a contiguous row, in independent lanes.
template <typename Rule, typename T>
HT_VECTORIZED typename Rule::Acc ReduceRow(const T* x, int64_t n) {
  constexpr int kLanes = 16;
  typename Rule::Acc lanes[kLanes];
  std::fill_n(lanes, kLanes, Rule::Start());
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) lanes[l] = Rule::Add(lanes[l], x[i + l]);
  }
  typename Rule::Acc acc = Rule::Start();
  for (; i < n; ++i) acc = Rule::Add(acc, x[i]);
  for (const auto lane : lanes) acc = Rule::Join(acc, lane);
  return acc;
}

template <typename Rule, typename T>
HT_VECTORIZED void AddRow(const T* x, typename Rule::Acc* acc, int64_t n) {
  for (int64_t i = 0; i < n; ++i) acc[i] = Rule::Add(acc[i], x[i]);
}

// A walk over some of the dimensions.
struct Walk {
  Shape sizes, strides;
  int64_t total = 1;

  void Add(int64_t size, int64_t stride) {
    sizes.push_back(size);
    strides.push_back(stride);
    total *= size;
  }
  int64_t Offset(int64_t flat) const {
    int64_t at = 0;
    for (size_t i = sizes.size(); i-- > 0;) {
      at += flat % sizes[i] * strides[i];
      flat /= sizes[i];
    }
    return at;
  }
};

template <typename Rule, typename T>
void Run(const Reduction& r, const void* src, void* dst) {
  const T* x = static_cast<const T*>(src);
  T* y = static_cast<T*>(dst);
  // The last dimension is a row: reduced at once, or kept in many accumulators.
  const int64_t row = r.shape.back();
  const bool row_reduced = r.reduced.back();
  Walk kept, reduced;
  int64_t stride = ElementCount(r.shape);
  for (size_t i = 0; i + 1 < r.shape.size(); ++i) {
    stride /= r.shape[i];
    (r.reduced[i] ? reduced : kept).Add(r.shape[i], stride);
  }
  const int64_t count = reduced.total * (row_reduced ? row : 1);
  const int64_t pieces = row_reduced ? 1 : (row + kColumns - 1) / kColumns;
  const bool parallel = ElementCount(r.shape) >= kParallelElements;
#pragma omp parallel for if (parallel) schedule(static)
  for (int64_t task = 0; task < kept.total * pieces; ++task) {
    const int64_t k = task / pieces;
    const T* from = x + kept.Offset(k);
    if (row_reduced) {
      typename Rule::Acc acc = Rule::Start();
      for (int64_t i = 0; i < reduced.total; ++i) {
        acc = Rule::Join(acc, ReduceRow<Rule>(from + reduced.Offset(i), row));
      }
      y[k] = Rule::Finish(acc, count);
      continue;
    }
    const int64_t begin = task % pieces * kColumns, n = std::min(kColumns, row - begin);
    typename Rule::Acc acc[kColumns];
    std::fill_n(acc, n, Rule::Start());
    for (int64_t i = 0; i < reduced.total; ++i) {
      AddRow<Rule>(from + reduced.Offset(i) + begin, acc, n);
    }
    for (int64_t c = 0; c < n; ++c) y[k * row + begin + c] = Rule::Finish(acc[c], count);
  }
}

struct Row {
  absl::string_view op;
  ReduceFn f32, i32, i64;
};
template <template <typename> typename Rule>
constexpr Row Numbers(absl::string_view op) {
  return {op, Run<Rule<float>, float>, Run<Rule<int32_t>, int32_t>, Run<Rule<int64_t>, int64_t>};
}
template <template <typename> typename Rule>
constexpr Row Floats(absl::string_view op) {
  return {op, Run<Rule<float>, float>, nullptr, nullptr};
}
constexpr Row kRows[] = {
    Numbers<Sum>("ReduceSum"),      Numbers<Min>("ReduceMin"),
    Numbers<Max>("ReduceMax"),      Numbers<Prod>("ReduceProd"),
    Floats<Mean>("ReduceMean"),     Floats<L1>("ReduceL1"),
    Floats<L2>("ReduceL2"),         Floats<SumSquare>("ReduceSumSquare"),
    Floats<LogSum>("ReduceLogSum"),
};

}  // namespace

ReduceFn FindReduce(absl::string_view op, DataType type) {
  for (const Row& row : kRows) {
    if (row.op != op) continue;
    if (type == DataType::kF32) return row.f32;
    if (type == DataType::kI32) return row.i32;
    if (type == DataType::kI64) return row.i64;
  }
  return nullptr;
}

Reduction Simplify(const Reduction& r) {
  Reduction out;
  for (size_t i = 0; i < r.shape.size(); ++i) {
    if (r.shape[i] == 1) continue;
    if (!out.shape.empty() && out.reduced.back() == r.reduced[i]) {
      out.shape.back() *= r.shape[i];
    } else {
      out.shape.push_back(r.shape[i]);
      out.reduced.push_back(r.reduced[i]);
    }
  }
  if (out.shape.empty()) return {{1}, {true}};
  return out;
}

}  // namespace halftone
