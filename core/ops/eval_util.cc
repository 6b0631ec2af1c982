#include "core/ops/eval_util.h"

#include <algorithm>

#include "core/base/status_macros.h"
#include "core/quant/packed.h"

namespace halftone {
namespace {

bool IsNarrowFloat(DataType t) { return IsFloat(t) && BitWidth(t) <= 16; }
bool IsNarrowInteger(DataType t) { return IsInteger(t) && BitWidth(t) >= 8 && BitWidth(t) < 64; }
bool IsPacked(DataType t) { return BitWidth(t) < 8; }
DataType UnpackedType(DataType t) { return t == DataType::kI4 ? DataType::kI8 : DataType::kU8; }

// Runs `eval` on copies of the inputs for which `match` holds, made by `widen`, with outputs of
// type `match` computed as `wide_type` and brought back by `narrow`.
template <typename Match, typename WideType, typename Widen, typename Narrow>
absl::Status EvalConverted(EvalContext& c, EvalFn eval, Match match, WideType wide_type,
                           Widen widen, Narrow narrow) {
  std::vector<Tensor> copies(c.inputs().size());
  std::vector<const Tensor*> inputs = c.inputs();
  bool any = false;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] == nullptr || !match(inputs[i]->type())) continue;
    HT_ASSIGN_OR_RETURN(copies[i], widen(*inputs[i]));
    inputs[i] = &copies[i];
    any = true;
  }
  std::vector<ValueType> types = c.output_types();
  for (ValueType& t : types) {
    if (!t.type.has_value() || !match(*t.type)) continue;
    t.type = wide_type(*t.type);
    any = true;
  }
  if (!any) return eval(c);
  EvalContext wide(c.node(), c.opset(), std::move(inputs), std::move(types));
  HT_RETURN_IF_ERROR(eval(wide));
  for (int i = 0; i < wide.num_outputs(); ++i) {
    Tensor& out = wide.outputs()[i];
    const std::optional<DataType> want = c.output_types()[i].type;
    if (want.has_value() && match(*want) && c.has_output(i)) {
      HT_ASSIGN_OR_RETURN(out, narrow(out, *want));
    }
    c.set_output(i, std::move(out));
  }
  return absl::OkStatus();
}

// An index space with the strides of its operands, without axes of size 1 and with neighbouring
// axes merged where every operand allows; never of rank 0.
struct Walk {
  Shape shape;
  std::vector<Shape> strides;
};

Walk Coalesce(absl::Span<const int64_t> shape, absl::Span<const Shape> strides) {
  Walk walk = {.strides = std::vector<Shape>(strides.size())};
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    if (shape[axis] == 1) continue;
    bool merges = !walk.shape.empty();
    for (size_t n = 0; n < strides.size() && merges; ++n) {
      merges = walk.strides[n].back() == strides[n][axis] * shape[axis];
    }
    if (merges) {
      walk.shape.back() *= shape[axis];
      for (size_t n = 0; n < strides.size(); ++n) walk.strides[n].back() = strides[n][axis];
    } else {
      walk.shape.push_back(shape[axis]);
      for (size_t n = 0; n < strides.size(); ++n) walk.strides[n].push_back(strides[n][axis]);
    }
  }
  if (walk.shape.empty()) {
    walk.shape.push_back(1);
    for (Shape& s : walk.strides) s.push_back(0);
  }
  return walk;
}

}  // namespace

absl::Status EvalWidened(EvalContext& c, EvalFn eval) {
  return EvalConverted(
      c, eval, IsNarrowFloat, [](DataType) { return DataType::kF32; },
      [](const Tensor& t) { return Convert(t, DataType::kF32); },
      [](const Tensor& t, DataType want) { return Convert(t, want); });
}

absl::Status EvalWidenedNumbers(EvalContext& c, EvalFn eval) {
  const auto wide_type = [](DataType t) { return IsFloat(t) ? DataType::kF32 : DataType::kI64; };
  return EvalConverted(
      c, eval, [](DataType t) { return IsNarrowFloat(t) || IsNarrowInteger(t); }, wide_type,
      [&](const Tensor& t) { return Convert(t, wide_type(t.type())); },
      [](const Tensor& t, DataType want) { return Convert(t, want); });
}

absl::Status EvalUnpacked(EvalContext& c, EvalFn eval) {
  return EvalConverted(c, eval, IsPacked, UnpackedType, Unpack4, Pack4);
}

absl::StatusOr<Tensor> Unpack4(const Tensor& t) {
  HT_ASSIGN_OR_RETURN(Tensor out, Tensor::Create(UnpackedType(t.type()), t.shape()));
  const auto packed = absl::MakeConstSpan(Raw<uint8_t>(t), static_cast<size_t>(t.num_bytes()));
  if (t.type() == DataType::kI4) {
    UnpackSigned(packed, 4, out.mutable_data<int8_t>());
  } else {
    UnpackCodes(packed, 4, out.mutable_data<uint8_t>());
  }
  return out;
}

absl::StatusOr<Tensor> Pack4(const Tensor& t, DataType type) {
  HT_ASSIGN_OR_RETURN(Tensor out, Tensor::Create(type, t.shape()));
  PackCodes(absl::MakeConstSpan(Raw<uint8_t>(t), static_cast<size_t>(t.num_elements())), 4,
            absl::MakeSpan(MutableRaw<uint8_t>(out), static_cast<size_t>(out.num_bytes())));
  return out;
}

int64_t DimProduct(absl::Span<const int64_t> shape, int64_t first, int64_t last) {
  int64_t n = 1;
  for (int64_t i = first; i < last; ++i) n *= shape[i];
  return n;
}

Shape BroadcastStrides(absl::Span<const int64_t> shape, absl::Span<const int64_t> to) {
  const Shape strides = RowMajorStrides(shape);
  Shape out(to.size(), 0);
  const size_t skip = to.size() - shape.size();
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] != 1) out[i + skip] = strides[i];
  }
  return out;
}

void ForEachRow(absl::Span<const int64_t> shape, absl::Span<const Shape> strides, RowFn row) {
  for (const int64_t d : shape) {
    if (d == 0) return;
  }
  const Walk walk = Coalesce(shape, strides);
  const size_t operands = strides.size();
  const int outer = static_cast<int>(walk.shape.size()) - 1;
  Shape offsets(operands, 0), steps, index(outer, 0);
  for (const Shape& s : walk.strides) steps.push_back(s.back());
  while (true) {
    row(walk.shape.back(), offsets.data(), steps.data());
    int axis = outer - 1;
    for (; axis >= 0; --axis) {
      for (size_t n = 0; n < operands; ++n) offsets[n] += walk.strides[n][axis];
      if (++index[axis] < walk.shape[axis]) break;
      for (size_t n = 0; n < operands; ++n) {
        offsets[n] -= walk.strides[n][axis] * walk.shape[axis];
      }
      index[axis] = 0;
    }
    if (axis < 0) return;
  }
}

absl::Status StridedCopy(const EvalContext& c, const Tensor& in, int64_t start,
                         absl::Span<const int64_t> shape, const Shape& strides, Tensor& out) {
  if (IsPacked(in.type())) {
    HT_ASSIGN_OR_RETURN(const Tensor bytes, Unpack4(in));
    HT_ASSIGN_OR_RETURN(Tensor copied, Tensor::Create(bytes.type(), out.shape()));
    HT_RETURN_IF_ERROR(StridedCopy(c, bytes, start, shape, strides, copied));
    HT_ASSIGN_OR_RETURN(out, Pack4(copied, in.type()));
    return absl::OkStatus();
  }
  return DispatchWidth(c, in.type(), [&](auto tag) {
    using U = decltype(tag);
    const U* from = Raw<U>(in) + start;
    U* to = MutableRaw<U>(out);
    ForEachRow(shape, {strides}, [&](int64_t count, const int64_t* offsets, const int64_t* steps) {
      const U* row = from + offsets[0];
      if (steps[0] == 1) {
        std::copy(row, row + count, to);
      } else {
        for (int64_t i = 0; i < count; ++i) to[i] = row[i * steps[0]];
      }
      to += count;
    });
  });
}

}  // namespace halftone
