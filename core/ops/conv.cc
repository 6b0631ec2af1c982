// Convolutions in float: Conv, ConvTranspose.
#include <array>

#include "core/base/status_macros.h"
#include "core/ops/conv_kernel.h"
#include "core/ops/families.h"

namespace halftone {
namespace {

constexpr int kMinRank = 3, kMaxRank = 2 + kMaxSpatial;

// Weights' spatial sizes, or those of kernel_shape while the weights are unknown; empty if neither.
absl::StatusOr<Shape> KernelSizes(const InferContext& c, const SymbolicShape& w) {
  const std::vector<int64_t> attribute = c.attributes().Ints("kernel_shape");
  Shape kernel(attribute.begin(), attribute.end());
  if (!w.has_value()) return kernel;
  const std::optional<Shape> sizes = Concrete(Dims(w->begin() + 2, w->end()));
  if (!sizes.has_value()) return kernel;
  if (!kernel.empty() && kernel != *sizes) {
    return c.Error(absl::StrCat("kernel_shape is ", ToString(kernel), ", but the weights have ",
                                ToString(*sizes)));
  }
  return *sizes;
}

absl::StatusOr<int64_t> Groups(const InferContext& c) {
  const int64_t groups = c.attributes().Int("group", 1);
  if (groups < 1) return c.Error(absl::StrCat("group is ", groups, ", want 1 or more"));
  return groups;
}

// The rank that data and weights agree on; 0 while neither is known.
absl::StatusOr<size_t> ConvRank(const InferContext& c, int x, int w) {
  HT_RETURN_IF_ERROR(CheckRank(c, x, kMinRank, kMaxRank));
  HT_RETURN_IF_ERROR(CheckRank(c, w, kMinRank, kMaxRank));
  const SymbolicShape& xs = c.input(x).shape;
  const SymbolicShape& ws = c.input(w).shape;
  if (xs.has_value() && ws.has_value() && xs->size() != ws->size()) {
    return c.Error(
        absl::StrCat("data has rank ", xs->size(), " and weights ", ws->size(), ", want the same"));
  }
  return xs.has_value() ? xs->size() : ws.has_value() ? ws->size() : 0;
}

template <typename T>
void FillBias(const EvalContext& c, const ConvSizes& n, int64_t plane, T* y) {
  for (int64_t i = 0; i < n.batch * n.out_channels; ++i, y += plane) {
    std::fill(y, y + plane, c.has_input(2) ? Raw<T>(c.input(2))[i % n.out_channels] : T{0});
  }
}

}  // namespace

absl::StatusOr<SymbolicShape> ConvShape(const InferContext& c, int x, int w, int b) {
  HT_ASSIGN_OR_RETURN(const size_t rank, ConvRank(c, x, w));
  if (rank == 0) return SymbolicShape();
  HT_ASSIGN_OR_RETURN(const int64_t groups, Groups(c));
  const SymbolicShape& xs = c.input(x).shape;
  const SymbolicShape& ws = c.input(w).shape;
  Dims out(rank);
  if (xs.has_value()) out[0] = (*xs)[0];
  if (ws.has_value()) {
    out[1] = (*ws)[0];
    if (out[1].known() && out[1].value % groups != 0) {
      return c.Error(absl::StrCat(out[1].value, " output channels in ", groups, " groups"));
    }
    const Dim& per_group = (*ws)[1];
    if (xs.has_value() && per_group.known() && (*xs)[1].known()) {
      HT_ASSIGN_OR_RETURN(const Dim want, Scaled(c, per_group, groups));
      if (want.value != (*xs)[1].value) {
        return c.Error(
            absl::StrCat("data has ", (*xs)[1].value, " channels, weights want ", want.value));
      }
    }
  }
  if (b >= 0 && c.has_input(b)) HT_RETURN_IF_ERROR(CheckVector(c, b, out[1]));
  HT_ASSIGN_OR_RETURN(const Shape kernel, KernelSizes(c, ws));
  if (kernel.empty()) return SymbolicShape(std::move(out));
  if (kernel.size() + 2 != rank) {
    return c.Error(absl::StrCat("kernel_shape is ", ToString(kernel), " for data of rank ", rank));
  }
  HT_ASSIGN_OR_RETURN(const Window window, ReadWindow(c, kernel));
  for (size_t i = 0; i + 2 < rank; ++i) {
    const Dim size = xs.has_value() ? (*xs)[i + 2] : Dim();
    HT_ASSIGN_OR_RETURN(out[i + 2], OutputSize(c, window, i, size));
  }
  return SymbolicShape(std::move(out));
}

namespace {

absl::Status InferConv(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckSameType(c, 0, 1));
  HT_RETURN_IF_ERROR(CheckSameType(c, 0, 2));
  HT_ASSIGN_OR_RETURN(SymbolicShape shape, ConvShape(c, 0, 1, 2));
  c.set_output(0, c.input(0).type, std::move(shape));
  return absl::OkStatus();
}

absl::Status EvalConv(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Tensor& x = c.input(0);
  const Tensor& w = c.input(1);
  HT_ASSIGN_OR_RETURN(const Window window,
                      ReadWindow(c, absl::MakeConstSpan(w.shape()).subspan(2)));
  const Spatial spatial = MakeSpatial(window, x.shape(), out->shape());
  const ConvSizes sizes = {x.dim(0), c.attributes().Int("group", 1), x.dim(1), w.dim(0)};
  return DispatchFloat(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    FillBias(c, sizes, spatial.out_size(), MutableRaw<T>(*out));
    ConvAccumulate<T>(sizes, spatial, Raw<T>(x), Raw<T>(w), MutableRaw<T>(*out));
  });
}

// --- ConvTranspose -------------------------------------------------------------------------------
//
// The gradient of Conv; input and output swap their roles in the window.

struct TransposedAxis {
  int64_t begin, out;
};

// Output size and leading padding of one spatial axis.
template <typename Context>
absl::StatusOr<TransposedAxis> Transposed(const Context& c, const Window& window, size_t axis,
                                          int64_t size) {
  const WindowAxis& a = window.axes[axis];
  const std::vector<int64_t> extra = c.attributes().Ints("output_padding");
  const std::vector<int64_t> shape = c.attributes().Ints("output_shape");
  const size_t rank = window.axes.size();
  if ((!extra.empty() && extra.size() != rank) ||
      (!shape.empty() && shape.size() != rank && shape.size() != rank + 2)) {
    return c.Error(absl::StrCat("output_padding or output_shape want ", rank, " values"));
  }
  constexpr int64_t kMax = int64_t{1} << 30;
  const int64_t padding = extra.empty() ? 0 : extra[axis];
  if (padding < 0 || padding > kMax || size > kMax) {
    return c.Error(absl::StrCat("output_padding is ", padding, " and size ", size));
  }
  const int64_t full = a.stride * (size - 1) + padding + a.extent();
  TransposedAxis t = {a.begin, full - a.begin - a.end};
  const bool same =
      window.auto_pad == AutoPad::kSameUpper || window.auto_pad == AutoPad::kSameLower;
  if (!shape.empty() || same) {
    t.out = shape.empty() ? size * a.stride : shape[axis + shape.size() - rank];
    const int64_t total = std::max<int64_t>(0, full - t.out);
    t.begin = window.auto_pad == AutoPad::kSameUpper ? total / 2 : total - total / 2;
  }
  if (t.out < 1 || t.out > kMax * 4) {
    return c.Error(absl::StrCat("spatial axis ", axis, " gets the size ", t.out));
  }
  return t;
}

absl::Status InferConvTranspose(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckSameType(c, 0, 1));
  HT_RETURN_IF_ERROR(CheckSameType(c, 0, 2));
  HT_ASSIGN_OR_RETURN(const size_t rank, ConvRank(c, 0, 1));
  c.set_output(0, c.input(0).type, std::nullopt);
  if (rank == 0) return absl::OkStatus();
  HT_ASSIGN_OR_RETURN(const int64_t groups, Groups(c));
  const SymbolicShape& xs = c.input(0).shape;
  const SymbolicShape& ws = c.input(1).shape;
  Dims out(rank);
  if (xs.has_value()) out[0] = (*xs)[0];
  if (ws.has_value()) {
    HT_ASSIGN_OR_RETURN(out[1], Scaled(c, (*ws)[1], groups));
    const Dim& channels = (*ws)[0];
    if (channels.known() && channels.value % groups != 0) {
      return c.Error(absl::StrCat(channels.value, " input channels in ", groups, " groups"));
    }
    if (xs.has_value()) HT_RETURN_IF_ERROR(Unify(c, channels, (*xs)[1]).status());
  }
  HT_RETURN_IF_ERROR(CheckVector(c, 2, out[1]));
  HT_ASSIGN_OR_RETURN(const Shape kernel, KernelSizes(c, ws));
  if (!kernel.empty()) {
    if (kernel.size() + 2 != rank) {
      return c.Error(absl::StrCat("kernel_shape is ", ToString(kernel), " for rank ", rank));
    }
    HT_ASSIGN_OR_RETURN(const Window window, ReadWindow(c, kernel));
    const bool named = !c.attributes().Ints("output_shape").empty();
    for (size_t i = 0; i + 2 < rank; ++i) {
      const Dim size = xs.has_value() ? (*xs)[i + 2] : Dim();
      // A size that the file names needs no input; any stands for it.
      if (!size.known() && !named) continue;
      HT_ASSIGN_OR_RETURN(const TransposedAxis t,
                          Transposed(c, window, i, size.known() ? size.value : 1));
      out[i + 2] = t.out;
    }
  }
  c.set_output(0, c.input(0).type, std::move(out));
  return absl::OkStatus();
}

// y += scatter of x through w; x[N,C,in…], w[C,M/groups,kernel…], y[N,M,out…]. `s` describes the
// convolution whose gradient this is: its input is y, its output is x.
template <typename T>
void TransposedAccumulate(const ConvSizes& n, const Spatial& s, const T* x, const T* w, T* y) {
  const int64_t in_per_group = n.in_channels / n.groups, out_per_group = n.out_channels / n.groups;
  for (int64_t i = 0; i < n.batch * n.in_channels; ++i) {
    const int64_t image = i / n.in_channels, channel = i % n.in_channels;
    const int64_t first_out = channel / in_per_group * out_per_group;
    const T* in = x + i * s.out_size();
    for (int64_t m = 0; m < out_per_group; ++m) {
      T* plane = y + (image * n.out_channels + first_out + m) * s.in_size();
      const T* weights = w + (channel * out_per_group + m) * s.kernel_size();
      ForEachTap(s, [&](int64_t tz, int64_t ty, int64_t tx, int64_t k) {
        const T weight = weights[k];
        ForEachTapRow(s, tz, ty, tx, [&](int64_t to, int64_t from, int64_t count, int64_t step) {
          for (int64_t j = 0; j < count; ++j) plane[to + j * step] += weight * in[from + j];
        });
      });
    }
  }
}

absl::Status EvalConvTranspose(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Tensor& x = c.input(0);
  const Tensor& w = c.input(1);
  HT_ASSIGN_OR_RETURN(const Window window,
                      ReadWindow(c, absl::MakeConstSpan(w.shape()).subspan(2)));
  Spatial spatial = MakeSpatial({.axes = window.axes}, out->shape(), x.shape());
  const int skip = kMaxSpatial - static_cast<int>(window.axes.size());
  for (size_t i = 0; i < window.axes.size(); ++i) {
    HT_ASSIGN_OR_RETURN(const TransposedAxis t, Transposed(c, window, i, x.dim(i + 2)));
    spatial.axis[i + skip].begin = t.begin;
  }
  const ConvSizes sizes = {x.dim(0), c.attributes().Int("group", 1), x.dim(1), out->dim(1)};
  return DispatchFloat(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    FillBias(c, sizes, spatial.in_size(), MutableRaw<T>(*out));
    TransposedAccumulate<T>(sizes, spatial, Raw<T>(x), Raw<T>(w), MutableRaw<T>(*out));
  });
}

constexpr std::array kRows = {
    OpDef{.name = "Conv",
          .since_opset = 1,
          .inputs = {2, 3},
          .infer = InferConv,
          .eval = Widened<EvalConv>,
          .types = kFloatTypes,
          .quant = QuantBehavior::kComputeInt8,
          .tolerance = kAccumulate},
    OpDef{.name = "ConvTranspose",
          .since_opset = 1,
          .inputs = {2, 3},
          .infer = InferConvTranspose,
          .eval = Widened<EvalConvTranspose>,
          .types = kFloatTypes,
          .tolerance = kAccumulate},
};

}  // namespace

absl::Span<const OpDef> ConvOps() { return kRows; }

}  // namespace halftone
