// Resize in every mode that the other rules do not take. It is linear and works axis by axis, so
// the weights of an axis are what the reference makes of the unit vectors along it, once, when the
// plan is made.
#include "core/exec/kernels/resample.h"

#include <memory>
#include <utility>

#include "core/base/status_macros.h"
#include "core/exec/lower/arguments.h"
#include "core/exec/lower/rules.h"
#include "core/ops/evaluate.h"

namespace halftone {
namespace {

constexpr int64_t kMaxWeights = int64_t{1} << 24;  // in · out of one axis

// The file's scale of an axis, or nullopt where it names sizes.
absl::StatusOr<std::optional<float>> ScaleOf(const Node& node, size_t axis, size_t rank) {
  const Value* scales = node.input(2);
  if (scales == nullptr || !scales->is_constant()) return std::optional<float>();
  HT_ASSIGN_OR_RETURN(const Tensor f, Convert(scales->constant(), DataType::kF32));
  if (f.num_elements() == 0) return std::optional<float>();
  if (f.num_elements() != static_cast<int64_t>(rank)) {
    return absl::UnimplementedError("scales of some axes");
  }
  return std::optional<float>(f.data<float>()[axis]);
}

// Unit vectors along dimension 1 of [in, in] go through the node as if it had two axes.
absl::StatusOr<AxisTaps> TapsOf(ProgramBuilder& b, const Node& node, size_t axis, size_t rank,
                                int64_t in, int64_t out) {
  HT_ASSIGN_OR_RETURN(const std::optional<float> scale, ScaleOf(node, axis, rank));
  HT_ASSIGN_OR_RETURN(Tensor units, Tensor::Create(DataType::kF32, {in, in}));
  const auto data = units.mutable_data<float>();
  std::fill(data.begin(), data.end(), 0.0f);
  for (int64_t i = 0; i < in; ++i) data[i * (in + 1)] = 1.0f;
  const Tensor scales = Tensor::Of<float>({2}, {1.0f, scale.value_or(1.0f)});
  const Tensor sizes = Tensor::Of<int64_t>({2}, {in, out});
  std::vector<const Tensor*> inputs = {&units, nullptr};
  if (scale) {
    inputs.push_back(&scales);
  } else {
    inputs.insert(inputs.end(), {nullptr, &sizes});
  }
  HT_ASSIGN_OR_RETURN(const std::vector<Tensor> outputs, EvaluateNode(b.graph(), node, inputs));
  if (outputs[0].shape() != Shape{in, out}) return absl::UnimplementedError("an odd size");
  const auto weights = outputs[0].data<float>();
  AxisTaps taps{.in = in, .positions = std::vector<std::vector<AxisTaps::Tap>>(out)};
  for (int64_t i = 0; i < in; ++i) {
    for (int64_t o = 0; o < out; ++o) {
      if (const float w = weights[i * out + o]; w != 0) taps.positions[o].push_back({i, w});
    }
  }
  return taps;
}

struct Pass {
  AxisTaps taps;
  int64_t outer, inner;
  BufferId from, to;
};

}  // namespace

absl::StatusOr<bool> LowerResample(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Attributes& a = node.attributes();
  const Value* x = node.input(0);
  const Value* out = node.output(0);
  Shape shape = b.ShapeOf(x);
  const Shape to = b.ShapeOf(out);
  if (x->type().type != DataType::kF32 || b.graph().opset() < 11 || ElementCount(shape) == 0 ||
      ElementCount(to) == 0 || a.Has("axes") || a.String("mode", "nearest") == "nearest" ||
      a.String("coordinate_transformation_mode", "") == "tf_crop_and_resize" ||
      a.String("keep_aspect_ratio_policy", "stretch") != "stretch") {
    *reason = "mode or type";
    return false;
  }
  std::vector<std::pair<size_t, AxisTaps>> axes;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (shape[d] * to[d] > kMaxWeights) return false;
    absl::StatusOr<AxisTaps> taps = TapsOf(b, node, d, shape.size(), shape[d], to[d]);
    if (!taps.ok()) {
      *reason = std::string(taps.status().message());
      return false;
    }
    bool identity = shape[d] == to[d];
    for (int64_t o = 0; o < to[d] && identity; ++o) {
      const auto& list = taps->positions[o];
      identity = list.size() == 1 && list[0].at == o && list[0].weight == 1;
    }
    if (!identity) axes.emplace_back(d, *std::move(taps));
  }
  const Layout layout = b.LayoutOf(x);
  HT_ASSIGN_OR_RETURN(BufferId from, b.Fetch(x, layout, DataType::kF32));
  if (axes.empty()) {
    b.DefineIn(out, {from, layout, DataType::kF32});
    return true;
  }
  std::vector<Pass> passes;
  std::vector<BufferId> touches = {from};
  for (size_t i = 0; i < axes.size(); ++i) {
    auto& [axis, taps] = axes[i];
    Pass pass{.outer = 1, .inner = 1, .from = from};
    const Shape order = StorageOrder(
        [&] {
          Shape index(shape.size());
          for (size_t d = 0; d < index.size(); ++d) index[d] = static_cast<int64_t>(d);
          return index;
        }(),
        layout);
    bool before = true;
    for (const int64_t d : order) {
      if (d == static_cast<int64_t>(axis)) {
        before = false;
      } else {
        (before ? pass.outer : pass.inner) *= shape[d];
      }
    }
    shape[axis] = to[axis];
    pass.to = i + 1 == axes.size() ? b.Define(out, layout, DataType::kF32)
                                   : b.Temporary(ElementCount(shape) * 4);
    pass.taps = std::move(taps);
    from = pass.to;
    touches.push_back(pass.to);
    passes.push_back(std::move(pass));
  }
  const auto shared = std::make_shared<const std::vector<Pass>>(std::move(passes));
  b.AddStep({node.name(), node.op(), "", "taps", "f32"}, std::move(touches),
            [shared](Binding& bind) -> BoundStep {
              return [shared, &bind] {
                for (const Pass& p : *shared) {
                  ResampleAxis(p.taps, p.outer, p.inner, bind.as<float>(p.from),
                               bind.as<float>(p.to));
                }
                return absl::OkStatus();
              };
            });
  return true;
}

}  // namespace halftone
