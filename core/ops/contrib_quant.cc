// Quantized operators of ONNX Runtime as DequantizeLinear → operator → QuantizeLinear, the form in
// which quantization is written down everywhere else.
#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "core/base/checked_math.h"
#include "core/base/status_macros.h"
#include "core/ops/composite.h"

namespace halftone {
namespace {

// The inputs of a quantized tensor: data, scale, zero point (may be absent).
struct Quantized {
  int data, scale, zero;
};

Value* Dequantize(Body& b, Value* data, const Quantized& q, int64_t axis = 1) {
  return b.Op("DequantizeLinear", {data, b.in(q.scale), b.in(q.zero)}, {{"axis", axis}});
}
Value* Dequantize(Body& b, const Quantized& q, int64_t axis = 1) {
  return Dequantize(b, b.in(q.data), q, axis);
}

// To the output's scale and zero point; without the latter to the element type of input `like`.
Value* Quantize(Body& b, Value* x, int scale, int zero, int like) {
  Attributes attributes;
  if (!b.has(zero)) attributes.Set("output_dtype", int64_t{Info(b.type(like)).onnx_code});
  return b.Op("QuantizeLinear", {x, b.in(scale), b.in(zero)}, attributes);
}

Value* Transposed(Body& b, Value* x, std::vector<int64_t> perm) {
  return b.Op("Transpose", {x}, {{"perm", std::move(perm)}});
}

// [N,…,C] → [N,C,…] where the node's data has its channels last, and back.
bool ChannelsLast(const Body& b) {
  return b.attributes().Int("channels_last", 0) != 0 && b.rank(0) > 2;
}
Value* ToChannelsFirst(Body& b, Value* x, bool last) {
  if (!last) return x;
  std::vector<int64_t> perm = {0, b.rank(0) - 1};
  for (int64_t axis = 1; axis < b.rank(0) - 1; ++axis) perm.push_back(axis);
  return Transposed(b, x, perm);
}
Value* ToChannelsLast(Body& b, Value* x, bool last) {
  if (!last) return x;
  std::vector<int64_t> perm = {0};
  for (int64_t axis = 2; axis < b.rank(0); ++axis) perm.push_back(axis);
  perm.push_back(1);
  return Transposed(b, x, perm);
}

// --- one quantized tensor in, one out ------------------------------------------------------------

// (x, scale, zero?, y scale, y zero?) around one float operator.
template <typename Fn>
absl::StatusOr<Outputs> Around(Body& b, Fn fn) {
  HT_RETURN_IF_ERROR(b.Require({0, 1, 3}));
  const bool last = ChannelsLast(b);
  Value* x = Dequantize(b, ToChannelsFirst(b, b.in(0), last), {0, 1, 2});
  HT_ASSIGN_OR_RETURN(Value * y, absl::StatusOr<Value*>(fn(x)));
  return Outputs{ToChannelsLast(b, Quantize(b, y, 3, 4, 0), last)};
}

absl::StatusOr<Outputs> QLinearSigmoid(Body& b) {
  return Around(b, [&](Value* x) { return b.Op("Sigmoid", {x}); });
}

absl::StatusOr<Outputs> QLinearLeakyRelu(Body& b) {
  return Around(b, [&](Value* x) { return b.Op("LeakyRelu", {x}, b.Copied({"alpha"})); });
}

absl::StatusOr<Outputs> QLinearGlobalAveragePool(Body& b) {
  return Around(b, [&](Value* x) { return b.Op("GlobalAveragePool", {x}); });
}

absl::StatusOr<Outputs> QLinearAveragePool(Body& b) {
  return Around(b, [&](Value* x) {
    return b.Op("AveragePool", {x},
                b.Copied({"auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads",
                          "strides"}));
  });
}

// Before opset 13, an attribute here, all axes from `axis` on are one.
absl::StatusOr<Outputs> QLinearSoftmax(Body& b) {
  return Around(b, [&](Value* x) {
    const bool flat = b.attributes().Int("opset", 13) < 13;
    const int64_t axis = b.attributes().Int("axis", flat ? 1 : -1);
    if (!flat) return b.Op("Softmax", {x}, {{"axis", axis}});
    Value* rows = b.Op("Flatten", {x}, {{"axis", axis}});
    Value* y = b.Op("Softmax", {rows}, {{"axis", int64_t{1}}});
    return b.Op("Reshape", {y, b.Op("Shape", {x})});
  });
}

// The pooling itself is the same on integers.
absl::StatusOr<Outputs> NhwcMaxPool(Body& b) {
  const bool last = b.rank(0) > 2;
  Value* y =
      b.Op("MaxPool", {ToChannelsFirst(b, b.in(0), last)},
           b.Copied({"auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides"}));
  return Outputs{ToChannelsLast(b, y, last)};
}

// --- several quantized tensors in ----------------------------------------------------------------

// (a, scale, zero?, b, scale, zero?, y scale, y zero?)
absl::StatusOr<Outputs> Binary(Body& b, const char* op) {
  HT_RETURN_IF_ERROR(b.Require({0, 1, 3, 4, 6}));
  Value* y = b.Op(op, {Dequantize(b, {0, 1, 2}), Dequantize(b, {3, 4, 5})});
  return Outputs{Quantize(b, y, 6, 7, 0)};
}
absl::StatusOr<Outputs> QLinearAdd(Body& b) { return Binary(b, "Add"); }
absl::StatusOr<Outputs> QLinearMul(Body& b) { return Binary(b, "Mul"); }

// (condition, a, scale, zero, b, scale, zero, y scale, y zero)
absl::StatusOr<Outputs> QLinearWhere(Body& b) {
  Value* y = b.Op("Where", {b.in(0), Dequantize(b, {1, 2, 3}), Dequantize(b, {4, 5, 6})});
  return Outputs{Quantize(b, y, 7, 8, 1)};
}

// (y scale, y zero, (x, scale, zero)…)
absl::StatusOr<Outputs> QLinearConcat(Body& b) {
  if (b.num_inputs() % 3 != 2) {
    return b.Error(absl::StrCat("has ", b.num_inputs(), " inputs, want 2 + 3 per tensor"));
  }
  Outputs parts;
  for (int i = 2; i < b.num_inputs(); i += 3) {
    HT_RETURN_IF_ERROR(b.Require({i, i + 1}));
    parts.push_back(Dequantize(b, {i, i + 1, i + 2}));
  }
  Value* y = b.Op("Concat", parts, {{"axis", b.attributes().Int("axis", 0)}});
  return Outputs{Quantize(b, y, 0, 1, 2)};
}

// --- products and convolutions -------------------------------------------------------------------

// A bias of i32 counts in steps of the product of both scales.
Value* DequantizedBias(Body& b, int bias, int scale_x, int scale_w) {
  if (!b.has(bias)) return nullptr;
  Value* step = b.Op("Mul", {b.in(scale_x), b.in(scale_w)});
  return b.Op("Mul", {b.Cast(b.in(bias), b.type(scale_x)), step});
}

// (x, scale, zero, w, scale, zero, y scale, y zero, bias?), of ai.onnx and with channels_last.
absl::StatusOr<Outputs> QLinearConv(Body& b) {
  const bool last = ChannelsLast(b);
  Value* x = Dequantize(b, ToChannelsFirst(b, b.in(0), last), {0, 1, 2});
  Value* y = b.Op("Conv", {x, Dequantize(b, {3, 4, 5}, 0), DequantizedBias(b, 8, 1, 4)},
                  b.Copied({"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}));
  return Outputs{ToChannelsLast(b, Quantize(b, y, 6, 7, 0), last)};
}

// (a, scale, zero, b, scale, zero, y scale, y zero); scales of `a` are per row, of `b` per column.
absl::StatusOr<Outputs> QLinearMatMul(Body& b) {
  Value* y = b.Op(
      "MatMul", {Dequantize(b, {0, 1, 2}, b.rank(0) - 2), Dequantize(b, {3, 4, 5}, b.rank(3) - 1)});
  return Outputs{Quantize(b, y, 6, 7, 0)};
}

// (a, scale, zero, b, scale, zero, c?, y scale?, y zero?); float without a y scale.
absl::StatusOr<Outputs> QGemm(Body& b) {
  const float alpha = b.attributes().Float("alpha", 1);
  const int64_t channel_axis = b.attributes().Int("transB", 0) != 0 ? 0 : 1;
  Attributes attributes = b.Copied({"alpha", "transA", "transB"});
  attributes.Set("beta", alpha);
  Value* y = b.Op("Gemm",
                  {Dequantize(b, {0, 1, 2}), Dequantize(b, {3, 4, 5}, channel_axis),
                   DequantizedBias(b, 6, 1, 4)},
                  attributes);
  return Outputs{b.has(7) ? Quantize(b, y, 7, 8, 0) : y};
}

Value* PlusBias(Body& b, Value* y, int bias) {
  return b.has(bias) ? b.Op("Add", {y, b.in(bias)}) : y;
}

// (a, b, a scale, b scale, a zero?, b zero?, bias?)
absl::StatusOr<Outputs> MatMulIntegerToFloat(Body& b) {
  Value* y = b.Op(
      "MatMul", {Dequantize(b, {0, 2, 4}, b.rank(0) - 2), Dequantize(b, {1, 3, 5}, b.rank(1) - 1)});
  return Outputs{PlusBias(b, y, 6)};
}

// (a, b, b scale, b zero?, bias?) with `a` in float.
absl::StatusOr<Outputs> DynamicQuantizeMatMul(Body& b) {
  const Outputs a = b.Op("DynamicQuantizeLinear", {b.in(0)}, {}, 3);
  Value* y = b.Op("MatMul", {b.Op("DequantizeLinear", a), Dequantize(b, {1, 2, 3}, b.rank(1) - 1)});
  return Outputs{PlusBias(b, y, 4)};
}

absl::StatusOr<Outputs> MatMulInteger16(Body& b) {
  return Outputs{
      b.Op("MatMul", {b.Cast(b.in(0), DataType::kI32), b.Cast(b.in(1), DataType::kI32)})};
}

// (x, w, r, bias?, lengths?, h?, c?, peepholes?, w scale, w zero, r scale, r zero). The weights are
// those of ONNX transposed; scales are per direction or per direction and column. ONNX Runtime also
// rounds x and h to 8 bits in every step; here they stay float, which is closer to the model that
// was quantized.
absl::StatusOr<Outputs> DynamicQuantizeLstm(Body& b) {
  HT_RETURN_IF_ERROR(b.Require({8, 9, 10, 11}));
  const auto widened = [&](int weights, int scale) {
    const auto parameter = [&](int i) {
      Value* p = b.Cast(b.in(i), DataType::kF32);
      return b.Op("Unsqueeze", {p, b.rank(i) == 2 ? b.Ints({1}) : b.Ints({1, 2})});
    };
    Value* centered = b.Op("Sub", {b.Cast(b.in(weights), DataType::kF32), parameter(scale + 1)});
    return Transposed(b, b.Op("Mul", {centered, parameter(scale)}), {0, 2, 1});
  };
  return b.Op("LSTM",
              {b.in(0), widened(1, 8), widened(2, 10), b.in(3), b.in(4), b.in(5), b.in(6), b.in(7)},
              b.Copied({"activation_alpha", "activation_beta", "activations", "clip", "direction",
                        "hidden_size", "input_forget"}),
              3);
}

// --- MatMulNBits ---------------------------------------------------------------------------------

struct NBits {
  int64_t k, n, block, bits;
  int64_t blocks() const { return (k + block - 1) / block; }
};

absl::StatusOr<NBits> ReadNBits(const Body& b) {
  const auto read = [&](const char* name) { return b.attributes().Int(name, 0); };
  const NBits s = {read("K"), read("N"), read("block_size"), b.attributes().Int("bits", 4)};
  if (s.bits != 4 && s.bits != 8) return b.Unsupported(absl::StrCat("bits is ", s.bits));
  constexpr int64_t kMax = int64_t{1} << 40;  // keeps the arithmetic below from overflowing
  if (s.k < 1 || s.n < 1 || s.block < 2 || s.block % 2 != 0 ||
      std::max({s.k, s.n, s.block}) > kMax) {
    return b.Error(
        absl::StrCat("K, N, block_size are ", s.k, ", ", s.n, ", ", s.block, ", want positive"));
  }
  HT_ASSIGN_OR_RETURN(const int64_t padded, NumElements(Shape{s.n, s.blocks(), s.block}));
  HT_ASSIGN_OR_RETURN(const int64_t bytes, PackedBytes(padded, static_cast<int>(s.bits)));
  const std::optional<Shape> stored = Concrete(b.dims(1));
  if (stored && ElementCount(*stored) != bytes) {
    return b.Error(
        absl::StrCat("input 1 has shape ", ToString(*stored), ", want ", bytes, " bytes in all"));
  }
  if (b.has(4)) return b.Unsupported("has group indices");
  return s;
}

// Integers as they are stored, u8[N,…], → u8[N,count]: two to a byte where they have 4 bits.
Value* Unpacked(Body& b, Value* stored, const NBits& s, int64_t count) {
  Value* bytes = b.Op("Reshape", {stored, b.Ints({s.n, -1})});
  if (s.bits == 4) {
    const auto number = [&](uint8_t v) { return b.Constant(Tensor::Scalar<uint8_t>(v)); };
    Value* low = b.Op("BitwiseAnd", {bytes, number(15)});
    Value* high = b.Op("BitShift", {bytes, number(4)}, {{"direction", std::string("RIGHT")}});
    Value* last = b.Ints({2});
    Value* pairs = b.Op("Concat", {b.Op("Unsqueeze", {low, last}), b.Op("Unsqueeze", {high, last})},
                        {{"axis", int64_t{2}}});
    bytes = b.Op("Reshape", {pairs, b.Ints({s.n, -1})});
  }
  return b.Op("Slice", {bytes, b.Ints({0}), b.Ints({count}), b.Ints({1})});
}

// Narrow integers minus the middle of their range, as a signed type: no zero point is left.
Value* Centered(Body& b, Value* bytes, const NBits& s) {
  const auto number = [&](int8_t v) { return b.Constant(Tensor::Scalar<int8_t>(v)); };
  if (s.bits == 4) {
    return b.Cast(b.Op("Sub", {b.Cast(bytes, DataType::kI8), number(8)}), DataType::kI4);
  }
  // q - 128 = (q & 127) - 128·(1 - q / 128), which stays within i8 all the way.
  Value* low = b.Op("BitwiseAnd", {bytes, b.Constant(Tensor::Scalar<uint8_t>(127))});
  Value* upper = b.Op("Less", {low, bytes});
  Value* shift = b.Op("Where", {upper, number(0), number(-128)});
  return b.Op("Add", {b.Cast(low, DataType::kI8), shift});
}

// (a, b, scales, zeros?, group indices?, bias?): b is u8[N,blocks,bytes per block], its scales one
// per block. The weights end up as [K,N] with blocks along K.
absl::StatusOr<Outputs> MatMulNBits(Body& b) {
  HT_ASSIGN_OR_RETURN(const NBits s, ReadNBits(b));
  const DataType type = b.type(0);
  const Attributes blocked = {{"axis", int64_t{0}}, {"block_size", s.block}};
  Value* by_block = b.Ints({s.n, s.blocks()});
  Value* scales = Transposed(b, b.Op("Reshape", {b.in(2), by_block}), {1, 0});
  Value* q = Transposed(b, Unpacked(b, b.in(1), s, s.k), {1, 0});
  Value* w = nullptr;
  if (!b.has(3)) {
    w = b.Op("DequantizeLinear", {Centered(b, q, s), scales}, blocked);
  } else if (b.type(3) == DataType::kU8) {
    const DataType stored = s.bits == 4 ? DataType::kU4 : DataType::kU8;
    Value* zeros = Transposed(b, Unpacked(b, b.in(3), s, s.blocks()), {1, 0});
    if (s.bits == 4) {
      q = b.Cast(q, stored);
      zeros = b.Cast(zeros, stored);
    }
    w = b.Op("DequantizeLinear", {q, scales, zeros}, blocked);
  } else {
    // A zero point that is no integer: q·scale - zero·scale.
    Value* zeros = Transposed(b, b.Op("Reshape", {b.in(3), by_block}), {1, 0});
    Value* shift = b.Op("Mul", {zeros, scales});
    const auto repeated = [&](Value* v) {
      Value* column = b.Op("Unsqueeze", {v, b.Ints({1})});
      Value* wide = b.Op("Expand", {column, b.Ints({s.blocks(), s.block, s.n})});
      Value* rows = b.Op("Reshape", {wide, b.Ints({-1, s.n})});
      return b.Op("Slice", {rows, b.Ints({0}), b.Ints({s.k}), b.Ints({0})});
    };
    w = b.Op("Sub", {b.Op("Mul", {b.Cast(q, type), repeated(scales)}), repeated(shift)});
  }
  return Outputs{PlusBias(b, b.Op("MatMul", {b.in(0), w}), 5)};
}

// --- quantization itself -------------------------------------------------------------------------

absl::StatusOr<Outputs> QuantizeLinear(Body& b) {
  return Outputs{b.Op("QuantizeLinear", {b.in(0), b.in(1), b.in(2)}, b.Copied({"axis"}))};
}
absl::StatusOr<Outputs> DequantizeLinear(Body& b) {
  return Outputs{b.Op("DequantizeLinear", {b.in(0), b.in(1), b.in(2)}, b.Copied({"axis"}))};
}

constexpr Composite OfOnnx(absl::string_view name, Arity inputs, BodyFn body) {
  return {name, inputs, {1, 1}, body, "", true};
}

constexpr std::array kComposites = {
    Composite{"QLinearSigmoid", {2, 5}, {1, 1}, QLinearSigmoid},
    Composite{"QLinearLeakyRelu", {2, 5}, {1, 1}, QLinearLeakyRelu},
    Composite{"QLinearGlobalAveragePool", {2, 5}, {1, 1}, QLinearGlobalAveragePool},
    Composite{"QLinearAveragePool", {2, 5}, {1, 1}, QLinearAveragePool},
    Composite{"QLinearSoftmax", {2, 5}, {1, 1}, QLinearSoftmax},
    Composite{"NhwcMaxPool", {1, 1}, {1, 1}, NhwcMaxPool},
    Composite{"QLinearAdd", {2, 8}, {1, 1}, QLinearAdd},
    Composite{"QLinearMul", {2, 8}, {1, 1}, QLinearMul},
    Composite{"QLinearWhere", {9, 9}, {1, 1}, QLinearWhere},
    Composite{"QLinearConcat", {2, -1}, {1, 1}, QLinearConcat},
    Composite{"QLinearConv", {8, 9}, {1, 1}, QLinearConv},
    OfOnnx("QLinearConv", {8, 9}, QLinearConv),
    OfOnnx("QLinearMatMul", {8, 8}, QLinearMatMul),
    Composite{"QGemm", {6, 9}, {1, 1}, QGemm},
    Composite{"MatMulIntegerToFloat", {4, 7}, {1, 1}, MatMulIntegerToFloat},
    Composite{"DynamicQuantizeMatMul", {3, 5}, {1, 1}, DynamicQuantizeMatMul},
    Composite{"MatMulInteger16", {2, 2}, {1, 1}, MatMulInteger16},
    Composite{"DynamicQuantizeLSTM", {3, 12}, {1, 3}, DynamicQuantizeLstm},
    Composite{"MatMulNBits", {3, 6}, {1, 1}, MatMulNBits},
    Composite{"QuantizeLinear", {2, 3}, {1, 1}, QuantizeLinear},
    Composite{"DequantizeLinear", {2, 3}, {1, 1}, DequantizeLinear},
};

}  // namespace

absl::Span<const Composite> ContribQuantOps() { return kComposites; }

}  // namespace halftone
