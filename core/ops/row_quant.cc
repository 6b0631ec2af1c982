#include "core/ops/row_quant.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"
#include "core/ops/unpack.h"

namespace halftone {
namespace {

// One number per row: the shape of the data with a last axis of 1.
absl::StatusOr<SymbolicShape> PerRow(const InferContext& c) {
  SymbolicShape shape = c.input(0).shape;
  if (!shape.has_value()) return shape;
  if (shape->empty()) return c.Error("input 0 is a scalar, want rows");
  shape->back() = Dim(1);
  return shape;
}

absl::Status InferDynamicQuantizeRows(InferContext& c) {
  HT_ASSIGN_OR_RETURN(const SymbolicShape per_row, PerRow(c));
  c.set_output(0, DataType::kU8, c.input(0).shape);
  c.set_output(1, DataType::kF32, per_row);
  c.set_output(2, DataType::kU8, per_row);
  return absl::OkStatus();
}

absl::Status InferDequantizeRows(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckType(c, 1, Types(DataType::kF32)));
  HT_RETURN_IF_ERROR(CheckSameType(c, 0, 2));
  HT_ASSIGN_OR_RETURN(const SymbolicShape per_row, PerRow(c));
  for (int i = 1; i <= 2; ++i) {
    const std::optional<Shape> got = Concrete(c.input(i).shape), want = Concrete(per_row);
    if (got.has_value() && want.has_value() && *got != *want) {
      return c.Error(absl::StrCat("input ", i, " has shape ", ToString(*got), ", want ",
                                  ToString(*want), ": one number per row"));
    }
  }
  c.set_output(0, DataType::kF32, c.input(0).shape);
  return absl::OkStatus();
}

absl::Status EvalDynamicQuantizeRows(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * codes, c.Allocate(0));
  const Tensor& x = c.input(0);
  Shape per_row = x.shape();
  const int64_t n = per_row.back();
  per_row.back() = 1;
  HT_ASSIGN_OR_RETURN(Tensor scales, Tensor::Create(DataType::kF32, per_row));
  HT_ASSIGN_OR_RETURN(Tensor zeros, Tensor::Create(DataType::kU8, per_row));
  for (int64_t r = 0; r < scales.num_elements(); ++r) {
    const float* row = Raw<float>(x) + r * n;
    float low = 0, high = 0;
    for (int64_t i = 0; i < n; ++i) {
      low = std::min(low, row[i]);
      high = std::max(high, row[i]);
    }
    const float scale = std::clamp((high - low) / 255.0f, kSmallestRowScale, kLargestRowScale);
    const float zero = std::clamp(std::nearbyint(-low / scale), 0.0f, 255.0f);
    MutableRaw<float>(scales)[r] = scale;
    MutableRaw<uint8_t>(zeros)[r] = static_cast<uint8_t>(zero);
    uint8_t* q = MutableRaw<uint8_t>(*codes) + r * n;
    for (int64_t i = 0; i < n; ++i) {
      const float y = std::nearbyint(row[i] / scale);
      q[i] = static_cast<uint8_t>(std::isnan(y) ? zero : std::clamp(y + zero, 0.0f, 255.0f));
    }
  }
  c.set_output(1, std::move(scales));
  c.set_output(2, std::move(zeros));
  return absl::OkStatus();
}

absl::Status EvalDequantizeRows(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const int64_t n = out->shape().back();
  const auto q = c.input(0).data<uint8_t>(), zero = c.input(2).data<uint8_t>();
  const auto scale = c.input(1).data<float>();
  const auto x = out->mutable_data<float>();
  for (int64_t i = 0; i < static_cast<int64_t>(x.size()); ++i) {
    x[i] = static_cast<float>(q[i] - zero[i / n]) * scale[i / n];
  }
  return absl::OkStatus();
}

constexpr OpDef Row(absl::string_view name, Arity inputs, InferFn infer, EvalFn eval, TypeSet types,
                    Arity outputs) {
  OpDef row = ExactRow(name, kHalftoneOpset, inputs, infer, eval, types);
  row.domain = kHalftoneDomain;
  row.outputs = outputs;
  return row;
}

constexpr std::array kRows = {
    Row(kDequantizeRows, {3, 3}, InferDequantizeRows, EvalDequantizeRows, Types(DataType::kU8),
        {1, 1}),
    Row(kDynamicQuantizeRows, {1, 1}, InferDynamicQuantizeRows, EvalDynamicQuantizeRows,
        Types(DataType::kF32), {3, 3}),
};

}  // namespace

bool QuantizesRows(const Node& node) {
  return node.domain() == kHalftoneDomain &&
         (node.op() == kDynamicQuantizeRows || node.op() == kDequantizeRows);
}

absl::Span<const OpDef> RowQuantOps() { return kRows; }

}  // namespace halftone
