// Losses: NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"

namespace halftone {
namespace {

// Inputs: scores [N, C, …], classes [N, …], weights [C].
absl::Status InferLoss(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, kIndexTypes));
  HT_RETURN_IF_ERROR(CheckSameType(c, 0, 2));
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 2, 64));
  HT_RETURN_IF_ERROR(CheckRank(c, 1, 1, 63));
  const std::string reduction = c.attributes().String("reduction", "mean");
  if (reduction != "none" && reduction != "sum" && reduction != "mean") {
    return c.Error(absl::StrCat("reduction is '", reduction, "', want none, sum or mean"));
  }
  SymbolicShape loss = c.input(1).shape;
  if (const SymbolicShape& x = c.input(0).shape; x.has_value()) {
    HT_RETURN_IF_ERROR(CheckVector(c, 2, (*x)[1]));
    Dims want = *x;
    want.erase(want.begin() + 1);
    if (loss.has_value()) {
      if (loss->size() != want.size()) {
        return c.Error(
            absl::StrCat("classes have rank ", loss->size(), " for scores of rank ", x->size()));
      }
      for (size_t i = 0; i < want.size(); ++i) {
        HT_ASSIGN_OR_RETURN((*loss)[i], Unify(c, (*loss)[i], want[i]));
      }
    } else {
      loss = want;
    }
  }
  if (reduction != "none") loss = Dims();
  c.set_output(0, c.input(0).type, std::move(loss));
  c.set_output(1, c.input(0).type, c.input(0).shape);
  return absl::OkStatus();
}

// Writes the loss of log probabilities [N, C, plane] to output 0.
template <typename T>
absl::Status WriteLoss(EvalContext& c, const T* log_probability) {
  const Tensor& x = c.input(0);
  const int64_t classes = x.dim(1), plane = DimProduct(x.shape(), 2, x.rank());
  const auto* ignored = c.attributes().Find<int64_t>("ignore_index");
  const std::string reduction = c.attributes().String("reduction", "mean");
  HT_ASSIGN_OR_RETURN(const Shape targets, ToInt64s(c.input(1)));
  T* to = MutableRaw<T>(c.outputs()[0]);
  double sum = 0, weights = 0;
  for (int64_t i = 0; i < static_cast<int64_t>(targets.size()); ++i) {
    const int64_t k = targets[i];
    double loss = 0, weight = 0;
    if (ignored == nullptr || k != *ignored) {
      if (k < 0 || k >= classes) return c.Error(absl::StrCat("got class ", k, " of ", classes));
      weight = c.has_input(2) ? static_cast<double>(Raw<T>(c.input(2))[k]) : 1;
      const int64_t at = (i / plane * classes + k) * plane + i % plane;
      loss = -weight * static_cast<double>(log_probability[at]);
    }
    if (reduction == "none") to[i] = static_cast<T>(loss);
    sum += loss;
    weights += weight;
  }
  if (reduction != "none") *to = static_cast<T>(reduction == "sum" ? sum : sum / weights);
  return absl::OkStatus();
}

absl::Status EvalNegativeLogLikelihood(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  absl::Status status;
  HT_RETURN_IF_ERROR(DispatchFloat(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    status = WriteLoss<T>(c, Raw<T>(c.input(0)));
  }));
  return status;
}

template <typename T>
std::vector<T> LogSoftmax(const Tensor& x) {
  const int64_t classes = x.dim(1), plane = DimProduct(x.shape(), 2, x.rank());
  const T* from = Raw<T>(x);
  std::vector<T> out(static_cast<size_t>(x.num_elements()));
  for (int64_t i = 0; i < x.dim(0) * plane && classes > 0; ++i) {
    const int64_t start = i / plane * classes * plane + i % plane;
    double top = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t k = 0; k < classes; ++k) {
      top = std::max(top, static_cast<double>(from[start + k * plane]));
    }
    for (int64_t k = 0; k < classes; ++k) {
      sum += std::exp(static_cast<double>(from[start + k * plane]) - top);
    }
    for (int64_t k = 0; k < classes; ++k) {
      const double value = static_cast<double>(from[start + k * plane]);
      out[start + k * plane] = static_cast<T>(value - top - std::log(sum));
    }
  }
  return out;
}

absl::Status EvalSoftmaxCrossEntropy(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const DataType type = out->type();
  if (c.has_output(1)) HT_RETURN_IF_ERROR(c.Allocate(1).status());
  absl::Status status;
  HT_RETURN_IF_ERROR(DispatchFloat(c, type, [&](auto tag) {
    using T = decltype(tag);
    const std::vector<T> log_probability = LogSoftmax<T>(c.input(0));
    status = WriteLoss<T>(c, log_probability.data());
    if (!c.has_output(1)) return;
    std::copy(log_probability.begin(), log_probability.end(), MutableRaw<T>(c.outputs()[1]));
  }));
  return status;
}

constexpr OpDef Loss(absl::string_view name, Arity outputs, EvalFn eval) {
  return {.name = name,
          .since_opset = 12,
          .inputs = {2, 3},
          .outputs = outputs,
          .infer = InferLoss,
          .eval = eval,
          .types = kFloatTypes,
          .tolerance = kAccumulate};
}

constexpr std::array kRows = {
    Loss("NegativeLogLikelihoodLoss", {1, 1}, Widened<EvalNegativeLogLikelihood>),
    Loss("SoftmaxCrossEntropyLoss", {1, 2}, Widened<EvalSoftmaxCrossEntropy>),
};

}  // namespace

absl::Span<const OpDef> LossOps() { return kRows; }

}  // namespace halftone
