// What the families' inference functions share: type sets, axes, broadcasting, integer arguments.
//
// The helpers check what is known and let pass what is not; with every input known (as in
// EvaluateNode) they check everything.
#ifndef HALFTONE_CORE_OPS_INFER_UTIL_H_
#define HALFTONE_CORE_OPS_INFER_UTIL_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/ops/op_def.h"

namespace halftone {

inline constexpr TypeSet kFloatTypes =
    Types(DataType::kF32, DataType::kF16, DataType::kBF16, DataType::kF64);
inline constexpr TypeSet kSignedInts =
    Types(DataType::kI8, DataType::kI16, DataType::kI32, DataType::kI64);
inline constexpr TypeSet kUnsignedInts =
    Types(DataType::kU8, DataType::kU16, DataType::kU32, DataType::kU64);
inline constexpr TypeSet kIntTypes = kSignedInts | kUnsignedInts;
inline constexpr TypeSet kNumericTypes = kFloatTypes | kIntTypes;
inline constexpr TypeSet kBoolType = Types(DataType::kBool);
inline constexpr TypeSet kIndexTypes = Types(DataType::kI32, DataType::kI64);
inline constexpr TypeSet kFloat8Types =
    Types(DataType::kF8E4M3FN, DataType::kF8E4M3FNUZ, DataType::kF8E5M2, DataType::kF8E5M2FNUZ);
inline constexpr TypeSet kWholeByteTypes = kNumericTypes | kBoolType | kFloat8Types;
inline constexpr TypeSet kPackedTypes = Types(DataType::kI4, DataType::kU4);
inline constexpr TypeSet kAllTypes = kWholeByteTypes | kPackedTypes;

// Fails when input i has a known type outside of `set`. An absent input passes.
absl::Status CheckType(const InferContext& c, int i, TypeSet set);
// Fails when inputs a and b have different known types. Absent inputs pass.
absl::Status CheckSameType(const InferContext& c, int a, int b);
// Fails when input i has a known rank outside of [min, max]. An absent input passes.
absl::Status CheckRank(const InferContext& c, int i, int min, int max);
// Fails when input i has a known shape that is not 1-D with `size` elements (if that is known).
absl::Status CheckVector(const InferContext& c, int i, const Dim& size);
// Fails when input i is known to have other than one element.
absl::Status CheckOneElement(const InferContext& c, int i);

// Brings an axis of [-rank, rank) into [0, rank); anything else is an error.
absl::StatusOr<int64_t> NormalizeAxis(const InferContext& c, int64_t axis, int64_t rank);
// The same for several axes, sorted; twice the same axis is an error.
absl::StatusOr<Shape> NormalizeAxes(const InferContext& c, absl::Span<const int64_t> axes,
                                    int64_t rank);

// Known sizes multiplied, unknown if one is unknown. Overflow is an error.
absl::StatusOr<Dim> Product(const InferContext& c, absl::Span<const Dim> dims);
// `a` scaled by a factor or increased by a summand; a symbol survives only the neutral element.
absl::StatusOr<Dim> Scaled(const InferContext& c, const Dim& a, int64_t factor);
absl::StatusOr<Dim> Plus(const InferContext& c, const Dim& a, const Dim& b);
// Two descriptions of one size; the better known one wins. Different numbers are an error.
absl::StatusOr<Dim> Unify(const InferContext& c, const Dim& a, const Dim& b);

// Multidirectional (numpy) broadcasting. Unknown rank if one rank is unknown.
absl::StatusOr<SymbolicShape> Broadcast(const InferContext& c, const SymbolicShape& a,
                                        const SymbolicShape& b);
// Fails when `from` cannot broadcast to `to` without changing `to`.
absl::Status CheckBroadcastsTo(const InferContext& c, const SymbolicShape& from,
                               const SymbolicShape& to);

// Integers that are an attribute or an input, depending on the opset.
struct IntsArgument {
  enum class State : uint8_t { kAbsent, kUnknown, kKnown };
  State state = State::kAbsent;
  Shape values;                 // when known
  std::optional<int64_t> size;  // number of values, if known

  bool absent() const { return state == State::kAbsent; }
  bool known() const { return state == State::kKnown; }
};
absl::StatusOr<IntsArgument> IntsInput(const InferContext& c, int i);
IntsArgument IntsAttribute(const Attributes& attributes, absl::string_view name);
absl::StatusOr<IntsArgument> IntsInput(const EvalContext& c, int i);

// A shape given as elements: numbers must be >= 0.
absl::StatusOr<Dims> DimsFromElements(const InferContext& c, const Elements& elements);
Elements ElementsFromDims(absl::Span<const Dim> dims);

// Output 0 has the type and shape of input 0.
absl::Status InferLikeInput(InferContext& c);

}  // namespace halftone

#endif  // HALFTONE_CORE_OPS_INFER_UTIL_H_
