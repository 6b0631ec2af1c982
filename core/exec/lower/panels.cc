#include "core/exec/lower/panels.h"

#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/exec/lower/compute.h"

namespace halftone {
namespace {

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
                        return PackPart(floats->data(), part);
                      }));
  HT_ASSIGN_OR_RETURN(
      Tensor bytes, Tensor::FromBuffer(DataType::kU8, {static_cast<int64_t>(packed.buffer->size())},
                                       packed.buffer));
  return PackedPanels{builder.Constant(std::move(bytes)), type};
}

}  // namespace halftone
