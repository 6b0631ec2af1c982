#include "server/tensor_codec.h"

#include <cstring>

#include "absl/algorithm/container.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/checked_math.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

constexpr int kMaxRank = 16;

// What may be sent for what, besides the type itself.
struct Conversion {
  DataType from;
  DataType to;
};
constexpr Conversion kInputWidenings[] = {
    {DataType::kF16, DataType::kF32},
    {DataType::kBF16, DataType::kF32},
    {DataType::kU8, DataType::kF32},
};
constexpr DataType kFloatOutputs[] = {DataType::kF32, DataType::kF16, DataType::kBF16};

absl::string_view WireName(DataType type) { return Info(type).wire_name; }

bool Widens(DataType from, DataType to) {
  for (const Conversion& c : kInputWidenings) {
    if (c.from == from && c.to == to) return true;
  }
  return false;
}

std::string Names(const std::vector<TensorSignature>& tensors) {
  return absl::StrJoin(tensors, ", ", [](std::string* out, const TensorSignature& t) {
    absl::StrAppend(out, "'", t.name, "'");
  });
}

// `name` is quoted from a request: bounded and printable in messages.
std::string Quoted(absl::string_view name) {
  return absl::StrCat("'", name.substr(0, 100), name.size() > 100 ? "…" : "", "'");
}

std::string ShownShape(absl::Span<const int64_t> shape) {
  if (shape.size() <= kMaxRank) return ToString(shape);
  return absl::StrCat("of rank ", shape.size());
}

using Symbols = absl::flat_hash_map<std::string, std::pair<int64_t, std::string>>;

absl::Status CheckShape(const TensorSignature& want, absl::Span<const int64_t> shape,
                        Symbols& symbols) {
  const std::string where = absl::StrCat("input '", want.name, "'");
  if (shape.size() != want.shape.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        where, ": got rank ", shape.size(), " (shape ", ShownShape(shape), "), want rank ",
        want.shape.size(), " (shape ", ToString(SymbolicShape(want.shape)), ")"));
  }
  for (size_t i = 0; i < shape.size(); ++i) {
    const Dim& dim = want.shape[i];
    if (dim.known() ? shape[i] != dim.value : shape[i] < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": dimension ", i, " is ", shape[i], " in shape ", ToString(shape),
                       ", want ", dim.known() ? absl::StrCat(dim.value) : "at least 1", " (shape ",
                       ToString(SymbolicShape(want.shape)), ")"));
    }
    if (dim.known() || dim.symbol.empty()) continue;
    const auto [it, is_new] = symbols.try_emplace(dim.symbol, shape[i], where);
    if (!is_new && it->second.first != shape[i]) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": dimension ", i, " ('", dim.symbol, "') is ", shape[i], ", want ",
                       it->second.first, " as in ", it->second.second));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBytes(const TensorSignature& want, const WireTensor& wire) {
  const absl::StatusOr<int64_t> elements = NumElements(wire.shape);
  const absl::StatusOr<int64_t> bytes =
      elements.ok() ? PackedBytes(*elements, BitWidth(wire.type)) : elements;
  if (!bytes.ok()) return Annotate(bytes.status(), absl::StrCat("input '", want.name, "'"));
  if (static_cast<int64_t>(wire.bytes.size()) != *bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("input '", want.name, "': got ", wire.bytes.size(), " bytes, want ", *bytes,
                     " for ", WireName(wire.type), " ", ToString(wire.shape)));
  }
  // Any other byte would be an invalid C++ bool.
  if (wire.type == DataType::kBool) {
    for (size_t i = 0; i < wire.bytes.size(); ++i) {
      if (static_cast<unsigned char>(wire.bytes[i]) > 1) {
        return absl::InvalidArgumentError(absl::StrCat(
            "input '", want.name, "': element ", i, " of a BOOL tensor is ",
            static_cast<int>(static_cast<unsigned char>(wire.bytes[i])), ", want 0 or 1"));
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Tensor> ToTensor(const TensorSignature& want, const WireTensor& wire) {
  const auto address = reinterpret_cast<uintptr_t>(wire.bytes.data());
  const bool aligned = address % (static_cast<size_t>(BitWidth(wire.type)) / 8) == 0;
  Tensor tensor = Tensor::Borrow(wire.type, wire.shape, wire.bytes.data());
  if (!aligned) {
    HT_ASSIGN_OR_RETURN(tensor, Tensor::Create(wire.type, wire.shape));
    std::memcpy(tensor.mutable_raw(), wire.bytes.data(), wire.bytes.size());
  }
  return wire.type == want.type ? tensor : Convert(tensor, want.type);
}

absl::StatusOr<Tensor> DecodeOne(const TensorSignature& want, const WireTensor& wire,
                                 Symbols& symbols) {
  if (wire.type != want.type && !Widens(wire.type, want.type)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "input '", want.name, "': got type ", WireName(wire.type), ", want ", WireName(want.type),
        want.type == DataType::kF32 ? " (or FP16, BF16, UINT8, which are widened)" : ""));
  }
  HT_RETURN_IF_ERROR(CheckShape(want, wire.shape, symbols));
  HT_RETURN_IF_ERROR(CheckBytes(want, wire));
  return ToTensor(want, wire);
}

}  // namespace

absl::StatusOr<std::vector<Tensor>> DecodeInputs(const Signature& signature,
                                                 absl::Span<const WireTensor> wire) {
  const std::vector<TensorSignature>& want = signature.inputs;
  std::vector<const WireTensor*> by_index(want.size(), nullptr);
  for (const WireTensor& tensor : wire) {
    size_t i = 0;
    while (i < want.size() && want[i].name != tensor.name) ++i;
    if (i == want.size() && tensor.name.empty() && want.size() == 1) i = 0;
    if (i == want.size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "input ", Quoted(tensor.name), ": the model has no such input, want ", Names(want)));
    }
    if (by_index[i] != nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("input '", want[i].name, "': got it twice, want it once"));
    }
    by_index[i] = &tensor;
  }
  Symbols symbols;
  std::vector<Tensor> inputs;
  inputs.reserve(want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    if (by_index[i] == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("input '", want[i].name, "': missing from the request, want ", Names(want)));
    }
    HT_ASSIGN_OR_RETURN(Tensor tensor, DecodeOne(want[i], *by_index[i], symbols));
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

absl::StatusOr<std::vector<OutputPick>> PickOutputs(const Signature& signature,
                                                    absl::Span<const WantedOutput> wanted) {
  const std::vector<TensorSignature>& have = signature.outputs;
  std::vector<OutputPick> picks;
  if (wanted.empty()) {
    for (size_t i = 0; i < have.size(); ++i) {
      picks.push_back({.index = static_cast<int>(i), .type = have[i].type});
    }
    return picks;
  }
  // More could only repeat an output, to balloon the response.
  if (wanted.size() > have.size()) {
    return absl::InvalidArgumentError(absl::StrCat("outputs: got ", wanted.size(),
                                                   " wanted outputs, the model has ", have.size()));
  }
  for (const WantedOutput& want : wanted) {
    size_t i = 0;
    while (i < have.size() && have[i].name != want.name) ++i;
    if (i == have.size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "output ", Quoted(want.name), ": the model has no such output, want ", Names(have)));
    }
    const DataType type = want.type.value_or(have[i].type);
    if (type != have[i].type && !(absl::c_linear_search(kFloatOutputs, type) &&
                                  absl::c_linear_search(kFloatOutputs, have[i].type))) {
      return absl::InvalidArgumentError(absl::StrCat(
          "output '", have[i].name, "': wanted as ", WireName(type), ", it is ",
          WireName(have[i].type), "; only float outputs convert, to FP32, FP16 or BF16"));
    }
    picks.push_back({.index = static_cast<int>(i), .type = type});
  }
  return picks;
}

absl::StatusOr<std::vector<Tensor>> EncodeOutputs(absl::Span<const OutputPick> picks,
                                                  std::vector<Tensor> results) {
  std::vector<Tensor> outputs;
  outputs.reserve(picks.size());
  for (const OutputPick& pick : picks) {
    if (pick.index >= static_cast<int>(results.size())) {
      return absl::InternalError(
          absl::StrCat("the plan gave ", results.size(), " outputs, want output ", pick.index));
    }
    const Tensor& result = results[pick.index];
    if (result.type() == pick.type) {
      outputs.push_back(result);
      continue;
    }
    HT_ASSIGN_OR_RETURN(Tensor converted, Convert(result, pick.type));
    outputs.push_back(std::move(converted));
  }
  return outputs;
}

}  // namespace halftone
