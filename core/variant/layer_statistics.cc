#include "core/variant/layer_statistics.h"

#include <algorithm>
#include <cmath>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/ops/window.h"

namespace halftone {
namespace {

constexpr int64_t kRowsPerSample = 128;  // of one layer: neighbours say nearly the same
constexpr size_t kPendingRows = 16;

// Every `stride`-th of `total` positions, so that at most `limit` are left.
int64_t StrideFor(int64_t total, int64_t limit) {
  return (total + limit - 1) / std::max<int64_t>(limit, 1);
}

absl::StatusOr<Spatial> SpatialOf(const Graph& graph, const Linear& linear, const Tensor& x) {
  const Shape& w = linear.weights->shape();
  const std::vector<Value*>& inputs = linear.node->inputs();
  InferContext context(*linear.node, graph.opset(),
                       std::vector<const Value*>(inputs.begin(), inputs.end()));
  HT_ASSIGN_OR_RETURN(const Window window, ReadWindow(context, absl::MakeConstSpan(w).subspan(2)));
  Shape out = {x.dim(0), linear.outputs};
  for (size_t i = 0; i < window.axes.size(); ++i) {
    HT_ASSIGN_OR_RETURN(const Dim size,
                        OutputSize(context, window, i, Dim(x.dim(2 + static_cast<int>(i)))));
    out.push_back(size.value);
  }
  return MakeSpatial(window, x.shape(), out);
}

// One window of one channel; what lies in the padding is 0.
void GatherWindow(const Spatial& s, const float* channel, const std::array<int64_t, 3>& position,
                  float* row) {
  const auto at = [&](int axis, int64_t tap) {
    const WindowAxis& a = s.axis[axis];
    return position[axis] * a.stride - a.begin + tap * a.dilation;
  };
  for (int64_t i = 0; i < s.axis[0].kernel; ++i) {
    for (int64_t j = 0; j < s.axis[1].kernel; ++j) {
      for (int64_t k = 0; k < s.axis[2].kernel; ++k) {
        const int64_t d = at(0, i), h = at(1, j), w = at(2, k);
        const bool inside = d >= 0 && d < s.in[0] && h >= 0 && h < s.in[1] && w >= 0 && w < s.in[2];
        *row++ = inside ? channel[(d * s.in[1] + h) * s.in[2] + w] : 0.0f;
      }
    }
  }
}

absl::Status ForEachWindow(const Graph& graph, const Linear& linear, const Tensor& x, int64_t limit,
                           const std::function<void(int64_t, absl::Span<const float>)>& f) {
  HT_ASSIGN_OR_RETURN(const Spatial s, SpatialOf(graph, linear, x));
  const int64_t positions = x.dim(0) * s.out_size();
  const int64_t per_group = linear.inputs / linear.groups;
  std::vector<float> row(static_cast<size_t>(linear.columns()));
  for (int64_t p = 0; p < positions; p += StrideFor(positions, limit)) {
    const int64_t n = p / s.out_size(), o = p % s.out_size();
    const std::array<int64_t, 3> position = {o / (s.out[1] * s.out[2]), o / s.out[2] % s.out[1],
                                             o % s.out[2]};
    for (int64_t g = 0; g < linear.groups; ++g) {
      for (int64_t c = 0; c < per_group; ++c) {
        const int64_t channel = n * linear.inputs + g * per_group + c;
        GatherWindow(s, &x.data<float>()[channel * s.in_size()], position, &row[c * linear.taps]);
      }
      f(g, row);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ForEachInputRow(const Graph& graph, const Linear& linear, const Tensor& x,
                             int64_t limit,
                             const std::function<void(int64_t, absl::Span<const float>)>& f) {
  const std::string where = Describe(*linear.node);
  if (x.type() != DataType::kF32 || x.rank() <= linear.input_axis ||
      x.dim(linear.input_axis) != linear.inputs) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": its input is ", x.ToString(0),
                                                   ", want ", linear.inputs, " f32 channels"));
  }
  if (linear.node->op() == "Conv") return ForEachWindow(graph, linear, x, limit, f);
  if (linear.transposed || linear.input_axis != x.rank() - 1) {
    return absl::UnimplementedError(absl::StrCat(where, ": its input has no rows"));
  }
  const auto rows = x.data<float>();
  const int64_t count = x.num_elements() / linear.inputs;
  for (int64_t r = 0; r < count; r += StrideFor(count, limit)) {
    f(0, rows.subspan(static_cast<size_t>(r * linear.inputs), static_cast<size_t>(linear.inputs)));
  }
  return absl::OkStatus();
}

void ChannelMeans::Observe(const Tensor& x, int axis) {
  const int64_t channels = x.dim(axis);
  if (sum_.empty()) {
    sum_.assign(static_cast<size_t>(channels), 0.0);
    max_abs_ = sum_;
  }
  CHECK_EQ(static_cast<int64_t>(sum_.size()), channels);
  const int64_t inner = ElementCount(absl::MakeConstSpan(x.shape()).subspan(axis + 1));
  const auto values = x.data<float>();
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t c = static_cast<size_t>(static_cast<int64_t>(i) / inner % channels);
    if (!std::isfinite(values[i])) continue;
    sum_[c] += values[i];
    max_abs_[c] = std::max<double>(max_abs_[c], std::abs(values[i]));
  }
  if (channels > 0) count_ += x.num_elements() / channels;
}

ChannelStats ChannelMeans::Stats() const {
  ChannelStats out{.mean = sum_, .max_abs = max_abs_};
  for (double& m : out.mean) m /= static_cast<double>(std::max<int64_t>(count_, 1));
  return out;
}

MomentObserver::MomentObserver(const Linear& linear)
    : moments_(static_cast<size_t>(linear.groups), SecondMoment(linear.columns())),
      pending_(static_cast<size_t>(linear.groups)) {}

absl::Status MomentObserver::Observe(const Graph& graph, const Linear& linear, const Tensor& x) {
  return ForEachInputRow(graph, linear, x, kRowsPerSample,
                         [&](int64_t group, absl::Span<const float> row) {
                           std::vector<float>& rows = pending_[group];
                           rows.insert(rows.end(), row.begin(), row.end());
                           if (rows.size() < kPendingRows * row.size()) return;
                           moments_[group].Add(rows);
                           rows.clear();
                         });
}

std::vector<SecondMoment>& MomentObserver::Finish() {
  for (size_t g = 0; g < moments_.size(); ++g) {
    moments_[g].Add(pending_[g]);
    pending_[g].clear();
    moments_[g].Finish();
  }
  return moments_;
}

int64_t MomentObserver::BytesFor(const Linear& linear) {
  return linear.groups * linear.columns() * linear.columns() * int64_t{sizeof(float)};
}

}  // namespace halftone
