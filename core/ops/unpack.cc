#include "core/ops/unpack.h"

#include <array>

#include "core/base/checked_math.h"
#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"
#include "core/quant/packed.h"

namespace halftone {
namespace {

absl::Status InferUnpack(InferContext& c) {
  const std::vector<int64_t> shape = c.attributes().Ints("shape");
  const absl::StatusOr<int64_t> elements = NumElements(shape);
  if (!elements.ok()) return c.Error(elements.status().message());
  HT_ASSIGN_OR_RETURN(const int64_t bytes, PackedBytes(*elements, UnpackedBits(c.node())));
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 1, 1));
  HT_RETURN_IF_ERROR(CheckVector(c, 0, bytes));
  c.set_output(0, DataType::kI8, Symbolic(Shape(shape.begin(), shape.end())));
  return absl::OkStatus();
}

using UnpackFn = void (*)(absl::Span<const uint8_t>, absl::Span<int8_t>);

template <UnpackFn kUnpack>
absl::Status EvalUnpack(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  kUnpack(c.input(0).data<uint8_t>(), out->mutable_data<int8_t>());
  return absl::OkStatus();
}

constexpr OpDef Row(absl::string_view name, EvalFn eval) {
  OpDef row = ExactRow(name, kHalftoneOpset, {1, 1}, InferUnpack, eval, Types(DataType::kU8));
  row.domain = kHalftoneDomain;
  return row;
}

constexpr std::array kRows = {Row(kUnpackBinary, EvalUnpack<UnpackBinary>),
                              Row(kUnpackTernary, EvalUnpack<UnpackTernary>)};

}  // namespace

bool UnpacksWeights(const Node& node) {
  return node.domain() == kHalftoneDomain &&
         (node.op() == kUnpackTernary || node.op() == kUnpackBinary);
}

int UnpackedBits(const Node& node) { return node.op() == kUnpackTernary ? 2 : 1; }

std::vector<int8_t> UnpackTable(absl::string_view op) {
  std::array<uint8_t, 256> bytes;
  for (int i = 0; i < 256; ++i) bytes[i] = static_cast<uint8_t>(i);
  const bool ternary = op == kUnpackTernary;
  std::vector<int8_t> table(bytes.size() * (ternary ? 4 : 8));
  ternary ? UnpackTernary(bytes, absl::MakeSpan(table))
          : UnpackBinary(bytes, absl::MakeSpan(table));
  return table;
}

absl::Span<const OpDef> UnpackOps() { return kRows; }

}  // namespace halftone
