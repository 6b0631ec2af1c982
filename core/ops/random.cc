// Random operators. Without a seed a node still gives the same numbers in every evaluation.
#include "core/ops/random.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numbers>

#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"

namespace halftone {

bool IsRandom(const Node& node) {
  constexpr std::array<absl::string_view, 6> kRandom = {"RandomNormal",  "RandomNormalLike",
                                                        "RandomUniform", "RandomUniformLike",
                                                        "Multinomial",   "Bernoulli"};
  if (node.domain().empty()) {
    if (std::find(kRandom.begin(), kRandom.end(), node.op()) != kRandom.end()) return true;
    if (node.op() == "Dropout" && node.input(2) != nullptr) return true;  // may be training
  }
  for (const auto& [name, value] : node.attributes().items()) {
    const auto* nested = std::get_if<SubgraphPtr>(&value);
    if (nested == nullptr) continue;
    for (const Node* inner : (*nested)->nodes()) {
      if (IsRandom(*inner)) return true;
    }
  }
  return false;
}

uint32_t SeedOf(const Node& node) {
  if (const auto* seed = node.attributes().Find<int64_t>("seed"); seed != nullptr) {
    return static_cast<uint32_t>(*seed);
  }
  if (const auto* seed = node.attributes().Find<float>("seed"); seed != nullptr) {
    return std::bit_cast<uint32_t>(*seed);
  }
  uint32_t hash = 2166136261u;  // FNV-1a
  for (const char c : node.name()) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
  return hash;
}

double RandomStream::Uniform() {
  const uint32_t high = bits_() >> 5, low = bits_() >> 6;  // 53 bits
  return (high * 67108864.0 + low) / 9007199254740992.0;
}

double RandomStream::Normal() {  // Box-Muller
  const double radius = std::sqrt(-2 * std::log1p(-Uniform()));
  return radius * std::cos(2 * std::numbers::pi * Uniform());
}

namespace {

// The element type that `dtype` names, else `fallback`.
absl::StatusOr<std::optional<DataType>> ResultType(const InferContext& c, TypeSet allowed,
                                                   std::optional<DataType> fallback) {
  if (c.attributes().Has("dtype")) {
    const int64_t code = c.attributes().Int("dtype", 0);
    fallback = code < 0 || code > 1000 ? std::nullopt : DataTypeFromOnnx(static_cast<int>(code));
    if (!fallback.has_value()) return c.Error(absl::StrCat("dtype is ", code));
  }
  if (fallback.has_value() && !Contains(allowed, *fallback)) {
    return c.Error(absl::StrCat("the result would have type ", Name(*fallback)));
  }
  return fallback;
}

absl::Status InferRandom(InferContext& c) {
  HT_ASSIGN_OR_RETURN(const std::optional<DataType> type,
                      ResultType(c, kFloatTypes, DataType::kF32));
  const auto* shape = c.attributes().Find<std::vector<int64_t>>("shape");
  if (shape == nullptr) return c.Error("has no attribute shape");
  for (const int64_t d : *shape) {
    if (d < 0) return c.Error(absl::StrCat("shape is ", ToString(*shape)));
  }
  c.set_output(0, type, Symbolic(*shape));
  return absl::OkStatus();
}

template <TypeSet kAllowed>
absl::Status InferRandomLike(InferContext& c) {
  HT_ASSIGN_OR_RETURN(const std::optional<DataType> type, ResultType(c, kAllowed, c.input(0).type));
  c.set_output(0, type, c.input(0).shape);
  return absl::OkStatus();
}

// Fills output 0 with next(stream, index).
template <typename Next>
absl::Status Fill(EvalContext& c, Next next) {
  HT_RETURN_IF_ERROR(c.Allocate(0).status());  // checks the size
  const Shape shape = c.outputs()[0].shape();
  HT_ASSIGN_OR_RETURN(Tensor values, Tensor::Create(DataType::kF64, shape));
  RandomStream stream(SeedOf(c.node()));
  int64_t i = 0;
  for (double& v : values.mutable_data<double>()) v = next(stream, i++);
  HT_ASSIGN_OR_RETURN(Tensor out, Convert(values, *c.output_types()[0].type));
  c.set_output(0, std::move(out));
  return absl::OkStatus();
}

absl::Status EvalNormal(EvalContext& c) {
  const double mean = c.attributes().Float("mean", 0), scale = c.attributes().Float("scale", 1);
  return Fill(c, [=](RandomStream& s, int64_t) { return mean + scale * s.Normal(); });
}

absl::Status EvalUniform(EvalContext& c) {
  const double low = c.attributes().Float("low", 0), high = c.attributes().Float("high", 1);
  return Fill(c, [=](RandomStream& s, int64_t) { return low + (high - low) * s.Uniform(); });
}

absl::Status EvalBernoulli(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(const Tensor p, Convert(c.input(0), DataType::kF64));
  return Fill(
      c, [&](RandomStream& s, int64_t i) { return s.Uniform() < p.data<double>()[i] ? 1.0 : 0.0; });
}

// --- Multinomial ---------------------------------------------------------------------------------

absl::Status InferMultinomial(InferContext& c) {
  HT_ASSIGN_OR_RETURN(const std::optional<DataType> type,
                      ResultType(c, kIndexTypes, DataType::kI32));
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 2, 2));
  const int64_t samples = c.attributes().Int("sample_size", 1);
  if (samples < 1) return c.Error(absl::StrCat("sample_size is ", samples));
  const SymbolicShape& x = c.input(0).shape;
  c.set_output(0, type, Dims{x.has_value() ? (*x)[0] : Dim(), Dim(samples)});
  return absl::OkStatus();
}

// Rows hold logarithms of weights.
absl::Status EvalMultinomial(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(const Tensor x, Convert(c.input(0), DataType::kF64));
  const int64_t classes = x.dim(1), samples = c.attributes().Int("sample_size", 1);
  if (classes == 0) return c.Error("got no classes");
  std::vector<double> sums(static_cast<size_t>(classes));
  return Fill(c, [&](RandomStream& s, int64_t i) {
    if (i % samples == 0) {
      const auto row = x.data<double>().subspan(i / samples * classes, classes);
      const double top = *std::max_element(row.begin(), row.end());
      double sum = 0;
      for (int64_t k = 0; k < classes; ++k) sums[k] = sum += std::exp(row[k] - top);
    }
    const auto at = std::upper_bound(sums.begin(), sums.end(), s.Uniform() * sums.back());
    return static_cast<double>(std::min<int64_t>(at - sums.begin(), classes - 1));
  });
}

constexpr OpDef Random(absl::string_view name, int since, Arity inputs, InferFn infer, EvalFn eval,
                       TypeSet types = 0) {
  return {.name = name,
          .since_opset = since,
          .inputs = inputs,
          .infer = infer,
          .eval = eval,
          .types = types,
          .tolerance = kRounding};
}

constexpr std::array kRows = {
    Random("RandomNormal", 1, {0, 0}, InferRandom, EvalNormal),
    Random("RandomUniform", 1, {0, 0}, InferRandom, EvalUniform),
    Random("RandomNormalLike", 1, {1, 1}, InferRandomLike<kFloatTypes>, EvalNormal,
           kWholeByteTypes),
    Random("RandomUniformLike", 1, {1, 1}, InferRandomLike<kFloatTypes>, EvalUniform,
           kWholeByteTypes),
    Random("Bernoulli", 15, {1, 1}, InferRandomLike<kWholeByteTypes>, EvalBernoulli, kFloatTypes),
    Random("Multinomial", 7, {1, 1}, InferMultinomial, EvalMultinomial, kFloatTypes),
};

}  // namespace

absl::Span<const OpDef> RandomOps() { return kRows; }

}  // namespace halftone
