// Slice and Pad: parts of a tensor, and a tensor with margins.
#include <algorithm>
#include <array>

#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"
#include "core/ops/known_arguments.h"

namespace halftone {
namespace {

// --- Slice ---------------------------------------------------------------------------------------

struct SliceArguments {
  IntsArgument starts, ends, axes, steps;
};

// Attributes before opset 10, inputs after.
template <typename Context>
absl::StatusOr<SliceArguments> ReadSlice(const Context& c) {
  SliceArguments s;
  if (c.opset() < 10) {
    s.starts = IntsAttribute(c.attributes(), "starts");
    s.ends = IntsAttribute(c.attributes(), "ends");
    s.axes = IntsAttribute(c.attributes(), "axes");
    if (s.starts.absent() || s.ends.absent()) return c.Error("starts or ends are absent");
    return s;
  }
  HT_ASSIGN_OR_RETURN(s.starts, IntsInput(c, 1));
  HT_ASSIGN_OR_RETURN(s.ends, IntsInput(c, 2));
  HT_ASSIGN_OR_RETURN(s.axes, IntsInput(c, 3));
  HT_ASSIGN_OR_RETURN(s.steps, IntsInput(c, 4));
  return s;
}

SlicedAxis ClampSlice(int64_t axis, int64_t start, int64_t end, int64_t step, int64_t size) {
  // Steps beyond the size select one element; keeping them small keeps the arithmetic defined.
  step = std::clamp(step, -size - 1, size + 1);
  if (start < 0) start += size;
  if (end < 0) end += size;
  if (step > 0) {
    start = std::clamp<int64_t>(start, 0, size);
    end = std::clamp<int64_t>(end, 0, size);
    return {axis, start, step, std::max<int64_t>(0, (end - start + step - 1) / step)};
  }
  start = std::clamp<int64_t>(start, -1, size - 1);
  end = std::clamp<int64_t>(end, -1, size - 1);
  return {axis, start, step, std::max<int64_t>(0, (start - end - step - 1) / -step)};
}

// The named axes (all of the first ones without names), normalised, in the order of starts.
template <typename Context>
absl::StatusOr<Shape> SliceAxes(const Context& c, const SliceArguments& s, int64_t rank) {
  const size_t count = s.starts.values.size();
  Shape axes = s.axes.values;
  if (s.axes.absent()) {
    for (size_t i = 0; i < count; ++i) axes.push_back(static_cast<int64_t>(i));
  }
  if (s.ends.values.size() != count || axes.size() != count ||
      (!s.steps.absent() && s.steps.values.size() != count)) {
    return c.Error("starts, ends, axes and steps want the same length");
  }
  for (int64_t& a : axes) {
    if (a < -rank || a >= rank)
      return c.Error(absl::StrCat("axis ", a, " is outside of rank ", rank));
    a = Axis(a, rank);
  }
  for (size_t i = 0; i < count; ++i) {
    if (std::find(axes.begin(), axes.begin() + i, axes[i]) != axes.begin() + i) {
      return c.Error(absl::StrCat("axis ", axes[i], " is named twice"));
    }
  }
  for (size_t i = 0; i < count && !s.steps.absent(); ++i) {
    if (s.steps.values[i] == 0) return c.Error("a step is 0");
  }
  return axes;
}

// Requires: everything is known; axes as SliceAxes returns them.
std::vector<SlicedAxis> Resolve(const SliceArguments& s, const Shape& axes, const Shape& shape) {
  std::vector<SlicedAxis> out;
  for (size_t i = 0; i < axes.size(); ++i) {
    out.push_back(ClampSlice(axes[i], s.starts.values[i], s.ends.values[i],
                             s.steps.absent() ? 1 : s.steps.values[i], shape[axes[i]]));
  }
  return out;
}

void SliceElements(InferContext& c, int64_t start, int64_t end, int64_t step) {
  const std::optional<Elements> in = c.elements(0);
  if (!in.has_value()) return;
  const SlicedAxis s = ClampSlice(0, start, end, step, static_cast<int64_t>(in->size()));
  Elements out;
  for (int64_t i = 0; i < s.count; ++i) out.push_back((*in)[s.start + i * s.step]);
  c.set_elements(0, std::move(out));
}

absl::Status InferSlice(InferContext& c) {
  HT_ASSIGN_OR_RETURN(const SliceArguments s, ReadSlice(c));
  const SymbolicShape& x = c.input(0).shape;
  c.set_output(0, c.input(0).type, std::nullopt);
  if (!x.has_value()) return absl::OkStatus();
  const int64_t rank = static_cast<int64_t>(x->size());
  Dims out = *x;
  const auto unknown = [](const IntsArgument& a) { return !a.absent() && !a.known(); };
  if (unknown(s.axes)) {
    c.set_output(0, c.input(0).type, Dims(x->size()));
    return absl::OkStatus();
  }
  if (unknown(s.starts) || unknown(s.ends) || unknown(s.steps)) {
    // Only the sliced axes lose their size; without names these are the first ones.
    for (int64_t i = 0; i < (s.axes.absent() ? s.starts.size.value_or(rank) : 0) && i < rank; ++i) {
      out[i] = Dim();
    }
    for (const int64_t a : s.axes.values) {
      HT_ASSIGN_OR_RETURN(const int64_t axis, NormalizeAxis(c, a, rank));
      out[axis] = Dim();
    }
    c.set_output(0, c.input(0).type, std::move(out));
    return absl::OkStatus();
  }
  HT_ASSIGN_OR_RETURN(const Shape axes, SliceAxes(c, s, rank));
  for (size_t i = 0; i < axes.size(); ++i) {
    Dim& d = out[axes[i]];
    const int64_t start = s.starts.values[i], end = s.ends.values[i];
    const int64_t step = s.steps.absent() ? 1 : s.steps.values[i];
    if (d.known()) {
      d = ClampSlice(axes[i], start, end, step, d.value).count;
    } else if (start != 0 || end < (int64_t{1} << 31) - 1 || step != 1) {
      d = Dim();
    }
  }
  c.set_output(0, c.input(0).type, std::move(out));
  if (rank == 1 && axes.size() == 1) {
    SliceElements(c, s.starts.values[0], s.ends.values[0],
                  s.steps.absent() ? 1 : s.steps.values[0]);
  }
  return absl::OkStatus();
}

absl::Status EvalSlice(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Tensor& x = c.input(0);
  HT_ASSIGN_OR_RETURN(const SliceArguments s, ReadSlice(c));
  HT_ASSIGN_OR_RETURN(const Shape axes, SliceAxes(c, s, x.rank()));
  Shape strides = RowMajorStrides(x.shape());
  int64_t first = 0;
  for (const SlicedAxis& a : Resolve(s, axes, x.shape())) {
    first += a.start * strides[a.axis];
    strides[a.axis] *= a.step;
  }
  if (out->num_elements() == 0) return absl::OkStatus();
  return StridedCopy(c, x, first, out->shape(), strides, *out);
}

// --- Pad -----------------------------------------------------------------------------------------

enum class PadMode : uint8_t { kConstant, kReflect, kEdge, kWrap };

template <typename Context>
absl::StatusOr<PadMode> ReadPadMode(const Context& c) {
  const std::string mode = c.attributes().String("mode", "constant");
  if (mode == "constant") return PadMode::kConstant;
  if (mode == "reflect") return PadMode::kReflect;
  if (mode == "edge") return PadMode::kEdge;
  if (mode == "wrap") return PadMode::kWrap;
  return c.Error(absl::StrCat("mode is '", mode, "', want constant, reflect, edge or wrap"));
}

// Margins per axis of the data; negative ones crop.
struct Margins {
  Shape begin, end;
};

struct PadArguments {
  IntsArgument pads, axes;
};
template <typename Context>
absl::StatusOr<PadArguments> ReadPads(const Context& c) {
  PadArguments p;
  if (c.opset() < 11) {
    p.pads = IntsAttribute(c.attributes(), "pads");
    if (p.pads.absent()) return c.Error("pads are absent");
    return p;
  }
  HT_ASSIGN_OR_RETURN(p.pads, IntsInput(c, 1));
  HT_ASSIGN_OR_RETURN(p.axes, IntsInput(c, 3));
  return p;
}

template <typename Context>
absl::StatusOr<Margins> ReadMargins(const Context& c, const PadArguments& p, int64_t rank) {
  const size_t count = p.axes.absent() ? static_cast<size_t>(rank) : p.axes.values.size();
  if (p.pads.values.size() != 2 * count) {
    return c.Error(absl::StrCat("got ", p.pads.values.size(), " pads for ", count, " axes"));
  }
  Margins out = {Shape(rank, 0), Shape(rank, 0)};
  for (size_t i = 0; i < count; ++i) {
    int64_t axis = p.axes.absent() ? static_cast<int64_t>(i) : p.axes.values[i];
    if (axis < -rank || axis >= rank) {
      return c.Error(absl::StrCat("axis ", axis, " is outside of rank ", rank));
    }
    axis = Axis(axis, rank);
    constexpr int64_t kMax = int64_t{1} << 40;
    const int64_t begin = p.pads.values[i], end = p.pads.values[i + count];
    if (std::max(begin, end) > kMax || std::min(begin, end) < -kMax) {
      return c.Error(absl::StrCat("pads ", begin, " and ", end, " are out of range"));
    }
    out.begin[axis] = begin;
    out.end[axis] = end;
  }
  return out;
}

absl::Status InferPad(InferContext& c) {
  if (c.opset() >= 11) {
    HT_RETURN_IF_ERROR(CheckSameType(c, 0, 2));
    HT_RETURN_IF_ERROR(CheckOneElement(c, 2));
  }
  HT_ASSIGN_OR_RETURN(const PadMode mode, ReadPadMode(c));
  const SymbolicShape& x = c.input(0).shape;
  c.set_output(0, c.input(0).type, std::nullopt);
  if (!x.has_value()) return absl::OkStatus();
  Dims out(x->size());
  HT_ASSIGN_OR_RETURN(const PadArguments p, ReadPads(c));
  if (p.pads.known() && (p.axes.absent() || p.axes.known())) {
    HT_ASSIGN_OR_RETURN(const Margins m, ReadMargins(c, p, static_cast<int64_t>(x->size())));
    for (size_t i = 0; i < x->size(); ++i) {
      const int64_t margin = m.begin[i] + m.end[i];
      const Dim& d = (*x)[i];
      if (m.begin[i] == 0 && m.end[i] == 0) {
        out[i] = d;
      } else if (d.known()) {
        if (d.value + margin < 0 || (mode != PadMode::kConstant && d.value == 0 && margin > 0)) {
          return c.Error(absl::StrCat("axis ", i, " of ", d.value, " cannot grow by ", margin));
        }
        out[i] = d.value + margin;
      }
    }
  }
  c.set_output(0, c.input(0).type, std::move(out));
  return absl::OkStatus();
}

// Input position of each output position of one axis, -1 for the constant.
std::vector<int64_t> PadSources(PadMode mode, int64_t begin, int64_t size, int64_t out) {
  std::vector<int64_t> sources(static_cast<size_t>(out));
  for (int64_t o = 0; o < out; ++o) {
    int64_t i = o - begin;
    if (mode == PadMode::kConstant) {
      i = i < 0 || i >= size ? -1 : i;
    } else if (mode == PadMode::kEdge) {
      i = std::clamp<int64_t>(i, 0, size - 1);
    } else if (mode == PadMode::kWrap) {
      i = (i % size + size) % size;
    } else if (size == 1) {
      i = 0;
    } else {  // reflect: a zigzag of period 2 (size - 1)
      const int64_t period = 2 * (size - 1);
      i = (i % period + period) % period;
      i = std::min(i, period - i);
    }
    sources[o] = i;
  }
  return sources;
}

// Fills the output along the axes from `axis` on; `from` is the input position so far.
template <typename U>
void PadAxis(const std::vector<std::vector<int64_t>>& sources, const Shape& strides, U fill,
             const U* from, size_t axis, int64_t block, U*& to) {
  if (axis == sources.size()) {
    *to++ = *from;
    return;
  }
  const int64_t inner =
      sources[axis].empty() ? 0 : block / static_cast<int64_t>(sources[axis].size());
  for (const int64_t i : sources[axis]) {
    if (i < 0) {
      std::fill(to, to + inner, fill);
      to += inner;
    } else {
      PadAxis(sources, strides, fill, from + i * strides[axis], axis + 1, inner, to);
    }
  }
}

absl::Status EvalPad(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Tensor& x = c.input(0);
  HT_ASSIGN_OR_RETURN(const PadMode mode, ReadPadMode(c));
  HT_ASSIGN_OR_RETURN(const PadArguments p, ReadPads(c));
  HT_ASSIGN_OR_RETURN(const Margins m, ReadMargins(c, p, x.rank()));
  if (out->num_elements() == 0) return absl::OkStatus();
  std::vector<std::vector<int64_t>> sources;
  for (int i = 0; i < x.rank(); ++i) {
    sources.push_back(PadSources(mode, m.begin[i], x.dim(i), out->dim(i)));
  }
  Tensor fill = Tensor::Of<float>({1}, {0.0f});
  if (c.opset() < 11) fill = Tensor::Of<float>({1}, {c.attributes().Float("value", 0)});
  HT_ASSIGN_OR_RETURN(fill, c.opset() >= 11 && c.has_input(2) ? absl::StatusOr<Tensor>(c.input(2))
                                                              : Convert(fill, x.type()));
  return DispatchWidth(c, x.type(), [&](auto tag) {
    using U = decltype(tag);
    U* to = MutableRaw<U>(*out);
    PadAxis<U>(sources, RowMajorStrides(x.shape()), Raw<U>(fill)[0], Raw<U>(x), 0,
               out->num_elements(), to);
  });
}

template <EvalFn kEval>
constexpr OpDef Slicing(absl::string_view name, int since, Arity inputs, InferFn infer,
                        QuantBehavior quant) {
  return ExactRow(name, since, inputs, infer, Unpacked<kEval>, kAllTypes, quant);
}

// Pad keeps scale and zero point like the others, but its fill value is a float of the model.
constexpr std::array kRows = {
    Slicing<EvalSlice>("Slice", 1, {1, 1}, InferSlice, QuantBehavior::kPassThrough),
    Slicing<EvalSlice>("Slice", 10, {3, 5}, InferSlice, QuantBehavior::kPassThrough),
    Slicing<EvalPad>("Pad", 2, {1, 1}, InferPad, QuantBehavior::kFloatOnly),
    Slicing<EvalPad>("Pad", 11, {2, 4}, InferPad, QuantBehavior::kFloatOnly),
};

}  // namespace

absl::Span<const OpDef> SliceOps() { return kRows; }

absl::StatusOr<std::optional<std::vector<SlicedAxis>>> SlicedAxes(const InferContext& c,
                                                                  const Shape& shape) {
  HT_ASSIGN_OR_RETURN(const SliceArguments s, ReadSlice(c));
  for (const IntsArgument* a : {&s.starts, &s.ends, &s.axes, &s.steps}) {
    if (!a->absent() && !a->known()) return std::optional<std::vector<SlicedAxis>>();
  }
  HT_ASSIGN_OR_RETURN(const Shape axes, SliceAxes(c, s, static_cast<int64_t>(shape.size())));
  return std::optional(Resolve(s, axes, shape));
}

}  // namespace halftone
