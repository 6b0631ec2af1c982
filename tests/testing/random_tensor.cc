#include "tests/testing/random_tensor.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace halftone {

Tensor RandomF32(absl::Span<const int64_t> shape, uint32_t seed, float low, float high) {
  Tensor t = *Tensor::Create(DataType::kF32, shape);
  std::mt19937 rng(seed);
  std::uniform_real_distribution<float> uniform(low, high);
  for (float& x : t.mutable_data<float>()) x = uniform(rng);
  return t;
}

Tensor RandomInts(DataType type, absl::Span<const int64_t> shape, uint32_t seed, int low,
                  int high) {
  Tensor t = *Tensor::Create(type, shape);
  std::mt19937 rng(seed);
  std::uniform_int_distribution<int> uniform(low, high);
  for (int64_t i = 0; i < t.num_elements(); ++i) {
    t.mutable_raw()[i] = static_cast<std::byte>(uniform(rng));
  }
  return t;
}

double Disagreement(const Tensor& got, const Tensor& want, Tolerance tolerance) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (got.type() != want.type() || got.shape() != want.shape()) return kInfinity;
  const absl::StatusOr<Tensor> g = Convert(got, DataType::kF64);
  const absl::StatusOr<Tensor> w = Convert(want, DataType::kF64);
  if (!g.ok() || !w.ok()) return kInfinity;
  const auto a = g->data<double>(), b = w->data<double>();
  double largest = 0, worst = 0;
  for (double x : b) {
    if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
  }
  const double allowed = tolerance.absolute + tolerance.relative * largest;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    if (a[i] == b[i]) continue;
    const double error = std::abs(a[i] - b[i]);
    if (!std::isfinite(error)) return kInfinity;
    worst = std::max(worst, allowed > 0 ? error / allowed : kInfinity);
  }
  return worst;
}

}  // namespace halftone
