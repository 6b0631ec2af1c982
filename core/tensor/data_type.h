// Element types of tensors. The numbers are ours; codecs map them to ONNX and wire names.
#ifndef HALFTONE_CORE_TENSOR_DATA_TYPE_H_
#define HALFTONE_CORE_TENSOR_DATA_TYPE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "absl/strings/string_view.h"
#include "core/tensor/float16.h"

namespace halftone {

enum class DataType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kF64,
  kI8,
  kU8,
  kI16,
  kU16,
  kI32,
  kU32,
  kI64,
  kU64,
  kBool,
  kI4,
  kU4,
  kF8E4M3FN,
  kF8E4M3FNUZ,
  kF8E5M2,
  kF8E5M2FNUZ,
};

struct DataTypeInfo {
  DataType type;
  absl::string_view name;       // ours, in dumps and specs: "f32"
  absl::string_view wire_name;  // Open Inference Protocol: "FP32"; empty: never on the wire
  int bits;                     // 4-bit types pack two to a byte, low nibble first (ONNX)
  int onnx_code;                // TensorProto.DataType
  bool is_float;
  bool is_signed;
};

inline constexpr std::array kDataTypes = {
    DataTypeInfo{DataType::kF32, "f32", "FP32", 32, 1, true, true},
    DataTypeInfo{DataType::kF16, "f16", "FP16", 16, 10, true, true},
    DataTypeInfo{DataType::kBF16, "bf16", "BF16", 16, 16, true, true},
    DataTypeInfo{DataType::kF64, "f64", "FP64", 64, 11, true, true},
    DataTypeInfo{DataType::kI8, "i8", "INT8", 8, 3, false, true},
    DataTypeInfo{DataType::kU8, "u8", "UINT8", 8, 2, false, false},
    DataTypeInfo{DataType::kI16, "i16", "INT16", 16, 5, false, true},
    DataTypeInfo{DataType::kU16, "u16", "UINT16", 16, 4, false, false},
    DataTypeInfo{DataType::kI32, "i32", "INT32", 32, 6, false, true},
    DataTypeInfo{DataType::kU32, "u32", "UINT32", 32, 12, false, false},
    DataTypeInfo{DataType::kI64, "i64", "INT64", 64, 7, false, true},
    DataTypeInfo{DataType::kU64, "u64", "UINT64", 64, 13, false, false},
    DataTypeInfo{DataType::kBool, "bool", "BOOL", 8, 9, false, false},
    DataTypeInfo{DataType::kI4, "i4", "", 4, 22, false, true},
    DataTypeInfo{DataType::kU4, "u4", "", 4, 21, false, false},
    DataTypeInfo{DataType::kF8E4M3FN, "f8e4m3fn", "", 8, 17, true, true},
    DataTypeInfo{DataType::kF8E4M3FNUZ, "f8e4m3fnuz", "", 8, 18, true, true},
    DataTypeInfo{DataType::kF8E5M2, "f8e5m2", "", 8, 19, true, true},
    DataTypeInfo{DataType::kF8E5M2FNUZ, "f8e5m2fnuz", "", 8, 20, true, true},
};
static_assert(
    [] {
      for (size_t i = 0; i < kDataTypes.size(); ++i) {
        if (static_cast<size_t>(kDataTypes[i].type) != i) return false;
      }
      return true;
    }(),
    "kDataTypes must list DataType in order");

constexpr const DataTypeInfo& Info(DataType t) { return kDataTypes[static_cast<size_t>(t)]; }
constexpr absl::string_view Name(DataType t) { return Info(t).name; }
constexpr int BitWidth(DataType t) { return Info(t).bits; }
constexpr bool IsFloat(DataType t) { return Info(t).is_float; }
constexpr bool IsFloat8(DataType t) { return IsFloat(t) && BitWidth(t) == 8; }
// Integers proper: not bool, not float.
constexpr bool IsInteger(DataType t) { return !IsFloat(t) && t != DataType::kBool; }

std::optional<DataType> DataTypeFromName(absl::string_view name);
std::optional<DataType> DataTypeFromWireName(absl::string_view name);
std::optional<DataType> DataTypeFromOnnx(int64_t onnx_code);

// The C++ type of an element, for whole-byte types other than 8-bit floats.
template <typename T>
struct DataTypeOf;
#define HT_DATA_TYPE_OF_(cpp, tag)                   \
  template <>                                        \
  struct DataTypeOf<cpp> {                           \
    static constexpr DataType value = DataType::tag; \
  }
HT_DATA_TYPE_OF_(float, kF32);
HT_DATA_TYPE_OF_(Float16, kF16);
HT_DATA_TYPE_OF_(BFloat16, kBF16);
HT_DATA_TYPE_OF_(double, kF64);
HT_DATA_TYPE_OF_(int8_t, kI8);
HT_DATA_TYPE_OF_(uint8_t, kU8);
HT_DATA_TYPE_OF_(int16_t, kI16);
HT_DATA_TYPE_OF_(uint16_t, kU16);
HT_DATA_TYPE_OF_(int32_t, kI32);
HT_DATA_TYPE_OF_(uint32_t, kU32);
HT_DATA_TYPE_OF_(int64_t, kI64);
HT_DATA_TYPE_OF_(uint64_t, kU64);
HT_DATA_TYPE_OF_(bool, kBool);
#undef HT_DATA_TYPE_OF_

// Calls `f(T{})` with the element type of `type`; 4-bit types and 8-bit floats have none and return
// `f`'s default result. The one place that maps run-time types to templates:
//
//   DispatchType(t.type(), [&](auto tag) { using T = decltype(tag); … });
template <typename F>
auto DispatchType(DataType type, F&& f) -> decltype(f(float{})) {
  switch (type) {
    case DataType::kF32:
      return f(float{});
    case DataType::kF16:
      return f(Float16{});
    case DataType::kBF16:
      return f(BFloat16{});
    case DataType::kF64:
      return f(double{});
    case DataType::kI8:
      return f(int8_t{});
    case DataType::kU8:
      return f(uint8_t{});
    case DataType::kI16:
      return f(int16_t{});
    case DataType::kU16:
      return f(uint16_t{});
    case DataType::kI32:
      return f(int32_t{});
    case DataType::kU32:
      return f(uint32_t{});
    case DataType::kI64:
      return f(int64_t{});
    case DataType::kU64:
      return f(uint64_t{});
    case DataType::kBool:
      return f(bool{});
    case DataType::kI4:
    case DataType::kU4:
    case DataType::kF8E4M3FN:
    case DataType::kF8E4M3FNUZ:
    case DataType::kF8E5M2:
    case DataType::kF8E5M2FNUZ:
      break;
  }
  using Result = decltype(f(float{}));
  if constexpr (!std::is_void_v<Result>) return Result{};
}

}  // namespace halftone

#endif  // HALFTONE_CORE_TENSOR_DATA_TYPE_H_
