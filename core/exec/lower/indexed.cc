// One rule for every operator that only moves elements by constant arguments: padding in all modes,
// tiling, nearest resizing, gathering. Where each element comes from is asked of the reference: it
// moves the numbers 1, 2, 3 … once, when the plan is made.
#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>

#include "core/base/status_macros.h"
#include "core/exec/kernels/indexed_copy.h"
#include "core/exec/lower/arguments.h"
#include "core/exec/lower/rules.h"
#include "core/ops/evaluate.h"

namespace halftone {
namespace {

constexpr int64_t kMaxElements = int64_t{1} << 22;    // what a plan takes the time to look at
constexpr int64_t kMaxUnfactored = int64_t{1} << 20;  // what it may keep a table of
constexpr int kPadValue = 2;                          // Pad's input

bool MovesBy(const Node& node) {
  const Attributes& a = node.attributes();
  if (node.op() == "Resize" || node.op() == "Upsample") {
    return a.String("mode", "nearest") == "nearest" &&
           a.String("coordinate_transformation_mode", "") != "tf_crop_and_resize";
  }
  return node.op() != "Pad" || a.Float("value", 0) == 0;
}

// The number of the input element, from 1, at every output element; 0 is the fill value.
absl::StatusOr<Tensor> Positions(ProgramBuilder& b, const Node& node) {
  HT_ASSIGN_OR_RETURN(Tensor numbers, Tensor::Create(DataType::kI64, b.ShapeOf(node.input(0))));
  const auto data = numbers.mutable_data<int64_t>();
  std::iota(data.begin(), data.end(), int64_t{1});
  const Tensor zero = Tensor::Scalar<int64_t>(0);
  std::vector<const Tensor*> inputs = {&numbers};
  for (size_t i = 1; i < node.inputs().size(); ++i) {
    const Value* v = node.inputs()[i];
    const bool fill = node.op() == "Pad" && i == kPadValue;
    inputs.push_back(v == nullptr ? nullptr : fill ? &zero : &v->constant());
  }
  HT_ASSIGN_OR_RETURN(std::vector<Tensor> outputs, EvaluateNode(b.graph(), node, inputs));
  return std::move(outputs[0]);
}

// Sums of one number per dimension for every element, in row-major order; kFillOffset where one of
// them is. Grows dimension by dimension, so that an element costs one addition.
std::vector<int64_t> OuterSum(int64_t base, const std::vector<std::vector<int64_t>>& tables) {
  std::vector<int64_t> sums = {base};
  for (const std::vector<int64_t>& table : tables) {
    std::vector<int64_t> next;
    next.reserve(sums.size() * table.size());
    for (const int64_t sum : sums) {
      for (const int64_t part : table) {
        next.push_back(sum == kFillOffset || part == kFillOffset ? kFillOffset : sum + part);
      }
    }
    sums = std::move(next);
  }
  return sums;
}

// Source offsets, in elements, behind numbers in row-major order; kFillOffset for 0.
std::vector<int64_t> Offsets(absl::Span<const int64_t> numbers, const Shape& shape,
                             const Shape& strides) {
  std::vector<std::vector<int64_t>> steps;
  for (size_t d = 0; d < shape.size(); ++d) {
    std::vector<int64_t>& of_dimension = steps.emplace_back(shape[d]);
    for (int64_t i = 0; i < shape[d]; ++i) of_dimension[i] = i * strides[d];
  }
  const std::vector<int64_t> source = OuterSum(0, steps);
  std::vector<int64_t> out(numbers.size(), kFillOffset);
  for (size_t o = 0; o < numbers.size(); ++o) {
    if (numbers[o] != 0) out[o] = source[numbers[o] - 1];
  }
  return out;
}

struct Factored {
  std::vector<std::vector<int64_t>> tables;  // per logical dimension
  int64_t base = 0;
};

// The offsets as sums of one number per dimension; nullopt when they are no such sums.
std::optional<Factored> Factor(const std::vector<int64_t>& offsets, const Shape& shape) {
  const auto known =
      std::find_if(offsets.begin(), offsets.end(), [](int64_t at) { return at != kFillOffset; });
  if (known == offsets.end()) return std::nullopt;
  const int64_t origin = known - offsets.begin();
  Factored f{.base = *known};
  const Shape strides = RowMajorStrides(shape);
  for (size_t d = 0; d < shape.size(); ++d) {
    const int64_t start = origin - origin / strides[d] % shape[d] * strides[d];
    std::vector<int64_t> table(shape[d]);
    for (int64_t i = 0; i < shape[d]; ++i) {
      const int64_t at = offsets[start + i * strides[d]];
      table[i] = at == kFillOffset ? kFillOffset : at - f.base;
    }
    f.tables.push_back(std::move(table));
  }
  if (OuterSum(f.base, f.tables) != offsets) return std::nullopt;
  return f;
}

}  // namespace

absl::StatusOr<bool> LowerIndexed(ProgramBuilder& b, const Unit& unit, std::string* reason) {
  const Node& node = *unit.anchor;
  const Value* x = node.input(0);
  const Value* out = node.output(0);
  const Shape from = b.ShapeOf(x), to = b.ShapeOf(out);
  const int64_t n = ElementCount(to);
  const auto constant = [](const Value* v) { return v == nullptr || v->is_constant(); };
  if (!WholeBytes(x) || !MovesBy(node) || n == 0 || ElementCount(from) == 0 ||
      std::max(n, ElementCount(from)) > kMaxElements ||
      !std::all_of(node.inputs().begin() + 1, node.inputs().end(), constant)) {
    *reason = "arguments are not constant, the element type is packed, or the tensors are large";
    return false;
  }
  const absl::StatusOr<Tensor> positions = Positions(b, node);
  if (!positions.ok() || positions->shape() != to) {
    *reason = std::string(positions.status().message());
    return false;
  }
  HT_ASSIGN_OR_RETURN(const ProgramBuilder::StridedSource source, b.FetchStrided(x));
  std::vector<int64_t> offsets = Offsets(positions->data<int64_t>(), from, source.view.strides);
  IndexedCopy copy{.src_offset = source.view.offset, .element_bytes = ElementBytes(x)};
  if (const Value* fill = node.input(kPadValue); node.op() == "Pad" && fill != nullptr) {
    std::memcpy(&copy.fill, fill->constant().raw(), static_cast<size_t>(copy.element_bytes));
  }
  Layout layout = Layout::kPlain;
  if (auto factored = Factor(offsets, to)) {
    if (from.size() == to.size() && to.size() >= 3) layout = b.LayoutOf(x);
    copy.src_offset += factored->base;
    copy.offsets = std::move(factored->tables);
    if (layout == Layout::kChannelsLast) {
      std::rotate(copy.offsets.begin() + 1, copy.offsets.begin() + 2, copy.offsets.end());
    }
  } else if (n <= kMaxUnfactored) {
    copy.offsets = {std::move(offsets)};
  } else {
    *reason = "an irregular pattern of too many elements";
    return false;
  }
  const BufferId result = b.Define(out, layout, *out->type().type);
  const auto prepared = std::make_shared<const PreparedCopy>(std::move(copy));
  b.AddStep({node.name(), node.op(), "", "copy", ""}, {source.buffer, result},
            [=, from_buffer = source.buffer](Binding& bind) -> BoundStep {
              return [=, &bind] {
                prepared->Run(bind.pointer(from_buffer), bind.pointer(result));
                return absl::OkStatus();
              };
            });
  return true;
}

}  // namespace halftone
