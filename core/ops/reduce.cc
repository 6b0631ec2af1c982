// Reductions along axes: sums, norms, extremes, and the positions of extremes.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"
#include "core/ops/known_arguments.h"

namespace halftone {
namespace {

// A reduction adds elements to an accumulator and finishes it. Floats accumulate in double,
// integers in 64 bits (wrapping).
template <typename T>
struct AccOf {
  using type = double;
};
template <typename T>
  requires std::is_integral_v<T>
struct AccOf<T> {
  using type = uint64_t;
};

struct SumRule {
  template <typename A>
  static void Add(A& acc, A x) {
    acc += x;
  }
};
struct Sum : SumRule {};
struct Mean : SumRule {};
struct L1 {
  template <typename A>
  static void Add(A& acc, A x) {
    if constexpr (std::is_integral_v<A>) {
      acc += static_cast<int64_t>(x) < 0 ? A{0} - x : x;
    } else {
      acc += std::abs(x);
    }
  }
};
struct SumSquare {
  template <typename A>
  static void Add(A& acc, A x) {
    acc += x * x;
  }
};
struct L2 : SumSquare {};
struct LogSum : SumRule {};
struct Prod {
  template <typename A>
  static void Add(A& acc, A x) {
    acc *= x;
  }
};

// The reduced value as T from the accumulator over `n` elements.
template <typename Rule, typename T, typename A>
T Finish(A acc, int64_t n) {
  if constexpr (std::is_same_v<Rule, Mean>) {
    if constexpr (std::is_integral_v<T>) {
      return n == 0 ? T{0} : static_cast<T>(static_cast<int64_t>(acc) / n);
    } else {
      return static_cast<T>(acc / static_cast<double>(n));
    }
  } else if constexpr (std::is_same_v<Rule, L2>) {
    return Saturate<T>(std::sqrt(static_cast<double>(acc)));
  } else if constexpr (std::is_same_v<Rule, LogSum>) {
    return Saturate<T>(std::log(static_cast<double>(acc)));
  } else {
    return static_cast<T>(acc);
  }
}

// --- axes ----------------------------------------------------------------------------------------

// ReduceSum takes its axes as an input from opset 13, the others from 18.
bool AxesAreInput(const Node& node, int opset) {
  return opset >= (node.op() == "ReduceSum" ? 13 : 18);
}

template <typename Context>
absl::StatusOr<IntsArgument> AxesOf(const Context& c) {
  if (AxesAreInput(c.node(), c.opset())) return IntsInput(c, 1);
  return IntsAttribute(c.attributes(), "axes");
}

// No axes mean all of them, or none with noop_with_empty_axes.
bool ReducesNothing(const Attributes& a) { return a.Int("noop_with_empty_axes", 0) != 0; }

// One flag per dimension. Requires: axes in [-rank, rank).
std::vector<bool> Flags(const Attributes& a, const Shape& axes, int64_t rank) {
  std::vector<bool> reduced(rank, axes.empty() && !ReducesNothing(a));
  for (const int64_t axis : axes) reduced[Axis(axis, rank)] = true;
  return reduced;
}

absl::Status InferReduce(InferContext& c) {
  const bool keep = c.attributes().Int("keepdims", 1) != 0;
  HT_ASSIGN_OR_RETURN(const IntsArgument axes, AxesOf(c));
  const SymbolicShape& x = c.input(0).shape;
  c.set_output(0, c.input(0).type, std::nullopt);
  if (!x.has_value()) return absl::OkStatus();
  if (!axes.absent() && !axes.known()) {
    if (keep) {
      c.set_output(0, c.input(0).type, Dims(x->size()));
    } else if (axes.size.value_or(0) > 0 && *axes.size <= static_cast<int64_t>(x->size())) {
      c.set_output(0, c.input(0).type, Dims(x->size() - *axes.size));
    }
    return absl::OkStatus();
  }
  const int64_t rank = static_cast<int64_t>(x->size());
  HT_ASSIGN_OR_RETURN(const Shape named, NormalizeAxes(c, axes.values, rank));
  const std::vector<bool> reduced = Flags(c.attributes(), named, rank);
  Dims out;
  for (int64_t i = 0; i < rank; ++i) {
    if (!reduced[i]) {
      out.push_back((*x)[i]);
    } else if (keep) {
      out.push_back(1);
    }
  }
  c.set_output(0, c.input(0).type, std::move(out));
  return absl::OkStatus();
}

// Output strides seen from the input's axes: 0 along reduced ones. And how many elements meet.
struct Reduction {
  Shape strides;
  int64_t count = 1;
  bool nothing = false;  // noop_with_empty_axes: the output is the input, whatever the operator
};
absl::StatusOr<Reduction> ReductionOf(const EvalContext& c) {
  const Shape& shape = c.input(0).shape();
  HT_ASSIGN_OR_RETURN(const IntsArgument axes, AxesOf(c));
  const std::vector<bool> reduced = Flags(c.attributes(), axes.values, c.input(0).rank());
  Reduction out;
  out.nothing = axes.values.empty() && ReducesNothing(c.attributes());
  out.strides.assign(shape.size(), 0);
  int64_t stride = 1;
  for (int i = static_cast<int>(shape.size()) - 1; i >= 0; --i) {
    if (reduced[i]) {
      out.count *= shape[i];
    } else {
      out.strides[i] = stride;
      stride *= shape[i];
    }
  }
  return out;
}

absl::Status CopyInput(EvalContext& c) {
  c.set_output(0, c.input(0));
  return absl::OkStatus();
}

template <typename T, typename Fn>
void ForEachReduced(const Tensor& x, const Reduction& r, Fn fn) {
  const T* from = Raw<T>(x);
  ForEachRow(x.shape(), {r.strides},
             [&](int64_t count, const int64_t* offsets, const int64_t* steps) {
               for (int64_t i = 0; i < count; ++i) fn(offsets[0] + i * steps[0], from[i]);
               from += count;
             });
}

template <typename Rule>
absl::Status EvalReduce(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(const Reduction r, ReductionOf(c));
  if (r.nothing) return CopyInput(c);
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  return DispatchWide(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    using A = AccOf<T>::type;
    constexpr A kInit = std::is_same_v<Rule, Prod> ? A{1} : A{0};
    std::vector<A> acc(static_cast<size_t>(out->num_elements()), kInit);
    ForEachReduced<T>(c.input(0), r,
                      [&](int64_t at, T x) { Rule::Add(acc[at], static_cast<A>(x)); });
    const auto y = out->mutable_data<T>();
    for (size_t i = 0; i < y.size(); ++i) y[i] = Finish<Rule, T>(acc[i], r.count);
  });
}

// The lowest (or highest) value: what an extreme over nothing gives.
template <typename T, bool kMax>
constexpr T Bound() {
  if constexpr (std::is_floating_point_v<T>) {
    return kMax ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::infinity();
  } else {
    return kMax ? std::numeric_limits<T>::lowest() : std::numeric_limits<T>::max();
  }
}

template <bool kMax>
absl::Status EvalWideExtreme(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(const Reduction r, ReductionOf(c));
  if (r.nothing) return CopyInput(c);
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const auto reduce = [&](auto tag) {
    using T = decltype(tag);
    T* y = MutableRaw<T>(*out);
    std::fill(y, y + out->num_elements(), Bound<T, kMax>());
    ForEachReduced<T>(c.input(0), r, [&](int64_t at, T x) {
      if ((kMax ? x > y[at] : x < y[at]) || x != x) y[at] = x;
    });
  };
  if (out->type() != DataType::kBool) return DispatchWide(c, out->type(), reduce);
  reduce(bool{});
  return absl::OkStatus();
}

// Narrow integers compute in i64, but an extreme over nothing is a bound of their own type.
template <bool kMax>
absl::Status EvalReduceExtreme(EvalContext& c) {
  const bool empty = c.input(0).num_elements() == 0;
  if (!empty || !IsInteger(c.input(0).type())) return EvalWidenedNumbers(c, EvalWideExtreme<kMax>);
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  HT_ASSIGN_OR_RETURN(const Tensor bound,
                      Convert(Tensor::Scalar<double>(kMax ? -kInfinity : kInfinity), out->type()));
  return StridedCopy(c, bound, 0, out->shape(), Shape(out->rank(), 0), *out);
}

// log(sum(exp(x))) around the maximum, so that nothing overflows.
absl::Status EvalLogSumExp(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(const Reduction r, ReductionOf(c));
  if (r.nothing) return CopyInput(c);
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  return DispatchWide(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    const size_t n = static_cast<size_t>(out->num_elements());
    std::vector<double> top(n, -std::numeric_limits<double>::infinity()), sum(n, 0);
    ForEachReduced<T>(c.input(0), r, [&](int64_t at, T x) {
      top[at] = std::max(top[at], static_cast<double>(x));
    });
    for (double& t : top) t = std::isfinite(t) ? t : 0;
    ForEachReduced<T>(c.input(0), r, [&](int64_t at, T x) {
      sum[at] += std::exp(static_cast<double>(x) - top[at]);
    });
    for (size_t i = 0; i < n; ++i) MutableRaw<T>(*out)[i] = Saturate<T>(std::log(sum[i]) + top[i]);
  });
}

// --- ArgMax, ArgMin ------------------------------------------------------------------------------

absl::Status InferArg(InferContext& c) {
  SymbolicShape shape = c.input(0).shape;
  if (shape.has_value()) {
    HT_ASSIGN_OR_RETURN(const int64_t axis, NormalizeAxis(c, c.attributes().Int("axis", 0),
                                                          static_cast<int64_t>(shape->size())));
    if ((*shape)[axis].value == 0) return c.Error("got an axis without elements");
    if (c.attributes().Int("keepdims", 1) != 0) {
      (*shape)[axis] = 1;
    } else {
      shape->erase(shape->begin() + axis);
    }
  }
  c.set_output(0, DataType::kI64, std::move(shape));
  return absl::OkStatus();
}

template <bool kMax>
absl::Status EvalArg(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Tensor& x = c.input(0);
  const int64_t axis = Axis(c.attributes().Int("axis", 0), x.rank());
  const bool last = c.attributes().Int("select_last_index", 0) != 0;
  const int64_t size = x.dim(axis), inner = DimProduct(x.shape(), axis + 1, x.rank());
  const auto y = out->mutable_data<int64_t>();
  return DispatchWide(c, x.type(), [&](auto tag) {
    using T = decltype(tag);
    for (int64_t i = 0; i < out->num_elements(); ++i) {
      const T* from = Raw<T>(x) + i / inner * size * inner + i % inner;
      int64_t best = 0;
      for (int64_t j = 1; j < size; ++j) {
        const T a = from[j * inner], b = from[best * inner];
        if ((kMax ? a > b : a < b) || (last && a == b)) best = j;
      }
      y[i] = best;
    }
  });
}

// One row before the axes became an input, one after.
template <EvalFn kEval>
constexpr std::array<OpDef, 2> Reduce(absl::string_view name, int axes_input_since = 18,
                                      TypeSet types = kNumericTypes) {
  OpDef row = {.name = name,
               .since_opset = 1,
               .infer = InferReduce,
               .eval = kEval,
               .types = types,
               .tolerance = kAccumulate};
  OpDef later = row;
  later.since_opset = axes_input_since;
  later.inputs = {1, 2};
  return {row, later};
}

template <bool kMax>
constexpr OpDef Arg(absl::string_view name) {
  return ExactRow(name, 1, {1, 1}, InferArg, WidenedNumbers<EvalArg<kMax>>, kNumericTypes);
}

constexpr std::array kReductions = {
    Reduce<WidenedNumbers<EvalReduce<Sum>>>("ReduceSum", 13),
    Reduce<WidenedNumbers<EvalReduce<Mean>>>("ReduceMean"),
    Reduce<WidenedNumbers<EvalReduce<Prod>>>("ReduceProd"),
    Reduce<WidenedNumbers<EvalReduce<L1>>>("ReduceL1"),
    Reduce<WidenedNumbers<EvalReduce<L2>>>("ReduceL2"),
    Reduce<WidenedNumbers<EvalReduce<SumSquare>>>("ReduceSumSquare"),
    Reduce<WidenedNumbers<EvalReduce<LogSum>>>("ReduceLogSum"),
    Reduce<WidenedNumbers<EvalLogSumExp>>("ReduceLogSumExp"),
    Reduce<EvalReduceExtreme<true>>("ReduceMax", 18, kNumericTypes | kBoolType),
    Reduce<EvalReduceExtreme<false>>("ReduceMin", 18, kNumericTypes | kBoolType),
};

constexpr auto kRows = [] {
  std::array<OpDef, kReductions.size() * 2 + 2> rows{};
  size_t n = 0;
  for (const auto& pair : kReductions) {
    for (const OpDef& row : pair) rows[n++] = row;
  }
  rows[n++] = Arg<true>("ArgMax");
  rows[n++] = Arg<false>("ArgMin");
  return rows;
}();

}  // namespace

absl::Span<const OpDef> ReduceOps() { return kRows; }

absl::StatusOr<std::optional<std::vector<bool>>> ReducedDimensions(const InferContext& c,
                                                                   const Shape& shape) {
  const int64_t rank = static_cast<int64_t>(shape.size());
  HT_ASSIGN_OR_RETURN(const IntsArgument axes, AxesOf(c));
  if (!axes.absent() && !axes.known()) return std::optional<std::vector<bool>>();
  HT_ASSIGN_OR_RETURN(const Shape named, NormalizeAxes(c, axes.values, rank));
  return std::optional(Flags(c.attributes(), named, rank));
}

}  // namespace halftone
