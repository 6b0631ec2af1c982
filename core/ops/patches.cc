// Operators that put pieces into a larger or smaller frame: Col2Im, CenterCropPad, MaxUnpool.
#include <algorithm>
#include <array>

#include "core/base/checked_math.h"
#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"
#include "core/ops/window.h"

namespace halftone {
namespace {

// --- Col2Im --------------------------------------------------------------------------------------

// The windows of a Col2Im over an image: as many columns as positions, as many rows as taps.
struct Columns {
  Window window;
  Shape image, positions;  // per axis
};

absl::StatusOr<Columns> ReadColumns(const InferContext& c, const Shape& image, const Shape& block) {
  if (image.empty() || image.size() != block.size()) {
    return c.Error(absl::StrCat("image_shape is ", ToString(image), " and block_shape ",
                                ToString(block), ", want as many axes"));
  }
  Columns out{.image = image};
  HT_ASSIGN_OR_RETURN(out.window, ReadWindow(c, block));
  if (out.window.auto_pad != AutoPad::kNotSet) return c.Error("auto_pad is set");
  out.window.ceil_mode = false;
  for (size_t i = 0; i < image.size(); ++i) {
    if (image[i] < 1) return c.Error(absl::StrCat("image_shape is ", ToString(image)));
    HT_ASSIGN_OR_RETURN(const Dim n, OutputSize(c, out.window, i, Dim(image[i])));
    out.positions.push_back(n.value);
  }
  return out;
}

absl::Status InferCol2Im(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 3, 3));
  for (const int i : {1, 2}) {
    HT_RETURN_IF_ERROR(CheckType(c, i, Types(DataType::kI64)));
    HT_RETURN_IF_ERROR(CheckRank(c, i, 1, 1));
  }
  HT_ASSIGN_OR_RETURN(const IntsArgument image, IntsInput(c, 1));
  HT_ASSIGN_OR_RETURN(const IntsArgument block, IntsInput(c, 2));
  const SymbolicShape& x = c.input(0).shape;
  c.set_output(0, c.input(0).type, std::nullopt);
  Dims out = {x.has_value() ? (*x)[0] : Dim(), Dim()};
  constexpr int64_t kMaxAxes = 64;
  if (!image.known()) {
    // Any of the lists says how many axes there are.
    int64_t axes = image.size.value_or(block.size.value_or(0));
    for (const char* list : {"strides", "dilations"}) {
      if (axes == 0) axes = static_cast<int64_t>(c.attributes().Ints(list).size());
    }
    if (axes == 0) axes = static_cast<int64_t>(c.attributes().Ints("pads").size()) / 2;
    if (axes < 1 || axes > kMaxAxes) return absl::OkStatus();
    out.resize(static_cast<size_t>(2 + axes));
    c.set_output(0, c.input(0).type, std::move(out));
    return absl::OkStatus();
  }
  out.insert(out.end(), image.values.begin(), image.values.end());
  if (block.known()) {
    HT_ASSIGN_OR_RETURN(const Columns columns, ReadColumns(c, image.values, block.values));
    HT_ASSIGN_OR_RETURN(const int64_t taps, NumElements(block.values));
    HT_ASSIGN_OR_RETURN(const int64_t positions, NumElements(columns.positions));
    if (x.has_value()) {
      HT_RETURN_IF_ERROR(Unify(c, (*x)[2], Dim(positions)).status());
      if ((*x)[1].known()) {
        if ((*x)[1].value % taps != 0) {
          return c.Error(
              absl::StrCat("axis 1 has ", (*x)[1].value, " elements for blocks of ", taps));
        }
        out[1] = (*x)[1].value / taps;
      }
    }
  } else {
    for (const int64_t d : image.values) {
      if (d < 0) return c.Error(absl::StrCat("image_shape is ", ToString(image.values)));
    }
  }
  c.set_output(0, c.input(0).type, std::move(out));
  return absl::OkStatus();
}

// Where tap `tap` of position `position` (both row-major) falls in the image; -1: outside.
int64_t ImageOffset(const Columns& columns, int64_t tap, int64_t position) {
  int64_t offset = 0, stride = 1;
  for (size_t i = columns.image.size(); i-- > 0;) {
    const WindowAxis& a = columns.window.axes[i];
    const int64_t at =
        position % columns.positions[i] * a.stride + tap % a.kernel * a.dilation - a.begin;
    if (at < 0 || at >= columns.image[i]) return -1;
    offset += at * stride;
    stride *= columns.image[i];
    position /= columns.positions[i];
    tap /= a.kernel;
  }
  return offset;
}

absl::Status EvalCol2Im(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  HT_ASSIGN_OR_RETURN(const Shape image, ToInt64s(c.input(1)));
  HT_ASSIGN_OR_RETURN(const Shape block, ToInt64s(c.input(2)));
  Columns columns{.image = image};
  HT_ASSIGN_OR_RETURN(columns.window, ReadWindow(c, block));
  for (size_t i = 0; i < image.size(); ++i) {
    const WindowAxis& a = columns.window.axes[i];
    columns.positions.push_back((image[i] + a.begin + a.end - a.extent()) / a.stride + 1);
  }
  const int64_t taps = ElementCount(block), positions = c.input(0).dim(2);
  const int64_t plane = ElementCount(image), planes = out->dim(0) * out->dim(1);
  const auto add = [&](auto tag) {
    using T = decltype(tag);
    using W = std::conditional_t<std::is_integral_v<T>, uint64_t, T>;  // wraps
    T* to = MutableRaw<T>(*out);
    std::fill(to, to + out->num_elements(), T{0});
    for (int64_t t = 0; t < taps && planes > 0; ++t) {
      for (int64_t p = 0; p < positions; ++p) {
        const int64_t at = ImageOffset(columns, t, p);
        if (at < 0) continue;
        for (int64_t n = 0; n < planes; ++n) {
          T& pixel = to[n * plane + at];
          pixel = static_cast<T>(W(pixel) + W(Raw<T>(c.input(0))[(n * taps + t) * positions + p]));
        }
      }
    }
  };
  if (out->type() != DataType::kBool) return DispatchNumeric(c, out->type(), add);
  add(uint8_t{});
  for (uint8_t& v : absl::MakeSpan(MutableRaw<uint8_t>(*out), out->num_elements())) v = v != 0;
  return absl::OkStatus();
}

// --- CenterCropPad -------------------------------------------------------------------------------

template <typename Context>
absl::StatusOr<Shape> CropAxes(const Context& c, int64_t rank) {
  const std::vector<int64_t> named = c.attributes().Ints("axes");
  Shape axes(named.begin(), named.end());
  if (!c.attributes().Has("axes")) {
    for (int64_t i = 0; i < rank; ++i) axes.push_back(i);
  }
  std::vector<bool> seen(static_cast<size_t>(rank), false);
  for (int64_t& a : axes) {
    if (a < -rank || a >= rank || seen[Axis(a, rank)]) {
      return c.Error(absl::StrCat("axes are ", ToString(axes), " for rank ", rank));
    }
    a = Axis(a, rank);
    seen[a] = true;
  }
  return axes;
}

absl::Status InferCenterCropPad(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, kIndexTypes));
  HT_RETURN_IF_ERROR(CheckRank(c, 1, 1, 1));
  SymbolicShape shape = c.input(0).shape;
  if (shape.has_value()) {
    HT_ASSIGN_OR_RETURN(const Shape axes, CropAxes(c, static_cast<int64_t>(shape->size())));
    HT_RETURN_IF_ERROR(CheckVector(c, 1, Dim(static_cast<int64_t>(axes.size()))));
    const std::optional<Elements> elements = c.elements(1);
    Dims wanted(axes.size());
    if (elements.has_value() && elements->size() == axes.size()) {
      HT_ASSIGN_OR_RETURN(wanted, DimsFromElements(c, *elements));
    }
    for (size_t i = 0; i < axes.size(); ++i) (*shape)[axes[i]] = wanted[i];
  }
  c.set_output(0, c.input(0).type, std::move(shape));
  return absl::OkStatus();
}

absl::Status EvalCenterCropPad(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Tensor& x = c.input(0);
  Shape common = out->shape();
  const Shape from_strides = RowMajorStrides(x.shape()), to_strides = RowMajorStrides(out->shape());
  int64_t from_start = 0, to_start = 0;
  for (int a = 0; a < x.rank(); ++a) {
    common[a] = std::min(x.dim(a), out->dim(a));
    from_start += (x.dim(a) - common[a]) / 2 * from_strides[a];
    to_start += (out->dim(a) - common[a]) / 2 * to_strides[a];
  }
  return DispatchWidth(c, out->type(), [&](auto tag) {
    using U = decltype(tag);
    U* to = MutableRaw<U>(*out);
    std::fill(to, to + out->num_elements(), U{0});
    if (ElementCount(common) == 0) return;
    const U* from = Raw<U>(x) + from_start;
    to += to_start;
    ForEachRow(common, {from_strides, to_strides},
               [&](int64_t count, const int64_t* offsets, const int64_t* steps) {
                 for (int64_t i = 0; i < count; ++i) {
                   to[offsets[1] + i * steps[1]] = from[offsets[0] + i * steps[0]];
                 }
               });
  });
}

// --- MaxUnpool -----------------------------------------------------------------------------------

absl::Status InferMaxUnpool(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 3, 2 + kMaxSpatial));
  HT_RETURN_IF_ERROR(CheckType(c, 1, Types(DataType::kI64)));
  HT_RETURN_IF_ERROR(CheckType(c, 2, Types(DataType::kI64)));
  const std::vector<int64_t> kernel = c.attributes().Ints("kernel_shape");
  HT_ASSIGN_OR_RETURN(const Window window, ReadWindow(c, kernel));
  const SymbolicShape& x = c.input(0).shape;
  c.set_output(0, c.input(0).type, std::nullopt);
  if (!x.has_value()) return absl::OkStatus();
  if (kernel.size() + 2 != x->size()) {
    return c.Error(
        absl::StrCat("kernel_shape has ", kernel.size(), " values for data of rank ", x->size()));
  }
  if (const SymbolicShape& indices = c.input(1).shape; indices.has_value()) {
    HT_RETURN_IF_ERROR(CheckRank(c, 1, static_cast<int>(x->size()), static_cast<int>(x->size())));
    for (size_t i = 0; i < x->size(); ++i) {
      HT_RETURN_IF_ERROR(Unify(c, (*x)[i], (*indices)[i]).status());
    }
  }
  Dims out = {(*x)[0], (*x)[1]};
  if (c.has_input(2)) {
    HT_RETURN_IF_ERROR(CheckVector(c, 2, Dim(static_cast<int64_t>(x->size()))));
    const std::optional<Elements> elements = c.elements(2);
    out = Dims(x->size());
    if (elements.has_value() && elements->size() == x->size()) {
      HT_ASSIGN_OR_RETURN(out, DimsFromElements(c, *elements));
    }
    for (const int i : {0, 1}) {
      HT_ASSIGN_OR_RETURN(out[i], Unify(c, out[i], (*x)[i]));
    }
  } else {
    for (size_t i = 0; i < kernel.size(); ++i) {
      const WindowAxis& a = window.axes[i];
      HT_ASSIGN_OR_RETURN(Dim size, Scaled(c, (*x)[i + 2], a.stride));
      if (size.known() && (*x)[i + 2].known()) {
        size = size.value - a.stride - a.begin - a.end + a.kernel;
        if (size.value < 0) return c.Error("pads are larger than the output");
      } else {
        size = Dim();
      }
      out.push_back(size);
    }
  }
  c.set_output(0, c.input(0).type, std::move(out));
  return absl::OkStatus();
}

absl::Status EvalMaxUnpool(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const auto indices = c.input(1).data<int64_t>();
  for (const int64_t i : indices) {
    if (i < 0 || i >= out->num_elements()) {
      return c.Error(absl::StrCat("index ", i, " is outside of ", ToString(out->shape())));
    }
  }
  return DispatchWidth(c, out->type(), [&](auto tag) {
    using U = decltype(tag);
    U* to = MutableRaw<U>(*out);
    std::fill(to, to + out->num_elements(), U{0});
    for (size_t i = 0; i < indices.size(); ++i) to[indices[i]] = Raw<U>(c.input(0))[i];
  });
}

constexpr OpDef Patches(absl::string_view name, int since, Arity inputs, InferFn infer, EvalFn eval,
                        TypeSet types) {
  return {.name = name,
          .since_opset = since,
          .inputs = inputs,
          .infer = infer,
          .eval = eval,
          .types = types,
          .tolerance = kExact};
}

constexpr OpDef Col2Im() {
  OpDef row = Patches("Col2Im", 18, {3, 3}, InferCol2Im, Widened<EvalCol2Im>, kWholeByteTypes);
  row.tolerance = kAccumulate;
  return row;
}

constexpr std::array kRows = {
    Col2Im(),
    Patches("CenterCropPad", 18, {2, 2}, InferCenterCropPad, EvalCenterCropPad, kWholeByteTypes),
    Patches("MaxUnpool", 9, {2, 3}, InferMaxUnpool, EvalMaxUnpool, kFloatTypes),
};

}  // namespace

absl::Span<const OpDef> PatchOps() { return kRows; }

}  // namespace halftone
