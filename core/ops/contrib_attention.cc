// Attention, MultiHeadAttention and QAttention of ONNX Runtime: projections, two products and a
// softmax between them.
//
// Letters: B batch, S queries, L new keys, P keys of the past, T = P + L, N heads, H head size.
#include <array>
#include <limits>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/ops/composite.h"

namespace halftone {
namespace {

absl::StatusOr<int64_t> NumHeads(const Body& b) {
  const int64_t heads = b.attributes().Int("num_heads", 0);
  if (heads < 1) return b.Error(absl::StrCat("num_heads is ", heads, ", want at least 1"));
  return heads;
}

absl::Status CheckRankOf(const Body& b, int i, int rank) {
  if (!b.has(i) || b.rank(i) == rank) return absl::OkStatus();
  return b.Error(absl::StrCat("input ", i, " has rank ", b.rank(i), ", want ", rank));
}

// [B,S,N·H] → [B,N,S,H]
Value* SplitHeads(Body& b, Value* x, int64_t heads) {
  Value* split = b.Op("Reshape", {x, b.Ints({0, 0, heads, -1})});
  return b.Op("Transpose", {split}, {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
}

// 0 … size - 1, for a size of i64[1].
Value* Counted(Body& b, Value* size) {
  Value* end = b.Op("Squeeze", {size, b.Ints({0})});
  return b.Op("Range", {b.Constant(Tensor::Scalar<int64_t>(0)), end,
                        b.Constant(Tensor::Scalar<int64_t>(1))});
}

// What masks and the causal order need to know.
struct Sizes {
  Value* batch;
  Value* queries;  // S
  Value* past;     // P
  Value* total;    // T
};

// Positions that a mask input keeps, as a bool that broadcasts to [B,N,S,T].
absl::StatusOr<Value*> KeptByMask(Body& b, int i, const Sizes& sizes) {
  if (b.rank(i) == 2 || b.rank(i) == 3) {  // [B,T] or [B,S,T]: 1 keeps
    Value* kept = b.Op("Greater", {b.in(i), b.Number(0, b.type(i))});
    return b.Op("Unsqueeze", {kept, b.rank(i) == 2 ? b.Ints({1, 2}) : b.Ints({1})});
  }
  if (b.rank(i) != 1) return b.Unsupported(absl::StrCat("a mask of rank ", b.rank(i)));
  // [B]: ends; [2·B]: ends, then starts. Zeros behind it make the first look like the second.
  Value* mask = b.Cast(b.in(i), DataType::kI64);
  Value* zeros = b.Op("Expand", {b.Ints({0}), sizes.batch});
  Value* padded = b.Op("Concat", {mask, zeros}, {{"axis", int64_t{0}}});
  const auto column = [&](Value* from, Value* to) {
    Value* part = b.Op("Slice", {padded, from, to, b.Ints({0})});
    return b.Op("Unsqueeze", {part, b.Ints({1, 2, 3})});
  };
  Value* twice = b.Op("Add", {sizes.batch, sizes.batch});
  Value* positions = Counted(b, sizes.total);
  return b.Op("And", {b.Op("Less", {positions, column(b.Ints({0}), sizes.batch)}),
                      b.Op("GreaterOrEqual", {positions, column(sizes.batch, twice)})});
}

constexpr float kLowest = std::numeric_limits<float>::lowest();

// Query s sees the past and the new keys up to its own position.
Value* KeptByOrder(Body& b, const Sizes& sizes) {
  Value* queries = b.Op("Add", {Counted(b, sizes.queries), sizes.past});
  Value* last = b.Op("Unsqueeze", {queries, b.Ints({1})});
  return b.Op("LessOrEqual", {Counted(b, sizes.total), last});
}

struct AttentionInputs {
  Value *q, *k, *v;        // [B,N,S,H], [B,N,L,H], [B,N,L,Hv]
  Value *past_k, *past_v;  // [B,N,P,H], [B,N,P,Hv] or null
  int mask, bias;          // inputs of the node
};

struct AttentionResult {
  Value *y, *k, *v;  // [B,S,N·Hv], [B,N,T,H], [B,N,T,Hv]
};

Value* Joined(Body& b, Value* past, Value* now) {
  return past == nullptr ? now : b.Op("Concat", {past, now}, {{"axis", int64_t{2}}});
}

// softmax(q·kᵀ·scale + bias + masks)·v
absl::StatusOr<AttentionResult> Attend(Body& b, const AttentionInputs& in, DataType type) {
  const Attributes& a = b.attributes();
  Value* k = Joined(b, in.past_k, in.k);
  Value* v = Joined(b, in.past_v, in.v);
  Value* transposed = b.Op("Transpose", {k}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
  Value* scale = nullptr;
  if (const float given = a.Float("scale", 0); given != 0) {
    scale = b.Number(given, type);
  } else {  // 1 / √H; folds as soon as H is known
    Value* size = b.Cast(b.Size(in.q, 3), type);
    scale = b.Op("Squeeze", {b.Op("Reciprocal", {b.Op("Sqrt", {size})})});
  }
  Value* scores = b.Op("Mul", {b.Op("MatMul", {in.q, transposed}), scale});
  if (b.has(in.bias)) scores = b.Op("Add", {scores, b.in(in.bias)});
  const Sizes sizes = {b.Size(in.q, 0), b.Size(in.q, 2),
                       in.past_k == nullptr ? b.Ints({0}) : b.Size(in.past_k, 2), b.Size(k, 2)};
  const auto add_mask = [&](Value* kept, float filter) {
    Value* added = b.Op("Where", {kept, b.Number(0, type), b.Number(filter, type)});
    scores = b.Op("Add", {scores, added});
  };
  const float filter = a.Float("mask_filter_value", -10000.0f);
  if (b.has(in.mask)) {
    HT_ASSIGN_OR_RETURN(Value * kept, KeptByMask(b, in.mask, sizes));
    add_mask(kept, filter);
  }
  // Below any mask: a query whose own past is masked looks there rather than ahead.
  if (a.Int("unidirectional", 0) != 0) {
    add_mask(KeptByOrder(b, sizes), type == DataType::kF16 ? -65504.0f : kLowest);
  }
  Value* weights = b.Op("Softmax", {scores}, {{"axis", int64_t{-1}}});
  Value* heads = b.Op("Transpose", {b.Op("MatMul", {weights, v})},
                      {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
  return AttentionResult{b.Op("Reshape", {heads, b.Ints({0, 0, -1})}), k, v};
}

// Self attention with one projection for q, k and v: `projected` is [B,S,2·N·H + N·Hv]. The inputs
// are those of Attention, `past` is [2,B,N,P,H].
absl::StatusOr<Outputs> AttendToProjection(Body& b, Value* projected, int mask, int past, int bias,
                                           DataType type) {
  HT_ASSIGN_OR_RETURN(const int64_t heads, NumHeads(b));
  if (b.attributes().Int("do_rotary", 0) != 0) return b.Unsupported("do_rotary is set");
  if (b.attributes().Int("past_present_share_buffer", 0) != 0) {
    return b.Unsupported("past_present_share_buffer is set");
  }
  const std::vector<int64_t> sizes = b.attributes().Ints("qkv_hidden_sizes");
  if (!sizes.empty() && sizes.size() != 3) return b.Error("qkv_hidden_sizes are not three");
  Value* split_sizes = sizes.empty() ? nullptr : b.Ints({sizes[0], sizes[1], sizes[2]});
  Attributes split = {{"axis", int64_t{-1}}};
  if (split_sizes == nullptr) split.Set("num_outputs", int64_t{3});
  const Outputs qkv = b.Op("Split", {projected, split_sizes}, split, 3);
  AttentionInputs in = {SplitHeads(b, qkv[0], heads),
                        SplitHeads(b, qkv[1], heads),
                        SplitHeads(b, qkv[2], heads),
                        nullptr,
                        nullptr,
                        mask,
                        bias};
  if (b.has(past)) {
    HT_RETURN_IF_ERROR(CheckRankOf(b, past, 5));
    const auto half = [&](int64_t i) {
      return b.Op("Gather", {b.in(past), b.Constant(Tensor::Scalar<int64_t>(i))});
    };
    in.past_k = half(0);
    in.past_v = half(1);
  }
  HT_ASSIGN_OR_RETURN(const AttentionResult result, Attend(b, in, type));
  if (!b.wants(1)) return Outputs{result.y};
  Value* front = b.Ints({0});
  return Outputs{
      result.y,
      b.Op("Concat", {b.Op("Unsqueeze", {result.k, front}), b.Op("Unsqueeze", {result.v, front})},
           {{"axis", int64_t{0}}})};
}

// (x, weights, bias?, mask?, past?, attention bias?, past length?)
absl::StatusOr<Outputs> Attention(Body& b) {
  HT_RETURN_IF_ERROR(CheckRankOf(b, 0, 3));
  Value* projected = b.Op("MatMul", {b.in(0), b.in(1)});
  if (b.has(2)) projected = b.Op("Add", {projected, b.in(2)});
  return AttendToProjection(b, projected, 3, 4, 5, b.type(0));
}

// (x, weights, bias, x scale, weight scale, mask?, x zero?, weight zero?, past?)
absl::StatusOr<Outputs> QAttention(Body& b) {
  HT_RETURN_IF_ERROR(CheckRankOf(b, 0, 3));
  Value* x = b.Op("DequantizeLinear", {b.in(0), b.in(3), b.in(6)});
  Value* w = b.Op("DequantizeLinear", {b.in(1), b.in(4), b.in(7)}, {{"axis", int64_t{1}}});
  Value* projected = b.Op("Add", {b.Op("MatMul", {x, w}), b.in(2)});
  constexpr int kNone = -1;
  return AttendToProjection(b, projected, 5, 8, kNone, b.type(3));
}

// (q, k, v, bias?, key mask?, attention bias?, past k?, past v?) with q, k, v of [B,S,N·H], or k
// and v of [B,N,L,H].
absl::StatusOr<Outputs> MultiHeadAttention(Body& b) {
  HT_ASSIGN_OR_RETURN(const int64_t heads, NumHeads(b));
  HT_RETURN_IF_ERROR(b.Require({0}));
  if (!b.has(1) || !b.has(2) || b.rank(0) == 5) return b.Unsupported("has packed q, k and v");
  HT_RETURN_IF_ERROR(CheckRankOf(b, 0, 3));
  const bool split = b.rank(1) == 4;
  for (const int i : {1, 2}) HT_RETURN_IF_ERROR(CheckRankOf(b, i, split ? 4 : 3));
  if (b.has(6) != b.has(7)) return b.Error("has one of past key and past value");
  std::array<Value*, 3> qkv = {b.in(0), b.in(1), b.in(2)};
  if (b.has(3)) {
    if (split) return b.Error("has a bias for keys that are split into heads");
    Value* hidden = b.Size(b.in(0), 2);
    const std::array<Value*, 4> ends = {b.Ints({0}), hidden, b.Op("Add", {hidden, hidden}),
                                        b.Size(b.in(3), 0)};
    for (int i = 0; i < 3; ++i) {
      qkv[i] = b.Op("Add", {qkv[i], b.Op("Slice", {b.in(3), ends[i], ends[i + 1], b.Ints({0})})});
    }
  }
  for (int i = 0; i < (split ? 1 : 3); ++i) qkv[i] = SplitHeads(b, qkv[i], heads);
  HT_ASSIGN_OR_RETURN(const AttentionResult result,
                      Attend(b, {qkv[0], qkv[1], qkv[2], b.in(6), b.in(7), 4, 5}, b.type(0)));
  return Outputs{result.y, result.k, result.v};
}

constexpr std::array kComposites = {
    Composite{"Attention", {2, 7}, {1, 2}, Attention},
    Composite{"QAttention", {5, 9}, {1, 2}, QAttention},
    Composite{"MultiHeadAttention", {1, 8}, {1, 3}, MultiHeadAttention},
};

}  // namespace

absl::Span<const Composite> ContribAttentionOps() { return kComposites; }

}  // namespace halftone
