#include "core/exec/lower/packing.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/exec/kernels/convert.h"

namespace halftone {
namespace {

using dnnl::memory;

// f32 values of the stored weights, without scales, in the constant's own order.
absl::StatusOr<Tensor> UnscaledFloats(const Tensor& constant) {
  if (constant.type() == DataType::kF32) return constant;
  HT_ASSIGN_OR_RETURN(Tensor out, Tensor::Create(DataType::kF32, constant.shape()));
  if (!WidenToF32(constant.type(), constant.raw(), out.mutable_data<float>().data(),
                  constant.num_elements())) {
    return absl::InternalError(absl::StrCat("cannot widen ", Name(constant.type())));
  }
  return out;
}

std::string LayoutKey(const memory::desc& d) {
  return absl::StrCat(absl::StrJoin(d.get_dims(), "x"), "/", absl::StrJoin(d.get_strides(), ","),
                      "/", absl::StrJoin(d.get_inner_blks(), ","), "/",
                      absl::StrJoin(d.get_inner_idxs(), ","), "/",
                      static_cast<int>(d.get_data_type()), "/", d.get_size());
}

// Where the elements of a dimension lie in a layout: their offsets add up over the dimensions.
std::vector<int64_t> OffsetsAlong(const memory::desc& desc, int dim) {
  const auto blocks = desc.get_inner_blks(), block_dims = desc.get_inner_idxs();
  std::vector<int64_t> offsets(desc.get_dims()[dim]);
  for (int64_t i = 0; i < static_cast<int64_t>(offsets.size()); ++i) {
    int64_t rest = i, step = 1;
    for (size_t b = blocks.size(); b-- > 0; step *= blocks[b]) {
      if (block_dims[b] != dim) continue;
      offsets[i] += rest % blocks[b] * step;
      rest /= blocks[b];
    }
    offsets[i] += rest * desc.get_strides()[dim];
  }
  return offsets;
}

// A matrix of 2-byte elements, from one layout to another. oneDNN has only a reference for f16.
void ReorderHalves(const std::byte* source, const memory::desc& plain, const memory::desc& wanted,
                   std::byte* result) {
  const auto* from = reinterpret_cast<const uint16_t*>(source) + plain.get_submemory_offset();
  auto* to = reinterpret_cast<uint16_t*>(result);
  const auto row_to = OffsetsAlong(wanted, 0), column_to = OffsetsAlong(wanted, 1);
  const auto steps = plain.get_strides();
  constexpr int64_t kTile = 32;  // rows that stay in the cache when the source lies by columns
  const int64_t rows = plain.get_dims()[0], columns = plain.get_dims()[1];
  for (int64_t first = 0; first < rows; first += kTile) {
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t r = first; r < std::min(first + kTile, rows); ++r) {
        to[row_to[r] + column_to[c]] = from[r * steps[0] + c * steps[1]];
      }
    }
  }
}

absl::StatusOr<PackedWeights> Reorder(const Tensor& source, const memory::desc& plain,
                                      const memory::desc& wanted) {
  PackedWeights packed{Buffer::Allocate(wanted.get_size()), wanted};
  if (packed.buffer == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot allocate ", wanted.get_size(), " bytes for packed weights"));
  }
  // Padding inside blocks must be zero; primitives read it.
  std::memset(packed.buffer->mutable_data(), 0, packed.buffer->size());
  if (source.type() == DataType::kF16 && plain.get_ndims() == 2) {
    ReorderHalves(source.raw(), plain, wanted, packed.buffer->mutable_data());
    return packed;
  }
  const auto done = TryDnnl("pack weights", [&] {
    memory from(plain, CpuEngine(), const_cast<std::byte*>(source.raw()));
    memory to(wanted, CpuEngine(), packed.buffer->mutable_data());
    dnnl::stream stream(CpuEngine());
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
    return true;
  });
  if (!done.ok()) return done.status();
  return packed;
}

// Weights in the f32 layout `wanted`, kept as `stored`.
absl::StatusOr<PackedWeights> PackNarrow(const Tensor& floats, const memory::desc& plain,
                                         const memory::desc& wanted, DataType stored) {
  HT_ASSIGN_OR_RETURN(const PackedWeights wide, Reorder(floats, plain, wanted));
  const int64_t n = static_cast<int64_t>(wanted.get_size()) / 4;
  PackedWeights narrow{Buffer::Allocate(static_cast<size_t>(n * BitWidth(stored) / 8)), wanted};
  if (narrow.buffer == nullptr) return absl::ResourceExhaustedError("packed weights: no memory");
  const auto* from = reinterpret_cast<const float*>(wide.buffer->data());
  if (stored == DataType::kI8) {
    QuantizeF32(from, 1.0f, 0, stored, narrow.buffer->mutable_data(), n);
  } else {
    NarrowFromF32(stored, from, narrow.buffer->mutable_data(), n);
  }
  return narrow;
}

}  // namespace

DataType StoredType(WeightForm form) {
  switch (form) {
    case WeightForm::kF16:
      return DataType::kF16;
    case WeightForm::kBF16:
      return DataType::kBF16;
    case WeightForm::kI8:
      return DataType::kI8;
    case WeightForm::kF32:
    case WeightForm::kCodes:
      break;
  }
  return DataType::kF32;
}

absl::StatusOr<WeightBuffer> PackWeights(ProgramBuilder& builder, const WeightMatch& weights,
                                         bool narrow, const memory::desc& plain,
                                         const memory::desc& wanted, absl::string_view variant) {
  const Tensor& source = weights.constant->constant();
  WeightBuffer out{.desc = wanted};
  // oneDNN widens f16 by a reference only.
  const bool widen = plain.get_data_type() == memory::data_type::f32;
  if (!narrow && plain == wanted &&
      DnnlType(source.type()) ==
          plain.get_data_type()) {  // already what the primitive wants: read in place
    HT_ASSIGN_OR_RETURN(out.buffer, builder.FetchPlain(weights.constant));
    return out;
  }
  const std::string key =
      absl::StrCat(builder.options().scope, weights.constant->name(), "|", variant, "|",
                   static_cast<int>(weights.form), narrow ? "|narrow|" : "|", LayoutKey(wanted));
  HT_ASSIGN_OR_RETURN(const PackedWeights packed,
                      builder.weights().GetOrMake(key, [&]() -> absl::StatusOr<PackedWeights> {
                        absl::StatusOr<Tensor> bytes = widen ? UnscaledFloats(source) : source;
                        if (!bytes.ok()) return bytes.status();
                        absl::StatusOr<PackedWeights> made =
                            narrow ? PackNarrow(*bytes, plain, wanted, StoredType(weights.form))
                                   : Reorder(*bytes, plain, wanted);
                        source.DropPages();
                        return made;
                      }));
  const int64_t bytes = static_cast<int64_t>(packed.buffer->size());
  HT_ASSIGN_OR_RETURN(Tensor bytes_tensor,
                      Tensor::FromBuffer(DataType::kU8, {bytes}, packed.buffer));
  out.buffer = builder.Constant(std::move(bytes_tensor));
  if (narrow) out.widened = WidenedWeights{out.buffer, StoredType(weights.form), wanted};
  return out;
}

absl::StatusOr<std::shared_ptr<const PackedRows>> PackRows(ProgramBuilder& builder,
                                                           const WeightMatch& weights,
                                                           const MatrixView& view) {
  const std::string key = absl::StrCat(builder.options().scope, weights.widened->name(), "|rows");
  HT_ASSIGN_OR_RETURN(const PackedWeights packed,
                      builder.weights().GetOrMake(key, [&]() -> absl::StatusOr<PackedWeights> {
                        HT_ASSIGN_OR_RETURN(const CodeMatrix codes,
                                            ReadCodes(builder.graph(), weights, view));
                        PackedWeights made{.rows = PackedRows::Pack(codes)};
                        if (made.rows == nullptr)
                          return absl::ResourceExhaustedError("packed weights: no memory");
                        return made;
                      }));
  return packed.rows;
}

absl::StatusOr<WidenedWeights> PackBlocked(ProgramBuilder& builder, const WeightMatch& weights,
                                           int64_t conv_groups, bool transposed,
                                           const memory::desc& wanted) {
  const std::optional<WeightLayout> layout = ReadLayout(wanted, conv_groups > 1);
  if (!layout) return absl::UnimplementedError("weights in a layout with gaps");
  const std::string key =
      absl::StrCat(builder.options().scope, weights.widened->name(), "|", LayoutKey(wanted));
  HT_ASSIGN_OR_RETURN(
      const PackedWeights packed,
      builder.weights().GetOrMake(key, [&]() -> absl::StatusOr<PackedWeights> {
        HT_ASSIGN_OR_RETURN(
            const CodeMatrix codes,
            ReadCodes(builder.graph(), weights, ConvView(weights.shape, conv_groups, transposed)));
        PackedWeights made{.blocked = BlockedCodes::Pack(codes, *layout)};
        if (made.blocked == nullptr) {
          return absl::ResourceExhaustedError("packed weights: no memory");
        }
        return made;
      }));
  return WidenedWeights{.desc = wanted,
                        .widen = [blocked = packed.blocked](float* out) { blocked->Widen(out); },
                        .bytes = packed.blocked->bytes()};
}

}  // namespace halftone
