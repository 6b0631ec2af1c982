// Operators that read images between their pixels: GridSample, DeformConv.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/status_macros.h"
#include "core/ops/conv_kernel.h"
#include "core/ops/families.h"

namespace halftone {
namespace {

// One weighted neighbour along one axis.
struct Tap {
  int64_t index;
  double weight;
};

// Up to four taps of one axis.
struct Taps {
  std::array<Tap, 4> taps;
  int count = 0;
  void Add(int64_t index, double weight) { taps[count++] = {index, weight}; }
};

// The sum over the product of the axes' taps, from `axis` on.
template <typename T>
double WeightedSum(absl::Span<const Taps> axes, absl::Span<const int64_t> strides, const T* from) {
  double sum = 0;
  for (int t = 0; t < axes[0].count; ++t) {
    const Tap& tap = axes[0].taps[t];
    const T* at = from + tap.index * strides[0];
    sum += tap.weight * (axes.size() == 1 ? static_cast<double>(*at)
                                          : WeightedSum(axes.subspan(1), strides.subspan(1), at));
  }
  return sum;
}

// The two neighbours of a position; those outside of [0, size) count as zero.
Taps LinearTaps(double x, int64_t size) {
  Taps out;
  if (!(x > -1 && x < static_cast<double>(size))) return out;
  const double low = std::floor(x);
  const int64_t i = static_cast<int64_t>(low);
  if (i >= 0) out.Add(i, 1 - (x - low));
  if (i + 1 < size) out.Add(i + 1, x - low);
  return out;
}

// --- GridSample ----------------------------------------------------------------------------------

enum class Interpolation : uint8_t { kNearest, kLinear, kCubic };
enum class Padding : uint8_t { kZeros, kBorder, kReflection };

struct GridOptions {
  Interpolation interpolation;
  Padding padding;
  bool align_corners;
};

template <typename Context>
absl::StatusOr<GridOptions> ReadGridOptions(const Context& c) {
  // Opset 20 renamed two modes.
  const bool old = c.opset() < 20;
  const std::string linear = old ? "bilinear" : "linear", cubic = old ? "bicubic" : "cubic";
  const std::string mode = c.attributes().String("mode", linear);
  const std::string padding = c.attributes().String("padding_mode", "zeros");
  if (mode != "nearest" && mode != linear && mode != cubic) {
    return c.Error(absl::StrCat("mode is '", mode, "', want nearest, ", linear, " or ", cubic));
  }
  if (padding != "zeros" && padding != "border" && padding != "reflection") {
    return c.Error(
        absl::StrCat("padding_mode is '", padding, "', want zeros, border or reflection"));
  }
  return GridOptions{.interpolation = mode == linear  ? Interpolation::kLinear
                                      : mode == cubic ? Interpolation::kCubic
                                                      : Interpolation::kNearest,
                     .padding = padding == "zeros"    ? Padding::kZeros
                                : padding == "border" ? Padding::kBorder
                                                      : Padding::kReflection,
                     .align_corners = c.attributes().Int("align_corners", 0) != 0};
}

absl::Status InferGridSample(InferContext& c) {
  constexpr int kMaxRank = 8;  // the work grows exponentially with the rank
  HT_RETURN_IF_ERROR(ReadGridOptions(c).status());
  HT_RETURN_IF_ERROR(CheckType(c, 1, kFloatTypes));
  HT_RETURN_IF_ERROR(c.opset() < 20 ? CheckRank(c, 0, 4, 4) : CheckRank(c, 0, 3, kMaxRank));
  HT_RETURN_IF_ERROR(c.opset() < 20 ? CheckRank(c, 1, 4, 4) : CheckRank(c, 1, 3, kMaxRank));
  const SymbolicShape& x = c.input(0).shape;
  const SymbolicShape& grid = c.input(1).shape;
  c.set_output(0, c.input(0).type, std::nullopt);
  if (!x.has_value() || !grid.has_value()) return absl::OkStatus();
  if (grid->size() != x->size()) {
    return c.Error(
        absl::StrCat("data has rank ", x->size(), " and grid ", grid->size(), ", want the same"));
  }
  const Dim axes(static_cast<int64_t>(x->size()) - 2);
  HT_RETURN_IF_ERROR(Unify(c, grid->back(), axes).status());
  Dims out(x->size());
  HT_ASSIGN_OR_RETURN(out[0], Unify(c, (*x)[0], (*grid)[0]));
  out[1] = (*x)[1];
  std::copy(grid->begin() + 1, grid->end() - 1, out.begin() + 2);
  c.set_output(0, c.input(0).type, std::move(out));
  return absl::OkStatus();
}

// Mirrors a position at both borders until it lies between them.
double Reflect(double x, double low, double high) {
  const double range = high - low;
  if (x >= low && x <= high) return x;
  if (!(range > 0)) return low;
  const double distance = x < low ? low - x : x - high;
  const double turns = std::floor(distance / range), rest = distance - turns * range;
  const bool from_near = std::fmod(turns, 2) == 0;
  return (x < low) == from_near ? low + rest : high - rest;
}

// How an axis of `size` elements is read at the normalised position `at` of [-1, 1].
Taps GridTaps(double at, int64_t size, const GridOptions& o) {
  Taps out;
  const double n = static_cast<double>(size), last = n - 1;
  const double low = o.align_corners ? 0 : -0.5, high = o.align_corners ? last : n - 0.5;
  double x = o.align_corners ? (at + 1) / 2 * last : ((at + 1) * n - 1) / 2;
  // Runtimes compute positions in f32; half-way cases of `nearest` depend on it.
  x = static_cast<float>(x);
  if (!(std::abs(x) < 1e9)) {  // beyond any image, or no number
    if (o.padding == Padding::kZeros) return out;
    x = x > 0 ? last : 0;
  }
  if (o.interpolation == Interpolation::kNearest) x = std::nearbyint(x);
  // As in PyTorch and ONNX Runtime, cubic interpolation pads its neighbours and not the position.
  if ((x < low || x > high) && o.interpolation != Interpolation::kCubic) {
    if (o.padding == Padding::kBorder) x = std::clamp(x, 0.0, last);
    if (o.padding == Padding::kReflection) x = Reflect(x, low, high);
  }
  const auto add = [&](int64_t i, double weight) {
    if (o.padding == Padding::kReflection) {
      i = static_cast<int64_t>(Reflect(static_cast<double>(i), low, high));
    }
    if (o.padding != Padding::kZeros) i = std::clamp<int64_t>(i, 0, size - 1);
    if (i >= 0 && i < size) out.Add(i, weight);
  };
  const double floor = std::floor(x), t = x - floor;
  const int64_t i = static_cast<int64_t>(floor);
  switch (o.interpolation) {
    case Interpolation::kNearest:
      add(static_cast<int64_t>(x), 1);
      break;
    case Interpolation::kLinear:
      add(i, 1 - t);
      add(i + 1, t);
      break;
    case Interpolation::kCubic: {
      constexpr double kA = -0.75;
      const auto outer = [](double d) { return ((kA * d - 5 * kA) * d + 8 * kA) * d - 4 * kA; };
      const auto inner = [](double d) { return ((kA + 2) * d - (kA + 3)) * d * d + 1; };
      add(i - 1, outer(t + 1));
      add(i, inner(t));
      add(i + 1, inner(1 - t));
      add(i + 2, outer(2 - t));
    }
  }
  return out;
}

absl::Status EvalGridSample(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  HT_ASSIGN_OR_RETURN(const GridOptions options, ReadGridOptions(c));
  HT_ASSIGN_OR_RETURN(const Tensor grid, Convert(c.input(1), DataType::kF64));
  const Tensor& x = c.input(0);
  const Shape sizes(x.shape().begin() + 2, x.shape().end());
  const Shape strides = RowMajorStrides(sizes);
  const int64_t axes = static_cast<int64_t>(sizes.size()), plane = ElementCount(sizes);
  const int64_t channels = x.dim(1), points = DimProduct(out->shape(), 2, out->rank());
  if (out->num_elements() > 0 && plane == 0) return c.Error("got empty planes");
  const auto sample = [&](auto tag) {
    using T = decltype(tag);
    std::vector<Taps> taps(static_cast<size_t>(axes));
    for (int64_t p = 0; p < out->dim(0) * points && channels > 0; ++p) {
      const int64_t image = p / points;
      // The grid names the innermost axis first.
      for (int64_t a = 0; a < axes; ++a) {
        taps[a] = GridTaps(grid.data<double>()[(p + 1) * axes - 1 - a], sizes[a], options);
      }
      for (int64_t ch = image * channels; ch < (image + 1) * channels; ++ch) {
        MutableRaw<T>(*out)[ch * points + p % points] =
            Saturate<T>(WeightedSum<T>(taps, strides, Raw<T>(x) + ch * plane));
      }
    }
  };
  if (out->type() != DataType::kBool) return DispatchNumeric(c, out->type(), sample);
  sample(uint8_t{});  // the same bytes; what lies between 0 and 1 is cut off to 0
  return absl::OkStatus();
}

// --- DeformConv ----------------------------------------------------------------------------------

// Inputs: X, W, offset, B, mask.
absl::Status InferDeformConv(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 4, 4));
  HT_RETURN_IF_ERROR(CheckRank(c, 1, 4, 4));
  for (const int i : {1, 2, 3, 4}) HT_RETURN_IF_ERROR(CheckSameType(c, 0, i));
  for (const int i : {2, 4}) HT_RETURN_IF_ERROR(CheckRank(c, i, 4, 4));
  HT_ASSIGN_OR_RETURN(SymbolicShape shape, ConvShape(c, 0, 1, 3));
  const int64_t groups = c.attributes().Int("offset_group", 1);
  const SymbolicShape& x = c.input(0).shape;
  const bool divides =
      groups >= 1 && (!x.has_value() || !(*x)[1].known() || ((*x)[1].value % groups == 0));
  if (!divides || groups > (1 << 20)) return c.Error(absl::StrCat("offset_group is ", groups));
  c.set_output(0, c.input(0).type, shape);
  const SymbolicShape& w = c.input(1).shape;
  if (!shape.has_value() || !w.has_value()) return absl::OkStatus();
  HT_ASSIGN_OR_RETURN(const Dim taps, Product(c, {(*w)[2], (*w)[3]}));
  HT_ASSIGN_OR_RETURN(const Dim masks, Scaled(c, taps, groups));
  HT_ASSIGN_OR_RETURN(const Dim offsets, Scaled(c, masks, 2));
  for (const int i : {2, 4}) {
    if (!c.has_input(i) || !c.input(i).shape.has_value()) continue;
    const Dims want = {(*shape)[0], i == 2 ? offsets : masks, (*shape)[2], (*shape)[3]};
    for (size_t d = 0; d < want.size(); ++d) {
      HT_RETURN_IF_ERROR(Unify(c, (*c.input(i).shape)[d], want[d]).status());
    }
  }
  return absl::OkStatus();
}

template <typename T>
class DeformConvolution {
 public:
  DeformConvolution(const EvalContext& c, const Spatial& s, const Shape& out)
      : c_(c),
        s_(s),
        channels_(c.input(0).dim(1)),
        filters_(out[1]),
        groups_(c.attributes().Int("group", 1)),
        offset_groups_(c.attributes().Int("offset_group", 1)) {}

  void Run(T* to) const {
    const int64_t batch = c_.input(0).dim(0);
    std::vector<double> columns(static_cast<size_t>(channels_ * s_.kernel_size()));
    for (int64_t n = 0; n < batch; ++n) {
      for (int64_t o = 0; o < s_.out_size(); ++o) {
        Gather(n, o, columns);
        for (int64_t m = 0; m < filters_; ++m) {
          to[(n * filters_ + m) * s_.out_size() + o] = static_cast<T>(Dot(m, columns));
        }
      }
    }
  }

 private:
  // What the taps of output position `o` see, channel by channel.
  void Gather(int64_t n, int64_t o, std::vector<double>& columns) const {
    const int64_t kernel = s_.kernel_size(), height = s_.in[1], width = s_.in[2];
    const int64_t row = o / s_.out[2], column = o % s_.out[2];
    const std::array<int64_t, 2> strides = {width, 1};
    for (int64_t ch = 0; ch < channels_; ++ch) {
      const T* plane = Raw<T>(c_.input(0)) + (n * channels_ + ch) * s_.in_size();
      const int64_t group = n * offset_groups_ + ch / (channels_ / offset_groups_);
      ForEachTap(s_, [&](int64_t, int64_t ty, int64_t tx, int64_t k) {
        const T* offset = Raw<T>(c_.input(2)) + (group * kernel + k) * 2 * s_.out_size() + o;
        const double y = Position(s_.axis[1], row, ty) + static_cast<double>(offset[0]);
        const double x =
            Position(s_.axis[2], column, tx) + static_cast<double>(offset[s_.out_size()]);
        const std::array<Taps, 2> taps = {LinearTaps(y, height), LinearTaps(x, width)};
        double value = WeightedSum<T>(taps, strides, plane);
        if (c_.has_input(4)) {
          value *=
              static_cast<double>(Raw<T>(c_.input(4))[(group * kernel + k) * s_.out_size() + o]);
        }
        columns[ch * kernel + k] = value;
      });
    }
  }

  static double Position(const WindowAxis& a, int64_t out, int64_t tap) {
    return static_cast<double>(out * a.stride + tap * a.dilation - a.begin);
  }

  double Dot(int64_t m, const std::vector<double>& columns) const {
    const int64_t width = channels_ / groups_ * s_.kernel_size();
    const int64_t group = m / (filters_ / groups_);
    const T* weights = Raw<T>(c_.input(1)) + m * width;
    double sum = c_.has_input(3) ? static_cast<double>(Raw<T>(c_.input(3))[m]) : 0;
    for (int64_t i = 0; i < width; ++i) {
      sum += static_cast<double>(weights[i]) * columns[group * width + i];
    }
    return sum;
  }

  const EvalContext& c_;
  const Spatial& s_;
  const int64_t channels_, filters_, groups_, offset_groups_;
};

absl::Status EvalDeformConv(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const Tensor& w = c.input(1);
  HT_ASSIGN_OR_RETURN(const Window window,
                      ReadWindow(c, absl::MakeConstSpan(w.shape()).subspan(2)));
  const Spatial s = MakeSpatial(window, c.input(0).shape(), out->shape());
  if (out->num_elements() == 0) return absl::OkStatus();
  return DispatchFloat(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    DeformConvolution<T>(c, s, out->shape()).Run(MutableRaw<T>(*out));
  });
}

constexpr OpDef Sampling(absl::string_view name, int since, Arity inputs, InferFn infer,
                         EvalFn eval, TypeSet types) {
  return {.name = name,
          .since_opset = since,
          .inputs = inputs,
          .infer = infer,
          .eval = eval,
          .types = types,
          .tolerance = kAccumulate};
}

constexpr std::array kRows = {
    Sampling("GridSample", 16, {2, 2}, InferGridSample, Widened<EvalGridSample>, kWholeByteTypes),
    Sampling("GridSample", 20, {2, 2}, InferGridSample, Widened<EvalGridSample>, kWholeByteTypes),
    Sampling("DeformConv", 19, {3, 5}, InferDeformConv, Widened<EvalDeformConv>, kFloatTypes),
};

}  // namespace

absl::Span<const OpDef> SamplingOps() { return kRows; }

}  // namespace halftone
