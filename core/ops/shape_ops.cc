// Operators on shapes: they ask for one, or give the same elements another one.
#include <algorithm>
#include <array>

#include "core/base/checked_math.h"
#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"
#include "core/ops/random.h"

namespace halftone {
namespace {

// --- the element data stays as it is -------------------------------------------------------------

// Output 0 shares the bytes of input 0 under the inferred shape.
absl::Status EvalReshaped(EvalContext& c) {
  const std::optional<Shape> shape = Concrete(c.output_types()[0].shape);
  const absl::StatusOr<int64_t> count =
      shape.has_value() ? NumElements(*shape) : c.Error("the output shape is not known");
  if (!count.ok()) return count.status();
  if (*count != c.input(0).num_elements()) {
    return c.Error(
        absl::StrCat("cannot reshape ", ToString(c.input(0).shape()), " to ", ToString(*shape)));
  }
  c.set_output(0, c.input(0).Reshaped(*shape));
  return absl::OkStatus();
}

// A scalar or 1-D value keeps its elements whatever its shape.
void KeepElements(InferContext& c) {
  const SymbolicShape& shape = c.outputs()[0].shape;
  std::optional<Elements> elements = c.elements(0);
  if (elements.has_value() && shape.has_value() && shape->size() <= 1) {
    c.set_elements(0, *std::move(elements));
  }
}

absl::Status InferIdentity(InferContext& c) {
  HT_RETURN_IF_ERROR(InferLikeInput(c));
  KeepElements(c);
  return absl::OkStatus();
}

// --- Reshape -------------------------------------------------------------------------------------

// The size that makes `in` and `out` (without its -1) equal; unknown if symbols do not cancel.
absl::StatusOr<Dim> MissingSize(const InferContext& c, const Dims& in, const Dims& out) {
  Dims numerator = in;
  int64_t divisor = 1;
  for (const Dim& d : out) {
    if (d.known()) {
      HT_ASSIGN_OR_RETURN(const Dim product, Scaled(c, Dim(divisor), d.value));
      divisor = product.value;
      continue;
    }
    const auto same = std::find(numerator.begin(), numerator.end(), d);
    if (same == numerator.end()) return Dim();
    numerator.erase(same);
  }
  HT_ASSIGN_OR_RETURN(const Dim total, Product(c, numerator));
  if (divisor == 1) return total;
  if (!total.known()) return Dim();
  if (divisor == 0 || total.value % divisor != 0) {
    return c.Error(absl::StrCat("cannot split ", ToString(SymbolicShape(in)), " into parts of ",
                                divisor, " elements"));
  }
  return Dim(total.value / divisor);
}

absl::Status InferReshape(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, kIndexTypes));
  HT_RETURN_IF_ERROR(CheckRank(c, 1, 0, 1));
  c.set_output(0, c.input(0).type, std::nullopt);
  const std::optional<Elements> wanted = c.elements(1);
  if (!wanted.has_value()) return absl::OkStatus();
  const SymbolicShape& in = c.input(0).shape;
  const bool allow_zero = c.attributes().Int("allowzero", 0) != 0;
  Dims out;
  std::optional<size_t> missing;
  for (size_t i = 0; i < wanted->size(); ++i) {
    const Element& e = (*wanted)[i];
    if (!e.number.has_value()) {
      out.push_back(Dim(e.symbol));
    } else if (*e.number == -1) {
      if (missing.has_value()) return c.Error("the shape has two elements -1, want one at most");
      missing = i;
      out.push_back(Dim());
    } else if (*e.number == 0 && !allow_zero) {
      if (in.has_value() && i >= in->size()) {
        return c.Error(absl::StrCat("element ", i, " of the shape copies a size, but the input is ",
                                    ToString(in)));
      }
      out.push_back(in.has_value() ? (*in)[i] : Dim());
    } else if (*e.number < 0) {
      return c.Error(absl::StrCat("the shape has the element ", *e.number));
    } else {
      out.push_back(*e.number);
    }
  }
  // What is not known at all may be the -1, so only a complete rest gives the missing size.
  if (missing.has_value() && in.has_value()) {
    Dims rest = out;
    rest.erase(rest.begin() + *missing);
    HT_ASSIGN_OR_RETURN(out[*missing], MissingSize(c, *in, rest));
  }
  if (in.has_value() && Concrete(in).has_value() && Concrete(out).has_value()) {
    HT_ASSIGN_OR_RETURN(const Dim before, Product(c, *in));
    HT_ASSIGN_OR_RETURN(const Dim after, Product(c, out));
    if (before.value != after.value) {
      return c.Error(absl::StrCat("cannot reshape ", ToString(in), " to ",
                                  ToString(SymbolicShape(out)), ": ", before.value, " and ",
                                  after.value, " elements"));
    }
  }
  c.set_output(0, c.input(0).type, std::move(out));
  KeepElements(c);
  return absl::OkStatus();
}

// --- Flatten, Squeeze, Unsqueeze -----------------------------------------------------------------

absl::Status InferFlatten(InferContext& c) {
  const SymbolicShape& x = c.input(0).shape;
  Dims out(2);
  if (x.has_value()) {
    const int64_t rank = static_cast<int64_t>(x->size());
    int64_t axis = c.attributes().Int("axis", 1);
    if (axis != rank) {
      HT_ASSIGN_OR_RETURN(axis, NormalizeAxis(c, axis, std::max<int64_t>(rank, 1)));
    }
    HT_ASSIGN_OR_RETURN(out[0], Product(c, absl::MakeConstSpan(*x).subspan(0, axis)));
    HT_ASSIGN_OR_RETURN(out[1], Product(c, absl::MakeConstSpan(*x).subspan(axis)));
  }
  c.set_output(0, c.input(0).type, std::move(out));
  return absl::OkStatus();
}

absl::StatusOr<IntsArgument> SqueezeAxes(const InferContext& c) {
  if (c.opset() < 13) return IntsAttribute(c.attributes(), "axes");
  return IntsInput(c, 1);
}

absl::Status InferSqueeze(InferContext& c) {
  HT_ASSIGN_OR_RETURN(const IntsArgument axes, SqueezeAxes(c));
  const SymbolicShape& x = c.input(0).shape;
  c.set_output(0, c.input(0).type, std::nullopt);
  if (!x.has_value()) return absl::OkStatus();
  const int64_t rank = static_cast<int64_t>(x->size());
  if (!axes.absent() && !axes.known()) {
    if (axes.size.has_value() && *axes.size <= rank) {
      c.set_output(0, c.input(0).type, Dims(rank - *axes.size));
    }
    return absl::OkStatus();
  }
  HT_ASSIGN_OR_RETURN(const Shape named, NormalizeAxes(c, axes.values, rank));
  Dims out;
  for (int64_t i = 0; i < rank; ++i) {
    const Dim& d = (*x)[i];
    if (axes.absent()) {
      if (!d.known()) return absl::OkStatus();  // 1 or not: even the rank is open
      if (d.value != 1) out.push_back(d);
    } else if (!std::binary_search(named.begin(), named.end(), i)) {
      out.push_back(d);
    } else if (d.known() && d.value != 1) {
      return c.Error(absl::StrCat("axis ", i, " has size ", d.value, ", want 1"));
    }
  }
  c.set_output(0, c.input(0).type, std::move(out));
  KeepElements(c);
  return absl::OkStatus();
}

absl::Status InferUnsqueeze(InferContext& c) {
  HT_ASSIGN_OR_RETURN(const IntsArgument axes, SqueezeAxes(c));
  if (axes.absent()) return c.Error("axes are absent, want some");
  const SymbolicShape& x = c.input(0).shape;
  c.set_output(0, c.input(0).type, std::nullopt);
  if (!x.has_value() || !axes.size.has_value()) return absl::OkStatus();
  const int64_t rank = static_cast<int64_t>(x->size()) + *axes.size;
  if (!axes.known()) {
    c.set_output(0, c.input(0).type, Dims(rank));
    return absl::OkStatus();
  }
  HT_ASSIGN_OR_RETURN(const Shape named, NormalizeAxes(c, axes.values, rank));
  Dims out;
  for (int64_t i = 0, from = 0; i < rank; ++i) {
    const bool is_new = std::binary_search(named.begin(), named.end(), i);
    out.push_back(is_new ? Dim(1) : (*x)[from++]);
  }
  c.set_output(0, c.input(0).type, std::move(out));
  KeepElements(c);
  return absl::OkStatus();
}

// --- Shape, Size ---------------------------------------------------------------------------------

// The range [start, end) of axes that Shape-15 gives, clamped.
std::pair<int64_t, int64_t> AxisRange(const Attributes& a, int64_t rank) {
  const auto clamp = [rank](int64_t v) {
    return std::clamp<int64_t>(v < 0 ? v + rank : v, 0, rank);
  };
  const int64_t start = clamp(a.Int("start", 0)), end = clamp(a.Int("end", rank));
  return {start, std::max(start, end)};
}

absl::Status InferShape(InferContext& c) {
  const SymbolicShape& x = c.input(0).shape;
  c.set_output(0, DataType::kI64, Dims(1));
  if (!x.has_value()) return absl::OkStatus();
  const auto [start, end] = AxisRange(c.attributes(), static_cast<int64_t>(x->size()));
  c.set_output(0, DataType::kI64, Dims{end - start});
  c.set_elements(0, ElementsFromDims(absl::MakeConstSpan(*x).subspan(start, end - start)));
  return absl::OkStatus();
}

absl::Status EvalShape(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Shape& shape = c.input(0).shape();
  const auto [start, end] = AxisRange(c.attributes(), static_cast<int64_t>(shape.size()));
  std::copy(shape.begin() + start, shape.begin() + end, out->mutable_data<int64_t>().begin());
  return absl::OkStatus();
}

absl::Status InferSize(InferContext& c) {
  c.set_output(0, DataType::kI64, Dims());
  if (!c.input(0).shape.has_value()) return absl::OkStatus();
  HT_ASSIGN_OR_RETURN(const Dim size, Product(c, *c.input(0).shape));
  c.set_elements(0, ElementsFromDims({size}));
  return absl::OkStatus();
}

absl::Status EvalSize(EvalContext& c) {
  c.set_output(0, Tensor::Scalar<int64_t>(c.input(0).num_elements()));
  return absl::OkStatus();
}

// --- Dropout -------------------------------------------------------------------------------------

absl::Status InferDropout(InferContext& c) {
  HT_RETURN_IF_ERROR(InferLikeInput(c));
  // The mask is bool from opset 10 on, and float before.
  c.set_output(1, c.opset() >= 10 ? DataType::kBool : c.input(0).type, c.input(0).shape);
  return absl::OkStatus();
}

// Keeps each element with probability 1 - ratio and scales what is left. The mask is NumPy's for
// the same seed, which the ONNX test cases expect.
absl::Status EvalTrainingDropout(EvalContext& c, double ratio) {
  if (!(ratio >= 0 && ratio < 1)) return c.Error(absl::StrCat("ratio is ", ratio));
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const int64_t count = out->num_elements();
  HT_ASSIGN_OR_RETURN(Tensor mask, Tensor::Create(DataType::kBool, out->shape()));
  RandomStream random(SeedOf(c.node()));
  for (bool& kept : mask.mutable_data<bool>()) kept = random.Uniform() >= ratio;
  HT_RETURN_IF_ERROR(DispatchFloat(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    const T scale = static_cast<T>(1 / (1 - ratio));
    for (int64_t i = 0; i < count; ++i) {
      MutableRaw<T>(*out)[i] = mask.data<bool>()[i] ? Raw<T>(c.input(0))[i] * scale : T{0};
    }
  }));
  c.set_output(1, std::move(mask));
  return absl::OkStatus();
}

absl::Status EvalDropout(EvalContext& c) {
  const bool training = c.has_input(2) && c.input(2).type() == DataType::kBool &&
                        c.input(2).num_elements() == 1 && c.input(2).data<bool>()[0];
  if (training) {
    double ratio = 0.5;
    if (c.has_input(1)) {
      HT_ASSIGN_OR_RETURN(const Tensor t, Convert(c.input(1), DataType::kF64));
      if (t.num_elements() != 1) return c.Error("ratio wants one element");
      ratio = t.data<double>()[0];
    }
    if (ratio != 0) return EvalTrainingDropout(c, ratio);
  }
  c.set_output(0, c.input(0));
  if (!c.has_output(1)) return absl::OkStatus();
  HT_ASSIGN_OR_RETURN(const Tensor ones,
                      Convert(Tensor::Of<float>({1}, {1.0f}), *c.output_types()[1].type));
  HT_ASSIGN_OR_RETURN(Tensor * mask, c.Allocate(1));
  return StridedCopy(c, ones, 0, mask->shape(), Shape(mask->rank(), 0), *mask);
}

// --- Expand --------------------------------------------------------------------------------------

absl::Status InferExpand(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, kIndexTypes));
  HT_RETURN_IF_ERROR(CheckRank(c, 1, 0, 1));
  c.set_output(0, c.input(0).type, std::nullopt);
  const std::optional<Elements> wanted = c.elements(1);
  if (!wanted.has_value()) return absl::OkStatus();
  HT_ASSIGN_OR_RETURN(Dims dims, DimsFromElements(c, *wanted));
  HT_ASSIGN_OR_RETURN(SymbolicShape shape, Broadcast(c, c.input(0).shape, SymbolicShape(dims)));
  c.set_output(0, c.input(0).type, std::move(shape));
  return absl::OkStatus();
}

absl::Status EvalExpand(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  return StridedCopy(c, c.input(0), 0, out->shape(),
                     BroadcastStrides(c.input(0).shape(), out->shape()), *out);
}

constexpr OpDef Reshaping(absl::string_view name, int since, Arity inputs, InferFn infer) {
  return ExactRow(name, since, inputs, infer, EvalReshaped, kAllTypes, QuantBehavior::kPassThrough);
}

constexpr OpDef DropoutRow(int since, Arity inputs) {
  OpDef row = ExactRow("Dropout", since, inputs, InferDropout, Widened<EvalDropout>,
                       kFloatTypes | kFloat8Types, QuantBehavior::kPassThrough);
  row.outputs = {1, 2};
  return row;
}

constexpr std::array kRows = {
    Reshaping("Identity", 1, {1, 1}, InferIdentity),
    Reshaping("Reshape", 5, {2, 2}, InferReshape),
    Reshaping("Flatten", 1, {1, 1}, InferFlatten),
    Reshaping("Squeeze", 1, {1, 1}, InferSqueeze),
    Reshaping("Squeeze", 13, {1, 2}, InferSqueeze),
    Reshaping("Unsqueeze", 1, {1, 1}, InferUnsqueeze),
    Reshaping("Unsqueeze", 13, {2, 2}, InferUnsqueeze),
    DropoutRow(7, {1, 1}),
    DropoutRow(10, {1, 1}),
    DropoutRow(12, {1, 3}),
    ExactRow("Shape", 1, {1, 1}, InferShape, EvalShape, kAllTypes),
    ExactRow("Size", 1, {1, 1}, InferSize, EvalSize, kAllTypes),
    ExactRow("Expand", 8, {2, 2}, InferExpand, EvalExpand, kAllTypes, QuantBehavior::kPassThrough),
};

}  // namespace

absl::Span<const OpDef> ShapeOps() { return kRows; }

}  // namespace halftone
