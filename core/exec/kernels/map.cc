#include "core/exec/kernels/map.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <tuple>
#include <type_traits>

#include "absl/container/flat_hash_map.h"
#include "core/exec/kernels/convert.h"

namespace halftone {
namespace {

constexpr int64_t kParallelElements = 1 << 15;

#define HT_VECTORIZED __attribute__((target_clones("default", "avx2", "avx512f")))

// --- functions -----------------------------------------------------------------------------------

// Integers wrap; the unsigned detour keeps that defined.
template <typename T>
using Wrapping =
    std::conditional_t<std::is_integral_v<T>, std::make_unsigned<T>, std::type_identity<T>>::type;

constexpr auto kAdd = []<typename T>(T a, T b) { return T(Wrapping<T>(a) + Wrapping<T>(b)); };
constexpr auto kSub = []<typename T>(T a, T b) { return T(Wrapping<T>(a) - Wrapping<T>(b)); };
constexpr auto kMul = []<typename T>(T a, T b) { return T(Wrapping<T>(a) * Wrapping<T>(b)); };
constexpr auto kDiv = []<typename T>(T a, T b) -> T {
  if constexpr (std::is_integral_v<T>) {
    if (b == 0) return 0;  // as the reference: data must not stop the process
    return b == -1 ? T(Wrapping<T>(0) - Wrapping<T>(a)) : a / b;
  } else {
    return a / b;
  }
};
constexpr auto kMod = []<typename T>(T a, T b) -> T {
  if (b == 0 || b == -1) return 0;
  const T r = a % b;
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
};
// ONNX lets NaN win; the comparison order does that for b and the addition for a.
constexpr auto kMin = []<typename T>(T a, T b) { return a != a ? T(a + b) : (a < b ? a : b); };
constexpr auto kMax = []<typename T>(T a, T b) { return a != a ? T(a + b) : (a > b ? a : b); };
constexpr auto kPRelu = []<typename T>(T x, T slope) { return x < T{0} ? x * slope : x; };
constexpr auto kPow = [](float a, float b) { return std::pow(a, b); };
constexpr auto kNeg = []<typename T>(T x) -> T {
  if constexpr (std::is_integral_v<T>) {
    return T(Wrapping<T>(0) - Wrapping<T>(x));
  } else {
    return -x;  // 0 − 0 would lose the sign
  }
};
constexpr auto kAbs = []<typename T>(T x) { return x < T{0} ? kNeg(x) : x; };
constexpr auto kSign = []<typename T>(T x) { return x > T{0} ? T{1} : x < T{0} ? T(-1) : x; };
constexpr auto kRelu = []<typename T>(T x) { return x < T{0} ? T{0} : x; };
constexpr auto kSelect = [](bool c, auto a, auto b) { return c ? a : b; };
constexpr auto kClip = []<typename T>(T x, T low, T high) { return kMin(kMax(x, low), high); };

template <typename To>
constexpr auto kCast = []<typename T>(T x) -> To {
  if constexpr (std::is_same_v<To, bool>) {
    return x != T{0};
  } else if constexpr (std::is_floating_point_v<T> && std::is_integral_v<To>) {
    // As Convert: NaN becomes 0, the rest saturates.
    if (x != x) return 0;
    if (x >= static_cast<T>(std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
    if (x <= static_cast<T>(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
    return static_cast<To>(x);
  } else {
    return static_cast<To>(x);
  }
};

// --- rows ----------------------------------------------------------------------------------------

template <auto kFunction, typename Out, typename A>
HT_VECTORIZED void Row1(const void* const* in, const int64_t* steps, void* out, int64_t n) {
  const A* a = static_cast<const A*>(in[0]);
  Out* to = static_cast<Out*>(out);
  if (steps[0] == 1) {
    for (int64_t i = 0; i < n; ++i) to[i] = kFunction(a[i]);
  } else {
    std::fill_n(to, n, static_cast<Out>(kFunction(a[0])));
  }
}

template <auto kFunction, typename Out, typename T>
HT_VECTORIZED void Row2(const void* const* in, const int64_t* steps, void* out, int64_t n) {
  const T* a = static_cast<const T*>(in[0]);
  const T* b = static_cast<const T*>(in[1]);
  Out* to = static_cast<Out*>(out);
  if (steps[0] == 1 && steps[1] == 1) {
    for (int64_t i = 0; i < n; ++i) to[i] = kFunction(a[i], b[i]);
  } else if (steps[0] == 1) {
    const T y = b[0];
    for (int64_t i = 0; i < n; ++i) to[i] = kFunction(a[i], y);
  } else if (steps[1] == 1) {
    const T x = a[0];
    for (int64_t i = 0; i < n; ++i) to[i] = kFunction(x, b[i]);
  } else {
    std::fill_n(to, n, static_cast<Out>(kFunction(a[0], b[0])));
  }
}

template <auto kFunction, typename A, typename T>
HT_VECTORIZED void Row3(const void* const* in, const int64_t* steps, void* out, int64_t n) {
  const A* a = static_cast<const A*>(in[0]);
  const T* b = static_cast<const T*>(in[1]);
  const T* c = static_cast<const T*>(in[2]);
  T* to = static_cast<T*>(out);
  if (steps[0] == 1 && steps[1] == 1 && steps[2] == 1) {
    for (int64_t i = 0; i < n; ++i) to[i] = kFunction(a[i], b[i], c[i]);
  } else if (steps[0] == 1 && steps[1] == 0 && steps[2] == 0) {
    const T y = b[0], z = c[0];
    for (int64_t i = 0; i < n; ++i) to[i] = kFunction(a[i], y, z);
  } else if (steps[0] == 1 && steps[2] == 1) {
    const T y = b[0];
    for (int64_t i = 0; i < n; ++i) to[i] = kFunction(a[i], y, c[i]);
  } else if (steps[0] == 1) {
    const T z = c[0];
    for (int64_t i = 0; i < n; ++i) to[i] = kFunction(a[i], b[i], z);
  } else {
    const A x = a[0];
    for (int64_t i = 0; i < n; ++i) to[i] = kFunction(x, b[i * steps[1]], c[i * steps[2]]);
  }
}

// Exponents that are one number are mostly 2, 0.5 or 3.
HT_VECTORIZED void PowRow(const void* const* in, const int64_t* steps, void* out, int64_t n) {
  const float* a = static_cast<const float*>(in[0]);
  const float exponent = *static_cast<const float*>(in[1]);
  float* to = static_cast<float*>(out);
  const bool one = steps[0] == 1 && steps[1] == 0;
  if (one && exponent == 2.0f) {
    for (int64_t i = 0; i < n; ++i) to[i] = a[i] * a[i];
  } else if (one && exponent == 3.0f) {
    for (int64_t i = 0; i < n; ++i) to[i] = a[i] * a[i] * a[i];
  } else {
    Row2<kPow, float, float>(in, steps, out, n);
  }
}

// Half floats only widen and narrow: the streaming kernels do that.
template <DataType kFrom>
void WidenRow(const void* const* in, const int64_t*, void* out, int64_t n) {
  WidenToF32(kFrom, in[0], static_cast<float*>(out), n);
}
template <DataType kTo>
void NarrowRow(const void* const* in, const int64_t*, void* out, int64_t n) {
  NarrowFromF32(kTo, static_cast<const float*>(in[0]), out, n);
}

// --- the table -----------------------------------------------------------------------------------

using Rows = std::vector<MapFunction>;

template <auto kFunction, typename... T>
void Unary(Rows& rows, absl::string_view op) {
  (rows.push_back({op, DataTypeOf<T>::value, DataTypeOf<T>::value, 1, Row1<kFunction, T, T>}), ...);
}
template <auto kFunction, typename... T>
void Binary(Rows& rows, absl::string_view op, bool folds = false) {
  (rows.push_back(
       {op, DataTypeOf<T>::value, DataTypeOf<T>::value, 2, Row2<kFunction, T, T>, folds}),
   ...);
}
template <auto kFunction, typename... T>
void Compare(Rows& rows, absl::string_view op) {
  (rows.push_back({op, DataTypeOf<T>::value, DataType::kBool, 2, Row2<kFunction, bool, T>}), ...);
}
template <typename From, typename... To>
void Casts(Rows& rows) {
  (rows.push_back(
       {"Cast", DataTypeOf<From>::value, DataTypeOf<To>::value, 1, Row1<kCast<To>, To, From>}),
   ...);
}
// Selection moves elements of one width, whatever they are.
template <typename U>
void Selects(Rows& rows, absl::Span<const DataType> types) {
  for (const DataType t : types) rows.push_back({"Where", t, t, 3, Row3<kSelect, bool, U>});
}

Rows MakeRows() {
  Rows r;
  using I = int32_t;
  using L = int64_t;
  Binary<kAdd, float, I, L>(r, "Add");
  Binary<kSub, float, I, L>(r, "Sub");
  Binary<kMul, float, I, L>(r, "Mul");
  Binary<kDiv, float, I, L>(r, "Div");
  Binary<kMin, float, I, L>(r, "Min", true);
  Binary<kMax, float, I, L>(r, "Max", true);
  Binary<kAdd, float>(r, "Sum", true);
  Binary<kMod, I, L>(r, "Mod");
  Binary<kPRelu, float>(r, "PRelu");
  r.push_back({"Pow", DataType::kF32, DataType::kF32, 2, PowRow});
  Binary<[](bool a, bool b) { return a && b; }, bool>(r, "And");
  Binary<[](bool a, bool b) { return a || b; }, bool>(r, "Or");
  Binary<[](bool a, bool b) { return a != b; }, bool>(r, "Xor");
  Compare<[](auto a, auto b) { return a == b; }, float, I, L, bool>(r, "Equal");
  Compare<[](auto a, auto b) { return a < b; }, float, I, L>(r, "Less");
  Compare<[](auto a, auto b) { return a <= b; }, float, I, L>(r, "LessOrEqual");
  Compare<[](auto a, auto b) { return b < a; }, float, I, L>(r, "Greater");
  Compare<[](auto a, auto b) { return b <= a; }, float, I, L>(r, "GreaterOrEqual");

  Unary<kNeg, float, I, L>(r, "Neg");
  Unary<kAbs, I, L>(r, "Abs");
  Unary<[](float x) { return std::abs(x); }, float>(r, "Abs");
  Unary<kSign, float, I, L>(r, "Sign");
  Unary<kRelu, float, I, L>(r, "Relu");
  Unary<[](bool x) { return !x; }, bool>(r, "Not");
  Unary<[](float x) { return 1.0f / x; }, float>(r, "Reciprocal");
  Unary<[](float x) { return x / (1.0f + std::abs(x)); }, float>(r, "Softsign");
  Unary<[](float x) { return std::floor(x); }, float>(r, "Floor");
  Unary<[](float x) { return std::ceil(x); }, float>(r, "Ceil");
  Unary<[](float x) { return std::nearbyint(x); }, float>(r, "Round");
  Unary<[](float x) { return std::sqrt(x); }, float>(r, "Sqrt");
  Unary<[](float x) { return std::exp(x); }, float>(r, "Exp");
  Unary<[](float x) { return std::log(x); }, float>(r, "Log");
  Unary<[](float x) { return std::erf(x); }, float>(r, "Erf");
  Unary<[](float x) { return std::max(x, 0.0f) + std::log1p(std::exp(-std::abs(x))); }, float>(
      r, "Softplus");
  Unary<[](float x) { return std::sin(x); }, float>(r, "Sin");
  Unary<[](float x) { return std::cos(x); }, float>(r, "Cos");
  Unary<[](float x) { return std::tan(x); }, float>(r, "Tan");
  Unary<[](float x) { return std::atan(x); }, float>(r, "Atan");
  r.push_back({"IsNaN", DataType::kF32, DataType::kBool, 1,
               Row1<[](float x) { return x != x; }, bool, float>});

  Casts<float, I, L, uint8_t, int8_t, bool>(r);
  Casts<I, float, L, uint8_t, int8_t, bool>(r);
  Casts<L, float, I, uint8_t, int8_t, bool>(r);
  Casts<bool, float, I, L, uint8_t>(r);
  Casts<uint8_t, float, I, L, bool>(r);
  Casts<int8_t, float, I, L, bool>(r);

  constexpr DataType kF32 = DataType::kF32, kF16 = DataType::kF16, kBF16 = DataType::kBF16;
  r.push_back({"Cast", kF16, kF32, 1, WidenRow<kF16>});
  r.push_back({"Cast", kBF16, kF32, 1, WidenRow<kBF16>});
  r.push_back({"Cast", kF32, kF16, 1, NarrowRow<kF16>});
  r.push_back({"Cast", kF32, kBF16, 1, NarrowRow<kBF16>});

  Selects<uint8_t>(r, {DataType::kI8, DataType::kU8, DataType::kBool});
  Selects<uint16_t>(r, {DataType::kF16, DataType::kBF16, DataType::kI16, DataType::kU16});
  Selects<uint32_t>(r, {DataType::kF32, DataType::kI32, DataType::kU32});
  Selects<uint64_t>(r, {DataType::kF64, DataType::kI64, DataType::kU64});
  r.push_back({"Clip", DataType::kF32, DataType::kF32, 3, Row3<kClip, float, float>});
  r.push_back({"Clip", DataType::kI32, DataType::kI32, 3, Row3<kClip, I, I>});
  r.push_back({"Clip", DataType::kI64, DataType::kI64, 3, Row3<kClip, L, L>});
  return r;
}

}  // namespace

const MapFunction* FindMap(absl::string_view op, DataType in, DataType out) {
  using Key = std::tuple<absl::string_view, DataType, DataType>;
  static const auto* const kTable = [] {
    auto* table = new absl::flat_hash_map<Key, MapFunction>;
    for (const MapFunction& f : MakeRows()) table->try_emplace({f.op, f.in, f.out}, f);
    return table;
  }();
  const auto it = kTable->find({op, in, out});
  return it == kTable->end() ? nullptr : &it->second;
}

Broadcast Simplify(const Broadcast& in) {
  Broadcast out{.strides = std::vector<Shape>(in.strides.size())};
  for (size_t d = 0; d < in.shape.size(); ++d) {
    const int64_t size = in.shape[d];
    if (size == 1) continue;
    bool merges = !out.shape.empty();
    // Contiguous, or 0 == size · 0: repeated.
    for (size_t i = 0; i < in.strides.size() && merges; ++i) {
      merges = out.strides[i].back() == size * in.strides[i][d];
    }
    for (size_t i = 0; i < in.strides.size(); ++i) {
      if (merges) out.strides[i].pop_back();
      out.strides[i].push_back(in.strides[i][d]);
    }
    if (merges) {
      out.shape.back() *= size;
    } else {
      out.shape.push_back(size);
    }
  }
  if (out.shape.empty()) {
    out.shape = {1};
    for (Shape& s : out.strides) s = {0};
  }
  return out;
}

void RunMap(const MapFunction& f, const Broadcast& bc, absl::Span<const void* const> in,
            void* out) {
  const int last = static_cast<int>(bc.shape.size()) - 1;
  const int64_t total = ElementCount(bc.shape);
  const int arity = static_cast<int>(in.size());
  int64_t steps[3] = {0, 0, 0};
  int64_t widths[3] = {0, 0, 0};
  for (int i = 0; i < arity; ++i) {
    steps[i] = bc.strides[i][last];
    widths[i] = f.op == "Where" && i == 0 ? 1 : BitWidth(f.in) / 8;
  }
  const int64_t out_width = BitWidth(f.out) / 8;
  // A single long row is split so that a team can share it.
  const int64_t row_length = bc.shape[last];
  constexpr int64_t kPiece = 1 << 13;
  const int64_t pieces = (row_length + kPiece - 1) / kPiece;
  const int64_t rows = row_length == 0 ? 0 : total / row_length;
#pragma omp parallel for if (total >= kParallelElements) schedule(static)
  for (int64_t task = 0; task < rows * pieces; ++task) {
    const int64_t r = task / pieces, begin = task % pieces * kPiece;
    int64_t at[3] = {begin * steps[0], begin * steps[1], begin * steps[2]};
    int64_t rest = r;
    for (int d = last - 1; d >= 0; --d) {
      const int64_t index = rest % bc.shape[d];
      rest /= bc.shape[d];
      for (int i = 0; i < arity; ++i) at[i] += index * bc.strides[i][d];
    }
    const void* rows_in[3] = {};
    for (int i = 0; i < arity; ++i) {
      rows_in[i] = static_cast<const std::byte*>(in[i]) + at[i] * widths[i];
    }
    f.row(rows_in, steps, static_cast<std::byte*>(out) + (r * row_length + begin) * out_width,
          std::min(kPiece, row_length - begin));
  }
}

}  // namespace halftone
