// Object detection: RoiAlign, MaxRoiPool, NonMaxSuppression.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"

namespace halftone {
namespace {

constexpr int64_t kMaxPooled = int64_t{1} << 16;  // sizes of a region's output
constexpr double kMaxSamples = 1 << 24;           // per region and channel
constexpr double kMaxCoordinate = 1e9;            // beyond any image, far from overflow

// Output [regions, channels, height, width] for data of input 0 and `regions` of input 1.
absl::Status InferRegions(InferContext& c, const Dim& regions, int64_t height, int64_t width) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 4, 4));
  if (height < 1 || width < 1 || height > kMaxPooled || width > kMaxPooled) {
    return c.Error(absl::StrCat("the output has the size ", height, " x ", width));
  }
  const SymbolicShape& x = c.input(0).shape;
  c.set_output(0, c.input(0).type,
               Dims{regions, x.has_value() ? (*x)[1] : Dim(), Dim(height), Dim(width)});
  return absl::OkStatus();
}

// Input 1 lists regions of `columns` numbers each.
absl::StatusOr<Dim> RegionCount(const InferContext& c, int64_t columns) {
  HT_RETURN_IF_ERROR(CheckSameType(c, 0, 1));
  HT_RETURN_IF_ERROR(CheckRank(c, 1, 2, 2));
  const SymbolicShape& rois = c.input(1).shape;
  if (!rois.has_value()) return Dim();
  HT_RETURN_IF_ERROR(Unify(c, (*rois)[1], Dim(columns)).status());
  return (*rois)[0];
}

// `count` numbers of region `n`, of which the coordinates are scaled.
absl::StatusOr<std::array<double, 4>> Corners(const EvalContext& c, int64_t n, int64_t skip) {
  const double scale = c.attributes().Float("spatial_scale", 1);
  const int64_t columns = c.input(1).dim(1);
  std::array<double, 4> corners;
  HT_RETURN_IF_ERROR(DispatchFloat(c, c.input(1).type(), [&](auto tag) {
    using T = decltype(tag);
    for (int i = 0; i < 4; ++i) {
      corners[i] = static_cast<double>(Raw<T>(c.input(1))[n * columns + skip + i]) * scale;
    }
  }));
  for (const double v : corners) {
    if (!(std::abs(v) < kMaxCoordinate)) return c.Error(absl::StrCat("a region reaches to ", v));
  }
  return corners;
}

absl::StatusOr<int64_t> CheckedImage(const EvalContext& c, int64_t image) {
  if (image >= 0 && image < c.input(0).dim(0)) return image;
  return c.Error(absl::StrCat("a region lies in image ", image, " of ", c.input(0).dim(0)));
}

// --- RoiAlign ------------------------------------------------------------------------------------

bool HalfPixel(const Attributes& a, int opset) {
  return opset >= 16 &&
         a.String("coordinate_transformation_mode", "half_pixel") != "output_half_pixel";
}

absl::Status InferRoiAlign(InferContext& c) {
  HT_ASSIGN_OR_RETURN(const Dim regions, RegionCount(c, 4));
  HT_RETURN_IF_ERROR(CheckType(c, 2, Types(DataType::kI64)));
  HT_RETURN_IF_ERROR(CheckVector(c, 2, regions));
  const std::string mode = c.attributes().String("mode", "avg");
  if (mode != "avg" && mode != "max") {
    return c.Error(absl::StrCat("mode is '", mode, "', want avg or max"));
  }
  const std::string coordinates =
      c.attributes().String("coordinate_transformation_mode", "half_pixel");
  if (coordinates != "half_pixel" && coordinates != "output_half_pixel") {
    return c.Error(absl::StrCat("coordinate_transformation_mode is '", coordinates, "'"));
  }
  if (c.attributes().Int("sampling_ratio", 0) < 0) return c.Error("sampling_ratio is negative");
  return InferRegions(c, regions, c.attributes().Int("output_height", 1),
                      c.attributes().Int("output_width", 1));
}

// A sampling position: four pixels of a plane and their weights. Outside of the image all are 0.
struct Sample {
  std::array<int64_t, 4> at = {};
  std::array<double, 4> weight = {};
};

Sample BilinearSample(double y, double x, int64_t height, int64_t width) {
  Sample s;
  if (y < -1 || y > static_cast<double>(height) || x < -1 || x > static_cast<double>(width)) {
    return s;
  }
  const auto split = [](double& v, int64_t size, int64_t& low, int64_t& high) {
    v = std::max(v, 0.0);
    low = static_cast<int64_t>(v);
    if (low >= size - 1) {
      low = high = size - 1;
      v = static_cast<double>(low);
    } else {
      high = low + 1;
    }
    return v - static_cast<double>(low);
  };
  int64_t top, bottom, left, right;
  const double ly = split(y, height, top, bottom), lx = split(x, width, left, right);
  s.at = {top * width + left, top * width + right, bottom * width + left, bottom * width + right};
  s.weight = {(1 - ly) * (1 - lx), (1 - ly) * lx, ly * (1 - lx), ly * lx};
  return s;
}

// One axis of a region: where it starts, how wide a bin is, how many samples a bin takes.
struct BinAxis {
  double start, size;
  int64_t samples;
  double At(int64_t bin, int64_t sample) const {
    return start + static_cast<double>(bin) * size +
           (static_cast<double>(sample) + 0.5) * size / static_cast<double>(samples);
  }
};

BinAxis MakeBinAxis(double start, double end, int64_t bins, bool half_pixel, int64_t ratio) {
  const double shift = half_pixel ? 0.5 : 0;
  const double length = half_pixel ? end - start : std::max(end - start, 1.0);
  const double size = length / static_cast<double>(bins);
  return {start - shift, size, ratio > 0 ? ratio : static_cast<int64_t>(std::ceil(size))};
}

// The samples of all bins of a region, bin by bin.
absl::StatusOr<std::vector<Sample>> RegionSamples(const EvalContext& c, const BinAxis& y,
                                                  const BinAxis& x, const Tensor& out) {
  std::vector<Sample> samples;
  if (y.samples <= 0 || x.samples <= 0) return samples;
  const double count = static_cast<double>(y.samples) * static_cast<double>(x.samples) *
                       static_cast<double>(out.dim(2) * out.dim(3));
  if (count > kMaxSamples) return c.Error(absl::StrCat("a region takes ", count, " samples"));
  for (int64_t by = 0; by < out.dim(2); ++by) {
    for (int64_t bx = 0; bx < out.dim(3); ++bx) {
      for (int64_t sy = 0; sy < y.samples; ++sy) {
        for (int64_t sx = 0; sx < x.samples; ++sx) {
          samples.push_back(
              BilinearSample(y.At(by, sy), x.At(bx, sx), c.input(0).dim(2), c.input(0).dim(3)));
        }
      }
    }
  }
  return samples;
}

// The mean of the samples, or (as runtimes do it) the greatest weighted pixel.
template <typename T>
double PoolSamples(absl::Span<const Sample> samples, const T* plane, bool max) {
  double sum = 0, best = -std::numeric_limits<double>::infinity();
  for (const Sample& s : samples) {
    for (int i = 0; i < 4; ++i) {
      const double value = s.weight[i] * static_cast<double>(plane[s.at[i]]);
      sum += value;
      best = std::max(best, value);
    }
  }
  if (samples.empty()) return 0;
  return max ? best : sum / static_cast<double>(samples.size());
}

absl::Status EvalRoiAlign(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  if (out->num_elements() == 0) return absl::OkStatus();
  const Tensor& x = c.input(0);
  const int64_t channels = x.dim(1), plane = x.dim(2) * x.dim(3);
  const int64_t bins = out->dim(2) * out->dim(3);
  if (plane == 0) return c.Error("got empty planes");
  const bool half_pixel = HalfPixel(c.attributes(), c.opset());
  const bool max = c.attributes().String("mode", "avg") == "max";
  const int64_t ratio = c.attributes().Int("sampling_ratio", 0);
  for (int64_t n = 0; n < out->dim(0); ++n) {
    HT_ASSIGN_OR_RETURN(const auto corner, Corners(c, n, 0));
    HT_ASSIGN_OR_RETURN(const int64_t image, CheckedImage(c, c.input(2).data<int64_t>()[n]));
    const BinAxis by = MakeBinAxis(corner[1], corner[3], out->dim(2), half_pixel, ratio);
    const BinAxis bx = MakeBinAxis(corner[0], corner[2], out->dim(3), half_pixel, ratio);
    HT_ASSIGN_OR_RETURN(const std::vector<Sample> samples, RegionSamples(c, by, bx, *out));
    const size_t per_bin = samples.size() / static_cast<size_t>(bins);
    HT_RETURN_IF_ERROR(DispatchFloat(c, out->type(), [&](auto tag) {
      using T = decltype(tag);
      T* to = MutableRaw<T>(*out) + n * channels * bins;
      for (int64_t i = 0; i < channels * bins; ++i) {
        const T* from = Raw<T>(x) + (image * channels + i / bins) * plane;
        to[i] = static_cast<T>(PoolSamples<T>(
            absl::MakeConstSpan(samples).subspan(i % bins * per_bin, per_bin), from, max));
      }
    }));
  }
  return absl::OkStatus();
}

// --- MaxRoiPool ----------------------------------------------------------------------------------

absl::Status InferMaxRoiPool(InferContext& c) {
  HT_ASSIGN_OR_RETURN(const Dim regions, RegionCount(c, 5));
  const std::vector<int64_t> pooled = c.attributes().Ints("pooled_shape");
  if (pooled.size() != 2) return c.Error("pooled_shape wants two values");
  return InferRegions(c, regions, pooled[0], pooled[1]);
}

// Pixels [first, last) of bin `bin` of a region from pixel `start` to pixel `end`, inclusive.
std::pair<int64_t, int64_t> PixelRange(double start, double end, int64_t bin, int64_t bins,
                                       int64_t size) {
  const double from = std::round(start), length = std::max(std::round(end) - from + 1, 1.0);
  const double step = length / static_cast<double>(bins);
  const auto clamp = [&](double v) {
    return static_cast<int64_t>(std::clamp(from + v, 0.0, static_cast<double>(size)));
  };
  return {clamp(std::floor(static_cast<double>(bin) * step)),
          clamp(std::ceil(static_cast<double>(bin + 1) * step))};
}

absl::Status EvalMaxRoiPool(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  if (out->num_elements() == 0) return absl::OkStatus();
  const Tensor& x = c.input(0);
  HT_ASSIGN_OR_RETURN(const Tensor rois, Convert(c.input(1), DataType::kF64));
  const int64_t channels = x.dim(1), height = x.dim(2), width = x.dim(3);
  for (int64_t n = 0; n < out->dim(0); ++n) {
    HT_ASSIGN_OR_RETURN(const auto corner, Corners(c, n, 1));
    HT_ASSIGN_OR_RETURN(const int64_t image,
                        CheckedImage(c, Saturate<int64_t>(rois.data<double>()[n * 5])));
    HT_RETURN_IF_ERROR(DispatchFloat(c, out->type(), [&](auto tag) {
      using T = decltype(tag);
      T* to = MutableRaw<T>(*out) + n * channels * out->dim(2) * out->dim(3);
      for (int64_t ch = 0; ch < channels; ++ch) {
        const T* plane = Raw<T>(x) + (image * channels + ch) * height * width;
        for (int64_t by = 0; by < out->dim(2); ++by) {
          const auto [top, bottom] = PixelRange(corner[1], corner[3], by, out->dim(2), height);
          for (int64_t bx = 0; bx < out->dim(3); ++bx) {
            const auto [left, right] = PixelRange(corner[0], corner[2], bx, out->dim(3), width);
            T best = top < bottom && left < right ? std::numeric_limits<T>::lowest() : T{0};
            for (int64_t i = top; i < bottom; ++i) {
              for (int64_t j = left; j < right; ++j) best = std::max(best, plane[i * width + j]);
            }
            *to++ = best;
          }
        }
      }
    }));
  }
  return absl::OkStatus();
}

// --- NonMaxSuppression ---------------------------------------------------------------------------

// Inputs: boxes [images, boxes, 4], scores [images, classes, boxes], limit, IoU and score
// thresholds.
absl::Status InferNonMaxSuppression(InferContext& c) {
  for (const int i : {0, 1}) HT_RETURN_IF_ERROR(CheckRank(c, i, 3, 3));
  for (const int i : {1, 3, 4}) HT_RETURN_IF_ERROR(CheckType(c, i, Types(DataType::kF32)));
  HT_RETURN_IF_ERROR(CheckType(c, 2, Types(DataType::kI64)));
  for (const int i : {2, 3, 4}) HT_RETURN_IF_ERROR(CheckOneElement(c, i));
  const int64_t center = c.attributes().Int("center_point_box", 0);
  if (center != 0 && center != 1) return c.Error(absl::StrCat("center_point_box is ", center));
  const SymbolicShape& boxes = c.input(0).shape;
  const SymbolicShape& scores = c.input(1).shape;
  if (boxes.has_value()) {
    HT_RETURN_IF_ERROR(Unify(c, (*boxes)[2], Dim(4)).status());
    if (scores.has_value()) {
      HT_RETURN_IF_ERROR(Unify(c, (*boxes)[0], (*scores)[0]).status());
      HT_RETURN_IF_ERROR(Unify(c, (*boxes)[1], (*scores)[2]).status());
    }
  }
  c.set_output(0, DataType::kI64, Dims{Dim(), Dim(3)});
  return absl::OkStatus();
}

struct Box {
  float top, left, bottom, right;
  float area() const { return (bottom - top) * (right - left); }
};

Box MakeBox(const float* v, bool center) {
  if (center) {  // x, y, width, height
    return {v[1] - v[3] / 2, v[0] - v[2] / 2, v[1] + v[3] / 2, v[0] + v[2] / 2};
  }
  return {std::min(v[0], v[2]), std::min(v[1], v[3]), std::max(v[0], v[2]), std::max(v[1], v[3])};
}

bool Overlaps(const Box& a, const Box& b, float threshold) {
  const Box common = {std::max(a.top, b.top), std::max(a.left, b.left),
                      std::min(a.bottom, b.bottom), std::min(a.right, b.right)};
  if (!(common.bottom > common.top && common.right > common.left)) return false;
  if (!(a.area() > 0 && b.area() > 0)) return false;
  return common.area() / (a.area() + b.area() - common.area()) > threshold;
}

// The boxes to keep, best first; of equal scores the lower index comes first.
std::vector<int64_t> KeptBoxes(absl::Span<const Box> boxes, absl::Span<const float> scores,
                               int64_t limit, float iou, float min_score) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < static_cast<int64_t>(scores.size()); ++i) {
    if (scores[i] > min_score) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
  std::vector<int64_t> kept;
  for (const int64_t i : order) {
    if (static_cast<int64_t>(kept.size()) >= limit) break;
    const bool covered = std::any_of(kept.begin(), kept.end(),
                                     [&](int64_t k) { return Overlaps(boxes[i], boxes[k], iou); });
    if (!covered) kept.push_back(i);
  }
  return kept;
}

absl::Status EvalNonMaxSuppression(EvalContext& c) {
  const auto number = [&](int i, float absent) {
    return c.has_input(i) ? c.input(i).data<float>()[0] : absent;
  };
  const int64_t limit = c.has_input(2) ? c.input(2).data<int64_t>()[0] : 0;
  const float iou = number(3, 0), min_score = number(4, -std::numeric_limits<float>::infinity());
  if (!(iou >= 0 && iou <= 1))
    return c.Error(absl::StrCat("iou_threshold is ", iou, ", want 0 to 1"));
  const bool center = c.attributes().Int("center_point_box", 0) != 0;
  const Tensor& scores = c.input(1);
  const int64_t classes = scores.dim(1), count = scores.dim(2);
  std::vector<int64_t> selected;
  std::vector<Box> boxes(static_cast<size_t>(count));
  for (int64_t image = 0; image < scores.dim(0); ++image) {
    for (int64_t i = 0; i < count; ++i) {
      boxes[i] = MakeBox(Raw<float>(c.input(0)) + (image * count + i) * 4, center);
    }
    for (int64_t k = 0; k < classes; ++k) {
      const auto row = scores.data<float>().subspan((image * classes + k) * count, count);
      for (const int64_t i : KeptBoxes(boxes, row, limit, iou, min_score)) {
        selected.insert(selected.end(), {image, k, i});
      }
    }
  }
  HT_ASSIGN_OR_RETURN(
      Tensor * out, c.Allocate(0, DataType::kI64, {static_cast<int64_t>(selected.size()) / 3, 3}));
  std::copy(selected.begin(), selected.end(), out->mutable_data<int64_t>().begin());
  return absl::OkStatus();
}

constexpr OpDef Detection(absl::string_view name, int since, Arity inputs, InferFn infer,
                          EvalFn eval, TypeSet types, Tolerance tolerance) {
  return {.name = name,
          .since_opset = since,
          .inputs = inputs,
          .infer = infer,
          .eval = eval,
          .types = types,
          .tolerance = tolerance};
}

constexpr std::array kRows = {
    Detection("RoiAlign", 10, {3, 3}, InferRoiAlign, Widened<EvalRoiAlign>, kFloatTypes,
              kAccumulate),
    Detection("RoiAlign", 16, {3, 3}, InferRoiAlign, Widened<EvalRoiAlign>, kFloatTypes,
              kAccumulate),
    Detection("MaxRoiPool", 1, {2, 2}, InferMaxRoiPool, Widened<EvalMaxRoiPool>, kFloatTypes,
              kExact),
    Detection("NonMaxSuppression", 10, {2, 5}, InferNonMaxSuppression, EvalNonMaxSuppression,
              Types(DataType::kF32), kExact),
};

}  // namespace

absl::Span<const OpDef> DetectionOps() { return kRows; }

}  // namespace halftone
