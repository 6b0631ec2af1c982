// Elementwise operators of one input: mathematics, activations, predicates.
#include <array>
#include <cmath>
#include <numbers>

#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"

namespace halftone {
namespace {

// kMake(attributes) returns the function of one element, a template over float, double and, where
// `kSet` has them, the integers.
template <auto kMake, TypeSet kSet>
absl::Status EvalUnary(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const auto map = [&](auto tag) {
    using T = decltype(tag);
    const auto f = kMake(c.attributes());
    const auto x = c.input(0).data<T>();
    const auto y = out->mutable_data<T>();
    for (size_t i = 0; i < x.size(); ++i) y[i] = static_cast<T>(f(x[i]));
  };
  if constexpr ((kSet & kIntTypes) == 0) {
    return DispatchFloat(c, c.input(0).type(), map);
  } else {
    return DispatchWide(c, c.input(0).type(), map);
  }
}

template <auto kMake, TypeSet kSet = kFloatTypes>
constexpr OpDef Activation(absl::string_view name, int since,
                           QuantBehavior quant = QuantBehavior::kFloatOnly) {
  return {.name = name,
          .since_opset = since,
          .infer = InferLikeInput,
          .eval = WidenedNumbers<EvalUnary<kMake, kSet>>,
          .types = kSet,
          .quant = quant,
          .tolerance = (kSet & kFloatTypes) == 0 ? kExact : kRounding};
}

// For operators without attributes.
template <auto kFunction>
constexpr auto kPlain = [](const Attributes&) { return kFunction; };

template <auto kFunction, TypeSet kSet = kFloatTypes>
constexpr OpDef Unary(absl::string_view name, int since,
                      QuantBehavior quant = QuantBehavior::kFloatOnly) {
  return Activation<kPlain<kFunction>, kSet>(name, since, quant);
}

// x > 0 ? x : negative(x), with NaN kept.
template <typename T, typename F>
T Positive(T x, F negative) {
  return x > T{0} ? x : negative(x);
}

template <typename T>
T Sigmoid(T x) {
  return T{1} / (T{1} + std::exp(-x));
}

// log(1 + exp(x)) without overflow.
template <typename T>
T Softplus(T x) {
  return std::max(x, T{0}) + std::log1p(std::exp(-std::abs(x)));
}

template <typename T>
T Negate(T x) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(-static_cast<std::make_unsigned_t<T>>(x));  // wraps at the minimum
  } else {
    return -x;
  }
}

constexpr auto kAbs = [](auto x) { return x < decltype(x){0} ? Negate(x) : x; };
constexpr auto kAbsFloat = [](auto x) {
  if constexpr (std::is_floating_point_v<decltype(x)>) {
    return std::abs(x);
  } else {
    return kAbs(x);
  }
};
constexpr auto kSign = [](auto x) {
  using T = decltype(x);
  return x > T{0} ? T{1} : x < T{0} ? static_cast<T>(-1) : x;  // keeps 0 and NaN
};

constexpr auto kMakeElu = [](const Attributes& a) {
  return [alpha = a.Float("alpha", 1.0f)]<typename T>(T x) {
    return Positive(x, [&](T n) { return static_cast<T>(alpha) * std::expm1(n); });
  };
};
constexpr auto kMakeCelu = [](const Attributes& a) {
  return [alpha = a.Float("alpha", 1.0f)]<typename T>(T x) {
    return Positive(x, [&](T n) { return alpha * std::expm1(n / alpha); });
  };
};
constexpr auto kMakeSelu = [](const Attributes& a) {
  return [alpha = a.Float("alpha", 1.67326319217681884765625f),
          gamma = a.Float("gamma", 1.05070102214813232421875f)]<typename T>(T x) {
    return gamma * Positive(x, [&](T n) { return alpha * std::expm1(n); });
  };
};
constexpr auto kMakeLeakyRelu = [](const Attributes& a) {
  return [alpha = a.Float("alpha", 0.01f)]<typename T>(T x) {
    return x < T{0} ? static_cast<T>(alpha * x) : x;
  };
};
constexpr auto kMakeThresholdedRelu = [](const Attributes& a) {
  return [alpha = a.Float("alpha", 1.0f)]<typename T>(T x) { return x > alpha ? x : T{0}; };
};
constexpr auto kMakeHardSigmoid = [](const Attributes& a) {
  return [alpha = a.Float("alpha", 0.2f), beta = a.Float("beta", 0.5f)]<typename T>(T x) {
    return std::max(T{0}, std::min(T{1}, static_cast<T>(alpha * x + beta)));
  };
};
constexpr auto kHardSwish = []<typename T>(T x) {
  return x * std::max(T{0}, std::min(T{1}, x / T{6} + T{0.5}));
};
constexpr auto kMakeGelu = [](const Attributes& a) {
  return [tanh = a.String("approximate", "none") == "tanh"]<typename T>(T x) {
    if (tanh) {
      constexpr T k = T{0.7978845608028654};  // sqrt(2 / pi)
      return T{0.5} * x * (T{1} + std::tanh(k * (x + T{0.044715} * x * x * x)));
    }
    return T{0.5} * x * (T{1} + std::erf(x / std::numbers::sqrt2_v<T>));
  };
};
constexpr auto kMakeShrink = [](const Attributes& a) {
  return [bias = a.Float("bias", 0.0f), lambd = a.Float("lambd", 0.5f)]<typename T>(T x) -> T {
    const auto plus = [x](float by) {
      if constexpr (std::is_integral_v<T>) return Saturate<T>(static_cast<double>(x) + by);
      return static_cast<T>(x + by);
    };
    if (static_cast<float>(x) < -lambd) return plus(bias);
    if (static_cast<float>(x) > lambd) return plus(-bias);
    return T{0};
  };
};

absl::Status InferPredicate(InferContext& c) {
  c.set_output(0, DataType::kBool, c.input(0).shape);
  return absl::OkStatus();
}

// kMake(attributes) returns the predicate.
template <auto kMake>
absl::Status EvalPredicate(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const auto y = out->mutable_data<bool>();
  return DispatchFloat(c, c.input(0).type(), [&](auto tag) {
    const auto f = kMake(c.attributes());
    const auto x = c.input(0).data<decltype(tag)>();
    for (size_t i = 0; i < x.size(); ++i) y[i] = f(x[i]);
  });
}

template <auto kMake>
constexpr OpDef Predicate(absl::string_view name, int since) {
  return ExactRow(name, since, {1, 1}, InferPredicate, Widened<EvalPredicate<kMake>>,
                  kFloatTypes | kFloat8Types);
}

constexpr auto kMakeIsInf = [](const Attributes& a) {
  return [positive = a.Int("detect_positive", 1) != 0, negative = a.Int("detect_negative", 1) != 0](
             auto x) { return std::isinf(x) && (x > 0 ? positive : negative); };
};

absl::Status EvalNot(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const auto x = c.input(0).data<bool>();
  const auto y = out->mutable_data<bool>();
  for (size_t i = 0; i < x.size(); ++i) y[i] = !x[i];
  return absl::OkStatus();
}

constexpr auto kBehaves = QuantBehavior::kElementwiseInt8;
constexpr TypeSet kSignedNumbers = kFloatTypes | kSignedInts;

// Only integers reach it; the other types exist for the template's sake.
template <typename T>
T Complement(T x) {
  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    return static_cast<T>(~x);
  } else {
    return x;
  }
}

constexpr std::array kRows = {
    Unary<kAbsFloat, kNumericTypes>("Abs", 6),
    Unary<[](auto x) { return Negate(x); }, kSignedNumbers>("Neg", 6),
    Unary<kSign, kNumericTypes>("Sign", 9),
    Unary<[](auto x) { return x < decltype(x){0} ? decltype(x){0} : x; }, kSignedNumbers>("Relu", 6,
                                                                                          kBehaves),
    Unary<[](auto x) { return Complement(x); }, kIntTypes>("BitwiseNot", 18),
    Unary<[](auto x) { return std::floor(x); }>("Floor", 6),
    Unary<[](auto x) { return std::ceil(x); }>("Ceil", 6),
    Unary<[](auto x) { return std::nearbyint(x); }>("Round", 11),
    Unary<[](auto x) { return std::sqrt(x); }>("Sqrt", 6),
    Unary<[](auto x) { return decltype(x){1} / x; }>("Reciprocal", 6),
    Unary<[](auto x) { return std::exp(x); }>("Exp", 6),
    Unary<[](auto x) { return std::log(x); }>("Log", 6),
    Unary<[](auto x) { return std::erf(x); }, kNumericTypes>("Erf", 9),
    Unary<[](auto x) { return std::sin(x); }>("Sin", 7),
    Unary<[](auto x) { return std::cos(x); }>("Cos", 7),
    Unary<[](auto x) { return std::tan(x); }>("Tan", 7),
    Unary<[](auto x) { return std::asin(x); }>("Asin", 7),
    Unary<[](auto x) { return std::acos(x); }>("Acos", 7),
    Unary<[](auto x) { return std::atan(x); }>("Atan", 7),
    Unary<[](auto x) { return std::sinh(x); }>("Sinh", 9),
    Unary<[](auto x) { return std::cosh(x); }>("Cosh", 9),
    Unary<[](auto x) { return std::asinh(x); }>("Asinh", 9),
    Unary<[](auto x) { return std::acosh(x); }>("Acosh", 9),
    Unary<[](auto x) { return std::atanh(x); }>("Atanh", 9),
    Unary<[](auto x) { return std::tanh(x); }>("Tanh", 6, kBehaves),
    Unary<[](auto x) { return Sigmoid(x); }>("Sigmoid", 6, kBehaves),
    Unary<[](auto x) { return Softplus(x); }>("Softplus", 1),
    Unary<[](auto x) { return x / (decltype(x){1} + std::abs(x)); }>("Softsign", 1),
    Unary<[](auto x) { return x * std::tanh(Softplus(x)); }>("Mish", 18),
    Unary<kHardSwish>("HardSwish", 14, kBehaves),
    Activation<kMakeElu>("Elu", 6),
    Activation<kMakeCelu>("Celu", 12),
    Activation<kMakeSelu>("Selu", 6),
    Activation<kMakeLeakyRelu>("LeakyRelu", 6, kBehaves),
    Activation<kMakeThresholdedRelu>("ThresholdedRelu", 10),
    Activation<kMakeHardSigmoid>("HardSigmoid", 6, kBehaves),
    Activation<kMakeGelu>("Gelu", 20, kBehaves),
    Activation<kMakeShrink, kNumericTypes>("Shrink", 9),
    Predicate<kPlain<[](auto x) { return std::isnan(x); }>>("IsNaN", 9),
    Predicate<kMakeIsInf>("IsInf", 10),
    ExactRow("Not", 1, {1, 1}, InferLikeInput, EvalNot, kBoolType),
};

}  // namespace

absl::Span<const OpDef> UnaryOps() { return kRows; }

}  // namespace halftone
