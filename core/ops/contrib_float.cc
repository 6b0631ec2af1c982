// Float operators that ONNX Runtime's optimizer writes: activations, normalisations, fused products
// and convolutions.
#include <algorithm>
#include <array>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/ops/composite.h"

namespace halftone {
namespace {

// --- activations ---------------------------------------------------------------------------------

Value* PlusOptional(Body& b, Value* x, Value* y) { return y == nullptr ? x : b.Op("Add", {x, y}); }

absl::StatusOr<Outputs> Gelu(Body& b) { return Outputs{b.Op("Gelu", {b.in(0)})}; }

absl::StatusOr<Outputs> BiasGelu(Body& b) {
  return Outputs{b.Op("Gelu", {b.Op("Add", {b.in(0), b.in(1)})})};
}

absl::StatusOr<Outputs> FastGelu(Body& b) {
  return Outputs{
      b.Op("Gelu", {PlusOptional(b, b.in(0), b.in(1))}, {{"approximate", std::string("tanh")}})};
}

absl::StatusOr<Outputs> QuickGelu(Body& b) {
  Value* alpha = b.Number(b.attributes().Float("alpha", 1.702f), b.type(0));
  return Outputs{b.Op("Mul", {b.in(0), b.Op("Sigmoid", {b.Op("Mul", {b.in(0), alpha})})})};
}

// An activation that a fused operator names; its parameters come as attributes.
struct Activation {
  absl::string_view name;
  std::array<absl::string_view, 2> parameters = {};
};
constexpr std::array kActivations = {
    Activation{"Relu"},
    Activation{"Sigmoid"},
    Activation{"Tanh"},
    Activation{"Softplus"},
    Activation{"Softsign"},
    Activation{"HardSwish"},
    Activation{"Elu", {"alpha"}},
    Activation{"LeakyRelu", {"alpha"}},
    Activation{"ThresholdedRelu", {"alpha"}},
    Activation{"HardSigmoid", {"alpha", "beta"}},
    Activation{"Selu", {"alpha", "gamma"}},
};

absl::StatusOr<Activation> FindActivation(Body& b) {
  const std::string name = b.attributes().String("activation", "");
  for (const Activation& a : kActivations) {
    if (a.name == name) return a;
  }
  return b.Unsupported(absl::StrCat("activation is '", name, "'"));
}

// --- normalisation -------------------------------------------------------------------------------

Attributes EpsilonOr(const Body& b, float fallback) {
  return {{"axis", int64_t{-1}}, {"epsilon", b.attributes().Float("epsilon", fallback)}};
}

// x / √(mean(x²) + ε) · scale over the axes from `axis` on, and the factor; in f32 for half floats.
Outputs RootMeanSquareNorm(Body& b, Value* x, Value* scale, int64_t axis, float epsilon) {
  const DataType type = b.type(0);
  const bool half = BitWidth(type) < 32;
  Value* wide = half ? b.Cast(x, DataType::kF32) : x;
  Value* axes = b.Ints({-1});
  if (axis < -1 || (axis >= 0 && axis != b.rank(0) - 1)) {
    std::vector<int64_t> all;
    for (int64_t i = axis < 0 ? axis + b.rank(0) : axis; i < b.rank(0); ++i) all.push_back(i);
    axes = b.Constant(Tensor::Of<int64_t>({static_cast<int64_t>(all.size())}, all));
  }
  Value* mean = b.Op("ReduceMean", {b.Op("Mul", {wide, wide}), axes});
  Value* small = b.Number(epsilon, half ? DataType::kF32 : type);
  Value* factor = b.Op("Reciprocal", {b.Op("Sqrt", {b.Op("Add", {mean, small})})});
  Value* y = b.Op("Mul", {wide, factor});
  return {b.Op("Mul", {half ? b.Cast(y, type) : y, scale}), factor};
}

absl::StatusOr<Outputs> SimplifiedLayerNorm(Body& b) {
  const int64_t axis = b.attributes().Int("axis", -1);
  if (axis < -b.rank(0) || axis >= b.rank(0)) {
    return b.Error(absl::StrCat("axis ", axis, " is outside of rank ", b.rank(0)));
  }
  return RootMeanSquareNorm(b, b.in(0), b.in(1), axis, b.attributes().Float("epsilon", 1e-5f));
}

// (input, skip, gamma, beta?, bias?) → (y, mean, 1/deviation, input + skip + bias)
absl::StatusOr<Outputs> SkipLayerNorm(Body& b) {
  Value* sum = PlusOptional(b, b.Op("Add", {b.in(0), b.in(1)}), b.in(4));
  // Kernels want the node without the outputs that nobody reads.
  Outputs out = b.Op("LayerNormalization", {sum, b.in(2), b.in(3)}, EpsilonOr(b, 1e-12f),
                     b.wants(1) || b.wants(2) ? 3 : 1);
  out.resize(3);
  out.push_back(sum);
  return out;
}

// (input, skip, gamma, bias?) → (y, _, 1/root mean square, input + skip + bias)
absl::StatusOr<Outputs> SkipSimplifiedLayerNorm(Body& b) {
  Value* sum = PlusOptional(b, b.Op("Add", {b.in(0), b.in(1)}), b.in(3));
  const Outputs y =
      RootMeanSquareNorm(b, sum, b.in(2), -1, b.attributes().Float("epsilon", 1e-12f));
  return Outputs{y[0], nullptr, y[1], sum};
}

// Sums of rows of tables, normalised: inputs (ids, segment ids?, words, positions, segments?,
// gamma, beta, mask?) → (y, tokens that the mask keeps, the sum). `widen` turns what came from
// input i, one of 2 to 6, into float.
absl::StatusOr<Outputs> Embed(Body& b, Value* position_ids,
                              absl::FunctionRef<Value*(Value*, int)> widen) {
  HT_RETURN_IF_ERROR(b.Require({2, 3, 5, 6}));
  if (b.rank(0) != 2) return b.Error(absl::StrCat("input 0 has rank ", b.rank(0), ", want 2"));
  if (b.has(1) != b.has(4)) return b.Error("has one of segment ids and segment embedding");
  const auto rows = [&](int table, Value* ids) {
    return widen(b.Op("Gather", {b.in(table), ids}), table);
  };
  Value* positions =
      position_ids != nullptr
          ? rows(3, position_ids)
          : widen(b.Op("Slice", {b.in(3), b.Ints({0}), b.Size(b.in(0), 1), b.Ints({0})}), 3);
  Value* sum = b.Op("Add", {rows(2, b.in(0)), positions});
  if (b.has(1)) sum = b.Op("Add", {sum, rows(4, b.in(1))});
  Value* y =
      b.Op("LayerNormalization", {sum, widen(b.in(5), 5), widen(b.in(6), 6)}, EpsilonOr(b, 1e-12f));
  if (!b.has(7)) {
    Value* none = b.Op("Expand", {b.Number(0, DataType::kI32), b.Size(b.in(0), 0)});
    return Outputs{y, none, sum};
  }
  Value* is_one = b.Op("Equal", {b.in(7), b.Number(1, b.type(7))});
  Value* kept =
      b.Op("ReduceSum", {b.Cast(is_one, DataType::kI32), b.Ints({1})}, {{"keepdims", int64_t{0}}});
  return Outputs{y, kept, sum};
}

// Position ids are input 8.
absl::StatusOr<Outputs> EmbedLayerNorm(Body& b) {
  return Embed(b, b.in(8), [](Value* v, int) { return v; });
}

// Scales are inputs 8 to 12 and zero points 13 to 17, in the order of the tables.
absl::StatusOr<Outputs> QEmbedLayerNorm(Body& b) {
  HT_RETURN_IF_ERROR(b.Require({8, 9, 11, 12, 13, 14, 16, 17}));
  return Embed(b, nullptr, [&](Value* v, int i) {
    return b.Op("DequantizeLinear", {v, b.in(i + 6), b.in(i + 11)});
  });
}

// --- products and convolutions -------------------------------------------------------------------

// The permutation that brings an operand into the order of MatMul. `batch` says that the rows stand
// in front of the batch axes instead of behind them.
Value* Arranged(Body& b, int i, bool transposed, bool batch) {
  const int rank = b.rank(i);
  if (rank < 2 || (!transposed && !batch)) return b.in(i);
  std::vector<int64_t> perm;
  for (int64_t axis = 0; axis < rank; ++axis) perm.push_back(axis);
  if (batch) std::rotate(perm.begin(), perm.begin() + 1, perm.end() - 1);
  if (transposed) std::swap(perm[rank - 2], perm[rank - 1]);
  return b.Op("Transpose", {b.in(i)}, {{"perm", perm}});
}

absl::StatusOr<Outputs> FusedMatMul(Body& b) {
  const Attributes& a = b.attributes();
  Value* y =
      b.Op("MatMul", {Arranged(b, 0, a.Int("transA", 0) != 0, a.Int("transBatchA", 0) != 0),
                      Arranged(b, 1, a.Int("transB", 0) != 0, a.Int("transBatchB", 0) != 0)});
  const float alpha = a.Float("alpha", 1);
  if (alpha != 1) y = b.Op("Mul", {y, b.Number(alpha, b.type(0))});
  return Outputs{y};
}

absl::StatusOr<Outputs> FusedGemm(Body& b) {
  HT_ASSIGN_OR_RETURN(const Activation activation, FindActivation(b));
  Attributes parameters;
  for (const absl::string_view name : activation.parameters) {
    const auto* value = b.attributes().Find<float>(absl::StrCat("activation_", name));
    if (value != nullptr) parameters.Set(std::string(name), *value);
  }
  Value* y =
      b.Op("Gemm", {b.in(0), b.in(1), b.in(2)}, b.Copied({"alpha", "beta", "transA", "transB"}));
  return Outputs{b.Op(std::string(activation.name), {y}, parameters)};
}

constexpr std::initializer_list<absl::string_view> kConvAttributes = {
    "auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"};

// (x, w, bias?, summand?)
absl::StatusOr<Outputs> FusedConv(Body& b) {
  Value* y = PlusOptional(b, b.Op("Conv", {b.in(0), b.in(1), b.in(2)}, b.Copied(kConvAttributes)),
                          b.in(3));
  if (b.attributes().String("activation", "").empty()) return Outputs{y};
  const auto values = b.attributes().Get<std::vector<float>>("activation_params", {});
  if (b.attributes().String("activation", "") == "Clip") {
    if (values.size() != 2) return b.Error("activation_params of Clip are not two");
    return Outputs{
        b.Op("Clip", {y, b.Number(values[0], b.type(0)), b.Number(values[1], b.type(0))})};
  }
  HT_ASSIGN_OR_RETURN(const Activation activation, FindActivation(b));
  Attributes parameters;
  for (size_t i = 0; i < activation.parameters.size() && i < values.size(); ++i) {
    if (!activation.parameters[i].empty()) {
      parameters.Set(std::string(activation.parameters[i]), values[i]);
    }
  }
  return Outputs{b.Op(std::string(activation.name), {y}, parameters)};
}

constexpr std::array kComposites = {
    Composite{"Gelu", {1, 1}, {1, 1}, Gelu},
    Composite{"BiasGelu", {2, 2}, {1, 1}, BiasGelu},
    Composite{"FastGelu", {1, 2}, {1, 1}, FastGelu},
    Composite{"QuickGelu", {1, 1}, {1, 1}, QuickGelu},
    // ONNX Runtime keeps this one in the default domain.
    Composite{"SimplifiedLayerNormalization", {2, 2}, {1, 2}, SimplifiedLayerNorm, ""},
    Composite{"SkipLayerNormalization", {3, 5}, {1, 4}, SkipLayerNorm},
    Composite{"SkipSimplifiedLayerNormalization", {3, 4}, {1, 4}, SkipSimplifiedLayerNorm},
    Composite{"EmbedLayerNormalization", {1, 9}, {1, 3}, EmbedLayerNorm},
    Composite{"QEmbedLayerNormalization", {1, 18}, {1, 3}, QEmbedLayerNorm},
    Composite{"FusedMatMul", {2, 2}, {1, 1}, FusedMatMul},
    Composite{"TransposeMatMul", {2, 2}, {1, 1}, FusedMatMul},
    Composite{"FusedGemm", {2, 3}, {1, 1}, FusedGemm},
    Composite{"FusedConv", {2, 4}, {1, 1}, FusedConv},
};

}  // namespace

absl::Span<const Composite> ContribFloatOps() { return kComposites; }

}  // namespace halftone
