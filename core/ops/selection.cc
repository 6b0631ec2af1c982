// Operators that sort, select, or accumulate along an axis: TopK, Unique, NonZero, CumSum …
#include <algorithm>
#include <array>
#include <numeric>

#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"

namespace halftone {
namespace {

// --- TopK ----------------------------------------------------------------------------------------

absl::Status InferTopK(InferContext& c) {
  Dim k;
  if (c.opset() < 10) {
    k = c.attributes().Int("k", -1);
    if (!k.known()) return c.Error("k is absent or negative");
  } else {
    HT_RETURN_IF_ERROR(CheckOneElement(c, 1));
    HT_ASSIGN_OR_RETURN(const IntsArgument input, IntsInput(c, 1));
    if (input.known()) {
      if (input.values.size() != 1 || input.values[0] < 0) return c.Error("k is negative");
      k = input.values[0];
    }
  }
  SymbolicShape shape = c.input(0).shape;
  if (shape.has_value()) {
    HT_ASSIGN_OR_RETURN(const int64_t axis, NormalizeAxis(c, c.attributes().Int("axis", -1),
                                                          static_cast<int64_t>(shape->size())));
    Dim& d = (*shape)[axis];
    if (d.known() && k.known() && k.value > d.value) {
      return c.Error(absl::StrCat("k is ", k.value, " for an axis of ", d.value));
    }
    d = k;
  }
  c.set_output(0, c.input(0).type, shape);
  c.set_output(1, DataType::kI64, std::move(shape));
  return absl::OkStatus();
}

absl::Status EvalTopK(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * values, c.Allocate(0));
  const Shape shape = values->shape();
  Tensor unused;
  Tensor* indices = &unused;
  HT_ASSIGN_OR_RETURN(unused, Tensor::Create(DataType::kI64, shape));
  if (c.has_output(1)) {
    HT_ASSIGN_OR_RETURN(indices, c.Allocate(1));
  }
  const Tensor& x = c.input(0);
  const int64_t axis = Axis(c.attributes().Int("axis", -1), x.rank());
  const bool largest = c.opset() < 11 || c.attributes().Int("largest", 1) != 0;
  const int64_t size = x.dim(axis), k = shape[axis];
  const int64_t inner = DimProduct(x.shape(), axis + 1, x.rank());
  const int64_t rows = DimProduct(x.shape(), 0, axis) * inner;
  const auto at = indices->mutable_data<int64_t>();
  std::vector<int64_t> order(static_cast<size_t>(size));
  return DispatchWide(c, x.type(), [&](auto tag) {
    using T = decltype(tag);
    T* to = MutableRaw<T>(c.outputs()[0]);
    for (int64_t r = 0; r < rows; ++r) {
      const T* row = Raw<T>(x) + r / inner * size * inner + r % inner;
      std::iota(order.begin(), order.end(), 0);
      // Ties go to the lower index. NaN sorts after every number, so that the order stays strict.
      std::partial_sort(order.begin(), order.begin() + k, order.end(), [&](int64_t i, int64_t j) {
        const T a = row[i * inner], b = row[j * inner];
        const bool nan_a = a != a, nan_b = b != b;
        if (nan_a != nan_b) return nan_b;
        if (!nan_a && a != b) return largest ? a > b : a < b;
        return i < j;
      });
      for (int64_t j = 0; j < k; ++j) {
        const int64_t out = r / inner * k * inner + j * inner + r % inner;
        to[out] = row[order[j] * inner];
        at[out] = order[j];
      }
    }
  });
}

// --- NonZero, Compress ---------------------------------------------------------------------------

absl::Status InferNonZero(InferContext& c) {
  const SymbolicShape& x = c.input(0).shape;
  c.set_output(0, DataType::kI64,
               Dims{x.has_value() ? Dim(static_cast<int64_t>(x->size())) : Dim(), Dim()});
  return absl::OkStatus();
}

absl::Status EvalNonZero(EvalContext& c) {
  const Tensor& x = c.input(0);
  HT_ASSIGN_OR_RETURN(const Tensor flags, Convert(x, DataType::kBool));
  const auto is_set = flags.data<bool>();
  const int64_t count = std::count(is_set.begin(), is_set.end(), true);
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0, DataType::kI64, {x.rank(), count}));
  const auto to = out->mutable_data<int64_t>();
  const Shape strides = RowMajorStrides(x.shape());
  int64_t n = 0;
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    if (!is_set[i]) continue;
    for (int a = 0; a < x.rank(); ++a) to[a * count + n] = i / strides[a] % x.dim(a);
    ++n;
  }
  return absl::OkStatus();
}

absl::Status InferCompress(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, kBoolType));
  HT_RETURN_IF_ERROR(CheckRank(c, 1, 1, 1));
  SymbolicShape shape = Dims(1);
  if (c.attributes().Has("axis")) {
    shape = c.input(0).shape;
    if (shape.has_value()) {
      HT_ASSIGN_OR_RETURN(const int64_t axis, NormalizeAxis(c, c.attributes().Int("axis", 0),
                                                            static_cast<int64_t>(shape->size())));
      (*shape)[axis] = Dim();
    }
  }
  c.set_output(0, c.input(0).type, std::move(shape));
  return absl::OkStatus();
}

absl::Status EvalCompress(EvalContext& c) {
  const bool flat = !c.attributes().Has("axis");
  const Tensor& x = c.input(0);
  Shape shape = flat ? Shape{x.num_elements()} : x.shape();
  const int64_t axis = flat ? 0 : Axis(c.attributes().Int("axis", 0), x.rank());
  const int64_t size = shape[axis];
  const auto condition = c.input(1).data<bool>();
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < std::min<int64_t>(size, c.input(1).num_elements()); ++i) {
    if (condition[i]) chosen.push_back(i);
  }
  const int64_t outer = DimProduct(shape, 0, axis);
  const int64_t inner =
      DimProduct(shape, axis + 1, static_cast<int64_t>(shape.size())) * BitWidth(x.type()) / 8;
  shape[axis] = static_cast<int64_t>(chosen.size());
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0, x.type(), shape));
  if (out->num_elements() == 0) return absl::OkStatus();
  std::byte* to = out->mutable_raw();
  for (int64_t o = 0; o < outer; ++o) {
    for (const int64_t i : chosen) {
      std::memcpy(to, x.raw() + (o * size + i) * inner, static_cast<size_t>(inner));
      to += inner;
    }
  }
  return absl::OkStatus();
}

// --- CumSum --------------------------------------------------------------------------------------

absl::Status InferCumSum(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, kIndexTypes));
  HT_RETURN_IF_ERROR(CheckOneElement(c, 1));
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 1, 1 << 20));
  if (c.constant(1) != nullptr && c.input(0).shape.has_value()) {
    HT_ASSIGN_OR_RETURN(const Shape axis, ToInt64s(*c.constant(1)));
    HT_RETURN_IF_ERROR(
        NormalizeAxis(c, axis[0], static_cast<int64_t>(c.input(0).shape->size())).status());
  }
  return InferLikeInput(c);
}

absl::Status EvalCumSum(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  HT_ASSIGN_OR_RETURN(const Shape input, ToInt64s(c.input(1)));
  const Tensor& x = c.input(0);
  const int64_t axis = Axis(input[0], x.rank()), size = x.dim(axis);
  const int64_t inner = DimProduct(x.shape(), axis + 1, x.rank());
  const int64_t rows = DimProduct(x.shape(), 0, axis) * inner;
  const bool exclusive = c.attributes().Int("exclusive", 0) != 0;
  const bool reverse = c.attributes().Int("reverse", 0) != 0;
  return DispatchWide(c, x.type(), [&](auto tag) {
    using T = decltype(tag);
    using W = std::conditional_t<std::is_integral_v<T>, uint64_t, T>;  // wraps
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t start = r / inner * size * inner + r % inner;
      W sum = 0;
      for (int64_t j = 0; j < size; ++j) {
        const int64_t at = start + (reverse ? size - 1 - j : j) * inner;
        const W value = static_cast<W>(Raw<T>(x)[at]);
        MutableRaw<T>(*out)[at] = static_cast<T>(exclusive ? sum : sum + value);
        sum += value;
      }
    }
  });
}

// --- Unique --------------------------------------------------------------------------------------

absl::Status InferUnique(InferContext& c) {
  SymbolicShape shape = Dims(1);
  if (c.attributes().Has("axis")) {
    shape = c.input(0).shape;
    if (shape.has_value()) {
      HT_ASSIGN_OR_RETURN(const int64_t axis, NormalizeAxis(c, c.attributes().Int("axis", 0),
                                                            static_cast<int64_t>(shape->size())));
      (*shape)[axis] = Dim();
    }
  }
  c.set_output(0, c.input(0).type, std::move(shape));
  for (const int i : {1, 2, 3}) c.set_output(i, DataType::kI64, Dims(1));
  return absl::OkStatus();
}

// Slices of the data along an axis: `size` of them, compared element by element.
template <typename T>
struct Slices {
  const T* data;
  int64_t outer, size, inner;

  // Negative, 0 or positive. NaN equals itself and comes after every number.
  int Compare(int64_t a, int64_t b) const {
    for (int64_t i = 0; i < outer * inner; ++i) {
      const int64_t base = i / inner * size * inner + i % inner;
      const T x = data[base + a * inner], y = data[base + b * inner];
      const bool nan_x = x != x, nan_y = y != y;
      if (nan_x != nan_y) return nan_x ? 1 : -1;
      if (!nan_x && x != y) return x < y ? -1 : 1;
    }
    return 0;
  }
};

struct Groups {
  std::vector<int64_t> first, group_of, count;  // per group, per slice, per group
};

template <typename T>
Groups GroupSlices(const Slices<T>& slices, bool sorted) {
  std::vector<int64_t> order(static_cast<size_t>(slices.size));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return slices.Compare(a, b) < 0; });
  // Of equal slices the stable order brings the first one first.
  std::vector<int64_t> leader(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    const bool same = i > 0 && slices.Compare(order[i - 1], order[i]) == 0;
    leader[order[i]] = same ? leader[order[i - 1]] : order[i];
  }
  if (!sorted) std::iota(order.begin(), order.end(), 0);
  Groups g{.group_of = std::vector<int64_t>(order.size())};
  for (const int64_t i : order) {
    if (leader[i] == i) {
      g.group_of[i] = static_cast<int64_t>(g.first.size());
      g.first.push_back(i);
      g.count.push_back(0);
    }
    g.group_of[i] = g.group_of[leader[i]];
    ++g.count[g.group_of[i]];
  }
  return g;
}

absl::Status EvalUnique(EvalContext& c) {
  const Tensor& x = c.input(0);
  const bool flat = !c.attributes().Has("axis");
  Shape shape = flat ? Shape{x.num_elements()} : x.shape();
  const int64_t rank = static_cast<int64_t>(shape.size());
  const int64_t axis = flat ? 0 : Axis(c.attributes().Int("axis", 0), rank), size = shape[axis];
  const int64_t outer = DimProduct(shape, 0, axis), inner = DimProduct(shape, axis + 1, rank);
  Groups groups;
  DispatchType(x.type(), [&](auto tag) {
    using T = decltype(tag);
    if constexpr (std::is_arithmetic_v<T>) {
      groups = GroupSlices(Slices<T>{Raw<T>(x), outer, size, inner},
                           c.attributes().Int("sorted", 1) != 0);
    }
  });
  shape[axis] = static_cast<int64_t>(groups.first.size());
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0, x.type(), shape));
  const size_t bytes = static_cast<size_t>(inner * BitWidth(x.type()) / 8);
  std::byte* to = out->num_elements() == 0 ? nullptr : out->mutable_raw();
  for (int64_t o = 0; o < outer && to != nullptr; ++o) {
    for (const int64_t i : groups.first) {
      std::memcpy(to, x.raw() + (o * size + i) * bytes, bytes);
      to += bytes;
    }
  }
  const std::array extra = {&groups.first, &groups.group_of, &groups.count};
  for (int i = 1; i < 4; ++i) {
    if (!c.has_output(i)) continue;
    const std::vector<int64_t>& values = *extra[i - 1];
    c.set_output(i, Tensor::Of<int64_t>({static_cast<int64_t>(values.size())}, values));
  }
  return absl::OkStatus();
}

// --- ReverseSequence -----------------------------------------------------------------------------

absl::Status InferReverseSequence(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, Types(DataType::kI64)));
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 2, 1 << 20));
  const int64_t batch = c.attributes().Int("batch_axis", 1),
                time = c.attributes().Int("time_axis", 0);
  if ((batch != 0 || time != 1) && (batch != 1 || time != 0)) {
    return c.Error("batch_axis and time_axis want 0 and 1");
  }
  const SymbolicShape& x = c.input(0).shape;
  HT_RETURN_IF_ERROR(CheckVector(c, 1, x.has_value() ? (*x)[batch] : Dim()));
  return InferLikeInput(c);
}

absl::Status EvalReverseSequence(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Tensor& x = c.input(0);
  const int64_t time = c.attributes().Int("time_axis", 0);
  const auto lengths = c.input(1).data<int64_t>();
  const int64_t steps = x.dim(time);
  const int64_t inner = DimProduct(x.shape(), 2, x.rank()) * BitWidth(x.type()) / 8;
  for (const int64_t n : lengths) {
    if (n < 0 || n > steps) return c.Error(absl::StrCat("a sequence has length ", n));
  }
  if (out->num_elements() == 0) return absl::OkStatus();
  for (int64_t i = 0; i < x.dim(0) * x.dim(1); ++i) {
    const int64_t row = i / x.dim(1), column = i % x.dim(1);
    const int64_t t = time == 0 ? row : column, b = time == 0 ? column : row;
    const int64_t source_t = t < lengths[b] ? lengths[b] - 1 - t : t;
    const int64_t source = time == 0 ? source_t * x.dim(1) + b : b * x.dim(1) + source_t;
    std::memcpy(out->mutable_raw() + i * inner, x.raw() + source * inner,
                static_cast<size_t>(inner));
  }
  return absl::OkStatus();
}

constexpr OpDef TopK(int since, Arity inputs) {
  OpDef row = ExactRow("TopK", since, inputs, InferTopK, WidenedNumbers<EvalTopK>, kNumericTypes);
  row.outputs = {2, 2};
  return row;
}

constexpr OpDef Unique() {
  OpDef row = ExactRow("Unique", 11, {1, 1}, InferUnique, Widened<EvalUnique>, kWholeByteTypes);
  row.outputs = {1, 4};
  return row;
}

constexpr OpDef CumSum() {
  OpDef row =
      ExactRow("CumSum", 11, {2, 2}, InferCumSum, WidenedNumbers<EvalCumSum>, kNumericTypes);
  row.tolerance = kAccumulate;
  return row;
}

constexpr std::array kRows = {
    TopK(1, {1, 1}),
    TopK(10, {2, 2}),
    Unique(),
    ExactRow("NonZero", 9, {1, 1}, InferNonZero, EvalNonZero, kWholeByteTypes),
    ExactRow("Compress", 9, {2, 2}, InferCompress, EvalCompress, kWholeByteTypes),
    CumSum(),
    ExactRow("ReverseSequence", 10, {2, 2}, InferReverseSequence, EvalReverseSequence,
             kWholeByteTypes),
};

}  // namespace

absl::Span<const OpDef> SelectionOps() { return kRows; }

}  // namespace halftone
