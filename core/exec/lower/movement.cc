// Operators that move elements: views, transposes, slices, concatenation, padding, gather.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "absl/container/flat_hash_set.h"
#include "core/base/status_macros.h"
#include "core/exec/kernels/copy.h"
#include "core/exec/lower/rules.h"
#include "core/ops/random.h"

namespace halftone {
namespace {

bool WholeBytes(const Value* v) { return BitWidth(*v->type().type) >= 8; }
int ElementBytes(const Value* v) { return BitWidth(*v->type().type) / 8; }

// Runs `copies` in order, all from `source` to `result`.
void AddCopies(ProgramBuilder& b, const Node& node, BufferId source, BufferId result,
               std::vector<StridedCopy> copies) {
  for (StridedCopy& c : copies) c = Simplify(c);
  b.AddStep({node.name(), node.op(), "", "copy", ""}, {source, result},
            [=, copies = std::move(copies)](Binding& bind) -> BoundStep {
              return [=, &bind] {
                for (const StridedCopy& c : copies) {
                  RunStridedCopy(c, bind.pointer(source), bind.pointer(result));
                }
                return absl::OkStatus();
              };
            });
}

Shape StridesFor(const Shape& shape, Layout layout) {
  return layout == Layout::kChannelsLast ? ChannelsLastStrides(shape) : RowMajorStrides(shape);
}

// A single copy of the whole output, read through strides of the plain input.
absl::StatusOr<bool> LowerStridedRead(ProgramBuilder& b, const Node& node, const Value* x,
                                      const Value* out, Shape src_strides, int64_t src_offset) {
  const Shape shape = b.ShapeOf(out);
  HT_ASSIGN_OR_RETURN(const BufferId source, b.FetchPlain(x));
  const BufferId result = b.Define(out, Layout::kPlain, *out->type().type);
  if (ElementCount(shape) == 0) return true;
  AddCopies(
      b, node, source, result,
      {{shape, std::move(src_strides), RowMajorStrides(shape), src_offset, 0, ElementBytes(out)}});
  return true;
}

// Constant integers behind an input; nullopt when it is not constant.
std::optional<Shape> ConstantInts(const Value* v) {
  if (v == nullptr || !v->is_constant()) return std::nullopt;
  absl::StatusOr<Shape> values = ToInt64s(v->constant());
  if (!values.ok()) return std::nullopt;
  return *values;
}

// From an input (newer opsets) or an attribute; nullopt when neither is there or known.
std::optional<Shape> InputOrAttribute(const Node& node, int input, absl::string_view attribute) {
  if (node.input(input) != nullptr) return ConstantInts(node.input(input));
  if (const auto* ints = node.attributes().Find<std::vector<int64_t>>(attribute)) {
    return Shape(ints->begin(), ints->end());
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<bool> LowerView(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Value* x = unit.anchor->input(0);
  const Value* out = unit.anchor->output(0);
  if (unit.anchor->op() == "Identity" || unit.anchor->op() == "Dropout") {
    if (unit.anchor->output(1) != nullptr) return false;
    if (IsRandom(*unit.anchor)) {
      *reason = "may be training";
      return false;
    }
    HT_RETURN_IF_ERROR(b.FetchPlain(x).status());
    b.DefineIn(out, b.PlaceOf(x));
    return true;
  }
  HT_ASSIGN_OR_RETURN(const BufferId buffer, b.FetchPlain(x));
  b.DefineIn(out, {buffer, Layout::kPlain, *x->type().type});
  return true;
}

absl::StatusOr<bool> LowerTranspose(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* x = node.input(0);
  const Value* out = node.output(0);
  const Shape shape = b.ShapeOf(x);
  const size_t rank = shape.size();
  std::vector<int64_t> perm = node.attributes().Ints("perm");
  if (perm.empty()) {
    for (size_t i = rank; i-- > 0;) perm.push_back(static_cast<int64_t>(i));
  }
  if (perm.size() != rank || !WholeBytes(x)) {
    *reason = "permutation or type";
    return false;
  }
  // A tensor stored channels last already is its own [0, 2, …, 1] transpose, and the reverse: a
  // plain tensor is the channels-last form of its [0, n-1, 1, …] transpose.
  std::vector<int64_t> to_last(rank), from_last(rank);
  std::iota(to_last.begin(), to_last.end(), 0);
  from_last = to_last;
  if (rank >= 3) {
    std::rotate(to_last.begin() + 1, to_last.begin() + 2, to_last.end());
    std::rotate(from_last.begin() + 1, from_last.end() - 1, from_last.end());
    HT_RETURN_IF_ERROR(b.Fetch(x, b.PlaceOf(x).layout, b.PlaceOf(x).type).status());
    const Place place = b.PlaceOf(x);
    if (place.layout == Layout::kChannelsLast && perm == to_last) {
      b.DefineIn(out, {place.buffer, Layout::kPlain, place.type});
      return true;
    }
    if (place.layout == Layout::kPlain && perm == from_last) {
      b.DefineIn(out, {place.buffer, Layout::kChannelsLast, place.type});
      return true;
    }
  }
  const Shape dense = RowMajorStrides(shape);
  Shape strides(rank);
  for (size_t i = 0; i < rank; ++i) strides[i] = dense[perm[i]];
  return LowerStridedRead(b, node, x, out, strides, 0);
}

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
    if (shape.size() >= 3 && !in->is_constant() && b.PlaceOf(in).layout == Layout::kChannelsLast) {
      layout = Layout::kChannelsLast;
    }
  }
  const DataType type = *out->type().type;
  std::vector<BufferId> sources;
  for (const Value* in : node.inputs()) {
    HT_ASSIGN_OR_RETURN(sources.emplace_back(), b.Fetch(in, layout, type));
  }
  const BufferId result = b.Define(out, layout, type);
  const Shape dst_strides = StridesFor(shape, layout);
  int64_t offset = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    const Shape part = b.ShapeOf(node.input(static_cast<int>(i)));
    if (ElementCount(part) > 0) {
      AddCopies(b, node, sources[i], result,
                {{part, StridesFor(part, layout), dst_strides, 0, offset, ElementBytes(out)}});
    }
    offset += part[axis] * dst_strides[axis];
  }
  return true;
}

absl::StatusOr<bool> LowerSlice(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* x = node.input(0);
  const Value* out = node.output(0);
  const Shape shape = b.ShapeOf(x);
  const int64_t rank = static_cast<int64_t>(shape.size());
  const auto starts = InputOrAttribute(node, 1, "starts");
  auto axes = InputOrAttribute(node, 3, "axes");
  auto steps = ConstantInts(node.input(4));
  if (!starts || !WholeBytes(x) || (node.input(3) != nullptr && !axes) ||
      (node.input(4) != nullptr && !steps)) {
    *reason = "bounds are not constant";
    return false;
  }
  if (!axes) {
    axes.emplace(starts->size());
    std::iota(axes->begin(), axes->end(), 0);
  }
  if (!steps) steps.emplace(starts->size(), 1);
  Shape strides = RowMajorStrides(shape);
  int64_t offset = 0;
  for (size_t i = 0; i < starts->size(); ++i) {
    const int64_t axis = (*axes)[i] < 0 ? (*axes)[i] + rank : (*axes)[i];
    const int64_t size = shape[axis], step = (*steps)[i];
    int64_t start = (*starts)[i] < 0 ? (*starts)[i] + size : (*starts)[i];
    start = std::clamp<int64_t>(start, 0, step > 0 ? size : size - 1);
    offset += start * strides[axis];
    strides[axis] *= step;
  }
  return LowerStridedRead(b, node, x, out, strides, offset);
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
  HT_RETURN_IF_ERROR(b.Fetch(x, b.PlaceOf(x).layout, b.PlaceOf(x).type).status());
  const Place place = b.PlaceOf(x);
  if (place.type != *x->type().type) {
    *reason = "stored in another type";
    return false;
  }
  const Shape strides = StridesFor(shape, place.layout);
  int64_t offset = 0;
  for (const Value* out : node.outputs()) {
    if (out == nullptr) {
      *reason = "unnamed output";
      return false;
    }
  }
  for (const Value* out : node.outputs()) {
    const Shape part = b.ShapeOf(out);
    const BufferId result = b.Define(out, place.layout, place.type);
    if (ElementCount(part) > 0) {
      AddCopies(b, node, place.buffer, result,
                {{part, strides, StridesFor(part, place.layout), offset, 0, ElementBytes(out)}});
    }
    offset += part[axis] * strides[axis];
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
  Shape strides(to.size(), 0);
  const Shape dense = RowMajorStrides(from);
  const size_t lead = to.size() - from.size();
  for (size_t i = 0; i < from.size(); ++i) strides[lead + i] = from[i] == 1 ? 0 : dense[i];
  return LowerStridedRead(b, node, x, out, strides, 0);
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
  HT_RETURN_IF_ERROR(b.Fetch(x, b.PlaceOf(x).layout, b.PlaceOf(x).type).status());
  const Layout layout = b.PlaceOf(x).layout;
  HT_ASSIGN_OR_RETURN(const BufferId source, b.Fetch(x, layout, *x->type().type));
  const BufferId result = b.Define(out, layout, *out->type().type);
  StridedCopy copy{from, StridesFor(from, layout), StridesFor(to, layout)};
  for (size_t i = 0; i < from.size(); ++i) copy.dst_offset += (*pads)[i] * copy.dst_strides[i];
  copy.element_bytes = ElementBytes(out);
  const int64_t bytes = ElementCount(to) * copy.element_bytes;
  const bool empty = ElementCount(from) == 0;
  copy = Simplify(copy);
  b.AddStep({node.name(), node.op(), "", "copy", ""}, {source, result},
            [=](Binding& bind) -> BoundStep {
              return [=, &bind] {
                std::memset(bind.pointer(result), 0, static_cast<size_t>(bytes));
                if (!empty) RunStridedCopy(copy, bind.pointer(source), bind.pointer(result));
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
  AddCopies(b, node, source, result, {copy});
  return true;
}

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
