// Pooling over sliding windows and over whole planes.
#include <array>
#include <cmath>

#include "core/base/status_macros.h"
#include "core/ops/conv_kernel.h"
#include "core/ops/families.h"

namespace halftone {
namespace {

absl::Status InferPool(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 3, 2 + kMaxSpatial));
  const std::vector<int64_t> kernel = c.attributes().Ints("kernel_shape");
  HT_ASSIGN_OR_RETURN(const Window window, ReadWindow(c, kernel));
  // Time grows with the taps whatever the data's size; nothing real comes near this.
  constexpr int64_t kMaxTaps = int64_t{1} << 24;
  int64_t taps = 1;
  for (const int64_t k : kernel) taps = taps > kMaxTaps ? taps : taps * k;
  if (taps > kMaxTaps) return c.Error(absl::StrCat("kernel_shape is ", ToString(kernel)));
  const SymbolicShape& x = c.input(0).shape;
  if (!x.has_value()) {
    c.set_output(0, c.input(0).type, std::nullopt);
    c.set_output(1, DataType::kI64, std::nullopt);
    return absl::OkStatus();
  }
  if (kernel.size() + 2 != x->size()) {
    return c.Error(absl::StrCat("kernel_shape has ", kernel.size(), " values for data of rank ",
                                x->size(), ", want ", x->size() - 2));
  }
  Dims out = {(*x)[0], (*x)[1]};
  for (size_t i = 0; i < kernel.size(); ++i) {
    HT_ASSIGN_OR_RETURN(out.emplace_back(), OutputSize(c, window, i, (*x)[i + 2]));
  }
  c.set_output(0, c.input(0).type, out);
  c.set_output(1, DataType::kI64, std::move(out));
  return absl::OkStatus();
}

absl::StatusOr<Spatial> PoolSpatial(const EvalContext& c, const Tensor& out) {
  HT_ASSIGN_OR_RETURN(const Window window, ReadWindow(c, c.attributes().Ints("kernel_shape")));
  return MakeSpatial(window, c.input(0).shape(), out.shape());
}

// The position of row-major offset `i` of a plane when its last axis varies slowest.
int64_t ColumnMajor(const Spatial& s, int64_t i) {
  const int64_t x = i % s.in[2], y = i / s.in[2] % s.in[1], z = i / s.in[2] / s.in[1];
  return (x * s.in[1] + y) * s.in[0] + z;
}

absl::Status EvalMaxPool(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  HT_ASSIGN_OR_RETURN(const Spatial s, PoolSpatial(c, *out));
  const int64_t planes = out->dim(0) * out->dim(1);
  const bool column_major = c.attributes().Int("storage_order", 0) != 0;
  // The first of equal elements; -1 until a window has met one.
  std::vector<int64_t> where(static_cast<size_t>(out->num_elements()), -1);
  HT_RETURN_IF_ERROR(DispatchWide(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    T* to = MutableRaw<T>(*out);
    std::fill(to, to + out->num_elements(),
              std::is_floating_point_v<T> ? -std::numeric_limits<T>::infinity()
                                          : std::numeric_limits<T>::lowest());
    for (int64_t p = 0; p < planes; ++p) {
      const T* in = Raw<T>(c.input(0)) + p * s.in_size();
      const int64_t base = p * s.out_size();
      ForEachTap(s, [&](int64_t tz, int64_t ty, int64_t tx, int64_t) {
        ForEachTapRow(s, tz, ty, tx, [&](int64_t from, int64_t o, int64_t count, int64_t step) {
          for (int64_t j = 0; j < count; ++j) {
            const int64_t at = from + j * step;
            const bool larger = in[at] > to[base + o + j];
            if (larger) to[base + o + j] = in[at];
            if (larger || where[base + o + j] < 0) where[base + o + j] = at;
          }
        });
      });
    }
  }));
  if (!c.has_output(1)) return absl::OkStatus();
  HT_ASSIGN_OR_RETURN(Tensor * indices, c.Allocate(1));
  const auto index = indices->mutable_data<int64_t>();
  for (int64_t i = 0; i < indices->num_elements(); ++i) {
    const int64_t at = std::max<int64_t>(where[i], 0);
    index[i] = i / s.out_size() * s.in_size() + (column_major ? ColumnMajor(s, at) : at);
  }
  return absl::OkStatus();
}

// Taps of each output position along one axis that fall inside the input, or inside the padded
// input if `include_padding`.
std::vector<int64_t> TapCounts(const WindowAxis& a, int64_t size, int64_t out,
                               bool include_padding) {
  const int64_t low = include_padding ? -a.begin : 0;
  const int64_t high = include_padding ? size + a.end : size;
  std::vector<int64_t> counts(static_cast<size_t>(out), 0);
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t t = 0; t < a.kernel; ++t) {
      const int64_t at = o * a.stride + t * a.dilation - a.begin;
      counts[o] += at >= low && at < high;
    }
  }
  return counts;
}

// out = sum over the window of kTerm(x).
template <typename T, typename Term>
void SumWindows(const Spatial& s, int64_t planes, const T* in, T* out, Term term) {
  std::fill(out, out + planes * s.out_size(), T{0});
  for (int64_t p = 0; p < planes; ++p, in += s.in_size(), out += s.out_size()) {
    ForEachTap(s, [&](int64_t tz, int64_t ty, int64_t tx, int64_t) {
      ForEachTapRow(s, tz, ty, tx, [&](int64_t from, int64_t to, int64_t count, int64_t step) {
        for (int64_t j = 0; j < count; ++j) out[to + j] += term(in[from + j * step]);
      });
    });
  }
}

absl::Status EvalAveragePool(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  HT_ASSIGN_OR_RETURN(const Spatial s, PoolSpatial(c, *out));
  const bool include = c.attributes().Int("count_include_pad", 0) != 0;
  std::array<std::vector<int64_t>, kMaxSpatial> counts;
  for (int i = 0; i < kMaxSpatial; ++i) {
    counts[i] = TapCounts(s.axis[i], s.in[i], s.out[i], include);
  }
  const int64_t planes = out->dim(0) * out->dim(1);
  return DispatchFloat(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    T* to = MutableRaw<T>(*out);
    SumWindows<T>(s, planes, Raw<T>(c.input(0)), to, [](T x) { return x; });
    for (int64_t p = 0; p < planes; ++p) {
      for (const int64_t z : counts[0]) {
        for (const int64_t y : counts[1]) {
          for (const int64_t x : counts[2])
            *to++ /= static_cast<T>(std::max<int64_t>(1, z * y * x));
        }
      }
    }
  });
}

absl::Status InferLpPool(InferContext& c) {
  if (c.attributes().Int("p", 2) < 1) return c.Error("p is not positive");
  return InferPool(c);
}

absl::Status EvalLpPool(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  HT_ASSIGN_OR_RETURN(const Spatial s, PoolSpatial(c, *out));
  const int64_t p = c.attributes().Int("p", 2);
  return DispatchFloat(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    SumWindows<T>(s, out->dim(0) * out->dim(1), Raw<T>(c.input(0)), MutableRaw<T>(*out),
                  [p](T x) { return std::pow(std::abs(x), static_cast<T>(p)); });
    for (T& y : out->mutable_data<T>()) y = std::pow(y, T{1} / static_cast<T>(p));
  });
}

// --- whole planes --------------------------------------------------------------------------------

absl::Status InferGlobalPool(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 2, 64));
  if (c.attributes().Int("p", 2) < 1) return c.Error("p is not positive");
  SymbolicShape shape = c.input(0).shape;
  if (shape.has_value()) std::fill(shape->begin() + 2, shape->end(), Dim(1));
  c.set_output(0, c.input(0).type, std::move(shape));
  return absl::OkStatus();
}

// kReduce(plane, attributes) gives a plane's value.
template <auto kReduce>
absl::Status EvalGlobalPool(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const int64_t plane = DimProduct(c.input(0).shape(), 2, c.input(0).rank());
  if (plane == 0) return c.Error("got empty planes");
  return DispatchFloat(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    const auto x = c.input(0).data<T>();
    const auto y = out->mutable_data<T>();
    for (size_t i = 0; i < y.size(); ++i)
      y[i] = kReduce(x.subspan(i * plane, plane), c.attributes());
  });
}

constexpr auto kAverage = []<typename T>(absl::Span<const T> x, const Attributes&) {
  double sum = 0;
  for (const T v : x) sum += v;
  return static_cast<T>(sum / static_cast<double>(x.size()));
};
constexpr auto kMaximum = []<typename T>(absl::Span<const T> x, const Attributes&) {
  T best = x[0];
  for (const T v : x) best = v > best ? v : best;
  return best;
};
constexpr auto kLpNorm = []<typename T>(absl::Span<const T> x, const Attributes& a) {
  const double p = static_cast<double>(a.Int("p", 2));
  double sum = 0;
  for (const T v : x) sum += std::pow(std::abs(static_cast<double>(v)), p);
  return static_cast<T>(std::pow(sum, 1 / p));
};

template <EvalFn kEval>
constexpr OpDef Pool(absl::string_view name, InferFn infer, QuantBehavior quant,
                     Tolerance tolerance = kAccumulate) {
  return {.name = name,
          .since_opset = 1,
          .infer = infer,
          .eval = WidenedNumbers<kEval>,
          .types = kFloatTypes,
          .quant = quant,
          .tolerance = tolerance};
}

constexpr OpDef MaxPoolRow() {
  OpDef row = Pool<EvalMaxPool>("MaxPool", InferPool, QuantBehavior::kPassThrough, kExact);
  row.types = kNumericTypes;
  row.outputs = {1, 2};
  return row;
}

constexpr auto kElementwise = QuantBehavior::kElementwiseInt8;
constexpr auto kFloatOnly = QuantBehavior::kFloatOnly;
constexpr std::array kRows = {
    MaxPoolRow(),
    Pool<EvalAveragePool>("AveragePool", InferPool, kElementwise),
    Pool<EvalLpPool>("LpPool", InferLpPool, kFloatOnly),
    Pool<EvalGlobalPool<kAverage>>("GlobalAveragePool", InferGlobalPool, kElementwise),
    Pool<EvalGlobalPool<kMaximum>>("GlobalMaxPool", InferGlobalPool, QuantBehavior::kPassThrough,
                                   kExact),
    Pool<EvalGlobalPool<kLpNorm>>("GlobalLpPool", InferGlobalPool, kFloatOnly),
};

}  // namespace

absl::Span<const OpDef> PoolOps() { return kRows; }

}  // namespace halftone
