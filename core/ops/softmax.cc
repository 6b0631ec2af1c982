// Softmax, LogSoftmax, Hardmax.
#include <array>
#include <cmath>

#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"

namespace halftone {
namespace {

// Before opset 13 everything from `axis` on is one axis, and the default is 1.
int64_t DefaultAxis(int opset) { return opset < 13 ? 1 : -1; }

absl::Status InferSoftmax(InferContext& c) {
  if (c.input(0).shape.has_value()) {
    const int64_t rank = static_cast<int64_t>(c.input(0).shape->size());
    const int64_t axis = c.attributes().Int("axis", DefaultAxis(c.opset()));
    // The coerced form allows axis = rank: rows of one element.
    if (c.opset() >= 13 || axis != rank) HT_RETURN_IF_ERROR(NormalizeAxis(c, axis, rank).status());
  }
  return InferLikeInput(c);
}

// kRow(x, y, count, stride) computes one row.
template <auto kRow>
absl::Status EvalSoftmax(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Tensor& x = c.input(0);
  const int64_t rank = x.rank();
  const int64_t axis = Axis(c.attributes().Int("axis", DefaultAxis(c.opset())), rank);
  const bool coerced = c.opset() < 13;
  const int64_t outer = DimProduct(x.shape(), 0, axis);
  const int64_t count = coerced ? DimProduct(x.shape(), axis, rank) : x.dim(axis);
  const int64_t inner = coerced ? 1 : DimProduct(x.shape(), axis + 1, rank);
  if (x.num_elements() == 0) return absl::OkStatus();
  return DispatchFloat(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    for (int64_t i = 0; i < outer * inner; ++i) {
      const int64_t start = i / inner * count * inner + i % inner;
      kRow(Raw<T>(x) + start, MutableRaw<T>(*out) + start, count, inner);
    }
  });
}

template <typename T>
T RowMax(const T* x, int64_t count, int64_t stride) {
  T top = x[0];
  for (int64_t j = 1; j < count; ++j) top = std::max(top, x[j * stride]);
  return top;
}

constexpr auto kSoftmax = []<typename T>(const T* x, T* y, int64_t count, int64_t stride) {
  const T top = RowMax(x, count, stride);
  double sum = 0;
  for (int64_t j = 0; j < count; ++j) {
    y[j * stride] = std::exp(x[j * stride] - top);
    sum += y[j * stride];
  }
  for (int64_t j = 0; j < count; ++j) y[j * stride] = static_cast<T>(y[j * stride] / sum);
};

constexpr auto kLogSoftmax = []<typename T>(const T* x, T* y, int64_t count, int64_t stride) {
  const T top = RowMax(x, count, stride);
  double sum = 0;
  for (int64_t j = 0; j < count; ++j) sum += std::exp(x[j * stride] - top);
  const double shift = std::log(sum);
  for (int64_t j = 0; j < count; ++j) y[j * stride] = static_cast<T>(x[j * stride] - top - shift);
};

constexpr auto kHardmax = []<typename T>(const T* x, T* y, int64_t count, int64_t stride) {
  int64_t best = 0;
  for (int64_t j = 1; j < count; ++j) {
    if (x[j * stride] > x[best * stride]) best = j;
  }
  for (int64_t j = 0; j < count; ++j) y[j * stride] = j == best ? T{1} : T{0};
};

template <auto kRow>
constexpr OpDef Softmax(absl::string_view name, int since) {
  return {.name = name,
          .since_opset = since,
          .infer = InferSoftmax,
          .eval = Widened<EvalSoftmax<kRow>>,
          .types = kFloatTypes,
          .tolerance = kAccumulate};
}

constexpr std::array kRows = {
    Softmax<kSoftmax>("Softmax", 1),       Softmax<kSoftmax>("Softmax", 13),
    Softmax<kLogSoftmax>("LogSoftmax", 1), Softmax<kLogSoftmax>("LogSoftmax", 13),
    Softmax<kHardmax>("Hardmax", 1),       Softmax<kHardmax>("Hardmax", 13),
};

}  // namespace

absl::Span<const OpDef> SoftmaxOps() { return kRows; }

}  // namespace halftone
