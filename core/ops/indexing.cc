// Operators that read or write through index tensors: Gather…, Scatter…, OneHot.
#include <algorithm>
#include <array>
#include <utility>

#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"

namespace halftone {
namespace {

// Indices as i64, negative ones wrapped once; anything outside of [-size, size) is an error.
absl::StatusOr<Shape> WrappedIndices(const EvalContext& c, int input, int64_t size) {
  HT_ASSIGN_OR_RETURN(Shape indices, ToInt64s(c.input(input)));
  for (int64_t& i : indices) {
    if (i < -size || i >= size) {
      return c.Error(absl::StrCat("index ", i, " is outside of an axis of ", size));
    }
    if (i < 0) i += size;
  }
  return indices;
}

absl::StatusOr<std::optional<int64_t>> AxisOf(const InferContext& c, int64_t fallback) {
  if (!c.input(0).shape.has_value()) return std::optional<int64_t>();
  HT_ASSIGN_OR_RETURN(const int64_t axis,
                      NormalizeAxis(c, c.attributes().Int("axis", fallback),
                                    static_cast<int64_t>(c.input(0).shape->size())));
  return std::optional<int64_t>(axis);
}

// --- Gather --------------------------------------------------------------------------------------

void GatherFromElements(InferContext& c) {
  const std::optional<Elements> in = c.elements(0), at = c.elements(1);
  if (!in.has_value() || !at.has_value()) return;
  const int64_t size = static_cast<int64_t>(in->size());
  Elements out;
  for (const Element& e : *at) {
    if (!e.number.has_value() || *e.number < -size || *e.number >= size) return;
    out.push_back((*in)[Axis(*e.number, size)]);
  }
  c.set_elements(0, std::move(out));
}

absl::Status InferGather(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, kIndexTypes));
  HT_ASSIGN_OR_RETURN(const std::optional<int64_t> axis, AxisOf(c, 0));
  const SymbolicShape& x = c.input(0).shape;
  const SymbolicShape& indices = c.input(1).shape;
  c.set_output(0, c.input(0).type, std::nullopt);
  if (!axis.has_value() || !indices.has_value()) return absl::OkStatus();
  Dims out(x->begin(), x->begin() + *axis);
  out.insert(out.end(), indices->begin(), indices->end());
  out.insert(out.end(), x->begin() + *axis + 1, x->end());
  c.set_output(0, c.input(0).type, std::move(out));
  if (x->size() == 1 && indices->size() <= 1) GatherFromElements(c);
  return absl::OkStatus();
}

absl::Status EvalGather(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Tensor& x = c.input(0);
  const int64_t axis = Axis(c.attributes().Int("axis", 0), x.rank());
  HT_ASSIGN_OR_RETURN(const Shape indices, WrappedIndices(c, 1, x.dim(axis)));
  const int64_t outer = DimProduct(x.shape(), 0, axis);
  const int64_t inner = DimProduct(x.shape(), axis + 1, x.rank()) * BitWidth(x.type()) / 8;
  if (out->num_elements() == 0) return absl::OkStatus();
  std::byte* to = out->mutable_raw();
  for (int64_t o = 0; o < outer; ++o) {
    const std::byte* from = x.raw() + o * x.dim(axis) * inner;
    for (const int64_t i : indices) {
      std::memcpy(to, from + i * inner, static_cast<size_t>(inner));
      to += inner;
    }
  }
  return absl::OkStatus();
}

// --- GatherElements, ScatterElements -------------------------------------------------------------

// Indices of the data's rank that fit into the data in every axis but one.
absl::Status CheckElementIndices(const InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, kIndexTypes));
  HT_ASSIGN_OR_RETURN(const std::optional<int64_t> axis, AxisOf(c, 0));
  const SymbolicShape& x = c.input(0).shape;
  const SymbolicShape& indices = c.input(1).shape;
  if (!axis.has_value() || !indices.has_value()) return absl::OkStatus();
  bool fits = x->size() == indices->size();
  for (size_t i = 0; i < x->size() && fits; ++i) {
    const Dim& a = (*x)[i];
    const Dim& b = (*indices)[i];
    fits = static_cast<int64_t>(i) == *axis || !a.known() || !b.known() || b.value <= a.value;
  }
  if (fits) return absl::OkStatus();
  return c.Error(absl::StrCat("indices of ", ToString(indices), " do not fit into ", ToString(x)));
}

absl::Status InferGatherElements(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckElementIndices(c));
  c.set_output(0, c.input(0).type, c.input(1).shape);
  return absl::OkStatus();
}

// The position in the data that each element of the indices names.
absl::StatusOr<Shape> ElementTargets(const EvalContext& c) {
  const Tensor& x = c.input(0);
  const int64_t axis = Axis(c.attributes().Int("axis", 0), x.rank());
  HT_ASSIGN_OR_RETURN(Shape targets, WrappedIndices(c, 1, x.dim(axis)));
  Shape strides = RowMajorStrides(x.shape());
  const int64_t step = std::exchange(strides[axis], 0);
  int64_t* at = targets.data();
  ForEachRow(c.input(1).shape(), {strides},
             [&](int64_t count, const int64_t* offsets, const int64_t* steps) {
               for (int64_t i = 0; i < count; ++i, ++at) {
                 *at = offsets[0] + i * steps[0] + *at * step;
               }
             });
  return targets;
}

absl::Status EvalGatherElements(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  HT_ASSIGN_OR_RETURN(const Shape targets, ElementTargets(c));
  return DispatchWidth(c, out->type(), [&](auto tag) {
    using U = decltype(tag);
    const U* from = Raw<U>(c.input(0));
    U* to = MutableRaw<U>(*out);
    for (const int64_t at : targets) *to++ = from[at];
  });
}

// How an update meets the element that is there.
constexpr std::array<absl::string_view, 5> kReductions = {"none", "add", "mul", "min", "max"};

absl::Status CheckScatter(const InferContext& c) {
  HT_RETURN_IF_ERROR(CheckSameType(c, 0, 2));
  const std::string reduction = c.attributes().String("reduction", "none");
  if (std::find(kReductions.begin(), kReductions.end(), reduction) == kReductions.end()) {
    return c.Error(absl::StrCat("reduction is '", reduction, "', want none, add, mul, min or max"));
  }
  return absl::OkStatus();
}

absl::Status InferScatterElements(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckScatter(c));
  HT_RETURN_IF_ERROR(CheckElementIndices(c));
  const std::optional<Shape> indices = Concrete(c.input(1).shape);
  const std::optional<Shape> updates = Concrete(c.input(2).shape);
  if (indices.has_value() && updates.has_value() && *indices != *updates) {
    return c.Error(absl::StrCat("indices have shape ", ToString(*indices), " and updates ",
                                ToString(*updates), ", want the same"));
  }
  return InferLikeInput(c);
}

// Copies the data and brings update i to position targets[i].
absl::Status Scatter(EvalContext& c, const Shape& targets) {
  HT_ASSIGN_OR_RETURN(Tensor copy, c.input(0).Clone());
  const std::string reduction = c.attributes().String("reduction", "none");
  const auto run = [&](auto tag, auto combine) {
    using T = decltype(tag);
    const T* updates = Raw<T>(c.input(2));
    T* to = MutableRaw<T>(copy);
    for (size_t i = 0; i < targets.size(); ++i) {
      to[targets[i]] = combine(to[targets[i]], updates[i]);
    }
  };
  absl::Status status;
  if (reduction == "none") {
    status =
        DispatchWidth(c, copy.type(), [&](auto tag) { run(tag, [](auto, auto b) { return b; }); });
  } else if (copy.type() == DataType::kBool) {
    const bool either = reduction == "add" || reduction == "max";
    run(bool{}, [either](bool a, bool b) { return either ? a || b : a && b; });
  } else {
    status = DispatchWide(c, copy.type(), [&](auto tag) {
      using T = decltype(tag);
      using W = std::conditional_t<std::is_integral_v<T>, uint64_t, T>;  // wraps
      if (reduction == "add") run(tag, [](T a, T b) { return static_cast<T>(W(a) + W(b)); });
      if (reduction == "mul") run(tag, [](T a, T b) { return static_cast<T>(W(a) * W(b)); });
      if (reduction == "min") run(tag, [](T a, T b) { return std::min(a, b); });
      if (reduction == "max") run(tag, [](T a, T b) { return std::max(a, b); });
    });
  }
  if (status.ok()) c.set_output(0, std::move(copy));
  return status;
}

// Reductions compute in wide types; a plain scatter only moves elements.
template <EvalFn kEval>
absl::Status WidenedToReduce(EvalContext& c) {
  const bool moves = c.attributes().String("reduction", "none") == "none";
  return moves ? kEval(c) : EvalWidenedNumbers(c, kEval);
}

absl::Status EvalScatterElements(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(const Shape targets, ElementTargets(c));
  return Scatter(c, targets);
}

// --- GatherND, ScatterND -------------------------------------------------------------------------

// Checks indices against the data behind `batch` axes and gives the shape of one slice.
absl::StatusOr<SymbolicShape> SliceShape(const InferContext& c, int64_t batch) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, kIndexTypes));
  HT_RETURN_IF_ERROR(CheckRank(c, 1, 1, 64));
  const SymbolicShape& x = c.input(0).shape;
  const SymbolicShape& indices = c.input(1).shape;
  if (!x.has_value() || !indices.has_value()) return SymbolicShape();
  const Dim& depth = indices->back();
  const int64_t rank = static_cast<int64_t>(x->size());
  if (batch < 0 || batch >= static_cast<int64_t>(indices->size()) || batch > rank) {
    return c.Error(absl::StrCat("batch_dims is ", batch));
  }
  for (int64_t i = 0; i < batch; ++i) {
    HT_RETURN_IF_ERROR(Unify(c, (*x)[i], (*indices)[i]).status());
  }
  if (!depth.known()) return SymbolicShape();
  if (depth.value < 1 || depth.value > rank - batch) {
    return c.Error(absl::StrCat("indices name ", depth.value, " axes of ", ToString(x)));
  }
  return SymbolicShape(Dims(x->begin() + batch + depth.value, x->end()));
}

absl::Status InferGatherND(InferContext& c) {
  HT_ASSIGN_OR_RETURN(const SymbolicShape slice,
                      SliceShape(c, c.attributes().Int("batch_dims", 0)));
  c.set_output(0, c.input(0).type, std::nullopt);
  if (!slice.has_value()) return absl::OkStatus();
  Dims out(c.input(1).shape->begin(), c.input(1).shape->end() - 1);
  out.insert(out.end(), slice->begin(), slice->end());
  c.set_output(0, c.input(0).type, std::move(out));
  return absl::OkStatus();
}

// The first data element of the slice that each tuple of indices names.
absl::StatusOr<Shape> TupleTargets(const EvalContext& c, int64_t batch) {
  const Shape& x = c.input(0).shape();
  const Shape& shape = c.input(1).shape();
  const Shape strides = RowMajorStrides(x);
  const int64_t depth = shape.back(), tuples = ElementCount(shape) / depth;
  const int64_t batches = DimProduct(x, 0, batch), per_batch = batches == 0 ? 0 : tuples / batches;
  const int64_t block = DimProduct(x, batch, static_cast<int64_t>(x.size()));
  HT_ASSIGN_OR_RETURN(const Shape indices, ToInt64s(c.input(1)));
  Shape targets;
  for (int64_t t = 0; t < tuples; ++t) {
    int64_t at = t / per_batch * block;
    for (int64_t d = 0; d < depth; ++d) {
      const int64_t i = indices[t * depth + d], size = x[batch + d];
      if (i < -size || i >= size) {
        return c.Error(absl::StrCat("index ", i, " is outside of an axis of ", size));
      }
      at += Axis(i, size) * strides[batch + d];
    }
    targets.push_back(at);
  }
  return targets;
}

int64_t SliceElements(const EvalContext& c, int64_t batch) {
  const Shape& x = c.input(0).shape();
  return DimProduct(x, batch + c.input(1).shape().back(), static_cast<int64_t>(x.size()));
}

absl::Status EvalGatherND(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  if (out->num_elements() == 0) return absl::OkStatus();
  const int64_t batch = c.attributes().Int("batch_dims", 0);
  const int64_t width = BitWidth(out->type()) / 8, slice = SliceElements(c, batch) * width;
  const std::byte* from = c.input(0).raw();
  std::byte* to = out->mutable_raw();
  HT_ASSIGN_OR_RETURN(const Shape targets, TupleTargets(c, batch));
  for (const int64_t at : targets) {
    std::memcpy(to, from + at * width, static_cast<size_t>(slice));
    to += slice;
  }
  return absl::OkStatus();
}

absl::Status InferScatterND(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckScatter(c));
  HT_ASSIGN_OR_RETURN(const SymbolicShape slice, SliceShape(c, 0));
  if (slice.has_value()) {
    Dims want(c.input(1).shape->begin(), c.input(1).shape->end() - 1);
    want.insert(want.end(), slice->begin(), slice->end());
    const std::optional<Shape> a = Concrete(want), b = Concrete(c.input(2).shape);
    if (a.has_value() && b.has_value() && *a != *b) {
      return c.Error(absl::StrCat("updates have shape ", ToString(*b), ", want ", ToString(*a)));
    }
  }
  return InferLikeInput(c);
}

absl::Status EvalScatterND(EvalContext& c) {
  if (c.input(2).num_elements() == 0) {
    c.set_output(0, c.input(0));
    return absl::OkStatus();
  }
  const int64_t slice = SliceElements(c, 0);
  HT_ASSIGN_OR_RETURN(const Shape slices, TupleTargets(c, 0));
  Shape targets;
  for (const int64_t at : slices) {
    for (int64_t i = 0; i < slice; ++i) targets.push_back(at + i);
  }
  return Scatter(c, targets);
}

// --- OneHot --------------------------------------------------------------------------------------

absl::Status InferOneHot(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, kNumericTypes));
  HT_RETURN_IF_ERROR(CheckType(c, 2, kWholeByteTypes));
  HT_RETURN_IF_ERROR(CheckOneElement(c, 1));
  HT_RETURN_IF_ERROR(CheckVector(c, 2, Dim(2)));
  SymbolicShape shape = c.input(0).shape;
  if (shape.has_value()) {
    HT_ASSIGN_OR_RETURN(const int64_t axis, NormalizeAxis(c, c.attributes().Int("axis", -1),
                                                          static_cast<int64_t>(shape->size()) + 1));
    Dim depth;
    if (c.constant(1) != nullptr) {
      HT_ASSIGN_OR_RETURN(const Tensor t, Convert(*c.constant(1), DataType::kI64));
      if (t.data<int64_t>()[0] < 0) return c.Error("depth is negative");
      depth = t.data<int64_t>()[0];
    }
    shape->insert(shape->begin() + axis, depth);
  }
  c.set_output(0, c.input(2).type, std::move(shape));
  return absl::OkStatus();
}

absl::Status EvalOneHot(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  HT_ASSIGN_OR_RETURN(const Tensor indices, Convert(c.input(0), DataType::kI64));
  const int64_t axis = Axis(c.attributes().Int("axis", -1), out->rank());
  const int64_t depth = out->dim(axis), inner = DimProduct(out->shape(), axis + 1, out->rank());
  return DispatchWidth(c, out->type(), [&](auto tag) {
    using U = decltype(tag);
    const U off = Raw<U>(c.input(2))[0], on = Raw<U>(c.input(2))[1];
    U* to = MutableRaw<U>(*out);
    std::fill(to, to + out->num_elements(), off);
    for (int64_t i = 0; i < indices.num_elements(); ++i) {
      const int64_t at = indices.data<int64_t>()[i];
      if (at < -depth || at >= depth) continue;  // ONNX: such an index has no hot element
      to[(i / inner * depth + Axis(at, depth)) * inner + i % inner] = on;
    }
  });
}

constexpr auto kPassThrough = QuantBehavior::kPassThrough;
constexpr std::array kRows = {
    ExactRow("Gather", 1, {2, 2}, InferGather, Unpacked<EvalGather>, kAllTypes, kPassThrough),
    ExactRow("GatherElements", 11, {2, 2}, InferGatherElements, EvalGatherElements, kWholeByteTypes,
             kPassThrough),
    ExactRow("GatherND", 11, {2, 2}, InferGatherND, Unpacked<EvalGatherND>, kAllTypes,
             kPassThrough),
    ExactRow("ScatterElements", 11, {3, 3}, InferScatterElements,
             WidenedToReduce<EvalScatterElements>, kWholeByteTypes),
    ExactRow("Scatter", 9, {3, 3}, InferScatterElements, WidenedToReduce<EvalScatterElements>,
             kWholeByteTypes),
    ExactRow("ScatterND", 11, {3, 3}, InferScatterND, WidenedToReduce<EvalScatterND>,
             kWholeByteTypes),
    ExactRow("OneHot", 9, {3, 3}, InferOneHot, EvalOneHot, kNumericTypes),
};

}  // namespace

absl::Span<const OpDef> IndexingOps() { return kRows; }

}  // namespace halftone
