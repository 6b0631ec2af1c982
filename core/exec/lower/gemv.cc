#include "core/exec/lower/gemv.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "core/exec/lower/compute.h"

namespace halftone {
namespace {

// Up to here, reading the packed weights again for every few rows costs less than widening them: a
// layer of 4096 x 4096 in int4 takes 1.5 ms per 4 rows, and 14.8 ms widened with 16 rows.
constexpr int64_t kMaxProductRows = 16;

}  // namespace

std::optional<ProductBias> ReadProductBias(const ProgramBuilder& builder, const ComputeMatch& match,
                                           int64_t outputs) {
  ProductBias bias;
  const Value* source = match.bias;
  if (source == nullptr && !match.tail.empty() && match.tail[0].kind == TailOp::Kind::kBias) {
    source = match.tail[0].other;
    bias.tail_ops = 1;
  }
  if (source == nullptr) return bias;
  auto values = ConstantFloats(builder, source);
  if (!values) return std::nullopt;
  if (values->size() == 1) values->resize(static_cast<size_t>(outputs), (*values)[0]);
  if (static_cast<int64_t>(values->size()) != outputs) return std::nullopt;
  bias.values = *std::move(values);
  return bias;
}

absl::StatusOr<bool> LowerGemv(ProgramBuilder& builder, const ComputeMatch& match, int64_t m,
                               const std::shared_ptr<const PackedRows>& weights) {
  if (m > kMaxProductRows || !weights->multiplies()) return false;
  const std::optional<ProductBias> bias = ReadProductBias(builder, match, weights->rows());
  if (!bias) return false;
  HT_ASSIGN_OR_RETURN(const BufferId source,
                      builder.Fetch(match.input, Layout::kPlain, DataType::kF32));
  builder.RequireScratch(weights->ScratchFloats(std::min(m, PackedRows::kMaxRows)) *
                         static_cast<int64_t>(sizeof(float)));
  const BufferId result =
      builder.Define(match.result(bias->tail_ops), Layout::kPlain, DataType::kF32);
  builder.AddStep({.node = match.anchor->name(),
                   .op = FusedName(match, bias->tail_ops),
                   .implementation = "gemv",
                   .precision = CodesName(*match.weights),
                   .bytes = weights->bytes()},
                  {source, result}, [=, values = bias->values](Binding& b) -> BoundStep {
                    return [=, &b] {
                      const float* bias = values.empty() ? nullptr : values.data();
                      for (int64_t i = 0; i < m; i += PackedRows::kMaxRows) {
                        weights->Multiply(b.as<float>(source) + i * weights->cols(),
                                          std::min(m - i, PackedRows::kMaxRows), bias,
                                          b.as<float>(result) + i * weights->rows(),
                                          reinterpret_cast<float*>(b.scratch()));
                      }
                      return absl::OkStatus();
                    };
                  });
  HT_RETURN_IF_ERROR(LowerRest(builder, match, bias->tail_ops));
  return true;
}

}  // namespace halftone
