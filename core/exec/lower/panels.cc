#include "core/exec/lower/panels.h"

#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/exec/lower/compute.h"
#include "core/exec/lower/gemv.h"

namespace halftone {
namespace {

// Up to here reading the weights takes longer than what oneDNN does better with more rows.
constexpr int64_t kMaxPanelRows = 8;

// The operation of the tail behind `tail_ops` of them.
bool IsRelu(const ComputeMatch& match, size_t tail_ops) {
  if (match.tail.size() <= tail_ops) return false;
  const TailOp& op = match.tail[tail_ops];
  return op.kind == TailOp::Kind::kEltwise && op.eltwise.alpha == 0.0f &&
         op.eltwise.algorithm == dnnl::algorithm::eltwise_relu;
}

template <typename T>
absl::StatusOr<PackedWeights> PackPart(const T* elements, const MatrixPart& p) {
  const std::vector<T> panels = PackPanels(elements + p.offset, p.k, p.n, p.k_stride, p.n_stride);
  PackedWeights out{.buffer = Buffer::Allocate(panels.size() * sizeof(T))};
  if (out.buffer == nullptr) return absl::ResourceExhaustedError("packed weights: no memory");
  std::memcpy(out.buffer->mutable_data(), panels.data(), panels.size() * sizeof(T));
  return out;
}

}  // namespace

DataType PanelType(const ProgramBuilder& builder, const std::optional<WeightMatch>& weights) {
  const bool half =
      weights && (weights->form == WeightForm::kF16 || weights->form == WeightForm::kBF16);
  return half && !builder.options().widen_once ? StoredType(weights->form) : DataType::kF32;
}

absl::StatusOr<PackedPanels> PackMatrix(ProgramBuilder& builder, const Value* value,
                                        const MatrixPart& part) {
  const std::optional<WeightMatch> weights = MatchWeights(value, /*channel_axis=*/1);
  const DataType type = PanelType(builder, weights);
  const std::string key = absl::StrCat(builder.options().scope, value->name(), "|panels|",
                                       Name(type), "|", part.offset, "|", part.n);
  HT_ASSIGN_OR_RETURN(const PackedWeights packed,
                      builder.weights().GetOrMake(key, [&]() -> absl::StatusOr<PackedWeights> {
                        if (type != DataType::kF32) {
                          const Tensor& stored = weights->constant->constant();
                          auto made =
                              PackPart(reinterpret_cast<const uint16_t*>(stored.raw()), part);
                          stored.DropPages();
                          return made;
                        }
                        const auto floats = ConstantFloats(builder, value);
                        if (!floats) return absl::InternalError("weights are not constant");
                        auto made = PackPart(floats->data(), part);
                        if (weights) weights->constant->constant().DropPages();
                        return made;
                      }));
  HT_ASSIGN_OR_RETURN(
      Tensor bytes, Tensor::FromBuffer(DataType::kU8, {static_cast<int64_t>(packed.buffer->size())},
                                       packed.buffer));
  return PackedPanels{builder.Constant(std::move(bytes)), type};
}

absl::StatusOr<bool> LowerPanels(ProgramBuilder& builder, const ComputeMatch& match, int64_t m,
                                 const MatrixPart& weights, std::string why) {
  const int64_t k = weights.k, n = weights.n, columns = PaddedColumns(n);
  if (m > kMaxPanelRows || columns > n + n / 4) return false;  // the padding is computed, too
  const std::optional<ProductBias> bias = ReadProductBias(builder, match, n);
  if (!bias) return false;
  HT_ASSIGN_OR_RETURN(const PackedPanels panels,
                      PackMatrix(builder, match.weights->widened, weights));
  HT_ASSIGN_OR_RETURN(const BufferId source,
                      builder.Fetch(match.input, Layout::kPlain, DataType::kF32));
  const bool relu = IsRelu(match, bias->tail_ops);
  const size_t tail_ops = bias->tail_ops + (relu ? 1 : 0);
  const BufferId result = builder.Define(match.result(tail_ops), Layout::kPlain, DataType::kF32);
  builder.AddStep(
      {.node = match.anchor->name(),
       .op = FusedName(match, tail_ops),
       .implementation = "panels",
       .precision = WeightsName(*match.weights),
       .detail = std::move(why)},
      {source, panels.buffer, result}, [=, values = bias->values](Binding& b) -> BoundStep {
        return [=, &b] {
          MultiplyPanels(b.as<float>(source), m, k, panels.In(b), n,
                         values.empty() ? nullptr : values.data(), relu, b.as<float>(result));
          return absl::OkStatus();
        };
      });
  HT_RETURN_IF_ERROR(LowerRest(builder, match, tail_ops));
  return true;
}

}  // namespace halftone
