#include "core/ops/eval_budget.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/checked_math.h"

namespace halftone {
namespace {

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

thread_local EvalBudget left = {kUnlimited, kUnlimited};
thread_local const StopFn* stop_fn = nullptr;

absl::Status Spend(int64_t& left, int64_t amount, absl::string_view unit) {
  if (left == kUnlimited) return absl::OkStatus();
  if (amount > left) {
    return absl::ResourceExhaustedError(absl::StrCat("this evaluation needs ", amount, " ", unit,
                                                     ", the budget has ", left, " left"));
  }
  left -= amount;
  return absl::OkStatus();
}

int64_t Times(int64_t a, int64_t b) {
  int64_t out = 0;
  return __builtin_mul_overflow(a, b, &out) ? kUnlimited : out;
}

// What the estimates look at.
struct Operands {
  const Node& node;
  absl::Span<const Tensor* const> inputs;
  int64_t in = 0, out = 0;  // elements of all inputs, of all outputs

  const Tensor* input(size_t i) const { return i < inputs.size() ? inputs[i] : nullptr; }
  int64_t elements(size_t i) const { return input(i) == nullptr ? 1 : input(i)->num_elements(); }
  int64_t dim(size_t i, int axis) const {
    const Tensor* t = input(i);
    if (t != nullptr && axis < 0) axis += t->rank();
    return t != nullptr && axis >= 0 && axis < t->rank() ? t->dim(axis) : 1;
  }
};

// Operations per element that is read or written, for operators that do more than move it.
using PerElement = int64_t (*)(const Operands&);
struct WorkRow {
  absl::string_view op;
  PerElement factor;
};

// Each output sums over a filter of one output channel, or each input spreads over one.
int64_t Filter(const Operands& o) { return o.elements(1) / std::max<int64_t>(1, o.dim(1, 0)); }
int64_t QuantizedFilter(const Operands& o) {
  return o.elements(3) / std::max<int64_t>(1, o.dim(3, 0));
}
int64_t Row(const Operands& o) { return std::max(o.dim(0, -1), o.dim(0, -2)); }
int64_t Kernel(const Operands& o) {
  int64_t n = 1;
  for (const int64_t k : o.node.attributes().Ints("kernel_shape")) {
    n = Times(n, std::max<int64_t>(1, k));
  }
  return n;
}
int64_t AllPairs(const Operands& o) {
  int64_t n = 1;
  for (size_t i = 0; i < o.inputs.size(); ++i) n = Times(n, std::max<int64_t>(1, o.elements(i)));
  return n;
}
int64_t Weights(const Operands& o) { return o.elements(1) + o.elements(2); }
int64_t Everything(const Operands& o) { return o.in + o.out; }
// Each sample is interpolated from four elements.
int64_t Samples(const Operands& o) {
  constexpr int64_t kPerSample = 8;
  const int64_t n = std::max<int64_t>(1, o.node.attributes().Int("sampling_ratio", 0));
  return Times(kPerSample, std::max(Times(n, n), o.dim(0, -1) * o.dim(0, -2)));
}
int64_t Window(const Operands& o) {
  return std::max<int64_t>(1, o.node.attributes().Int("size", 1));
}

// What is not listed takes time in proportion to its elements.
constexpr WorkRow kSuperlinear[] = {
    {"Conv", Filter},
    {"ConvInteger", Filter},
    {"ConvTranspose", Filter},
    {"DeformConv", Filter},
    {"QLinearConv", QuantizedFilter},
    {"FusedConv", Filter},
    {"MatMul", Row},
    {"MatMulNBits", Row},
    {"MatMulInteger", Row},
    {"QLinearMatMul", Row},
    {"Gemm", Row},
    {"FusedMatMul", Row},
    {"Det", Row},
    {"MaxPool", Kernel},
    {"AveragePool", Kernel},
    {"LpPool", Kernel},
    {"Einsum", AllPairs},
    {"RNN", Weights},
    {"GRU", Weights},
    {"LSTM", Weights},
    {"NonMaxSuppression", Everything},
    {"DFT", Everything},
    {"STFT", Everything},
    {"Attention", Everything},
    {"MultiHeadAttention", Everything},
    {"RoiAlign", Samples},
    {"MaxRoiPool", Samples},
    {"LRN", Window},
    {"Resize", Everything},
    {"Upsample", Everything},
};

}  // namespace

ScopedEvalBudget::ScopedEvalBudget(const EvalBudget& budget)
    : outer_left_(left),
      granted_{std::min(budget.work, left.work), std::min(budget.bytes, left.bytes)} {
  left = granted_;
}

ScopedEvalBudget::~ScopedEvalBudget() {
  const auto rest = [](int64_t outer, int64_t granted, int64_t now) {
    return outer == kUnlimited ? kUnlimited : outer - (granted - now);
  };
  left = {rest(outer_left_.work, granted_.work, left.work),
          rest(outer_left_.bytes, granted_.bytes, left.bytes)};
}

ScopedEvalStop::ScopedEvalStop(const StopFn& stop) : outer_(stop_fn) {
  if (stop) stop_fn = &stop;
}

ScopedEvalStop::~ScopedEvalStop() { stop_fn = outer_; }

absl::Status SpendWork(int64_t work) {
  if (stop_fn != nullptr) {
    if (absl::Status s = (*stop_fn)(); !s.ok()) return s;
  }
  return Spend(left.work, work, "operations");
}
absl::Status SpendBytes(int64_t bytes) { return Spend(left.bytes, bytes, "bytes"); }

int64_t EstimateWork(const Node& node, absl::Span<const Tensor* const> inputs,
                     absl::Span<const ValueType> output_types) {
  Operands operands{node, inputs};
  for (const Tensor* t : inputs) {
    if (t != nullptr) operands.in += t->num_elements();
  }
  for (const ValueType& type : output_types) {
    const std::optional<Shape> shape = Concrete(type.shape);
    const absl::StatusOr<int64_t> count = NumElements(shape.value_or(Shape{0}));
    if (!count.ok() || __builtin_add_overflow(operands.out, *count, &operands.out)) {
      return kUnlimited;
    }
  }
  int64_t work = operands.in + operands.out;
  for (const WorkRow& row : kSuperlinear) {
    if (node.op() == row.op) work = Times(work, std::max<int64_t>(1, row.factor(operands)));
  }
  return work > kUnlimited - kWorkPerNode ? kUnlimited : work + kWorkPerNode;
}

}  // namespace halftone
