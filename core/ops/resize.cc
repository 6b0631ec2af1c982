// Resize and its ancestor Upsample: nearest, linear and cubic interpolation, one axis after the
// other.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"

namespace halftone {
namespace {

constexpr std::array<absl::string_view, 3> kModes = {"nearest", "linear", "cubic"};
constexpr std::array<absl::string_view, 7> kCoordinates = {
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",  "align_corners",
    "asymmetric", "tf_crop_and_resize",   "tf_half_pixel_for_nn"};
constexpr std::array<absl::string_view, 3> kPolicies = {"stretch", "not_larger", "not_smaller"};
constexpr std::array<absl::string_view, 4> kNearest = {"round_prefer_floor", "round_prefer_ceil",
                                                       "floor", "ceil"};

// How one axis is resized. `begin` and `end` crop it (tf_crop_and_resize), relative to its size.
struct AxisResize {
  float scale = 1;
  float begin = 0, end = 1;
  int64_t in = 1, out = 1;
};

// Upsample, and Resize before opset 11, divide positions by the scale and cut them off.
bool IsOld(const Node& node, int opset) { return node.op() == "Upsample" || opset < 11; }

// Inputs: X, scales in old ones; X, roi, scales, sizes from then on. An Upsample of opset 7 or 8
// has its scales as an attribute.
struct ResizeInputs {
  int roi = -1, scales = 1, sizes = -1;
};
ResizeInputs InputsAt(const Node& node, int opset) {
  if (IsOld(node, opset)) return {};
  return {.roi = 1, .scales = 2, .sizes = 3};
}

const Tensor* Known(const InferContext& c, int i) { return i < 0 ? nullptr : c.constant(i); }

// An input as floats, empty when absent, unknown or empty.
absl::StatusOr<std::vector<float>> Floats(const Tensor* t) {
  if (t == nullptr || t->num_elements() == 0) return std::vector<float>();
  HT_ASSIGN_OR_RETURN(const Tensor f, Convert(*t, DataType::kF32));
  const auto values = f.data<float>();
  return std::vector<float>(values.begin(), values.end());
}

// The scales of an input or, without one, of the attribute.
absl::StatusOr<std::vector<float>> Scales(const Attributes& attributes, const Tensor* input) {
  if (const auto* scales = attributes.Find<std::vector<float>>("scales"); scales != nullptr) {
    return *scales;
  }
  return Floats(input);
}

template <typename Context>
absl::StatusOr<Shape> ResizedAxes(const Context& c, int64_t rank) {
  const std::vector<int64_t> named = c.attributes().Ints("axes");
  Shape axes(named.begin(), named.end());
  if (axes.empty()) {
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

template <typename Context>
absl::Status CheckChoice(const Context& c, absl::string_view attribute, absl::string_view fallback,
                         absl::Span<const absl::string_view> choices) {
  const std::string value = c.attributes().String(attribute, std::string(fallback));
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return absl::OkStatus();
  return c.Error(absl::StrCat(attribute, " is '", value, "'"));
}

// Scales and sizes of every axis from the input's shape, roi, scales and sizes (empty: absent).
template <typename Context>
absl::StatusOr<std::vector<AxisResize>> PlanResize(const Context& c,
                                                   absl::Span<const int64_t> shape,
                                                   const std::vector<float>& roi,
                                                   const std::vector<float>& scales,
                                                   const Shape& sizes) {
  std::vector<AxisResize> plan;
  for (const int64_t d : shape) plan.push_back({.in = d, .out = d});
  HT_ASSIGN_OR_RETURN(const Shape axes, ResizedAxes(c, static_cast<int64_t>(shape.size())));
  const size_t n = axes.size();
  if (scales.size() != (sizes.empty() ? n : 0) || (!sizes.empty() && sizes.size() != n)) {
    return c.Error(absl::StrCat("got ", scales.size(), " scales and ", sizes.size(),
                                " sizes, want ", n, " of one of them"));
  }
  const bool crops =
      c.attributes().String("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize";
  if (crops && roi.size() != 2 * n) {
    return c.Error(absl::StrCat("roi has ", roi.size(), " values, want ", 2 * n));
  }
  constexpr int64_t kMaxSize = int64_t{1} << 24;
  for (size_t i = 0; i < n; ++i) {
    AxisResize& a = plan[axes[i]];
    if (crops) {
      a.begin = roi[i];
      a.end = roi[i + n];
    }
    if (sizes.empty()) {
      a.scale = scales[i];
      const double out = std::floor(static_cast<double>(a.in) * (a.end - a.begin) * a.scale);
      if (!(a.scale > 0) || !(out >= 0) || out > static_cast<double>(kMaxSize)) {
        return c.Error(absl::StrCat("scale ", a.scale, " makes ", out, " of ", a.in));
      }
      a.out = static_cast<int64_t>(out);
    } else {
      if (sizes[i] < 0 || sizes[i] > kMaxSize) return c.Error(absl::StrCat("size ", sizes[i]));
      a.out = sizes[i];
      a.scale = a.in == 0 ? 1 : static_cast<float>(a.out) / static_cast<float>(a.in);
    }
    if (a.in == 0 && a.out != 0) return c.Error("cannot resize an axis without elements");
  }
  const std::string policy = c.attributes().String("keep_aspect_ratio_policy", "stretch");
  if (!sizes.empty() && policy != "stretch" && n > 0) {
    float scale = plan[axes[0]].scale;
    for (const int64_t axis : axes) {
      scale = policy == "not_larger" ? std::min(scale, plan[axis].scale)
                                     : std::max(scale, plan[axis].scale);
    }
    for (const int64_t axis : axes) {
      AxisResize& a = plan[axis];
      a.scale = scale;
      const float out = std::floor(scale * static_cast<float>(a.in) + 0.5f);
      if (!(out <= static_cast<float>(kMaxSize))) return c.Error(absl::StrCat("size ", out));
      a.out = static_cast<int64_t>(out);
    }
  }
  return plan;
}

// The output's dimensions while the input's are not all numbers, or neither scales nor sizes are
// known: axes that are not resized or scaled by 1 stay, and sizes say what they know.
absl::StatusOr<Dims> PartlyKnown(const InferContext& c, const Dims& x,
                                 const std::vector<float>& scales) {
  HT_ASSIGN_OR_RETURN(const Shape axes, ResizedAxes(c, static_cast<int64_t>(x.size())));
  const int sizes_at = InputsAt(c.node(), c.opset()).sizes;
  Dims sizes(axes.size());
  if (const auto elements = sizes_at < 0 ? std::nullopt : c.elements(sizes_at);
      elements.has_value() && elements->size() == axes.size() &&
      c.attributes().String("keep_aspect_ratio_policy", "stretch") == "stretch") {
    HT_ASSIGN_OR_RETURN(sizes, DimsFromElements(c, *elements));
  }
  const bool crops =
      c.attributes().String("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize";
  Dims out = x;
  for (size_t i = 0; i < axes.size(); ++i) {
    const bool stays = !crops && scales.size() == axes.size() && scales[i] == 1;
    if (!stays) out[axes[i]] = sizes[i];
  }
  return out;
}

absl::Status InferResize(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckChoice(c, "mode", "nearest", kModes));
  HT_RETURN_IF_ERROR(CheckChoice(c, "coordinate_transformation_mode", "half_pixel", kCoordinates));
  HT_RETURN_IF_ERROR(CheckChoice(c, "nearest_mode", "round_prefer_floor", kNearest));
  HT_RETURN_IF_ERROR(CheckChoice(c, "keep_aspect_ratio_policy", "stretch", kPolicies));
  const ResizeInputs in = InputsAt(c.node(), c.opset());
  for (const int i : {in.roi, in.scales}) {
    if (i >= 0) HT_RETURN_IF_ERROR(CheckType(c, i, kFloatTypes));
  }
  if (in.sizes >= 0) HT_RETURN_IF_ERROR(CheckType(c, in.sizes, Types(DataType::kI64)));
  const SymbolicShape& x = c.input(0).shape;
  c.set_output(0, c.input(0).type, std::nullopt);
  if (!x.has_value()) return absl::OkStatus();
  HT_ASSIGN_OR_RETURN(const std::vector<float> scales, Scales(c.attributes(), Known(c, in.scales)));
  Shape sizes;
  if (const Tensor* t = Known(c, in.sizes); t != nullptr) {
    HT_ASSIGN_OR_RETURN(sizes, ToInt64s(*t));
  }
  Dims out;
  const std::optional<Shape> shape = Concrete(x);
  if (shape.has_value() && (!scales.empty() || !sizes.empty())) {
    HT_ASSIGN_OR_RETURN(const std::vector<float> roi, Floats(Known(c, in.roi)));
    HT_ASSIGN_OR_RETURN(const auto plan, PlanResize(c, *shape, roi, scales, sizes));
    for (const AxisResize& a : plan) out.emplace_back(a.out);
  } else {
    HT_ASSIGN_OR_RETURN(out, PartlyKnown(c, *x, scales));
  }
  c.set_output(0, c.input(0).type, std::move(out));
  return absl::OkStatus();
}

// --- coordinates ---------------------------------------------------------------------------------

// The position in the input that output position `o` shows. In f32, as exporters and engines
// compute it: 0.5 / (1/3) - 0.5 is 1 there, in f64 with the f32 scale it is just below, and `floor`
// tells the two apart.
float SourcePosition(const AxisResize& a, absl::string_view mode, int64_t o) {
  const float x = static_cast<float>(o), scale = a.scale;
  const float in = static_cast<float>(a.in), out = static_cast<float>(a.out);
  if (mode == "asymmetric") return x / scale;
  if (mode == "align_corners") return a.out == 1 ? 0 : x * (in - 1) / (out - 1);
  if (mode == "tf_half_pixel_for_nn") return (x + 0.5f) / scale;
  if (mode == "pytorch_half_pixel" && a.out <= 1) return 0;
  if (mode == "tf_crop_and_resize") {
    if (a.out <= 1) return 0.5f * (a.begin + a.end) * (in - 1);
    return a.begin * (in - 1) + x * (a.end - a.begin) * (in - 1) / (out - 1);
  }
  float shift = 0;
  if (mode == "half_pixel_symmetric") shift = in / 2 * (1 - out / (scale * in));
  return shift + (x + 0.5f) / scale - 0.5f;
}

int64_t NearestPosition(double x, absl::string_view mode) {
  if (mode == "round_prefer_floor") return static_cast<int64_t>(std::ceil(x - 0.5));
  if (mode == "round_prefer_ceil") return static_cast<int64_t>(std::floor(x + 0.5));
  return static_cast<int64_t>(mode == "floor" ? std::floor(x) : std::ceil(x));
}

// The interpolation kernel at distance t: a triangle, or the cubic with parameter `a`.
double KernelAt(double t, bool cubic, double a) {
  t = std::abs(t);
  if (!cubic) return std::max(0.0, 1 - t);
  if (t <= 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? a * (((t - 5) * t + 8) * t - 4) : 0;
}

// An output position is a weighted sum of input positions.
struct Tap {
  int64_t at;
  double weight;
};
using Taps = std::vector<Tap>;

struct ResizeOptions {
  std::string mode, coordinates, nearest;
  double cubic_a;
  bool exclude_outside, antialias;
};

Taps TapsFor(const AxisResize& a, const ResizeOptions& options, int64_t o) {
  // A crop may point anywhere; far outside is as good as further outside.
  constexpr double kFar = 1e9;
  const double position = SourcePosition(a, options.coordinates, o);
  const double x = std::isfinite(position) ? std::clamp(position, -kFar, kFar) : -kFar;
  if (options.mode == "nearest") {
    return {{std::clamp<int64_t>(NearestPosition(x, options.nearest), 0, a.in - 1), 1}};
  }
  const bool cubic = options.mode == "cubic";
  // Antialiasing widens the kernel of a shrinking axis, so that every input counts.
  const double stretch =
      options.antialias ? std::clamp(static_cast<double>(a.scale), 1e-5, 1.0) : 1;
  const int64_t first = static_cast<int64_t>(std::floor((cubic ? -2 : -1) / stretch)) + 1;
  const double base = std::floor(x), fraction = x - base;
  Taps taps;
  double sum = 0;
  for (int64_t j = first; j < 2 - first; ++j) {
    double weight = KernelAt((static_cast<double>(j) - fraction) * stretch, cubic, options.cubic_a);
    const int64_t at = static_cast<int64_t>(base) + j;
    if (options.exclude_outside && (at < 0 || at >= a.in)) weight = 0;
    sum += weight;
    if (weight != 0) taps.push_back({std::clamp<int64_t>(at, 0, a.in - 1), weight});
  }
  if (sum != 0) {
    for (Tap& tap : taps) tap.weight /= sum;
  }
  return taps;
}

// --- evaluation ----------------------------------------------------------------------------------

// out[o, i, n] = sum over taps[i] of weight * in[o, at, n].
template <typename T>
void ResizeAxis(const std::vector<Taps>& taps, int64_t outer, int64_t in_size, int64_t inner,
                const T* in, T* out) {
  for (int64_t o = 0; o < outer; ++o, in += in_size * inner) {
    for (const Taps& position : taps) {
      if (position.size() == 1 && position[0].weight == 1) {
        std::copy_n(in + position[0].at * inner, inner, out);
      } else if constexpr (std::is_floating_point_v<T>) {
        std::fill(out, out + inner, T{0});
        for (const Tap& tap : position) {
          const T* from = in + tap.at * inner;
          const T weight = static_cast<T>(tap.weight);
          for (int64_t n = 0; n < inner; ++n) out[n] += weight * from[n];
        }
      }
      out += inner;
    }
  }
}

ResizeOptions ReadOptions(const EvalContext& c) {
  const Attributes& a = c.attributes();
  ResizeOptions o = {.mode = a.String("mode", "nearest"),
                     .coordinates = a.String("coordinate_transformation_mode", "half_pixel"),
                     .nearest = a.String("nearest_mode", "round_prefer_floor"),
                     .cubic_a = a.Float("cubic_coeff_a", -0.75f),
                     .exclude_outside = a.Int("exclude_outside", 0) != 0,
                     .antialias = a.Int("antialias", 0) != 0};
  if (IsOld(c.node(), c.opset())) {
    o.coordinates = "asymmetric";
    o.nearest = "floor";
  }
  return o;
}

// Output positions that show a place outside of the input become the extrapolation value.
template <typename T>
void FillOutside(const std::vector<AxisResize>& plan, const ResizeOptions& options, T value,
                 Tensor& out) {
  const Shape& shape = out.shape();
  for (size_t axis = 0; axis < plan.size(); ++axis) {
    const int64_t inner = DimProduct(shape, static_cast<int64_t>(axis) + 1, out.rank());
    const int64_t outer = DimProduct(shape, 0, static_cast<int64_t>(axis));
    for (int64_t o = 0; o < shape[axis]; ++o) {
      const double x = SourcePosition(plan[axis], options.coordinates, o);
      if (x >= 0 && x <= static_cast<double>(plan[axis].in - 1)) continue;
      for (int64_t n = 0; n < outer; ++n) {
        T* to = MutableRaw<T>(out) + (n * shape[axis] + o) * inner;
        std::fill(to, to + inner, value);
      }
    }
  }
}

// Resizes axis by axis; T is the type to compute in.
template <typename T>
absl::StatusOr<Tensor> ResizeAll(const std::vector<AxisResize>& plan, const ResizeOptions& options,
                                 Tensor x) {
  for (size_t axis = 0; axis < plan.size(); ++axis) {
    const AxisResize& a = plan[axis];
    if (a.scale == 1 && a.in == a.out && options.coordinates != "tf_crop_and_resize" &&
        options.coordinates != "tf_half_pixel_for_nn") {
      continue;
    }
    std::vector<Taps> taps;
    for (int64_t o = 0; o < a.out; ++o) taps.push_back(TapsFor(a, options, o));
    Shape shape = x.shape();
    const int64_t outer = DimProduct(shape, 0, static_cast<int64_t>(axis));
    const int64_t inner = DimProduct(shape, static_cast<int64_t>(axis) + 1, x.rank());
    shape[axis] = a.out;
    HT_ASSIGN_OR_RETURN(Tensor next, Tensor::Create(x.type(), shape));
    ResizeAxis<T>(taps, outer, a.in, inner, Raw<T>(x), MutableRaw<T>(next));
    x = std::move(next);
  }
  return x;
}

absl::Status EvalResize(EvalContext& c) {
  const Tensor& x = c.input(0);
  const ResizeInputs in = InputsAt(c.node(), c.opset());
  const auto input = [&](int i) { return i >= 0 && c.has_input(i) ? &c.input(i) : nullptr; };
  HT_ASSIGN_OR_RETURN(const std::vector<float> roi, Floats(input(in.roi)));
  HT_ASSIGN_OR_RETURN(const std::vector<float> scales, Scales(c.attributes(), input(in.scales)));
  Shape sizes;
  if (const Tensor* t = input(in.sizes); t != nullptr) {
    HT_ASSIGN_OR_RETURN(sizes, ToInt64s(*t));
  }
  HT_ASSIGN_OR_RETURN(const auto plan, PlanResize(c, x.shape(), roi, scales, sizes));
  const ResizeOptions options = ReadOptions(c);
  // Checks the size of the result before anything is allocated for it.
  HT_RETURN_IF_ERROR(c.Allocate(0).status());
  if (c.outputs()[0].num_elements() == 0) return absl::OkStatus();
  const bool extrapolates = options.coordinates == "tf_crop_and_resize";
  const double outside = c.attributes().Float("extrapolation_value", 0);
  absl::StatusOr<Tensor> result = absl::UnknownError("");
  if (options.mode == "nearest" && !extrapolates) {
    HT_RETURN_IF_ERROR(DispatchWidth(
        c, x.type(), [&](auto tag) { result = ResizeAll<decltype(tag)>(plan, options, x); }));
  } else {
    const DataType wide = x.type() == DataType::kF64 ? DataType::kF64 : DataType::kF32;
    HT_ASSIGN_OR_RETURN(const Tensor start, Convert(x, wide));
    HT_RETURN_IF_ERROR(DispatchFloat(c, wide, [&](auto tag) {
      using T = decltype(tag);
      result = ResizeAll<T>(plan, options, start);
      if (result.ok() && extrapolates) {
        FillOutside<T>(plan, options, static_cast<T>(outside), *result);
      }
    }));
    if (result.ok()) result = Convert(*result, x.type());
  }
  if (!result.ok()) return Annotate(result.status(), Describe(c.node()));
  c.set_output(0, *std::move(result));
  return absl::OkStatus();
}

constexpr OpDef Resize(absl::string_view name, int since, Arity inputs) {
  return {.name = name,
          .since_opset = since,
          .inputs = inputs,
          .infer = InferResize,
          .eval = Widened<EvalResize>,
          .types = kWholeByteTypes,
          .tolerance = kAccumulate};
}

constexpr std::array kRows = {Resize("Upsample", 7, {1, 1}), Resize("Upsample", 9, {2, 2}),
                              Resize("Resize", 10, {2, 2}), Resize("Resize", 11, {1, 4})};

}  // namespace

absl::Span<const OpDef> ResizeOps() { return kRows; }

}  // namespace halftone
