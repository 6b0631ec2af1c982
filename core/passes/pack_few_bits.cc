#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/checked_math.h"
#include "core/base/status_macros.h"
#include "core/ops/unpack.h"
#include "core/passes/portable.h"
#include "core/passes/rewrite_util.h"
#include "core/quant/packed.h"

namespace halftone {
namespace {

// Smaller weights are not worth a node.
constexpr int64_t kMinElements = 1024;

// 2 or 1 when the numbers need no more, else 8.
int BitsFor(absl::Span<const int8_t> values) {
  bool zero = false;
  for (const int8_t v : values) {
    if (v < -1 || v > 1) return 8;
    zero |= v == 0;
  }
  return zero ? 2 : 1;
}

bool IsZero(const Value* zero_point) {
  if (zero_point == nullptr) return true;
  const Tensor* z = ConstantOf(zero_point);
  return z != nullptr && std::all_of(z->bytes().begin(), z->bytes().end(),
                                     [](std::byte b) { return b == std::byte{0}; });
}

// Integer kernels want the weights as bytes. What moves them further than `hops` is not looked at.
bool MeetsQuantizedData(const Value* weights, int hops = 3) {
  return std::any_of(weights->uses().begin(), weights->uses().end(), [&](const Node* user) {
    if (user->op() == "Reshape" || user->op() == "Transpose") {
      return hops == 0 || MeetsQuantizedData(user->output(0), hops - 1);
    }
    const Value* data = user->input(0);
    return data != nullptr && data->producer() != nullptr && IsQuantization(*data->producer());
  });
}

bool MayPack(const Node& node) {
  if (!IsOp(&node, "DequantizeLinear")) return false;
  const Tensor* codes = ConstantOf(node.input(0));
  return codes != nullptr && codes->type() == DataType::kI8 && codes->rank() >= 2 &&
         codes->num_elements() >= kMinElements && IsZero(node.input(2)) &&
         BitsFor(codes->data<int8_t>()) < 8 && !MeetsQuantizedData(node.output(0));
}

absl::Status Pack(Graph& graph, Node* dequantize) {
  Value* stored = dequantize->input(0);
  const Tensor& codes = stored->constant();
  const int bits = BitsFor(codes.data<int8_t>());
  HT_ASSIGN_OR_RETURN(const int64_t bytes, PackedBytes(codes.num_elements(), bits));
  HT_ASSIGN_OR_RETURN(Tensor packed, Tensor::Create(DataType::kU8, {bytes}));
  (bits == 1 ? PackBinary : PackTernary)(codes.data<int8_t>(), packed.mutable_data<uint8_t>());
  Node* unpack = graph.AddNode(
      {.op = std::string(bits == 1 ? kUnpackBinary : kUnpackTernary),
       .domain = std::string(kHalftoneDomain),
       .name = absl::StrCat(stored->name(), "_unpack"),
       .inputs = {graph.AddConstant(absl::StrCat(stored->name(), "_packed"), std::move(packed))},
       .outputs = {absl::StrCat(stored->name(), "_unpacked")},
       .attributes = {
           {"shape", std::vector<int64_t>(codes.shape().begin(), codes.shape().end())}}});
  unpack->output(0)->set_type(stored->type());
  graph.opsets()[std::string(kHalftoneDomain)] = kHalftoneOpset;
  graph.SetInput(dequantize, 0, unpack->output(0));
  if (dequantize->input(2) != nullptr) graph.SetInput(dequantize, 2, nullptr);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<bool> PackFewBits(Graph& graph) {
  std::vector<Node*> found;
  for (Node* node : graph.nodes()) {
    if (MayPack(*node)) found.push_back(node);
  }
  for (Node* node : found) HT_RETURN_IF_ERROR(Pack(graph, node));
  if (!found.empty()) graph.RemoveUnused();
  return !found.empty();
}

}  // namespace halftone
