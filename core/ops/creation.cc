// Operators that make tensors or change their type: Constant, ConstantOfShape, Range, Cast …
#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/status_macros.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"

namespace halftone {
namespace {

// --- Constant ------------------------------------------------------------------------------------

template <typename T>
std::optional<Tensor> ConstantFrom(const Attributes& a, absl::string_view scalar,
                                   absl::string_view list) {
  if (const auto* v = a.Find<T>(scalar); v != nullptr) return Tensor::Scalar<T>(*v);
  if (const auto* v = a.Find<std::vector<T>>(list); v != nullptr) {
    return Tensor::Of<T>({static_cast<int64_t>(v->size())}, *v);
  }
  return std::nullopt;
}

absl::StatusOr<Tensor> ConstantValue(const Node& node) {
  const Attributes& a = node.attributes();
  if (const auto* t = a.Find<Tensor>("value"); t != nullptr) return *t;
  if (auto t = ConstantFrom<float>(a, "value_float", "value_floats"); t.has_value()) return *t;
  if (auto t = ConstantFrom<int64_t>(a, "value_int", "value_ints"); t.has_value()) return *t;
  return absl::InvalidArgumentError(
      absl::StrCat(Describe(node), ": got no value, want value, value_float(s) or value_int(s)"));
}

absl::Status InferConstant(InferContext& c) {
  HT_ASSIGN_OR_RETURN(const Tensor t, ConstantValue(c.node()));
  c.set_output(0, t.type(), Symbolic(t.shape()));
  return absl::OkStatus();
}

absl::Status EvalConstant(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor t, ConstantValue(c.node()));
  c.set_output(0, std::move(t));
  return absl::OkStatus();
}

// --- ConstantOfShape -----------------------------------------------------------------------------

Tensor FillValue(const Attributes& a) {
  const auto* t = a.Find<Tensor>("value");
  return t == nullptr ? Tensor::Of<float>({1}, {0.0f}) : *t;
}

absl::Status InferConstantOfShape(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 0, 1));
  const Tensor value = FillValue(c.attributes());
  if (value.num_elements() != 1) return c.Error("value wants one element");
  c.set_output(0, value.type(), std::nullopt);
  const std::optional<Elements> wanted = c.elements(0);
  if (!wanted.has_value()) return absl::OkStatus();
  HT_ASSIGN_OR_RETURN(Dims dims, DimsFromElements(c, *wanted));
  c.set_output(0, value.type(), std::move(dims));
  return absl::OkStatus();
}

absl::Status EvalConstantOfShape(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  return StridedCopy(c, FillValue(c.attributes()), 0, out->shape(), Shape(out->rank(), 0), *out);
}

// --- Range ---------------------------------------------------------------------------------------

constexpr TypeSet kRangeTypes =
    Types(DataType::kF32, DataType::kF64, DataType::kI16, DataType::kI32, DataType::kI64);

absl::StatusOr<double> RangeCount(const InferContext& c) {
  std::array<double, 3> v;
  for (int i = 0; i < 3; ++i) {
    HT_ASSIGN_OR_RETURN(const Tensor t, Convert(*c.constant(i), DataType::kF64));
    if (t.num_elements() != 1) return c.Error("inputs want one element each");
    v[i] = t.data<double>()[0];
  }
  const double count = std::ceil((v[1] - v[0]) / v[2]);
  if (v[2] == 0 || !std::isfinite(count) || count > 1e15) {
    return c.Error(absl::StrCat("no range from ", v[0], " to ", v[1], " in steps of ", v[2]));
  }
  return std::max(0.0, count);
}

absl::Status InferRange(InferContext& c) {
  for (const int i : {0, 1, 2}) {
    HT_RETURN_IF_ERROR(CheckSameType(c, 0, i));
    HT_RETURN_IF_ERROR(CheckOneElement(c, i));
  }
  c.set_output(0, c.input(0).type, Dims(1));
  if (!c.constant(0) || !c.constant(1) || !c.constant(2)) return absl::OkStatus();
  HT_ASSIGN_OR_RETURN(const double count, RangeCount(c));
  c.set_output(0, c.input(0).type, Dims{static_cast<int64_t>(count)});
  return absl::OkStatus();
}

absl::Status EvalRange(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  return DispatchWide(c, out->type(), [&](auto tag) {
    using T = decltype(tag);
    const T start = c.input(0).data<T>()[0], delta = c.input(2).data<T>()[0];
    const auto y = out->mutable_data<T>();
    for (size_t i = 0; i < y.size(); ++i) {
      if constexpr (std::is_integral_v<T>) {
        y[i] = static_cast<T>(static_cast<uint64_t>(start) + i * static_cast<uint64_t>(delta));
      } else {
        y[i] = start + static_cast<T>(i) * delta;
      }
    }
  });
}

// --- Cast, CastLike ------------------------------------------------------------------------------

constexpr int kLastOnnxType = 23;

absl::StatusOr<DataType> CastTarget(const InferContext& c) {
  const int64_t code = c.attributes().Int("to", 0);
  const std::optional<DataType> type = DataTypeFromOnnx(code);
  // Strings and complex numbers are ONNX, but not Halftone.
  if (!type.has_value() && code > 0 && code <= kLastOnnxType) {
    return absl::UnimplementedError(
        absl::StrCat(Describe(c.node()), ": cannot cast to ONNX type ", code));
  }
  if (!type.has_value()) return c.Error(absl::StrCat("cannot cast to ONNX type ", code));
  return *type;
}

void SetCast(InferContext& c, std::optional<DataType> to) {
  c.set_output(0, to, c.input(0).shape);
  if (!to.has_value() || !IsInteger(*to) || BitWidth(*to) < 32) return;
  if (std::optional<Elements> elements = c.elements(0); elements.has_value()) {
    if (c.input(0).type.has_value()) c.set_elements(0, *std::move(elements));
  }
}

absl::Status InferCast(InferContext& c) {
  HT_ASSIGN_OR_RETURN(const DataType to, CastTarget(c));
  SetCast(c, to);
  return absl::OkStatus();
}

absl::Status InferCastLike(InferContext& c) {
  SetCast(c, c.input(1).type);
  return absl::OkStatus();
}

absl::StatusOr<Tensor> ConvertAny(const Tensor& t, DataType to, bool saturate) {
  if (t.type() == to) return t;
  if (BitWidth(t.type()) < 8) {
    HT_ASSIGN_OR_RETURN(const Tensor wide, Unpack4(t));
    return ConvertAny(wide, to, saturate);
  }
  if (BitWidth(to) >= 8) return Convert(t, to, saturate);
  // Floats saturate to the narrow range; integers keep their low four bits.
  Tensor source = t;
  if (IsFloat(t.type())) {
    HT_ASSIGN_OR_RETURN(source, Convert(t, DataType::kF32));
    HT_ASSIGN_OR_RETURN(Tensor rounded, Tensor::Create(DataType::kF32, t.shape()));
    const float low = to == DataType::kI4 ? -8 : 0, high = to == DataType::kI4 ? 7 : 15;
    for (int64_t i = 0; i < t.num_elements(); ++i) {
      const float x = source.data<float>()[i];
      MutableRaw<float>(rounded)[i] = std::isnan(x) ? 0 : std::clamp(std::nearbyint(x), low, high);
    }
    source = rounded;
  }
  HT_ASSIGN_OR_RETURN(const Tensor bytes, Convert(source, DataType::kI64));
  HT_ASSIGN_OR_RETURN(const Tensor narrow, Convert(bytes, DataType::kI8));
  return Pack4(narrow, to);
}

absl::Status EvalCast(EvalContext& c) {
  const bool saturate = c.attributes().Int("saturate", 1) != 0;
  HT_ASSIGN_OR_RETURN(Tensor out, ConvertAny(c.input(0), *c.output_types()[0].type, saturate));
  c.set_output(0, std::move(out));
  return absl::OkStatus();
}

// --- EyeLike -------------------------------------------------------------------------------------

absl::Status InferEyeLike(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 2, 2));
  std::optional<DataType> type = c.input(0).type;
  if (c.attributes().Has("dtype")) {
    type = DataTypeFromOnnx(c.attributes().Int("dtype", 0));
    if (!type.has_value()) return c.Error("dtype is unknown");
  }
  if (type.has_value() && BitWidth(*type) < 8) return c.Error("4-bit types are not supported");
  c.set_output(0, type, c.input(0).shape);
  return absl::OkStatus();
}

absl::Status EvalEyeLike(EvalContext& c) {
  HT_ASSIGN_OR_RETURN(Tensor * out, c.Allocate(0));
  const int64_t k = c.attributes().Int("k", 0), rows = out->dim(0), columns = out->dim(1);
  HT_ASSIGN_OR_RETURN(const Tensor one, Convert(Tensor::Of<float>({1}, {1.0f}), out->type()));
  return DispatchWidth(c, out->type(), [&](auto tag) {
    using U = decltype(tag);
    U* to = MutableRaw<U>(*out);
    std::fill(to, to + out->num_elements(), U{0});
    for (int64_t i = 0; i < rows; ++i) {
      if (k >= -i && k < columns - i) to[i * columns + i + k] = Raw<U>(one)[0];
    }
  });
}

constexpr std::array kRows = {
    ExactRow("Constant", 1, {0, 0}, InferConstant, EvalConstant, Types()),
    ExactRow("ConstantOfShape", 9, {1, 1}, InferConstantOfShape, EvalConstantOfShape, kIndexTypes),
    ExactRow("Range", 11, {3, 3}, InferRange, WidenedNumbers<EvalRange>, kRangeTypes),
    ExactRow("Cast", 6, {1, 1}, InferCast, EvalCast, kAllTypes),
    ExactRow("CastLike", 15, {2, 2}, InferCastLike, EvalCast, kAllTypes),
    ExactRow("EyeLike", 9, {1, 1}, InferEyeLike, EvalEyeLike, kWholeByteTypes),
};

}  // namespace

absl::Span<const OpDef> CreationOps() { return kRows; }

}  // namespace halftone
