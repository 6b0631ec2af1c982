// Elementwise operators of several inputs that broadcast: arithmetic, comparison, logic, selection.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"

namespace halftone {
namespace {

// out[i] = f(a[i], b[i]) with broadcasting.
template <typename A, typename B, typename Out, typename F>
void BroadcastPair(const Tensor& a, const Tensor& b, Tensor& out, F f) {
  const A* pa = Raw<A>(a);
  const B* pb = Raw<B>(b);
  Out* to = MutableRaw<Out>(out);
  ForEachRow(out.shape(),
             {BroadcastStrides(a.shape(), out.shape()), BroadcastStrides(b.shape(), out.shape())},
             [&](int64_t count, const int64_t* offsets, const int64_t* steps) {
               const A* ra = pa + offsets[0];
               const B* rb = pb + offsets[1];
               for (int64_t i = 0; i < count; ++i) {
                 to[i] = static_cast<Out>(f(ra[i * steps[0]], rb[i * steps[1]]));
               }
               to += count;
             });
}

// --- arithmetic: both inputs and the output have one type ----------------------------------------

// Integers wrap; the unsigned detour keeps that defined.
template <typename T>
using Wrapping =
    std::conditional_t<std::is_integral_v<T>, std::make_unsigned<T>, std::type_identity<T>>::type;
constexpr auto kAdd = []<typename T>(T a, T b) {
  return static_cast<T>(Wrapping<T>(a) + Wrapping<T>(b));
};
constexpr auto kSub = []<typename T>(T a, T b) {
  return static_cast<T>(Wrapping<T>(a) - Wrapping<T>(b));
};
constexpr auto kMul = []<typename T>(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    // Wide enough that the promotion of 16-bit factors to int cannot overflow.
    return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
  } else {
    return a * b;
  }
};
// An integer divided by 0 gives 0: data must not stop the process.
constexpr auto kDiv = []<typename T>(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    if (b == 0) return T{0};
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return static_cast<T>(-static_cast<uint64_t>(a));
    }
    return static_cast<T>(a / b);
  } else {
    return a / b;
  }
};
constexpr auto kMin = []<typename T>(T a, T b) { return a < b || a != a ? a : b; };
constexpr auto kMax = []<typename T>(T a, T b) { return a > b || a != a ? a : b; };
constexpr auto kPRelu = []<typename T>(T x, T slope) { return x < T{0} ? kMul(x, slope) : x; };
constexpr auto kBitAnd = [](auto a, auto b) { return a & b; };
constexpr auto kBitOr = [](auto a, auto b) { return a | b; };
constexpr auto kBitXor = [](auto a, auto b) { return a ^ b; };

absl::Status InferArithmetic(InferContext& c) {
  SymbolicShape shape = c.input(0).shape;
  std::optional<DataType> type;
  for (int i = 0; i < c.num_inputs(); ++i) {
    if (!c.has_input(i)) return c.Error(absl::StrCat("input ", i, " is absent, want a value"));
    HT_RETURN_IF_ERROR(CheckSameType(c, 0, i));
    HT_ASSIGN_OR_RETURN(shape, Broadcast(c, shape, c.input(i).shape));
    if (!type.has_value()) type = c.input(i).type;
  }
  c.set_output(0, type, std::move(shape));
  return absl::OkStatus();
}

// Shape arithmetic: numbers compute, the neutral element keeps a symbol.
template <auto kFunction, int64_t kNeutral>
absl::Status InferArithmeticOnElements(InferContext& c) {
  HT_RETURN_IF_ERROR(InferArithmetic(c));
  const std::optional<Elements> a = c.elements(0), b = c.elements(1);
  if (!a.has_value() || !b.has_value() || a->empty() || b->empty()) return absl::OkStatus();
  Elements out(std::max(a->size(), b->size()));
  for (size_t i = 0; i < out.size(); ++i) {
    const Element& x = (*a)[a->size() == 1 ? 0 : i];
    const Element& y = (*b)[b->size() == 1 ? 0 : i];
    if (x.number.has_value() && y.number.has_value()) {
      out[i].number = kFunction(*x.number, *y.number);
    } else if (y.number == kNeutral) {
      out[i] = x;
    }
  }
  c.set_elements(0, std::move(out));
  return absl::OkStatus();
}

template <auto kFunction, TypeSet kSet>
absl::Status EvalArithmetic(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const auto map = [&](auto tag) {
    using T = decltype(tag);
    BroadcastPair<T, T, T>(c.input(0), c.input(1), *out, kFunction);
  };
  if constexpr ((kSet & kFloatTypes) == 0) {
    return DispatchWideInt(c, out->type(), map);
  } else {
    return DispatchWide(c, out->type(), map);
  }
}

template <auto kFunction, TypeSet kSet = kNumericTypes>
constexpr OpDef Binary(absl::string_view name, int since, InferFn infer = InferArithmetic,
                       QuantBehavior quant = QuantBehavior::kFloatOnly) {
  return {.name = name,
          .since_opset = since,
          .inputs = {2, 2},
          .infer = infer,
          .eval = WidenedNumbers<EvalArithmetic<kFunction, kSet>>,
          .types = kSet,
          .quant = quant,
          .tolerance = (kSet & kFloatTypes) == 0 ? kExact : kRounding};
}

absl::Status InferPRelu(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckSameType(c, 0, 1));
  HT_RETURN_IF_ERROR(CheckBroadcastsTo(c, c.input(1).shape, c.input(0).shape));
  return InferLikeInput(c);
}

// --- variadic: Min, Max, Sum, Mean ---------------------------------------------------------------

// Folds the inputs pairwise into the output.
template <auto kFunction, bool kMean>
absl::Status EvalVariadic(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  return DispatchWide(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    BroadcastPair<T, T, T>(c.input(0), c.input(0), *out, [](T a, T) { return a; });
    for (int i = 1; i < c.num_inputs(); ++i) {
      BroadcastPair<T, T, T>(*out, c.input(i), *out, kFunction);
    }
    if constexpr (kMean && std::is_floating_point_v<T>) {
      for (T& x : out->mutable_data<T>()) x /= static_cast<T>(c.num_inputs());
    }
  });
}

template <auto kFunction, TypeSet kSet, bool kMean = false>
constexpr OpDef Variadic(absl::string_view name, int since) {
  return {.name = name,
          .since_opset = since,
          .inputs = {1, -1},
          .infer = InferArithmetic,
          .eval = WidenedNumbers<EvalVariadic<kFunction, kMean>>,
          .types = kSet};
}

// --- Pow, Mod, BitShift --------------------------------------------------------------------------

absl::Status InferPow(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, kNumericTypes));
  HT_ASSIGN_OR_RETURN(SymbolicShape shape, Broadcast(c, c.input(0).shape, c.input(1).shape));
  c.set_output(0, c.input(0).type, std::move(shape));
  return absl::OkStatus();
}

absl::Status EvalPow(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  // The exponent may have another type; f32 bases keep f32 arithmetic for f32 exponents.
  const bool narrow = out->type() == DataType::kF32 && c.input(1).type() == DataType::kF32;
  HT_ASSIGN_OR_RETURN(const Tensor exponent,
                      Convert(c.input(1), narrow ? DataType::kF32 : DataType::kF64));
  return DispatchWide(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    if (narrow) {
      BroadcastPair<T, float, T>(c.input(0), exponent, *out, [](T a, float b) {
        return Saturate<T>(std::pow(static_cast<float>(a), b));
      });
    } else {
      BroadcastPair<T, double, T>(c.input(0), exponent, *out, [](T a, double b) {
        return Saturate<T>(std::pow(static_cast<double>(a), b));
      });
    }
  });
}

absl::Status InferMod(InferContext& c) {
  HT_RETURN_IF_ERROR(InferArithmetic(c));
  const std::optional<DataType> type = c.outputs()[0].type;
  if (type.has_value() && IsFloat(*type) && c.attributes().Int("fmod", 0) == 0) {
    return c.Error("got float inputs with fmod = 0, want fmod = 1");
  }
  return absl::OkStatus();
}

absl::Status EvalMod(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const bool fmod = c.attributes().Int("fmod", 0) != 0;
  return DispatchWide(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    BroadcastPair<T, T, T>(c.input(0), c.input(1), *out, [fmod](T a, T b) -> T {
      if constexpr (std::is_floating_point_v<T>) {
        return std::fmod(a, b);
      } else {
        if (b == 0) return T{0};
        if constexpr (std::is_signed_v<T>) {
          if (b == -1) return T{0};
        }
        const T r = static_cast<T>(a % b);
        const bool shift = !fmod && r != 0 && (r < 0) != (b < 0);  // the sign of the divisor
        return shift ? static_cast<T>(r + b) : r;
      }
    });
  });
}

absl::Status InferBitShift(InferContext& c) {
  const std::string direction = c.attributes().String("direction", "");
  if (direction != "LEFT" && direction != "RIGHT") {
    return c.Error(absl::StrCat("direction is '", direction, "', want LEFT or RIGHT"));
  }
  return InferArithmetic(c);
}

absl::Status EvalBitShift(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const bool left = c.attributes().String("direction", "") == "LEFT";
  return DispatchWideInt(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    BroadcastPair<T, T, T>(c.input(0), c.input(1), *out, [left](T a, T b) -> T {
      if (static_cast<uint64_t>(b) >= 64) return T{0};
      const uint64_t wide = static_cast<uint64_t>(a);
      return static_cast<T>(left ? wide << b : wide >> b);
    });
  });
}

// --- comparison and logic ------------------------------------------------------------------------

absl::Status InferCompare(InferContext& c) {
  HT_RETURN_IF_ERROR(InferArithmetic(c));
  c.set_output(0, DataType::kBool, c.outputs()[0].shape);
  return absl::OkStatus();
}

template <auto kFunction, TypeSet kSet>
absl::Status EvalCompare(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const auto map = [&](auto tag) {
    using T = decltype(tag);
    BroadcastPair<T, T, bool>(c.input(0), c.input(1), *out, kFunction);
  };
  if constexpr ((kSet & kBoolType) != 0) {
    if (c.input(0).type() == DataType::kBool) {
      map(bool{});
      return absl::OkStatus();
    }
  }
  if constexpr ((kSet & kNumericTypes) != 0) return DispatchWide(c, c.input(0).type(), map);
  return c.Error("type is not supported here");
}

template <auto kFunction, TypeSet kSet = kNumericTypes>
constexpr OpDef Compare(absl::string_view name, int since) {
  return ExactRow(name, since, {2, 2}, InferCompare, WidenedNumbers<EvalCompare<kFunction, kSet>>,
                  kSet);
}

// --- Where, Clip ---------------------------------------------------------------------------------

absl::Status InferWhere(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, kWholeByteTypes));
  HT_RETURN_IF_ERROR(CheckSameType(c, 1, 2));
  HT_ASSIGN_OR_RETURN(SymbolicShape shape, Broadcast(c, c.input(0).shape, c.input(1).shape));
  HT_ASSIGN_OR_RETURN(shape, Broadcast(c, shape, c.input(2).shape));
  c.set_output(0, c.input(1).type.has_value() ? c.input(1).type : c.input(2).type,
               std::move(shape));
  return absl::OkStatus();
}

absl::Status EvalWhere(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Shape& shape = out->shape();
  const bool* condition = Raw<bool>(c.input(0));
  return DispatchWidth(c, out->type(), [&](auto tag) {
    using U = decltype(tag);
    const U* x = Raw<U>(c.input(1));
    const U* y = Raw<U>(c.input(2));
    U* to = MutableRaw<U>(*out);
    ForEachRow(
        shape,
        {BroadcastStrides(c.input(0).shape(), shape), BroadcastStrides(c.input(1).shape(), shape),
         BroadcastStrides(c.input(2).shape(), shape)},
        [&](int64_t count, const int64_t* o, const int64_t* s) {
          for (int64_t i = 0; i < count; ++i) {
            to[i] = condition[o[0] + i * s[0]] ? x[o[1] + i * s[1]] : y[o[2] + i * s[2]];
          }
          to += count;
        });
  });
}

absl::Status InferClip(InferContext& c) {
  for (const int i : {1, 2}) {
    HT_RETURN_IF_ERROR(CheckSameType(c, 0, i));
    HT_RETURN_IF_ERROR(CheckOneElement(c, i));
  }
  return InferLikeInput(c);
}

// The bounds are attributes before opset 11 and inputs after; min beyond max gives max.
absl::Status EvalClip(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  return DispatchWide(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    T low = std::numeric_limits<T>::lowest(), high = std::numeric_limits<T>::max();
    if constexpr (std::is_floating_point_v<T>) {
      low = -std::numeric_limits<T>::infinity();
      high = -low;
    }
    if (c.opset() < 11) {
      low = Saturate<T>(c.attributes().Float("min", static_cast<float>(low)));
      high = Saturate<T>(c.attributes().Float("max", static_cast<float>(high)));
    }
    if (c.has_input(1)) low = c.input(1).data<T>()[0];
    if (c.has_input(2)) high = c.input(2).data<T>()[0];
    const auto x = c.input(0).data<T>();
    const auto y = out->mutable_data<T>();
    for (size_t i = 0; i < x.size(); ++i) {
      const T raised = x[i] < low ? low : x[i];
      y[i] = raised > high ? high : raised;
    }
  });
}

constexpr auto kInt8 = QuantBehavior::kElementwiseInt8;
constexpr auto kFloatOnly = QuantBehavior::kFloatOnly;

constexpr OpDef ClipRow(int since, Arity inputs) {
  return {.name = "Clip",
          .since_opset = since,
          .inputs = inputs,
          .infer = InferClip,
          .eval = WidenedNumbers<EvalClip>,
          .types = kNumericTypes,
          .quant = kInt8};
}

constexpr std::array kRows = {
    Binary<kAdd>("Add", 7, InferArithmeticOnElements<kAdd, 0>, kInt8),
    Binary<kSub>("Sub", 7, InferArithmeticOnElements<kSub, 0>, kFloatOnly),
    Binary<kMul>("Mul", 7, InferArithmeticOnElements<kMul, 1>, kInt8),
    Binary<kDiv>("Div", 7, InferArithmeticOnElements<kDiv, 1>, kFloatOnly),
    Binary<kPRelu>("PRelu", 7, InferPRelu),
    Binary<kBitAnd, kIntTypes>("BitwiseAnd", 18),
    Binary<kBitOr, kIntTypes>("BitwiseOr", 18),
    Binary<kBitXor, kIntTypes>("BitwiseXor", 18),
    ExactRow("BitShift", 11, {2, 2}, InferBitShift, WidenedNumbers<EvalBitShift>, kUnsignedInts),
    OpDef{.name = "Pow",
          .since_opset = 7,
          .inputs = {2, 2},
          .infer = InferPow,
          .eval = WidenedNumbers<EvalPow>,
          .types = kNumericTypes},
    OpDef{.name = "Mod",
          .since_opset = 10,
          .inputs = {2, 2},
          .infer = InferMod,
          .eval = WidenedNumbers<EvalMod>,
          .types = kNumericTypes},
    Variadic<kMin, kNumericTypes>("Min", 6),
    Variadic<kMax, kNumericTypes>("Max", 6),
    Variadic<kAdd, kFloatTypes>("Sum", 6),
    Variadic<kAdd, kFloatTypes, true>("Mean", 6),
    Compare<[](auto a, auto b) { return a == b; }, kNumericTypes | kBoolType>("Equal", 7),
    Compare<[](auto a, auto b) { return a < b; }>("Less", 7),
    Compare<[](auto a, auto b) { return a <= b; }>("LessOrEqual", 12),
    Compare<[](auto a, auto b) { return (a > b); }>("Greater", 7),
    Compare<[](auto a, auto b) { return (a >= b); }>("GreaterOrEqual", 12),
    Compare<[](auto a, auto b) { return a && b; }, kBoolType>("And", 7),
    Compare<[](auto a, auto b) { return a || b; }, kBoolType>("Or", 7),
    Compare<[](auto a, auto b) { return a != b; }, kBoolType>("Xor", 7),
    ExactRow("Where", 9, {3, 3}, InferWhere, EvalWhere, kBoolType),
    ClipRow(6, {1, 1}),
    ClipRow(11, {1, 3}),
};

}  // namespace

absl::Span<const OpDef> BinaryOps() { return kRows; }

}  // namespace halftone
