#include <map>
#include <random>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/variant/build_variant.h"

namespace halftone {
namespace {

constexpr int64_t kUnknownDim = 64;

Shape ConcreteShape(const Dims& dims, std::map<std::string, int64_t>& symbols) {
  Shape shape;
  for (size_t i = 0; i < dims.size(); ++i) {
    const int64_t guess = i == 0 ? 1 : kUnknownDim;
    if (dims[i].known()) {
      shape.push_back(dims[i].value);
    } else if (dims[i].symbol.empty()) {
      shape.push_back(guess);
    } else {
      shape.push_back(symbols.emplace(dims[i].symbol, guess).first->second);
    }
  }
  return shape;
}

// The sum of twelve uniform numbers has mean 6 and variance 1; unlike std::normal_distribution it
// is the same with every standard library.
float NearlyNormal(std::mt19937& rng) {
  double sum = 0;
  for (int i = 0; i < 12; ++i) sum += static_cast<double>(rng()) / 4294967296.0;
  return static_cast<float>(sum - 6);
}

absl::StatusOr<Tensor> RandomTensor(const TensorSignature& input, const Shape& shape,
                                    std::mt19937& rng) {
  HT_ASSIGN_OR_RETURN(Tensor t, Tensor::Create(DataType::kF32, shape));
  const bool real = IsFloat(input.type);
  const unsigned values = input.type == DataType::kBool ? 2 : 4;
  for (float& v : t.mutable_data<float>()) {
    v = real ? NearlyNormal(rng) : static_cast<float>(rng() % values);
  }
  return input.type == DataType::kF32 ? t : Convert(t, input.type);
}

}  // namespace

absl::StatusOr<SampleSet> GenerateSamples(const Signature& signature, int count) {
  SampleSet set;
  std::mt19937 rng(1);
  for (int i = 0; i < count; ++i) {
    std::map<std::string, int64_t> symbols;
    std::vector<Tensor>& sample = set.samples.emplace_back();
    for (const TensorSignature& input : signature.inputs) {
      absl::StatusOr<Tensor> t = RandomTensor(input, ConcreteShape(input.shape, symbols), rng);
      if (!t.ok()) {
        return Annotate(t.status(), absl::StrCat("generated sample for input '", input.name, "'"));
      }
      sample.push_back(*std::move(t));
    }
  }
  return set;
}

}  // namespace halftone
