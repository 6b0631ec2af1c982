// Operators that move elements: views where strides say it all, otherwise copies.
#include <algorithm>
#include <cstring>

#include "core/base/status_macros.h"
#include "core/exec/kernels/copy.h"
#include "core/exec/lower/arguments.h"
#include "core/exec/lower/rules.h"
#include "core/ops/known_arguments.h"
#include "core/ops/random.h"

namespace halftone {
namespace {

using Source = ProgramBuilder::StridedSource;

// One copy from strides to a dense result.
void AddCopy(ProgramBuilder& b, const Node& node, BufferId source, BufferId result,
             const StridedCopy& wanted) {
  b.AddStep({node.name(), node.op(), "", "copy", ""}, {source, result},
            [=, copy = Simplify(wanted)](Binding& bind) -> BoundStep {
              return [=, &bind] {
                RunStridedCopy(copy, bind.pointer(source), bind.pointer(result));
                return absl::OkStatus();
              };
            });
}

// Strides of the same elements in the same order under another shape; nullopt when no strides
// reach them. Both shapes have the same, nonzero, number of elements.
std::optional<Shape> ReshapedStrides(const Shape& from, const Shape& strides, const Shape& to) {
  Shape sizes, steps;  // without the dimensions of size 1, which any stride fits
  for (size_t i = 0; i < from.size(); ++i) {
    if (from[i] == 1) continue;
    sizes.push_back(from[i]);
    steps.push_back(strides[i]);
  }
  Shape out(to.size(), 0);
  size_t f = 0, t = 0;
  while (f < sizes.size()) {
    // The shortest groups of dimensions on both sides that hold equally many elements.
    size_t f_end = f + 1, t_end = t;
    int64_t have = sizes[f], want = 1;
    while (have != want) {
      if (want < have) {
        if (t_end == to.size()) return std::nullopt;
        want *= to[t_end++];
      } else {
        if (f_end == sizes.size()) return std::nullopt;
        have *= sizes[f_end++];
      }
    }
    for (size_t i = f; i + 1 < f_end; ++i) {
      if (steps[i] != sizes[i + 1] * steps[i + 1]) return std::nullopt;
    }
    int64_t stride = steps[f_end - 1];
    for (size_t i = t_end; i-- > t;) {
      out[i] = stride;
      stride *= to[i];
    }
    f = f_end;
    t = t_end;
  }
  return out;
}

}  // namespace

absl::StatusOr<bool> LowerView(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* x = node.input(0);
  const Value* out = node.output(0);
  if (node.op() == "Identity" || node.op() == "Dropout") {
    if (node.output(1) != nullptr) return false;
    if (IsRandom(node)) {
      *reason = "may be training";
      return false;
    }
    HT_RETURN_IF_ERROR(b.FetchStrided(x).status());
    b.DefineIn(out, b.PlaceOf(x));
    return true;
  }
  const Shape from = b.ShapeOf(x), to = b.ShapeOf(out);
  const DataType type = *x->type().type;
  if (ElementCount(to) > 0 && WholeBytes(x)) {
    HT_ASSIGN_OR_RETURN(const Source source, b.FetchStrided(x));
    if (auto strides = ReshapedStrides(from, source.view.strides, to)) {
      b.DefineView(out, {source.buffer, {*std::move(strides), source.view.offset}});
      return true;
    }
    // A shuffle of channels last images ends in such images again: one copy, through the strides
    // that the result has under the shape of the source.
    if (to.size() >= 4 && b.LayoutOf(x) == Layout::kChannelsLast) {
      if (const auto dst = ReshapedStrides(to, ChannelsLastStrides(to), from)) {
        const BufferId result = b.Define(out, Layout::kChannelsLast, type);
        AddCopy(b, node, source.buffer, result,
                {from, source.view.strides, *dst, source.view.offset, 0, ElementBytes(x)});
        return true;
      }
    }
  }
  HT_ASSIGN_OR_RETURN(const BufferId buffer, b.FetchPlain(x));
  b.DefineIn(out, {buffer, Layout::kPlain, type});
  return true;
}

absl::StatusOr<bool> LowerTranspose(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* x = node.input(0);
  const size_t rank = b.ShapeOf(x).size();
  std::vector<int64_t> perm = node.attributes().Ints("perm");
  if (perm.empty()) {
    for (size_t i = rank; i-- > 0;) perm.push_back(static_cast<int64_t>(i));
  }
  if (perm.size() != rank || !WholeBytes(x)) {
    *reason = "permutation or type";
    return false;
  }
  HT_ASSIGN_OR_RETURN(Source source, b.FetchStrided(x));
  const Shape strides = source.view.strides;
  for (size_t i = 0; i < rank; ++i) source.view.strides[i] = strides[perm[i]];
  b.DefineView(node.output(0), source);
  return true;
}

namespace {

struct ConcatPart {
  BufferId buffer;
  StridedCopy copy;
};

// What has to be copied into `result`. Not inputs that were written there (SliceFor); inputs that
// are dense, and whose part of it is dense, too, take their place there now.
absl::StatusOr<std::vector<ConcatPart>> PlaceParts(ProgramBuilder& b, const Node& node,
                                                   int64_t axis, const Source& result) {
  std::vector<ConcatPart> parts;
  int64_t offset = result.view.offset;
  const Shape& strides = result.view.strides;
  for (const Value* in : node.inputs()) {
    const Shape shape = b.ShapeOf(in);
    const int bytes = ElementBytes(in);
    if (ElementCount(shape) > 0) {
      HT_ASSIGN_OR_RETURN(const Source source, b.FetchStrided(in));
      const bool dense = source.view.offset == 0 &&
                         (IsDense(shape, strides, Layout::kPlain) ||
                          IsDense(shape, strides, Layout::kChannelsLast)) &&
                         SameStrides(shape, source.view.strides, strides);
      const bool there = source.buffer == result.buffer && source.view.offset == offset;
      if (!there && (!dense || !b.PlaceInside(source.buffer, ElementCount(shape) * bytes,
                                              result.buffer, offset * bytes))) {
        parts.push_back({source.buffer, Simplify({shape, source.view.strides, strides,
                                                  source.view.offset, offset, bytes})});
      }
    }
    offset += shape[axis] * strides[axis];
  }
  return parts;
}

}  // namespace

absl::StatusOr<bool> LowerConcat(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* out = node.output(0);
  const Shape shape = b.ShapeOf(out);
  int64_t axis = node.attributes().Int("axis", 1);
  if (axis < 0) axis += static_cast<int64_t>(shape.size());
  if (!WholeBytes(out)) {
    *reason = "packed type";
    return false;
  }
  Layout layout = Layout::kPlain;
  for (const Value* in : node.inputs()) {
    if (shape.size() >= 3 && b.LayoutOf(in) == Layout::kChannelsLast) {
      layout = Layout::kChannelsLast;
    }
  }
  const Source result = b.WholeFor(out, layout);
  b.DefineView(out, result);
  HT_ASSIGN_OR_RETURN(std::vector<ConcatPart> parts, PlaceParts(b, node, axis, result));
  if (parts.empty()) return true;
  std::vector<BufferId> touches = {result.buffer};
  for (const ConcatPart& p : parts) touches.push_back(p.buffer);
  std::string name = absl::StrCat("copy of ", parts.size(), "/", node.inputs().size());
  b.AddStep({node.name(), node.op(), "", std::move(name), ""}, std::move(touches),
            [to = result.buffer, parts = std::move(parts)](Binding& bind) -> BoundStep {
              return [to, parts, &bind] {
                for (const ConcatPart& p : parts) {
                  RunStridedCopy(p.copy, bind.pointer(p.buffer), bind.pointer(to));
                }
                return absl::OkStatus();
              };
            });
  return true;
}

absl::StatusOr<bool> LowerSlice(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* x = node.input(0);
  const Value* out = node.output(0);
  const Shape shape = b.ShapeOf(x);
  HT_ASSIGN_OR_RETURN(const auto axes, SlicedAxes(b.Arguments(node), shape));
  if (!axes || !WholeBytes(x)) {
    *reason = "bounds are not constant";
    return false;
  }
  HT_ASSIGN_OR_RETURN(Source source, b.FetchStrided(x));
  for (const SlicedAxis& a : *axes) {
    if (ElementCount(b.ShapeOf(out)) == 0) break;  // nothing is read
    source.view.offset += a.start * source.view.strides[a.axis];
    source.view.strides[a.axis] *= a.step;
  }
  b.DefineView(out, source);
  return true;
}

absl::StatusOr<bool> LowerSplit(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* x = node.input(0);
  const Shape shape = b.ShapeOf(x);
  int64_t axis = node.attributes().Int("axis", 0);
  if (axis < 0) axis += static_cast<int64_t>(shape.size());
  if (!WholeBytes(x)) {
    *reason = "packed type";
    return false;
  }
  for (const Value* out : node.outputs()) {
    if (out == nullptr) {
      *reason = "unnamed output";
      return false;
    }
  }
  HT_ASSIGN_OR_RETURN(Source source, b.FetchStrided(x));
  for (const Value* out : node.outputs()) {
    b.DefineView(out, source);
    source.view.offset += b.ShapeOf(out)[axis] * source.view.strides[axis];
  }
  return true;
}

absl::StatusOr<bool> LowerExpand(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* x = node.input(0);
  const Value* out = node.output(0);
  const Shape from = b.ShapeOf(x), to = b.ShapeOf(out);
  if (!WholeBytes(x)) {
    *reason = "packed type";
    return false;
  }
  HT_ASSIGN_OR_RETURN(Source source, b.FetchStrided(x));
  Shape strides(to.size(), 0);
  const size_t lead = to.size() - from.size();
  for (size_t i = 0; i < from.size(); ++i) {
    if (from[i] != 1) strides[lead + i] = source.view.strides[i];
  }
  source.view.strides = std::move(strides);
  b.DefineView(out, source);
  return true;
}

absl::StatusOr<bool> LowerPad(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* x = node.input(0);
  const Value* out = node.output(0);
  const auto pads = InputOrAttribute(node, 1, "pads");
  const Value* fill = node.input(2);
  const bool zero =
      fill == nullptr
          ? node.attributes().Float("value", 0) == 0
          : fill->is_constant() &&
                std::all_of(fill->constant().bytes().begin(), fill->constant().bytes().end(),
                            [](std::byte v) { return v == std::byte{0}; });
  const Shape from = b.ShapeOf(x), to = b.ShapeOf(out);
  if (node.attributes().String("mode", "constant") != "constant" || !pads || !zero ||
      node.input(3) != nullptr || pads->size() != 2 * from.size() || !WholeBytes(x) ||
      std::any_of(pads->begin(), pads->end(), [](int64_t p) { return p < 0; })) {
    *reason = "not padding by constant zeros";
    return false;
  }
  const Layout layout = b.LayoutOf(x);
  HT_ASSIGN_OR_RETURN(const Source source, b.FetchStrided(x));
  const BufferId result = b.Define(out, layout, *out->type().type);
  StridedCopy copy{from, source.view.strides, StridesFor(to, layout), source.view.offset};
  for (size_t i = 0; i < from.size(); ++i) copy.dst_offset += (*pads)[i] * copy.dst_strides[i];
  copy.element_bytes = ElementBytes(out);
  const int64_t bytes = ElementCount(to) * copy.element_bytes;
  const bool empty = ElementCount(from) == 0;
  copy = Simplify(copy);
  b.AddStep({node.name(), node.op(), "", "copy", ""}, {source.buffer, result},
            [=, from_buffer = source.buffer](Binding& bind) -> BoundStep {
              return [=, &bind] {
                std::memset(bind.pointer(result), 0, static_cast<size_t>(bytes));
                if (!empty) RunStridedCopy(copy, bind.pointer(from_buffer), bind.pointer(result));
                return absl::OkStatus();
              };
            });
  return true;
}

absl::StatusOr<bool> LowerDepthToSpace(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* x = node.input(0);
  const Value* out = node.output(0);
  const Shape from = b.ShapeOf(x), to = b.ShapeOf(out);
  const int64_t s = node.attributes().Int("blocksize", 0);
  if (!WholeBytes(x) || s < 1 || ElementCount(to) == 0) {
    *reason = "type or block size";
    return false;
  }
  // Output index [n, c, h, i, w, j]; the block position (i, j) selects the input channel.
  const bool crd = node.attributes().String("mode", "DCR") == "CRD";
  const Shape in = RowMajorStrides(from), o = RowMajorStrides(to);
  const int64_t channel = crd ? s * s * in[1] : in[1];
  const int64_t row = crd ? s * in[1] : s * to[1] * in[1];
  const int64_t column = crd ? in[1] : to[1] * in[1];
  StridedCopy copy{{to[0], to[1], from[2], s, from[3], s},
                   {in[0], channel, in[2], row, in[3], column},
                   {o[0], o[1], s * o[2], o[2], s, 1}};
  copy.element_bytes = ElementBytes(out);
  HT_ASSIGN_OR_RETURN(const BufferId source, b.FetchPlain(x));
  const BufferId result = b.Define(out, Layout::kPlain, *out->type().type);
  AddCopy(b, node, source, result, copy);
  return true;
}

namespace {

// Known indices: a view where they are evenly spaced.
absl::StatusOr<bool> LowerConstantGather(ProgramBuilder& b, const Node& node, int64_t axis,
                                         Shape indices, std::string* reason) {
  const Value* data = node.input(0);
  const Value* out = node.output(0);
  const Shape shape = b.ShapeOf(data);
  const int index_rank = static_cast<int>(b.ShapeOf(node.input(1)).size());
  const int64_t count = static_cast<int64_t>(indices.size());
  for (int64_t& i : indices) {
    if (i < 0) i += shape[axis];
    if (i < 0 || i >= shape[axis]) {
      *reason = "an index is outside";
      return false;
    }
  }
  const int64_t step = count > 1 ? indices[1] - indices[0] : 0;
  bool even = index_rank <= 1 && count > 0;
  for (int64_t i = 1; i < count && even; ++i) even = indices[i] - indices[i - 1] == step;
  if (!even) {
    *reason = "indices are not evenly spaced";
    return false;
  }
  HT_ASSIGN_OR_RETURN(Source source, b.FetchStrided(data));
  Shape& strides = source.view.strides;
  source.view.offset += indices[0] * strides[axis];
  if (index_rank == 0) {
    strides.erase(strides.begin() + axis);
  } else {
    strides[axis] *= step;
  }
  b.DefineView(out, source);
  return true;
}

}  // namespace

absl::StatusOr<bool> LowerGather(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* data = node.input(0);
  const Value* indices = node.input(1);
  const Value* out = node.output(0);
  const Shape shape = b.ShapeOf(data);
  int64_t axis = node.attributes().Int("axis", 0);
  if (axis < 0) axis += static_cast<int64_t>(shape.size());
  const DataType index_type = *indices->type().type;
  if (!WholeBytes(data) || (index_type != DataType::kI64 && index_type != DataType::kI32)) {
    *reason = "type";
    return false;
  }
  if (const auto constant = ConstantInts(indices); constant && !data->is_constant()) {
    return LowerConstantGather(b, node, axis, *constant, reason);
  }
  HT_ASSIGN_OR_RETURN(const BufferId source, b.FetchPlain(data));
  HT_ASSIGN_OR_RETURN(const BufferId index, b.FetchPlain(indices));
  const BufferId result = b.Define(out, Layout::kPlain, *out->type().type);
  int64_t outer = 1, row = ElementBytes(data);
  for (int64_t i = 0; i < axis; ++i) outer *= shape[i];
  for (size_t i = axis + 1; i < shape.size(); ++i) row *= shape[i];
  const int64_t size = shape[axis], count = ElementCount(b.ShapeOf(indices));
  const bool wide = index_type == DataType::kI64;
  const std::string name = Describe(node);
  b.AddStep({node.name(), node.op(), "", "rows", ""}, {source, index, result},
            [=](Binding& bind) -> BoundStep {
              return [=, &bind]() -> absl::Status {
                const std::byte* from = bind.pointer(source);
                std::byte* to = bind.pointer(result);
                for (int64_t o = 0; o < outer; ++o) {
                  for (int64_t i = 0; i < count; ++i, to += row) {
                    int64_t at = wide ? bind.as<int64_t>(index)[i] : bind.as<int32_t>(index)[i];
                    if (at < 0) at += size;
                    if (at < 0 || at >= size) {
                      return absl::InvalidArgumentError(
                          absl::StrCat(name, ": index ", at, " is outside [0, ", size, ")"));
                    }
                    std::memcpy(to, from + (o * size + at) * row, static_cast<size_t>(row));
                  }
                }
                return absl::OkStatus();
              };
            });
  return true;
}

}  // namespace halftone
