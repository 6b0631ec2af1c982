// Operators that move elements: Transpose, Concat, Split, Tile, DepthToSpace …
#include <algorithm>
#include <array>

#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"

namespace halftone {
namespace {

// --- Transpose -----------------------------------------------------------------------------------

// The given permutation, or the reversal.
std::vector<int64_t> Permutation(const Attributes& a, size_t rank) {
  std::vector<int64_t> perm = a.Ints("perm");
  if (!perm.empty() || a.Has("perm")) return perm;
  for (size_t i = rank; i > 0; --i) perm.push_back(static_cast<int64_t>(i - 1));
  return perm;
}

absl::Status InferTranspose(InferContext& c) {
  const SymbolicShape& x = c.input(0).shape;
  c.set_output(0, c.input(0).type, std::nullopt);
  if (!x.has_value()) return absl::OkStatus();
  const std::vector<int64_t> perm = Permutation(c.attributes(), x->size());
  std::vector<int64_t> sorted = perm;
  std::sort(sorted.begin(), sorted.end());
  bool valid = perm.size() == x->size();
  for (size_t i = 0; i < sorted.size() && valid; ++i) valid = sorted[i] == static_cast<int64_t>(i);
  if (!valid) {
    return c.Error(
        absl::StrCat("perm ", ToString(perm), " is no permutation of ", x->size(), " axes"));
  }
  Dims out;
  for (const int64_t p : perm) out.push_back((*x)[p]);
  c.set_output(0, c.input(0).type, std::move(out));
  return absl::OkStatus();
}

absl::Status EvalTranspose(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Shape in = RowMajorStrides(c.input(0).shape());
  Shape strides;
  for (const int64_t p : Permutation(c.attributes(), in.size())) strides.push_back(in[p]);
  return StridedCopy(c, c.input(0), 0, out->shape(), strides, *out);
}

// --- Concat --------------------------------------------------------------------------------------

void ConcatElements(InferContext& c) {
  Elements all;
  for (int i = 0; i < c.num_inputs(); ++i) {
    const std::optional<Elements> part = c.elements(i);
    if (!part.has_value()) return;
    all.insert(all.end(), part->begin(), part->end());
  }
  c.set_elements(0, std::move(all));
}

absl::Status InferConcat(InferContext& c) {
  std::optional<DataType> type;
  SymbolicShape out;
  bool complete = true;  // every input's rank is known
  int64_t axis = 0;
  if (c.attributes().Find<int64_t>("axis") == nullptr) return c.Error("axis is absent");
  for (int i = 0; i < c.num_inputs(); ++i) {
    if (!c.has_input(i)) return c.Error(absl::StrCat("input ", i, " is absent, want a value"));
    HT_RETURN_IF_ERROR(CheckSameType(c, 0, i));
    if (!type.has_value()) type = c.input(i).type;
    const SymbolicShape& x = c.input(i).shape;
    if (!x.has_value()) {
      complete = false;
      continue;
    }
    if (!out.has_value()) {
      out = x;
      HT_ASSIGN_OR_RETURN(
          axis, NormalizeAxis(c, c.attributes().Int("axis", 0), static_cast<int64_t>(x->size())));
      continue;
    }
    HT_RETURN_IF_ERROR(
        CheckRank(c, i, static_cast<int>(out->size()), static_cast<int>(out->size())));
    for (int64_t d = 0; d < static_cast<int64_t>(x->size()); ++d) {
      Dim& o = (*out)[d];
      HT_ASSIGN_OR_RETURN(o, d == axis ? Plus(c, o, (*x)[d]) : Unify(c, o, (*x)[d]));
    }
  }
  if (out.has_value() && !complete) (*out)[axis] = Dim();
  const bool is_vector = complete && out.has_value() && out->size() == 1;
  c.set_output(0, type, std::move(out));
  if (is_vector) ConcatElements(c);
  return absl::OkStatus();
}

absl::Status EvalConcat(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const int64_t axis = Axis(c.attributes().Int("axis", 0), out->rank());
  const int64_t outer = DimProduct(out->shape(), 0, axis);
  const int64_t inner = DimProduct(out->shape(), axis + 1, out->rank()) * BitWidth(out->type()) / 8;
  const int64_t row = out->dim(axis) * inner;
  std::byte* to = out->mutable_raw();
  for (int i = 0; i < c.num_inputs(); ++i) {
    const int64_t bytes = c.input(i).dim(axis) * inner;
    if (bytes == 0) continue;
    for (int64_t o = 0; o < outer; ++o) {
      std::memcpy(to + o * row, c.input(i).raw() + o * bytes, static_cast<size_t>(bytes));
    }
    to += bytes;
  }
  return absl::OkStatus();
}

// --- Split ---------------------------------------------------------------------------------------

// Sizes of the parts of an axis of `size`. Without explicit sizes the parts are equal, the last
// one smaller if it must be.
template <typename Context>
absl::StatusOr<Shape> PartSizes(const Context& c, const IntsArgument& split, int64_t size) {
  const int64_t parts = c.num_outputs();
  if (split.absent()) {
    const int64_t wanted = c.attributes().Int("num_outputs", parts);
    if (wanted != parts) {
      return c.Error(absl::StrCat("num_outputs is ", wanted, ", but there are ", parts));
    }
    const int64_t part = (size + parts - 1) / parts;
    if (c.opset() < 18 && part * parts != size) {
      return c.Error(
          absl::StrCat("an axis of ", size, " does not split into ", parts, " equal parts"));
    }
    Shape sizes(parts, part);
    sizes.back() = size - part * (parts - 1);
    if (sizes.back() < 0) return c.Error(absl::StrCat("cannot split ", size, " into ", parts));
    return sizes;
  }
  int64_t total = 0;
  for (const int64_t s : split.values) {
    if (s < 0 || s > size) return c.Error(absl::StrCat("a part has size ", s, " of ", size));
    total += s;
  }
  if (static_cast<int64_t>(split.values.size()) != parts || total != size) {
    return c.Error(absl::StrCat("split is ", ToString(split.values), " for ", parts,
                                " outputs and an axis of ", size));
  }
  return split.values;
}

template <typename Context>
absl::StatusOr<IntsArgument> SplitArgument(const Context& c) {
  if (c.opset() < 13) return IntsAttribute(c.attributes(), "split");
  return IntsInput(c, 1);
}

absl::Status InferSplit(InferContext& c) {
  const SymbolicShape& x = c.input(0).shape;
  for (int i = 0; i < c.num_outputs(); ++i) c.set_output(i, c.input(0).type, std::nullopt);
  if (!x.has_value()) return absl::OkStatus();
  HT_ASSIGN_OR_RETURN(const int64_t axis, NormalizeAxis(c, c.attributes().Int("axis", 0),
                                                        static_cast<int64_t>(x->size())));
  HT_ASSIGN_OR_RETURN(const IntsArgument split, SplitArgument(c));
  std::optional<Shape> sizes;
  if ((*x)[axis].known() && (split.absent() || split.known())) {
    HT_ASSIGN_OR_RETURN(sizes, PartSizes(c, split, (*x)[axis].value));
  }
  for (int i = 0; i < c.num_outputs(); ++i) {
    Dims part = *x;
    part[axis] = Dim();
    if (sizes.has_value()) {
      part[axis] = (*sizes)[i];
    } else if (split.known() && i < static_cast<int>(split.values.size()) && split.values[i] >= 0) {
      part[axis] = split.values[i];
    }
    c.set_output(i, c.input(0).type, std::move(part));
  }
  return absl::OkStatus();
}

absl::Status EvalSplit(EvalContext& c) {
  const Tensor& x = c.input(0);
  const int64_t axis = Axis(c.attributes().Int("axis", 0), x.rank());
  HT_ASSIGN_OR_RETURN(const IntsArgument split, SplitArgument(c));
  HT_ASSIGN_OR_RETURN(const Shape sizes, PartSizes(c, split, x.dim(axis)));
  const Shape strides = RowMajorStrides(x.shape());
  int64_t start = 0;
  for (int i = 0; i < c.num_outputs(); ++i) {
    HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(i));
    HT_RETURN_IF_ERROR(StridedCopy(c, x, start * strides[axis], out->shape(), strides, *out));
    start += sizes[i];
  }
  return absl::OkStatus();
}

// --- Tile ----------------------------------------------------------------------------------------

absl::Status InferTile(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, Types(DataType::kI64)));
  HT_ASSIGN_OR_RETURN(const IntsArgument repeats, IntsInput(c, 1));
  const SymbolicShape& x = c.input(0).shape;
  c.set_output(0, c.input(0).type, std::nullopt);
  if (!x.has_value()) return absl::OkStatus();
  Dims out(x->size());
  if (repeats.size.has_value() && *repeats.size != static_cast<int64_t>(x->size())) {
    return c.Error(absl::StrCat("got ", *repeats.size, " repeats for rank ", x->size()));
  }
  for (size_t i = 0; i < x->size() && repeats.known(); ++i) {
    HT_ASSIGN_OR_RETURN(out[i], Scaled(c, (*x)[i], repeats.values[i]));
  }
  c.set_output(0, c.input(0).type, std::move(out));
  return absl::OkStatus();
}

absl::Status EvalTile(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  HT_ASSIGN_OR_RETURN(const IntsArgument repeats, IntsInput(c, 1));
  // Each axis becomes (repeat, size), the repeat with stride 0.
  const Shape in = RowMajorStrides(c.input(0).shape());
  Shape shape, strides;
  for (size_t i = 0; i < in.size(); ++i) {
    shape.insert(shape.end(), {repeats.values[i], c.input(0).shape()[i]});
    strides.insert(strides.end(), {0, in[i]});
  }
  return StridedCopy(c, c.input(0), 0, shape, strides, *out);
}

// --- DepthToSpace, SpaceToDepth ------------------------------------------------------------------

absl::StatusOr<int64_t> BlockSize(const InferContext& c) {
  const int64_t block = c.attributes().Int("blocksize", 0);
  if (block < 1 || block > (1 << 16)) return c.Error(absl::StrCat("blocksize is ", block));
  return block;
}

absl::StatusOr<Dim> Divided(const InferContext& c, const Dim& d, int64_t by) {
  if (by == 1) return d;
  if (!d.known()) return Dim();
  if (d.value % by != 0) return c.Error(absl::StrCat("size ", d.value, " is no multiple of ", by));
  return Dim(d.value / by);
}

absl::Status InferDepthToSpace(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 4, 4));
  HT_ASSIGN_OR_RETURN(const int64_t b, BlockSize(c));
  Dims out(4);
  if (const SymbolicShape& x = c.input(0).shape; x.has_value()) {
    out[0] = (*x)[0];
    HT_ASSIGN_OR_RETURN(out[1], Divided(c, (*x)[1], b * b));
    for (const int i : {2, 3}) {
      HT_ASSIGN_OR_RETURN(out[i], Scaled(c, (*x)[i], b));
    }
  }
  c.set_output(0, c.input(0).type, std::move(out));
  return absl::OkStatus();
}

absl::Status EvalDepthToSpace(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Tensor& x = c.input(0);
  const int64_t b = c.attributes().Int("blocksize", 1), channels = out->dim(1);
  const int64_t h = x.dim(2), w = x.dim(3), plane = h * w;
  // Channels of x are (b, b, C) in DCR mode and (C, b, b) in CRD mode.
  const bool dcr = c.attributes().String("mode", "DCR") == "DCR";
  const int64_t channel = dcr ? plane : b * b * plane, block = dcr ? channels * plane : plane;
  return StridedCopy(c, x, 0, {x.dim(0), channels, h, b, w, b},
                     {x.dim(1) * plane, channel, w, b * block, 1, block}, *out);
}

absl::Status InferSpaceToDepth(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 4, 4));
  HT_ASSIGN_OR_RETURN(const int64_t b, BlockSize(c));
  Dims out(4);
  if (const SymbolicShape& x = c.input(0).shape; x.has_value()) {
    out[0] = (*x)[0];
    HT_ASSIGN_OR_RETURN(out[1], Scaled(c, (*x)[1], b * b));
    for (const int i : {2, 3}) {
      HT_ASSIGN_OR_RETURN(out[i], Divided(c, (*x)[i], b));
    }
  }
  c.set_output(0, c.input(0).type, std::move(out));
  return absl::OkStatus();
}

absl::Status EvalSpaceToDepth(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Tensor& x = c.input(0);
  const int64_t b = c.attributes().Int("blocksize", 1), w = x.dim(3), plane = x.dim(2) * w;
  return StridedCopy(c, x, 0, {x.dim(0), b, b, x.dim(1), out->dim(2), out->dim(3)},
                     {x.dim(1) * plane, w, 1, plane, b * w, b}, *out);
}

// --- Trilu ---------------------------------------------------------------------------------------

absl::Status InferTrilu(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 2, 64));
  HT_RETURN_IF_ERROR(CheckType(c, 1, Types(DataType::kI64)));
  HT_RETURN_IF_ERROR(CheckOneElement(c, 1));
  return InferLikeInput(c);
}

absl::Status EvalTrilu(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const bool upper = c.attributes().Int("upper", 1) != 0;
  const int64_t rows = out->dim(out->rank() - 2), columns = out->dim(out->rank() - 1);
  // The diagonal, brought to where it still makes a difference, so that sums cannot overflow.
  const int64_t k =
      c.has_input(1) ? std::clamp(c.input(1).data<int64_t>()[0], -rows - 1, columns + 1) : 0;
  return DispatchWidth(c, out->type(), [&](auto tag) {
    using U = decltype(tag);
    const U* from = Raw<U>(c.input(0));
    U* to = MutableRaw<U>(*out);
    for (int64_t i = 0; i < out->num_elements(); ++i) {
      const int64_t row = i / columns % rows, column = i % columns;
      const bool keeps = upper ? column - row >= k : column - row <= k;
      to[i] = keeps ? from[i] : U{0};
    }
  });
}

template <EvalFn kEval>
constexpr OpDef Movement(absl::string_view name, int since, Arity inputs, InferFn infer,
                         QuantBehavior quant = QuantBehavior::kPassThrough) {
  return ExactRow(name, since, inputs, infer, Unpacked<kEval>, kAllTypes, quant);
}

constexpr OpDef Split(int since, Arity inputs) {
  OpDef row = Movement<EvalSplit>("Split", since, inputs, InferSplit);
  row.outputs = {1, -1};
  return row;
}

constexpr std::array kRows = {
    Movement<EvalTranspose>("Transpose", 1, {1, 1}, InferTranspose),
    Movement<EvalConcat>("Concat", 4, {1, -1}, InferConcat, QuantBehavior::kElementwiseInt8),
    Split(2, {1, 1}),
    Split(13, {1, 2}),
    Movement<EvalTile>("Tile", 6, {2, 2}, InferTile),
    Movement<EvalDepthToSpace>("DepthToSpace", 1, {1, 1}, InferDepthToSpace),
    Movement<EvalSpaceToDepth>("SpaceToDepth", 1, {1, 1}, InferSpaceToDepth),
    Movement<EvalTrilu>("Trilu", 14, {1, 2}, InferTrilu, QuantBehavior::kFloatOnly),
};

}  // namespace

absl::Span<const OpDef> MovementOps() { return kRows; }

}  // namespace halftone
